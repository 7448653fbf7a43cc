"""What a far host was sent and has not answered. Its agent chooses the slots.

How it works
    The host is kept a round trip and a few milliseconds of estimated work ahead of its slots; a task that is expected to take longer
    goes there only when a slot is free for it.
"""

from __future__ import annotations

from typing import Any

from .._jobs.task import Attempt, Task
from ..status import BUSY, IDLE, STARTING, UNCONFIRMED
from .ledger import AHEAD_SECONDS, SILENCE, SILENCE_SECONDS, is_big

FAR = -1
"""The number of a slot that is not known."""
FILL_SECONDS = 0.004
"""Beyond the round trip, so much work (by estimate) is sent ahead for each slot."""
NEARLY = 0.75
"""A host that has so much of that ahead counts as full where many lanes would have to be looked at."""


class FarSlot:
    """A slot of a far host, as its agent tells of it."""

    __slots__ = ("done", "host", "incarnation", "index", "pid", "running", "since", "unconfirmed", "weight")

    def __init__(self, host: str, index: int, incarnation: int, pid: int | None, weight: float) -> None:
        self.host = host
        self.weight = weight
        self.index = index
        self.incarnation = incarnation
        self.pid = pid
        self.done = 0
        self.unconfirmed = False
        """Whether some of it may live, although its attempt was settled."""
        self.running: Attempt | None = None
        """What it was last known to run, where that takes a while."""
        self.since = 0.0
        """When that was heard of (CLOCK_MONOTONIC seconds)."""

    @property
    def state(self) -> str:
        """The name of its state, as `pool.status()` shows it."""
        if self.unconfirmed:
            return UNCONFIRMED
        return STARTING if self.pid is None else IDLE if self.running is None else BUSY


class Backlog:
    """Attempts that were sent to a far host; for an attempt that no slot is known of, this is its place."""

    __slots__ = ("_newest", "attempts", "heard", "host", "index", "load", "pid", "round_trip", "slots", "stuck", "weight", "width")

    def __init__(self, host: str, weight: float = 1.0) -> None:
        self.host = host
        self.weight = weight
        """How fast its slots are."""
        self.heard = 0.0
        """When it last answered, or was last given work while it had none (CLOCK_MONOTONIC seconds)."""
        self.stuck = False
        """Whether work was called back from it: until it says which, no more waits there."""
        self.index = FAR
        self.pid: int | None = None
        self.width = 0
        """How many slots the host offers; 0: it is not up."""
        self.round_trip = 0.0
        """Seconds."""
        self.attempts: dict[int, Attempt] = {}
        """By ident, in the order in which they were sent."""
        self.load = 0.0
        """Estimated seconds of all that."""
        self.slots: dict[int, FarSlot] = {}
        """Those that live, or may."""
        self._newest: dict[int, int] = {}
        """The latest incarnation of each that was heard of."""

    def wait(self, now: float) -> float:
        """Return the seconds (estimated) until something that is sent now would begin, and its answer could be back."""
        if len(self.attempts) < self.width:
            return self.round_trip
        return self.round_trip + self.load / max(1, self.width) + max(0.0, now - self.silent_until())

    def silent_until(self) -> float:
        """Return until when (CLOCK_MONOTONIC seconds) its silence is nothing out of the ordinary."""
        expected = SILENCE * self.load / len(self.attempts) if self.attempts else 0.0
        return self.heard + self.round_trip + max(expected, SILENCE_SECONDS)

    @property
    def power(self) -> float:
        """How many slots of weight 1 it is as good as."""
        return self.width * self.weight

    @property
    def behind(self) -> int:
        """How many of its attempts no slot can have begun."""
        return len(self.attempts) - self.width

    def takes(self, task: Task[Any], estimate: float) -> bool:
        """Return whether this task may be sent now."""
        if len(self.attempts) < self.width:
            return True
        if task._options.idempotent is False:
            return False  # if the host were lost, nobody could say whether it had begun
        if estimate > AHEAD_SECONDS or self.stuck or is_big(task):
            return False
        return self.load + estimate <= self.width * (self.round_trip + FILL_SECONDS)

    @property
    def is_full(self) -> bool:
        """Whether it takes no task worth a look."""
        busy = len(self.attempts) >= self.width
        return busy and (self.stuck or self.load >= NEARLY * self.width * (self.round_trip + FILL_SECONDS))

    def add(self, attempt: Attempt, now: float) -> None:
        """Take note of an attempt that is sent."""
        if not self.attempts:
            self.heard = now
        self.attempts[attempt.ident] = attempt
        self.load += attempt.estimate

    def take(self, ident: int) -> Attempt | None:
        """Take an attempt out that was answered, given back or lost; None: it is not out."""
        attempt = self.attempts.pop(ident, None)
        if attempt is not None:
            self.load = self.load - attempt.estimate if self.attempts else 0.0
        return attempt

    def slot(self, index: int, incarnation: int) -> FarSlot:
        """Return what is known of a slot. The last answers of one that has ended may come behind that news, and make it no living one."""
        slot = self.slots.get(index)
        if slot is None or slot.incarnation != incarnation:
            slot = FarSlot(self.host, index, incarnation, None, self.weight)
            if incarnation > self._newest.get(index, 0):
                self._newest[index] = incarnation
                self.slots[index] = slot
        return slot


__all__ = ["Backlog", "FarSlot"]
