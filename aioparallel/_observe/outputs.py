"""What processes on far hosts print, on its way to this program's own standard output and standard error.

Guarantees
    Whole lines, each behind the name of its host. The event loop never waits for whoever reads them: beyond a bound, lines are dropped,
    and how much was dropped is said.
"""

from __future__ import annotations

import sys
from queue import SimpleQueue
from threading import Lock, Thread

WAITING_BYTES = 1 << 20
END_SECONDS = 1.0
"""How long the end of a pool waits for the reader of its output."""


class Outputs:
    """The lines that wait to be written, and the thread that writes them; it begins with the first line."""

    def __init__(self) -> None:
        self._lines: SimpleQueue[tuple[int, str] | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._lock = Lock()
        self._waiting = 0
        self._dropped = 0

    def write(self, host: str, stream: int, text: bytes) -> None:
        """Write what a host's processes wrote to their standard output (1) or standard error (2)."""
        if self._waiting + len(text) > WAITING_BYTES:
            self._dropped += len(text)
            return
        if self._dropped:
            self._put(2, f"[aioparallel] {self._dropped} bytes of far output were dropped: nobody reads as fast\n")
            self._dropped = 0
        lines = text.decode(errors="replace").splitlines()
        self._put(stream, "".join(f"[{host}] {line}\n" for line in lines))

    def _put(self, stream: int, text: str) -> None:
        with self._lock:
            self._waiting += len(text)
        self._lines.put((stream, text))
        if self._thread is None:
            self._thread = Thread(target=self._run, name="aioparallel output of far hosts", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while (item := self._lines.get()) is not None:
            stream, text = item
            with self._lock:
                self._waiting -= len(text)
            target = sys.stdout if stream == 1 else sys.stderr
            try:
                target.write(text)
                target.flush()
            except (OSError, ValueError, AttributeError):
                pass  # nobody reads, or the stream was closed or taken away

    def close(self) -> None:
        """Write what waits, and end; wait a second at the most."""
        if self._thread is not None:
            self._lines.put(None)
            self._thread.join(END_SECONDS)


__all__ = ["Outputs"]
