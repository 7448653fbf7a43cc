"""The far agent's end of the link to one of its slots: attempts out, answers in, never blocking.

Guarantees
    What is recalled will never begin. An answer is passed on only from the slot that was asked, for the attempt it was asked for.

How it works
    As `_hosts/slot_link.py`, which does the same near, in the pool's event loop: permits, generations, a pipe for answers and the
    socket for large buffers. See `slot.py` and `.._wire/link.py`.
"""

from __future__ import annotations

import os
from _socket import AF_UNIX, SOCK_STREAM, socketpair
from collections import deque
from itertools import islice
from select import POLLIN, POLLOUT
from struct import Struct

from .._wire.frames import READ_SIZE, Frame, FrameError, encode, encode_head
from .._wire.messages import (
    ERA,
    ESTIMATE_SHIFT,
    ESTIMATE_ZERO,
    FORGET,
    ISOLATE,
    MAX_PERMITS,
    OUTCOME,
    PERMIT,
    RETIRE,
    RUN,
    pack,
)
from .._wire.pieces import PassingReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._wire.memory import Buffer, Buffers

PIECES = 64
PIECES_AT_ONCE = 8
"""So many pieces of an answer are read in one turn: about what a socket holds."""
KNOWN_FUNCTIONS = 2048
"""Functions that a slot is trusted to remember."""
_NUMBER_AND_MODE = Struct("<I2xH").unpack_from


class Item:
    """One attempt as the agent holds it, from its arrival to its answer."""

    __slots__ = ("body", "buffers", "end", "estimate", "function", "grace", "ident", "isolate")

    def __init__(self, frame: Frame) -> None:
        _, _, self.ident, self.body, self.buffers = frame
        self.function, mode = _NUMBER_AND_MODE(self.body)
        exponent = mode >> ESTIMATE_SHIFT
        self.estimate = 2.0 ** (exponent - ESTIMATE_ZERO) if exponent else 1.0
        """Seconds that it is expected to run."""
        self.isolate = bool(mode & ISOLATE)
        self.end: SlotEnd | None = None
        """The slot that has it, None: it waits."""
        self.grace: float | None = None
        """It is to be stopped, and has so many seconds for it once it was asked."""


