"""What processes below a far agent write to their standard output and standard error, on its way to the pool.

Guarantees
    Whoever writes never waits for the pool: when that does not keep up, output is dropped, and how much is said. Lines stay whole, up to
    `LINE_BYTES`; a line without its end is passed on after `PARTIAL_SECONDS`.
"""

from __future__ import annotations

import os
from select import POLLIN
from time import monotonic

from .._wire.frames import encode
from .._wire.messages import OUTPUT
from .page import FOREVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._wire.lanes import Lanes
    from .watch import Watch

READ_BYTES = 1 << 16
LINE_BYTES = 1 << 14
PARTIAL_SECONDS = 0.2
WAITING_BYTES = 1 << 20
"""While so much waits to leave, output is dropped."""


class Output:
    """One of the two streams. `number`: 1 or 2; `fd`: where it can be read."""

    def __init__(self, number: int, fd: int, lanes: Lanes, watch: Watch) -> None:
        self._number = number
        self._fd = fd
        self._lanes = lanes
        self._partial = b""
        self._dropped = 0
        self.due = FOREVER
        """When `look_at_clock` has something to do (CLOCK_MONOTONIC seconds)."""
        watch.add({fd: POLLIN}, self.read)

    def read(self) -> None:
        """Take in what was written, and pass on its whole lines."""
        try:
            data = self._partial + os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return
        end = data.rfind(b"\n") + 1
        if not end and len(data) > LINE_BYTES:
            end = len(data)
        self._partial = data[end:]
        self.due = monotonic() + PARTIAL_SECONDS if self._partial else FOREVER
        self._pass_on(data[:end])

    def look_at_clock(self, now: float) -> None:
        """Pass on a line that has had no end for a while."""
        if now >= self.due:
            self._flush()

    def finish(self) -> None:
        """Pass on all there is: everybody who could write is dead."""
        self.read()
        self._flush()

    def _flush(self) -> None:
        data, self._partial, self.due = self._partial, b"", FOREVER
        self._pass_on(data)

    def _pass_on(self, data: bytes) -> None:
        if not data:
            return
        if self._lanes.waiting > WAITING_BYTES:
            self._dropped += len(data)
            return
        if self._dropped:
            data = f"[{self._dropped} bytes of output were dropped: the pool did not keep up]\n".encode() + data
            self._dropped = 0
        self._lanes.work([encode(OUTPUT, self._number, 0, data)])


__all__ = ["Output"]
