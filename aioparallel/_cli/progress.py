"""One line on a terminal that says how far the work is, and leaves no trace.

Guarantees
    Nothing is written unless the stream is a terminal that can rewrite a line. The line never wraps, also after the window was made
    smaller. It is wiped when the block ends, however it ends. A terminal that goes away costs the line, not the work.

How it works
    The caller says what is done as often as it likes; the line is redrawn ten times a second at most. There is no timer: between two
    calls the line stands still.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

REDRAW_SECONDS = 0.1
WIPE = "\r\x1b[K"
BAR_COLUMNS = 24
FALLBACK_COLUMNS = 80


class Progress:
    """A progress line: a context manager, with `update` to be called as the work goes on."""

    def __init__(self, title: str, total: int, stream: TextIO | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._title = title
        self._total = total
        # None from here on: there is no terminal, or none any more.
        self._stream = stream if stream is not None and stream.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb") else None
        self._clock = clock
        self._began = clock()
        self._next = self._began

    def __enter__(self) -> Self:
        self._next = self._began = self._clock()
        self.update(0)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._write(WIPE)

    def update(self, done: int) -> None:
        """Say that `done` of the total are done; cheap when the line is fresh or there is no terminal."""
        if self._stream is None:
            return
        now = self._clock()
        if now < self._next:
            return
        self._next = now + REDRAW_SECONDS
        self._write(WIPE + self.line(done, now - self._began, columns(self._stream)))

    def line(self, done: int, seconds: float, columns: int) -> str:
        """Return the line that fits on `columns`; the last column stays free, since writing there makes some terminals wrap."""
        share = done / self._total if self._total else 1.0
        full = int(share * BAR_COLUMNS)
        bar = "#" * full + "." * (BAR_COLUMNS - full)
        text = f"{self._title}  [{bar}]  {share:4.0%}  {done:,} of {self._total:,}  {seconds:.1f} s"
        if len(text) >= columns:
            text = f"{self._title}  {share:4.0%}"
        return text[: max(columns - 1, 0)]

    def _write(self, text: str) -> None:
        if self._stream is not None:
            try:
                self._stream.write(text)
                self._stream.flush()
            except OSError:
                self._stream = None


def columns(stream: TextIO) -> int:
    """Return how wide the terminal is now; some say 0 when they do not know."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or FALLBACK_COLUMNS
    except (OSError, ValueError):
        return FALLBACK_COLUMNS
