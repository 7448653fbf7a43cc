"""The blocking end of a link: how a slot, a template or an agent's test talks in frames.

The pool's end lives in `_hosts`, since it must never block.
"""

from __future__ import annotations

from _thread import allocate_lock

from .codec import Buffer, Buffers
from .frames import MAX_BODY, READ_SIZE, Frame, FrameError, FrameReader, encode, encode_head

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket as Socket


def framed(kind: int, flags: int, ident: int, body: bytes, tail: bytes = b"", buffers: Buffers = ()) -> tuple[bytes, Buffers]:
    """Return a frame's head and the buffers to send behind it; a `tail` that is too large for the body travels as the first buffer.

    The receiver joins them again with `unframed`.
    """
    size = len(body) + len(tail)
    if not buffers and size < MAX_BODY:
        return encode(kind, flags, ident, body + tail), ()
    if size >= MAX_BODY:
        buffers = (tail, *buffers)
        return encode_head(kind, flags, ident, body + b"\1", [len(memoryview(b).cast("B")) for b in buffers]), buffers
    return encode_head(kind, flags, ident, body + b"\0" + tail, [len(memoryview(b).cast("B")) for b in buffers]), buffers


def unframed(body: bytes, head: int, buffers: Buffers) -> tuple[Buffer, Buffers]:
    """Return the tail behind `head` bytes of a body, and the out-of-band buffers: the inverse of `framed`."""
    if not buffers:
        return body[head:], ()
    if body[head]:
        return buffers[0], buffers[1:]
    return body[head + 1 :], buffers


class Link:
    """Frames over a blocking stream socket; `send` may be called from several threads."""

    __slots__ = ("_lock", "_reader", "socket")

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self._reader = FrameReader()
        self._lock = allocate_lock()

    def receive(self) -> list[Frame]:
        """Wait for bytes and return the frames they complete (perhaps none). Raises EOFError at the end of the stream."""
        hole = self._reader.hole
        if hole is None:
            data = self.socket.recv(READ_SIZE)
            if not data:
                raise EOFError
            return self._reader.feed(data)
        count = self.socket.recv_into(hole)
        if not count:
            raise EOFError
        return self._reader.fill(count)

    def send(self, head: bytes, buffers: Buffers = ()) -> None:
        """Send a frame whole, however long that takes."""
        with self._lock:
            self.socket.sendall(head)
            for buffer in buffers:
                self.socket.sendall(buffer)


__all__ = ["FrameError", "Link", "framed", "unframed"]
