"""Frames: whole messages out of a stream of bytes, and nothing about what they mean.

A frame is a header of 16 bytes, a body, and any number of out-of-band buffers:

    kind u8 · flags u8 · buffers u16 · size u32 · ident u64     (little-endian; `size` counts the body)
    body: one u64 length per buffer, then the frame's own bytes
    the buffers' bytes, one after the other

Guarantees
    `FrameReader` returns only whole frames, whatever way the stream is cut; it never copies a buffer twice (they are received into
    the memory they stay in); what cannot be a frame raises `FrameError` before memory is taken for it; what can be one gets memory for
    one buffer more than has arrived.

How it works
    Many small frames arrive in one read and are cut out of it by slices. A frame with buffers makes a *hole*: the next reads go
    straight into the buffer's memory.
"""

from __future__ import annotations

from struct import Struct, error as struct_error, pack, unpack_from

from .memory import Buffers, memory

HEADER = Struct("<BBHIQ")
HEADER_SIZE = HEADER.size
MAX_BODY = 1 << 20
"""Bytes. A larger body travels as a buffer, so that it is received in place."""
MAX_BUFFER = 1 << 40
READ_SIZE = 1 << 16
"""Bytes asked for in one read: below malloc's mmap threshold, so that the read's own buffer costs no page faults."""

Frame = tuple[int, int, int, bytes, Buffers]
"""kind, flags, ident, body, buffers"""

_unpack_header = HEADER.unpack_from
_pack_header = HEADER.pack


class FrameError(Exception):
    """The stream is not one of ours, or was torn."""


def encode(kind: int, flags: int, ident: int, body: bytes) -> bytes:
    """Return a frame without buffers as one piece of bytes."""
    return _pack_header(kind, flags, 0, len(body), ident) + body


def encode_header(kind: int, flags: int, buffers: int, size: int, ident: int) -> bytes:
    """Return a header alone: a body of `size` bytes follows."""
    return _pack_header(kind, flags, buffers, size, ident)


def encode_head(kind: int, flags: int, ident: int, body: bytes, sizes: list[int]) -> bytes:
    """Return all of a frame but its buffers, whose `sizes` (bytes) it announces."""
    count = len(sizes)
    return _pack_header(kind, flags, count, len(body) + 8 * count, ident) + pack(f"<{count}Q", *sizes) + body


class FrameReader:
    """Cut a stream into frames. Ask `hole` before each read. `apart=True`: the buffers' bytes come by a stream of their own."""

    __slots__ = ("_apart", "_buffers", "_filled", "_open", "_sizes", "_tail", "hole")

    def __init__(self, apart: bool = False) -> None:
        self._apart = apart
        self._tail = b""
        self._open: tuple[int, int, int, bytes] | None = None
        self._sizes: list[int] = []
        self._buffers: list[bytearray | memoryview] = []
        self._filled = 0
        self.hole: memoryview | None = None
        """Memory that the next bytes of the stream belong into (then call `fill`), or None (then call `feed`)."""

    @property
    def torn(self) -> bool:
        """Whether the stream stands in the middle of a frame."""
        return bool(self._tail) or self._open is not None

    def feed(self, data: bytes, position: int = 0, end: int | None = None) -> list[Frame]:
        """Take the stream's next bytes, those of `data` between two positions, and return the frames that are whole now."""
        frames: list[Frame] = []
        if end is None:
            end = len(data)
        if self.hole is not None and not self._apart:
            position += self._pour(data, position, end, frames)
        elif self._tail:
            data = self._tail + data[position:end]
            self._tail = b""
            position, end = 0, len(data)
        while end - position >= HEADER_SIZE:
            kind, flags, count, size, ident = _unpack_header(data, position)
            if size > MAX_BODY + 8 * count:
                raise FrameError(f"a body of {size} bytes was announced, at most {MAX_BODY} are allowed")
            start = position + HEADER_SIZE
            stop = start + size
            if stop > end:
                break
            position = stop
            if not count:
                frames.append((kind, flags, ident, data[start:stop], ()))
                continue
            self._begin(kind, flags, ident, data[start:stop], count)
            if not self._apart:
                position += self._pour(data, position, end, frames)
                continue
            self._advance(0, frames)
            if self.hole is not None:
                break  # what comes behind in this stream waits until the other one has filled the hole
        if position < end:
            self._tail = data[position:end]
        return frames

    def fill(self, count: int) -> list[Frame]:
        """Say that `count` bytes were received into `hole`; return the frames that are whole now."""
        frames: list[Frame] = []
        self._advance(count, frames)
        if self._tail and self.hole is None:
            frames += self.feed(b"")
        return frames

    def _begin(self, kind: int, flags: int, ident: int, body: bytes, count: int) -> None:
        try:
            sizes = unpack_from(f"<{count}Q", body)
        except struct_error:
            raise FrameError("a frame's body is shorter than its table of buffers") from None
        if sum(sizes) > MAX_BUFFER:
            raise FrameError(f"buffers of {sum(sizes)} bytes were announced, at most {MAX_BUFFER} are allowed")
        self._open = (kind, flags, ident, body[8 * count :])
        self._sizes = list(reversed(sizes))
        self._buffers = []
        self._filled = 0

    def _pour(self, data: bytes, position: int, end: int, frames: list[Frame]) -> int:
        """Move what `data` already holds of the open frame's buffers into them; return how many bytes that was."""
        began = position
        self._advance(0, frames)
        while self.hole is not None and position < end:
            count = min(len(self.hole), end - position)
            self.hole[:count] = memoryview(data)[position : position + count]
            position += count
            self._advance(count, frames)
        return position - began

    def _room(self, size: int) -> bytearray | memoryview:
        """Return memory for the next buffer of the open frame."""
        return memory(size)

    def _advance(self, count: int, frames: list[Frame]) -> None:
        """Take note of `count` more bytes. A buffer's memory is taken when its turn comes: who only announces much, gets little."""
        self._filled += count
        if self._buffers and self._filled < len(self._buffers[-1]):
            self.hole = memoryview(self._buffers[-1])[self._filled :]
            return
        while self._sizes:
            size = self._sizes.pop()
            try:
                self._buffers.append(self._room(size))
            except (MemoryError, OverflowError):
                raise FrameError(f"there is no memory for a buffer of {size} bytes") from None
            self._filled = 0
            if size:
                self.hole = memoryview(self._buffers[-1])
                return
        assert self._open is not None
        frames.append((*self._open, tuple(self._buffers)))
        self.hole = self._open = None
        self._buffers = []
