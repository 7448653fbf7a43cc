"""What slots answer, on its way to the pool: said which slot it comes from, and passed on as it comes.

Guarantees
    A large answer is never kept here: its pieces go onto the work lane as they are read. One that nobody wants, or whose slot died in
    the midst of it, is abandoned, and its pieces with it.
"""

from __future__ import annotations

from .._wire.frames import Frame, encode, encode_head
from .._wire.messages import ABANDONED, INCARNATION_BITS, STAMP, WHOLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._wire.lanes import Lanes
    from .._wire.memory import Buffer


class Relay:
    """The work lane towards the pool."""

    __slots__ = ("_lanes", "_pieces", "_stamp", "_whole")

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._stamp = 0
        self._pieces: list[Buffer] = []
        self._whole = 0
        """The stream that belongs to the next frame."""

    def source(self, index: int, incarnation: int) -> None:
        """Say whose frames follow."""
        stamp = index << INCARNATION_BITS | incarnation
        if stamp != self._stamp:
            self._stamp = stamp
            self._pieces.append(encode(STAMP, 0, stamp, b""))

    def piece(self, frame: Frame) -> None:
        """Pass on a piece, or take note that the next frame's have all come."""
        kind, flags, stream, body, buffers = frame
        if kind == WHOLE:
            self._whole = stream
            return
        (data,) = buffers
        self._pieces += (encode_head(kind, flags, stream, body, [len(data)]), data)

    def frame(self, frame: Frame, *, wanted: bool) -> None:
        """Pass on a frame, if anybody wants it."""
        kind, flags, ident, body, _ = frame
        if self._whole:
            self._pieces.append(encode(WHOLE, 0 if wanted else ABANDONED, self._whole, b""))
            self._whole = 0
        if wanted:
            self._pieces.append(encode(kind, flags, ident, body))

    def abandon(self, stream: int) -> None:
        """The rest of a stream will not come (0: there is none)."""
        if stream:
            self._pieces.append(encode(WHOLE, ABANDONED, stream, b""))
            self.flush()

    def flush(self) -> None:
        """Put what was passed on onto the lane."""
        pieces, self._pieces = self._pieces, []
        self._lanes.work(pieces)


__all__ = ["Relay"]
