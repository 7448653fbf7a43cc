"""The blocking end of a link: how a slot talks in frames.

The pool's end lives in `_hosts`, since it must never block.
"""

from __future__ import annotations

from _thread import allocate_lock
from os import write
from select import POLLOUT, poll

from .frames import MAX_BODY, READ_SIZE, Frame, FrameError, FrameReader, encode, encode_head
from .memory import Buffer, Buffers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket as Socket


PIPE_BODY = 1 << 15
"""Bytes. A larger answer goes through the socket: a pipe holds 64 KiB, and both sides would take turns."""


def framed(
    kind: int, flags: int, ident: int, body: bytes, tail: bytes = b"", buffers: Buffers = (), limit: int = MAX_BODY
) -> tuple[bytes, Buffers]:
    """Return a frame's head and the buffers to send behind it. The receiver joins them again with `unframed`.

    A `tail` that makes the body as large as `limit` (bytes) travels as the first buffer.
    """
    size = len(body) + len(tail)
    if not buffers and size < limit:
        return encode(kind, flags, ident, body + tail), ()
    if size >= limit:
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
    """Frames to and from a blocking slot; `send` may be called from several threads.

    What the slot says goes through a pipe: a small frame costs a third of what it costs on a socket, on both sides. Large buffers
    follow on the socket, which moves them three times as fast as a pipe. The pool's frames come on the socket.
    """

    __slots__ = ("_answers", "_lock", "_reader", "socket")

    def __init__(self, socket: Socket, answers: int) -> None:
        self.socket = socket
        self._answers = answers
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

    def send(self, kind: int, flags: int, ident: int, body: bytes, tail: bytes = b"", buffers: Buffers = ()) -> None:
        """Send a frame whole, however long that takes; see `framed`."""
        if not buffers and len(body) + len(tail) < PIPE_BODY:
            head = encode(kind, flags, ident, body + tail)
        else:
            head, buffers = framed(kind, flags, ident, body, tail, buffers, PIPE_BODY)
        with self._lock:
            sent = write(self._answers, head)
            while sent < len(head):
                sent += write(self._answers, head[sent:])
            for buffer in buffers:
                self.socket.sendall(buffer)

    def has_room(self) -> bool:
        """Return whether a small frame can be sent now without waiting for the pool to read."""
        look = poll()
        look.register(self._answers, POLLOUT)
        return [ready for _, ready in look.poll(0)] == [POLLOUT]


__all__ = ["FrameError", "Link", "framed", "unframed"]