class SlotEnd:
    """One slot's socket, permit pipe and answer pipe, and what it was given."""

    __slots__ = (
        "_answers", "_generation", "_known", "_out", "_permits", "_reader", "_socket", "_taker", "closed", "exclusive", "incarnation",
        "index", "launched", "load", "outstanding", "retiring", "up",
    )  # fmt: skip

    def __init__(self, index: int, incarnation: int) -> None:
        self.index = index
        self.incarnation = incarnation
        self._reader = PassingReader()
        self._generation = 0
        self._known: dict[int, None] = {}
        self._out: deque[Buffer] = deque()
        self.outstanding: deque[Item] = deque()
        """Given and not answered, in order; the first may run."""
        self.load = 0.0
        """Estimated seconds of what is outstanding."""
        self.launched = 0
        self.up = self.retiring = self.exclusive = self.closed = False

    def open(self) -> list[int]:
        """Make the socket and the pipes; return the slot's ends, which the caller passes on and closes."""
        self._socket, theirs = socketpair(AF_UNIX, SOCK_STREAM)
        self._socket.setblocking(False)
        self._taker, self._permits = os.pipe()
        self._answers, answers = os.pipe()
        for fd in (self._taker, self._permits, self._answers):
            os.set_blocking(fd, False)
        return [theirs.detach(), os.dup(self._taker), answers]

    def own(self) -> list[int]:
        """Return our descriptors, which no other process may hold."""
        return [] if self.closed else [self._socket.fileno(), self._taker, self._permits, self._answers]

    def close(self) -> None:
        """Let go of the slot."""
        self.closed = True
        self._out.clear()
        self._socket.close()
        for fd in (self._taker, self._permits, self._answers):
            os.close(fd)

    def interests(self) -> dict[int, int]:
        """Return what to wait for: descriptors and poll's events."""
        socket = self._socket.fileno()
        writing = POLLOUT if self._out else 0
        return {socket: POLLIN | writing, self._answers: 0} if self._reader.stream else {self._answers: POLLIN, socket: writing}

    # --- out

    def give(self, items: list[Item], functions: dict[int, tuple[bytes, Buffers]]) -> None:
        """Send attempts and their permits, and the functions they name that the slot does not know."""
        out = self._out
        waiting = bool(out)
        generation = self._generation
        flags = generation & 0xFF
        pieces: list[Buffer] = []
        for item in items:
            if item.function and item.function not in self._known:
                self._define(item.function, functions, pieces)
            if item.buffers:
                pieces.append(encode_head(RUN, flags, item.ident, item.body, [len(buffer) for buffer in item.buffers]))
                pieces += item.buffers
            else:
                pieces.append(encode(RUN, flags, item.ident, item.body))
            item.end = self
            self.load += item.estimate
        self.outstanding += items
        self.launched += len(items)
        out.extend(pieces)
        if not waiting:
            self.write()
        # The permits behind what they permit: they wake the slot, which would else wait a second time, for the attempt.
        os.write(self._permits, PERMIT.pack(generation) * len(items))

    def _define(self, number: int, functions: dict[int, tuple[bytes, Buffers]], pieces: list[Buffer]) -> None:
        if len(self._known) >= KNOWN_FUNCTIONS:
            oldest = list(islice(self._known, KNOWN_FUNCTIONS // 4))
            for known in oldest:
                del self._known[known]
            pieces.append(encode(FORGET, 0, 0, pack(*oldest)))
        self._known[number] = None
        head, buffers = functions[number]
        pieces.append(head)
        pieces += buffers

    def say(self, pieces: Iterable[Buffer]) -> None:
        """Send pieces of frames, to a slot that lives."""
        if self.closed:
            return
        waiting = bool(self._out)
        self._out.extend(pieces)
        if not waiting:
            self.write()

    def forget(self, numbers: Iterable[int]) -> None:
        """Have the slot forget functions."""
        known = [number for number in numbers if number in self._known]
        if known:
            for number in known:
                del self._known[number]
            self.say((encode(FORGET, 0, 0, pack(*known)),))

    def write(self) -> None:
        """Write what the socket takes now."""
        out = self._out
        try:
            while out:
                count = self._socket.sendmsg(list(islice(out, PIECES)))
                while out and count >= len(out[0]):
                    count -= len(out.popleft())
                if count:
                    out[0] = memoryview(out[0])[count:]
        except BlockingIOError:
            pass
        except OSError:
            out.clear()  # it is dead or let go of its socket: its ward will know

    def recall(self) -> list[Item]:
        """Take back what the slot has not begun; return it, in order."""
        try:
            taken = len(os.read(self._taker, PERMIT.size * MAX_PERMITS)) // PERMIT.size
        except BlockingIOError:
            return []
        self._generation = (self._generation + 1) % RETIRE
        if not self._generation & 0xFF:
            self._out.append(encode(ERA, 0, self._generation >> 8, b""))
            self.write()
        back = [self.outstanding.pop() for _ in range(min(taken, len(self.outstanding)))][::-1]
        self.launched -= len(back)
        self.load = sum(item.estimate for item in self.outstanding)
        for item in back:
            item.end = None
        return back

    def retire(self) -> None:
        """Ask the slot, which has nothing to do, to end."""
        self.retiring = True
        os.write(self._permits, PERMIT.pack(RETIRE))

    # --- in

    def read(self) -> list[Frame] | None:
        """Return the frames that have come (perhaps none), or None where the slot's end is closed."""
        reader = self._reader
        frames: list[Frame] = []
        try:
            if not reader.stream:
                data = os.read(self._answers, READ_SIZE)
                return reader.feed(data) if data else None
            for _ in range(PIECES_AT_ONCE):
                wanted = reader.wanted
                data = self._socket.recv(wanted) if wanted else b""
                if wanted and not data:
                    return None
                frames += reader.passed(data)
                if not reader.stream:
                    break
            return frames
        except BlockingIOError:
            return frames
        except (FrameError, OSError):
            return None

    @property
    def passing(self) -> int:
        """The stream of pieces in whose midst its answers are; 0: in none."""
        return self._reader.stream

    def ended(self, frame: Frame) -> Item | None:
        """Take an answer in; return the attempt it is for, None where that was not asked."""
        if frame[0] != OUTCOME or not self.outstanding or self.outstanding[0].ident != frame[2]:
            return None
        item = self.outstanding.popleft()
        self.load = self.load - item.estimate if self.outstanding else 0.0
        return item


__all__ = ["Item", "SlotEnd"]
