"""Two lanes over one stream: control frames, which wait for nothing, and work, of which only a window is under way.

Guarantees
    Frames of one lane arrive whole and in order; those of different lanes may overtake each other. However much work waits, a control
    frame has at most one window of it in front of itself, and the window shrinks until that is about `TARGET_SECONDS`.

How it works
    The work lane is a stream of frames of its own. It travels in slices (DATA), each the body of a control frame; the receiver says how
    many bytes it has taken in (ACK), and no more than the window is sent beyond that. An ACK goes along with what is sent anyway; by
    itself only when a slice asks for it: a packet costs the SSH at either end as much as a small task does. Some slices of each window
    ask.
    The window follows the delay of acknowledgements that were asked for: while it holds work back and they come quickly it is doubled,
    when they come late it is cut down to what the link carries in time.
    (TCP's own buffers, and those of the SSH on both sides, hold seconds of a slow link. A window alone helps: nobody between us heeds
    priorities. The idea of steering by delay instead of loss: Brakmo & Peterson, "TCP Vegas", 1995.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from time import monotonic

from .frames import HEADER, HEADER_SIZE, MAX_BODY, Frame, FrameError, encode_header
from .memory import Buffer
from .messages import ACK, DATA
from .pieces import PieceReader

SLICE_BYTES = (1 << 16) - HEADER_SIZE
"""With its header, a slice fills two packets of SSH (of 32 KiB each) and does not begin a third."""
TARGET_SECONDS = 0.1
"""So long may acknowledgements come later than the link's own round trip before the window is cut."""
FIRST_WINDOW = 1 << 17
MIN_WINDOW = 1 << 15
ASKS = 8
"""So many acknowledgements are asked for in one window: enough that it never waits for one that was not."""
LAZY_BYTES = 1 << 13
"""Work that may in any case go without an acknowledgement of its own."""
PROBE_SECONDS = 0.1
"""So often one is asked for while less than that is under way: how long the link takes when it is not full."""
MAX_WINDOW = 1 << 24

_unpack_header = HEADER.unpack_from


