"""Where a scoreboard or a progress line is drawn.

Guarantees
    Nothing but whole frames; what is drawn in place is wiped or left whole at the end. The event loop never waits for whoever reads: a
    thread writes, and a frame that comes while it is still busy with one takes the place of the one that waits. A terminal that goes
    away, or a stream that is closed, costs the picture, not the work.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from threading import Condition, Thread
from typing import Any, Protocol, TextIO

WIPE = "\r\x1b[K"
FALLBACK_COLUMNS = 80
END_SECONDS = 1.0
"""How long the end waits for the last frame."""
TERMINAL_SECONDS = 0.5
"""Between two frames, where they are redrawn in place."""
LINE_SECONDS = 5.0
"""Between two lines, where there is no terminal."""


class Pen(Protocol):
    """Draws frames, in a thread of its own."""

    def draw(self, line: Callable[[], str], rich: Callable[[], Any]) -> None:
        """Draw a frame: this line, or what `rich` renders."""
        ...

    def end(self) -> None:
        """Leave the stream as it should be left."""
        ...


class Plain:
    """One line after the other: no terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def draw(self, line: Callable[[], str], rich: Callable[[], Any]) -> None:
        """See Pen."""
        self._stream.write(line() + "\n")
        self._stream.flush()

    def end(self) -> None:
        """See Pen."""


class OneLine:
    """One line that is redrawn in place: a terminal, without `rich`. The last one stays."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def draw(self, line: Callable[[], str], rich: Callable[[], Any]) -> None:
        """See Pen."""
        self._stream.write(WIPE + line()[: max(columns(self._stream) - 1, 0)])  # (writing in the last column makes some terminals wrap)
        self._stream.flush()

    def end(self) -> None:
        """See Pen."""
        self._stream.write("\n")
        self._stream.flush()


class Rich:
    """What `rich` renders, redrawn in place on a terminal. The last one stays."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        # Its own threads and its redirection of stdout are left out: the program's output is its own affair.
        self._live = Live(
            console=Console(file=stream), auto_refresh=False, redirect_stdout=False, redirect_stderr=False, vertical_overflow="crop"
        )
        self._began = False

    def draw(self, line: Callable[[], str], rich: Callable[[], Any]) -> None:
        """See Pen."""
        if not self._began:
            self._began = True
            self._live.start()
        self._live.update(rich(), refresh=True)

    def end(self) -> None:
        """See Pen."""
        if self._began:
            self._live.stop()


class Screen:
    """Takes frames, and has a thread draw them; the thread begins with the first."""

    def __init__(self, pen: Pen) -> None:
        self._pen = pen
        self._frame: tuple[Callable[[], str], Callable[[], Any]] | None = None
        self._ended = False
        self._changed = Condition()
        self._thread: Thread | None = None

    def show(self, line: Callable[[], str], rich: Callable[[], Any]) -> None:
        """Have a frame drawn: what `rich` gives where rich draws, else the line; both are called in that thread."""
        with self._changed:
            self._frame = line, rich
            self._changed.notify()
        if self._thread is None:
            self._thread = Thread(target=self._run, name="aioparallel draws", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._frame is not None or self._ended)
                    frame, self._frame = self._frame, None
                if frame is None:
                    break
                self._pen.draw(*frame)
            self._pen.end()
        except (OSError, ValueError, AttributeError):
            pass  # nobody reads, or the stream was closed or taken away

    def end(self, seconds: float = END_SECONDS) -> None:
        """Have the last frame drawn; wait for that so long at the most."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(seconds)


def screen_on(stream: TextIO | None) -> tuple[Screen, float] | None:
    """Return a screen on a stream (None: standard error), and how many seconds lie between two frames; None: there is no stream."""
    stream = sys.stderr if stream is None else stream
    if stream is None:
        return None
    if not (stream.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb")):
        return Screen(Plain(stream)), LINE_SECONDS
    try:
        return Screen(Rich(stream)), TERMINAL_SECONDS
    except ImportError:
        return Screen(OneLine(stream)), TERMINAL_SECONDS


def columns(stream: TextIO) -> int:
    """Return how wide the terminal is now; some say 0 when they do not know."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or FALLBACK_COLUMNS
    except (OSError, ValueError):
        return FALLBACK_COLUMNS


__all__ = ["Screen", "columns", "screen_on"]
