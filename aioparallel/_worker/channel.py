"""The near agent's end of its link to the pool: frames over a Unix socket, with descriptors beside them."""

from __future__ import annotations

from _socket import socket as Socket
from select import POLLIN, POLLOUT

from .._wire.frames import Frame, FrameReader
from .passing import receive_with_fds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._wire.lanes import Lanes


class NearChannel:
    """The link of an agent on the controller's own machine."""

    lanes: Lanes
    outputs = ()
    """Far, see `far_channel`."""

    def __init__(self, fd: int) -> None:
        self._socket = Socket(fileno=fd)
        self._socket.setblocking(False)
        self._reader = FrameReader()
        self._out = bytearray()
        self._fds: list[int] = []

    def own(self) -> list[int]:
        """Return our descriptors, which no other process may hold."""
        return [self._socket.fileno()]

    def interests(self) -> dict[int, int]:
        """Return what to wait for: descriptors and poll's events."""
        return {self._socket.fileno(): POLLIN | (POLLOUT if self._out else 0)}

    def receive(self) -> list[Frame] | None:
        """Return the frames that have come (perhaps none), or None where the other end is closed."""
        try:
            data, fds = receive_with_fds(self._socket)
        except (BlockingIOError, InterruptedError):
            return []
        except ConnectionResetError:
            return None
        self._fds += fds
        return self._reader.feed(data) if data else None

    def take_fds(self, count: int) -> list[int]:
        """Take the first descriptors that came and were not asked for yet."""
        fds, self._fds = self._fds[:count], self._fds[count:]
        return fds

    def say(self, frame: bytes) -> None:
        """Send a frame, with the next `flush`."""
        self._out += frame

    def flush(self) -> bool:
        """Write what can be written now; return False where the other end is closed."""
        try:
            if self._out:
                del self._out[: self._socket.send(self._out)]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            return False
        return True


__all__ = ["NearChannel"]