class Lanes:
    """One end of a link with two lanes, without its input and output."""

    __slots__ = (
        "_acknowledged", "_asked", "_asked_for", "_base", "_control", "_held", "_inner", "_next_probe", "_probe", "_said", "_sent",
        "_slice_asks", "_slice_rest", "_tail", "_taken", "_work", "waiting", "window",
    )  # fmt: skip

    def __init__(self) -> None:
        self._control: list[Buffer] = []
        self._work: deque[Buffer] = deque()
        self.waiting = 0
        """Bytes of work that have not left."""
        self.window = FIRST_WINDOW
        """Bytes of work that may be under way."""
        self._sent = self._acknowledged = self._asked_for = 0
        self._probe: tuple[int, float] | None = None
        self._next_probe = 0.0
        self._base = float("inf")
        self._held = False
        self._inner = PieceReader()
        self._tail = b""
        self._slice_rest = 0
        """Bytes of a slice that have not come."""
        self._slice_asks = False
        self._taken = self._said = 0
        self._asked = False

    # --- out

    def say(self, frame: bytes) -> None:
        """Put a frame on the control lane."""
        self._control.append(frame)

    def work(self, pieces: Iterable[Buffer]) -> None:
        """Put pieces of frames on the work lane; they must not change until they have left."""
        for piece in pieces:
            self.waiting += len(piece)
            self._work.append(piece)

    @property
    def may_take(self) -> bool:
        """Whether more could leave now."""
        return bool(self._control) or (bool(self._work) and self._sent - self._acknowledged < self.window)

    def take(self, limit: int = MAX_WINDOW) -> list[Buffer]:
        """Take what may leave now, and not much more than `limit` bytes of work."""
        pieces = self._control
        self._control = []
        room = min(self.window - (self._sent - self._acknowledged), limit)
        due = self._taken - self._said
        if due and (self._asked or pieces or (self._work and room > 0)):
            self._said, self._asked = self._taken, False
            pieces.append(encode_header(ACK, 0, 0, 0, self._taken))
        while self._work and room > 0:
            room -= self._slice(pieces, min(room, SLICE_BYTES))
        if self._work and room <= 0 and self._asked_for < self._sent and self._sent - self._acknowledged >= self.window:
            self._asked_for = self._sent  # the window was cut meanwhile: what made it full was not to be acknowledged by itself
            pieces.append(encode_header(DATA, 1, 0, 0, 0))
        self._held = self._held or (bool(self._work) and not self.may_take)
        return pieces

    def _slice(self, pieces: list[Buffer], room: int) -> int:
        """Move one slice of work into `pieces`; return its bytes."""
        at = len(pieces)
        pieces.append(b"")
        work, size = self._work, 0
        while work and size < room:
            piece = work.popleft()
            over = size + len(piece) - room
            if over > 0:
                view = memoryview(piece)
                work.appendleft(view[-over:])
                piece = view[:-over]
            size += len(piece)
            pieces.append(piece)
        self.waiting -= size
        self._sent += size
        pieces[at] = encode_header(DATA, self._ask(), 0, size, 0)
        return size

    def _ask(self) -> int:
        """Return 1 if the slice that ends here is to be acknowledged at once, else 0."""
        if self._sent - self._asked_for < max(LAZY_BYTES, self.window // ASKS) and (
            self._probe is not None or monotonic() < self._next_probe
        ):
            return 0
        self._asked_for = self._sent
        if self._probe is None:
            now = monotonic()
            self._probe = self._sent, now
            self._next_probe = now + PROBE_SECONDS
        return 1

    # --- in

    def feed(self, data: bytes) -> list[Frame]:
        """Take the stream's next bytes and return the frames of both lanes that are whole now. Raises FrameError."""
        frames: list[Frame] = []
        if self._tail:
            data, self._tail = self._tail + data, b""
        position, end = 0, len(data)
        while position < end:
            if self._slice_rest:
                stop = min(end, position + self._slice_rest)
                frames += self._inner.feed(data, position, stop)
                self._took(stop - position)
                position = stop
            elif end - position >= (size := _size(data, position, end)):
                self._hear(data, position, size, frames)
                position += size
            else:
                self._tail = data[position:]
                break
        return frames

    def _hear(self, data: bytes, position: int, size: int, frames: list[Frame]) -> None:
        """Take in a control frame, or the header of a slice."""
        kind, flags, _, body, ident = _unpack_header(data, position)
        if kind == DATA:
            self._slice_rest, self._slice_asks = body, bool(flags)
            self._took(0)
        elif kind == ACK:
            self._acknowledge(ident)
        else:
            frames.append((kind, flags, ident, data[position + HEADER_SIZE : position + size], ()))

    def _took(self, count: int) -> None:
        """Note that so many bytes of a slice have come."""
        self._taken += count
        self._slice_rest -= count
        if not self._slice_rest:
            self._asked = self._asked or self._slice_asks

    def _acknowledge(self, taken: int) -> None:
        self._acknowledged = max(self._acknowledged, min(taken, self._sent))
        if self._probe is None or self._probe[0] > self._acknowledged:
            return
        seconds = monotonic() - self._probe[1]
        self._probe = None
        self._base = min(self._base, seconds)
        late = seconds - self._base
        if late > TARGET_SECONDS:
            self.window = max(MIN_WINDOW, int(self.window * max(0.5, TARGET_SECONDS / late)))
        elif self._held and late < TARGET_SECONDS / 2:
            self.window = min(MAX_WINDOW, self.window * 2)
        self._held = False


def _size(data: bytes, position: int, end: int) -> int:
    """Return the bytes of what begins here, as far as it is needed whole: of a slice the header."""
    if end - position < HEADER_SIZE:
        return HEADER_SIZE
    size: int
    kind, _, count, size, _ = _unpack_header(data, position)
    if kind == DATA:
        return HEADER_SIZE
    if size > MAX_BODY or count:
        raise FrameError(f"a control frame with a body of {size} bytes and {count} buffers was announced")
    return HEADER_SIZE + size


__all__ = ["Lanes"]
