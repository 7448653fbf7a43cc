"""Frames whose buffers travel in pieces, so that who stands between passes them on as they come, and keeps none.

A stream of pieces has a number of its own:

    PIECE   ident: the stream; body: the bytes of the buffer it begins, or nothing; one buffer: the next bytes
    WHOLE   ident: the stream; the next frame is the one that its buffers belong to (flags ABANDONED: there will be none)

Guarantees
    Other frames may stand between the pieces of one. Pieces are received into the memory they stay in. A stream that is abandoned
    leaves nothing behind.
"""

from __future__ import annotations

from itertools import count
from struct import Struct

from .frames import MAX_BUFFER, Frame, FrameError, FrameReader
from .memory import Buffers
from .messages import ABANDONED, PIECE, WHOLE

PIECE_BYTES = (1 << 16) - 64
"""With its heads, a piece fills one slice of the work lane, see `lanes.py`."""
_SIZE = Struct("<Q")
_LATER = memoryview(b"")
_numbers = count(1)


class PassingReader(FrameReader):
    """Frames whose buffers come by a stream of their own, and are passed on: of those only the pieces are returned, and the end."""

    __slots__ = ("_begins", "_rest", "stream")

    def __init__(self) -> None:
        super().__init__(apart=True)
        self.stream = 0
        """The number of what is being passed on; 0: nothing is."""
        self._rest = 0
        self._begins = True

    def _advance(self, count: int, frames: list[Frame]) -> None:
        self.stream = next(_numbers)
        self.hole = _LATER
        self._begin_buffer()

    def _begin_buffer(self) -> None:
        self._rest, self._begins = self._sizes.pop(), True

    @property
    def wanted(self) -> int:
        """How many bytes the next piece may have; 0: give an empty one."""
        return min(self._rest, PIECE_BYTES)

    def passed(self, piece: bytes) -> list[Frame]:
        """Take in the next bytes of the buffers; return them as a frame, and whatever is whole by that."""
        frames: list[Frame] = [(PIECE, 0, self.stream, _SIZE.pack(self._rest) if self._begins else b"", (piece,))]
        self._rest -= len(piece)
        self._begins = False
        if self._rest:
            return frames
        if self._sizes:
            self._begin_buffer()
            return frames
        assert self._open is not None
        frames += [(WHOLE, 0, self.stream, b"", ()), (*self._open, ())]
        self.stream, self.hole, self._open = 0, None, None
        return frames + self.feed(b"") if self._tail else frames


class _Coming:
    """The buffers of a stream, as far as they have come."""

    __slots__ = ("buffers", "filled")

    def __init__(self) -> None:
        self.buffers: list[bytearray | memoryview] = []
        self.filled = 0
        """Bytes of the last."""


class PieceReader(FrameReader):
    """Frames, some of whose buffers come in pieces."""

    __slots__ = ("_coming", "_whole")

    def __init__(self) -> None:
        super().__init__()
        self._coming: dict[int, _Coming] = {}
        self._whole: Buffers = ()
        """What belongs to the next frame."""

    def feed(self, data: bytes, position: int = 0, end: int | None = None) -> list[Frame]:
        """See `FrameReader`."""
        frames = super().feed(data, position, end)
        return self._put_together(frames) if self._coming or self._whole else frames

    def _put_together(self, frames: list[Frame]) -> list[Frame]:
        whole: list[Frame] = []
        for frame in frames:
            kind, flags, ident, body, _ = frame
            if kind == WHOLE:
                coming = self._coming.pop(ident, None)
                self._whole = () if coming is None or flags == ABANDONED else tuple(coming.buffers)
            elif kind != PIECE:
                whole.append((kind, flags, ident, body, self._whole) if self._whole else frame)
                self._whole = ()
        return whole

    def _room(self, size: int) -> bytearray | memoryview:
        assert self._open is not None
        kind, _, stream, begins = self._open
        if kind != PIECE:
            return super()._room(size)
        coming = self._coming.setdefault(stream, _Coming())
        if begins:
            (whole,) = _SIZE.unpack(begins)
            coming.buffers.append(super()._room(min(whole, MAX_BUFFER)))
            coming.filled = 0
        room = memoryview(coming.buffers[-1] if coming.buffers else b"")[coming.filled : coming.filled + size]
        if len(room) < size:
            raise FrameError(f"a piece of {size} bytes does not belong to any buffer")
        coming.filled += size
        return room


__all__ = ["PIECE_BYTES", "PassingReader", "PieceReader"]
