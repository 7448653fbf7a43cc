"""The far agent's end of its link to the pool: frames of two lanes over two pipes."""

from __future__ import annotations

import os
from collections import deque
from itertools import islice
from select import POLLIN, POLLOUT

from .._wire.frames import READ_SIZE, Frame
from .._wire.lanes import Lanes
from .._wire.memory import Buffer

PIPE_BYTES = 1 << 20
"""What Linux lets any user have in a pipe (/proc/sys/fs/pipe-max-size). How much of that is under way is for the lanes' window to say."""
PIECES = 512
"""How many pieces one call writes at the most: fewer than the kernel's IOV_MAX."""


class FarChannel:
    """The link of an agent at the far end of an SSH channel."""

    def __init__(self, incoming: int, outgoing: int, outputs: tuple[int, int]) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self.outputs = outputs
        """Where the standard output and standard error of all processes below can be read."""
        for fd in (incoming, outgoing):
            os.set_blocking(fd, False)
            _widen(fd)
        self.lanes = Lanes()
        """See `_wire/lanes.py`."""
        self._out: deque[Buffer] = deque()

    def own(self) -> list[int]:
        """Return our descriptors, which no other process may hold."""
        return [self._incoming, self._outgoing, *self.outputs]

    def interests(self) -> dict[int, int]:
        """Return what to wait for: descriptors and poll's events."""
        return {self._incoming: POLLIN, self._outgoing: POLLOUT if self._out else 0}

    def receive(self) -> list[Frame] | None:
        """Return the frames that have come (perhaps none), or None where the other end is closed."""
        try:
            data = os.read(self._incoming, READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return []
        return self.lanes.feed(data) if data else None

    def take_fds(self, count: int) -> list[int]:
        """No descriptor travels as far as this."""
        return []

    def say(self, frame: bytes) -> None:
        """Send a frame on the control lane, with the next `flush`."""
        self.lanes.say(frame)

    def flush(self) -> bool:
        """Write what can be written now; return False where the other end is closed."""
        out = self._out
        try:
            while True:
                if not out:
                    out.extend(self.lanes.take())
                    if not out:
                        return True
                count = os.writev(self._outgoing, list(islice(out, PIECES)))
                while out and count >= len(out[0]):
                    count -= len(out.popleft())
                if count:
                    out[0] = memoryview(out[0])[count:]
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False


def _widen(fd: int) -> None:
    """Have a pipe hold more than 64 KiB, so that neither its sshd nor we are woken for each half of that."""
    import fcntl

    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except (AttributeError, OSError):
        pass  # not Linux; not a pipe; or this user's share of such memory is used up


__all__ = ["FarChannel"]
