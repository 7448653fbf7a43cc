"""The pool's end of the link to one local slot: attempts out, answers in, never blocking.

Guarantees
    Frames leave in the order they were written, whole. What is recalled will never begin: its permits are gone from the pipe.

How it works
    See `_worker/slot.py` for permits and generations, `_wire/link.py` for the ways of a frame. Writes go to the kernel at once; what
    it does not take waits for the loop. What a slot says is read from its answer pipe, and from the socket while a large buffer comes.
"""

from __future__ import annotations

import asyncio
import math
import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from .._jobs.task import Attempt
from .._wire.frames import READ_SIZE, Frame, FrameError, FrameReader, encode
from .._wire.link import unframed
from .._wire.memory import Buffer, Buffers
from .._wire.messages import (
    ERA,
    MAX_PERMITS,
    OUTCOME,
    OUTCOME_HEAD,
    PART,
    PERMIT,
    PROGRESS,
    PROGRESS_BODY,
    READY,
    RETIRE,
    SURROUND,
    pack,
)
from .base import Outcome, Reports
from .encoder import Encoder

_OUTCOME_SIZE = OUTCOME_HEAD.size
HOLE_BYTES_A_TURN = 8 << 20
"""Bytes of one large buffer that are received before the loop may do something else."""
JOINED_BYTES = 1 << 15
"""Less is copied together and sent by one plain call; more would be fresh memory each time, whose page faults cost more than the copy."""
NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)
"""A program may have SIGPIPE kill it, and the slot may just have died."""
NOTHING = 0, 0
PIECES = 64
"""How many pieces one call sends at the most."""
FOREVER = math.inf


def path_entries() -> list[str]:
    """Return what can travel of `sys.path`: programs put other things there than strings."""
    entries: list[Any] = sys.path
    return [str.__str__(entry) for entry in entries if isinstance(entry, str)]  # (`marshal` takes no subclass of str)


class SlotLink:
    """One slot's socket, permit pipe and answer pipe."""

    __slots__ = (
        "_answers", "_encoder", "_generation", "_held", "_host", "_incarnation", "_index", "_loop", "_on_end", "_on_its_way", "_path",
        "_pending", "_permits", "_reader", "_reading", "_reporting", "_reports", "_socket", "_taker", "_unreported", "_writing", "napping",
    )  # fmt: skip

    def __init__(self, host: str, index: int, incarnation: int, reports: Reports, on_end: Callable[[int], None]) -> None:
        self._host = host
        self._index = index
        self._incarnation = incarnation
        self._reports = reports
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader(apart=True)
        self._pending: deque[Buffer] = deque()
        self._held: list[tuple[Attempt | None, int]] = []
        """Attempts that have their permits and wait to be written, with their generations (None: an era begins)."""
        self._on_its_way = NOTHING
        self._encoder = Encoder()
        self._path = list(sys.path)
        self._generation = 0
        self._unreported: list[Frame] = []
        self._reporting = False
        self.napping = False
        """Whether answers are let come together: nobody is woken up by them."""

    @property
    def incarnation(self) -> int:
        """Which process under this slot's number it is."""
        return self._incarnation

    def open(self) -> tuple[int, int, int]:
        """Make the socket and the pipes; return the slot's ends, which the caller passes on and closes. Raises OSError."""
        opened: list[int] = []
        try:
            ours, theirs = (end.detach() for end in socket.socketpair())
            opened += (ours, theirs)
            opened += os.pipe()
            opened += os.pipe()
            opened.append(os.dup(opened[2]))
        except OSError:
            for fd in opened:
                os.close(fd)
            raise
        _, _, self._taker, self._permits, self._answers, answers, taker = opened
        self._socket = socket.socket(fileno=ours)
        for fd in (ours, self._taker, self._permits, self._answers):
            os.set_blocking(fd, False)
        self._writing = False
        self._reading = self._answers
        self._loop.add_reader(self._answers, self._take_in)
        return theirs, taker, answers

    def close(self) -> None:
        """Let go of the slot."""
        if self._socket.fileno() < 0:
            return
        self._read_from(-1)
        if self._writing:
            self._loop.remove_writer(self._socket.fileno())
        self._pending.clear()
        self._held.clear()
        self._socket.close()
        for fd in (self._taker, self._permits, self._answers):
            os.close(fd)

    def forked(self) -> None:
        """Close the descriptors of a forked child's copy, and touch nothing else: the selector is shared with the parent."""
        self._reading = -1
        self._writing = False
        self._pending.clear()
        self._held.clear()
        for fd in (self._socket.detach(), self._taker, self._permits, self._answers):
            if fd >= 0:
                os.close(fd)

    # --- out

    def launch(self, attempts: Sequence[Attempt]) -> None:
        """Send attempts and their permits; while the slot does not take what it was sent before, they wait here."""
        generation = self._generation
        if self._pending:
            self._held += [(attempt, generation) for attempt in attempts]
            os.write(self._permits, PERMIT.pack(generation) * len(attempts))  # without one, the slot would not look for more
            return
        pieces: list[Buffer] = []
        if sys.path != self._path:
            self._path = list(sys.path)
            pieces.append(encode(SURROUND, 0, 0, pack(path_entries())))
        flags = generation & 0xFF
        encode_attempt = self._encoder.attempt
        for attempt in attempts:
            encode_attempt(attempt, flags, 0, attempt.task._deadline, pieces)
        # The permits first: the slot waits for them, and wakes up while the attempts are written.
        os.write(self._permits, PERMIT.pack(generation) * len(attempts))
        if sum(map(len, pieces)) < JOINED_BYTES:
            pieces = [b"".join(pieces)]
        self._pending.extend(pieces)
        self._write()
        if self._pending and len(attempts) == 1:
            self._on_its_way = attempts[0].ident, sum(map(len, self._pending))

    def is_on_its_way(self, ident: int) -> bool:
        """Return whether the slot's first attempt has not reached it whole, though it may have its permit: then nothing runs there."""
        return self._on_its_way[0] == ident or any(attempt is not None and attempt.ident == ident for attempt, _ in self._held)

    def recall(self) -> int:
        """Take back all permits that the slot has not taken; return how many."""
        try:
            taken = len(os.read(self._taker, PERMIT.size * MAX_PERMITS)) // PERMIT.size
        except BlockingIOError:
            return 0
        del self._held[max(0, len(self._held) - taken) :]
        generation = self._generation = (self._generation + 1) % RETIRE
        if not generation & 0xFF:
            if self._pending:
                self._held.append((None, generation))
            else:
                self._begin_era(generation)
                self._write()
        return taken

    def _begin_era(self, generation: int) -> None:
        self._pending.append(encode(ERA, 0, generation >> 8, b""))

    def drop(self, numbers: Sequence[int]) -> None:
        """Have the slot let go of shared values."""
        pieces = self._encoder.drop(numbers)
        if pieces:
            self._pending.extend(pieces)
            self._write()

    def retire(self) -> None:
        """Ask the slot, which has nothing to do, to end."""
        os.write(self._permits, PERMIT.pack(RETIRE))

    def _write(self) -> None:
        """Write what the socket takes now."""
        pending = self._pending
        sent = 0
        try:
            while pending and sent < HOLE_BYTES_A_TURN:
                count = self._socket.sendmsg(list(islice(pending, PIECES)), (), NO_SIGNAL)
                sent += count
                while pending and count >= len(pending[0]):
                    count -= len(pending.popleft())
                if count:
                    pending[0] = memoryview(pending[0])[count:]
        except BlockingIOError:
            pass
        except OSError:
            pending.clear()  # the slot is dead or let go of its socket: its agent will tell, what is written does not matter
        ident, left = self._on_its_way
        if ident:
            self._on_its_way = (ident, left - sent) if pending and sent < left else NOTHING
        if bool(pending) != self._writing:
            self._writing = not self._writing
            if self._writing:
                self._loop.add_writer(self._socket.fileno(), self._on_writable)
            else:
                self._loop.remove_writer(self._socket.fileno())

    def _on_writable(self) -> None:
        self._write()
        while self._held and not self._pending:
            attempt, generation = self._held.pop(0)
            if attempt is None:
                self._begin_era(generation)
            else:
                pieces: list[Buffer] = []
                self._encoder.attempt(attempt, generation & 0xFF, 0, attempt.task._deadline, pieces)
                self._pending.extend(pieces)
            self._write()

    # --- in

    def glance(self) -> None:
        """Take in small answers that have come, and leave a large buffer to the loop."""
        if self._reading == self._answers:
            self._take_in()

    def _take_in(self) -> bool:
        """Take in and report what has arrived; return whether there was anything."""
        reader = self._reader
        frames: list[Frame] = []
        count = 0
        try:
            if reader.hole is None:
                data = os.read(self._answers, READ_SIZE)
                count = len(data)
                frames = reader.feed(data)
            if reader.hole is not None:
                count += self._fill_holes(frames)
            elif not count:
                self._ended()
        except BlockingIOError:
            pass
        except (FrameError, OSError):
            self._ended()
        if frames:
            self._report(frames)
        return count > 0

    def _fill_holes(self, frames: list[Frame]) -> int:
        """Receive large buffers from the socket, a turn's share of them; return how many bytes came."""
        received = 0
        try:
            while self._reader.hole is not None and received < HOLE_BYTES_A_TURN:
                count = self._socket.recv_into(self._reader.hole)
                if not count:
                    self._ended()
                    return received
                received += count
                frames += self._reader.fill(count)
        except BlockingIOError:
            pass
        self._read_from(self._answers if self._reader.hole is None else self._socket.fileno())
        return received

    def _report(self, frames: list[Frame]) -> None:
        """Report frames, in order: those that come while others are reported (or after one of them raised) wait for those."""
        unreported = self._unreported
        unreported.extend(frames)
        if self._reporting:
            return
        self._reporting = True
        position = 0
        try:
            while position < len(unreported):
                if unreported[position][0] == OUTCOME:
                    outcomes = self._outcomes(unreported, position)
                    position += len(outcomes)
                    self._reports.answered(self._host, self._index, self._incarnation, outcomes)
                else:
                    position += 1
                    self._report_other(*unreported[position - 1])
        except BaseException:  # a KeyboardInterrupt, in a hook of the user's: what came behind is not lost
            self._loop.call_soon(self._report, [])
            raise
        finally:
            del unreported[:position]
            self._reporting = False

    def _outcomes(self, frames: list[Frame], position: int) -> list[Outcome]:
        """Return the outcomes that stand together from a position on."""
        outcomes: list[Outcome] = []
        new_outcome = tuple.__new__  # half the cost of calling the named tuple
        for kind, flags, ident, body, buffers in islice(frames, position, None):
            if kind != OUTCOME:
                break
            began, seconds, cpu, peak = OUTCOME_HEAD.unpack_from(body)
            payload, buffers = (body[_OUTCOME_SIZE:], ()) if not buffers else unframed(body, _OUTCOME_SIZE, buffers)
            outcomes.append(new_outcome(Outcome, (ident, flags, began, seconds, cpu, peak, payload, buffers)))
        return outcomes

    def _report_other(self, kind: int, flags: int, ident: int, body: bytes, buffers: Buffers) -> None:
        if kind == PART:
            self._reports.part(self._host, self._index, self._incarnation, ident, flags, unframed(body, 0, buffers)[0])
        elif kind == PROGRESS:
            self._reports.progressed(self._host, ident, *PROGRESS_BODY.unpack(body))
        elif kind == READY:
            self._reports.slot_up(self._host, self._index, self._incarnation, ident)

    def nap(self) -> bool:
        """Let answers come together until `wake_up`; return False while a large one comes."""
        if not self.napping and self._reading == self._answers:
            self._loop.remove_reader(self._answers)
            self.napping = True
        return self.napping

    def wake_up(self) -> None:
        """Take in the answers that have come together."""
        if self.napping:
            self.napping = False
            self._loop.add_reader(self._answers, self._take_in)
        self._take_in()

    def _read_from(self, fd: int) -> None:
        """Have the loop watch this descriptor, and no other (-1: none)."""
        if fd == self._reading:
            return
        if self.napping:
            self.napping = False
        elif self._reading >= 0:
            self._loop.remove_reader(self._reading)
        self._reading = fd
        if fd >= 0:
            self._loop.add_reader(fd, self._take_in)

    def _ended(self) -> None:
        """The slot's end was closed: it died, or a task closed it under its hands (then it can answer nothing any more)."""
        if self._reading >= 0:
            self._read_from(-1)
            self._on_end(self._index)

    def drain(self) -> None:
        """Report what a dead slot had written."""
        self._report([])  # what an interrupt has left over
        while self._reading >= 0 and self._take_in():
            pass
