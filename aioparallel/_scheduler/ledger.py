"""What is known of durations, and what each slot holds: the numbers behind every launch.

How it works
    For each function (by its name) a moving average of its run time, as it would be on a slot of weight 1: an eighth of the newest, which
    counts at most four times the average, so that one outlier does not empty the slots. A function never seen is taken to need a second:
    it goes out alone.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from .._jobs.task import Attempt, Task
from .._wire.codec import size_of
from ..status import BUSY, IDLE, STARTING

UNKNOWN_SECONDS = 1.0
FILL_SECONDS = 0.008
"""A slot is sent work ahead up to this much of it, by estimate."""
REFILL_SECONDS = 0.006
"""It is sent more when it has less than this."""
PATIENCE = 0.5
"""Where more waits than slots can take, a slot's answers may wait for this part of the work it has..."""
MAX_PATIENCE_SECONDS = 0.004
"""...but not longer than this. To wake up for each answer of 1 ms tasks cost the pool 55 us a task, and the slot whose core it took a gap
of 47 us (two cores, two slots); for several at once it is 40 and 10."""
AHEAD_SECONDS = 0.05
"""A task expected to take longer than this is never sent ahead of its turn: a round trip is nothing to it."""
SILENCE_SECONDS = 0.005
SILENCE = 1.5
"""A slot that is silent for so long, or for so many times what the task that it runs should take, has what waits behind it called back."""
EVEN_SECONDS = 0.002
"""So much work behind a slot's running task is worth calling back for a slot that has none."""
MAX_DEPTH = 256
BIG_BYTES = 1 << 16
"""A task with a larger payload goes only to a slot that has nothing else."""
SECONDS_A_BYTE = 2e-9
"""What a payload's way to the slot adds to an estimate: else megabytes would be sent ahead of short tasks, and look like silence."""
MAX_FUNCTIONS = 10_000


class Ledger:
    """Estimates by function name; bounded."""

    __slots__ = ("_seconds",)

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def knows(self, task: Task[Any]) -> bool:
        """Return whether its estimate was learned."""
        function = task._function
        return task._sink is not None or (function if type(function) is str else function.name) in self._seconds  # type: ignore[union-attr]

    def estimate(self, task: Task[Any]) -> float:
        """Return how long (seconds) a task is expected to run on a slot of weight 1."""
        if task._sink is not None:
            return task._sink.estimate  # type: ignore[no-any-return]
        function = task._function
        known = self._seconds.get(function if type(function) is str else function.name, UNKNOWN_SECONDS)  # type: ignore[union-attr]
        payload = task._payload
        return known + (len(payload) if type(payload) is bytes else size_of(payload)) * SECONDS_A_BYTE

    def learn(self, task: Task[Any], seconds: float) -> None:
        """Take a measured run time into the average of its function."""
        if task._sink is not None:
            return  # its map knows better
        function = task._function
        name: str = function if type(function) is str else function.name  # type: ignore[union-attr]
        known = self._seconds.get(name)
        if known is None:
            if len(self._seconds) >= MAX_FUNCTIONS:
                self._seconds.pop(next(iter(self._seconds)))
            self._seconds[name] = seconds
            return
        ceiling = 4 * known + 1e-5
        self._seconds[name] = known + ((seconds if seconds < ceiling else ceiling) - known) * 0.125


class Slot:
    """One slot as the scheduler sees it."""

    __slots__ = (
        "done", "exclusive", "heard", "host", "incarnation", "index", "killing", "launched", "load", "outstanding", "pid", "state", "stuck",
        "weight",
    )  # fmt: skip

    def __init__(self, host: str, index: int, incarnation: int, now: float, weight: float = 1.0) -> None:
        self.host = host
        self.weight = weight
        self.index = index
        self.incarnation = incarnation
        self.pid: int | None = None
        self.state = STARTING
        self.outstanding: deque[Attempt] = deque()
        """Sent and not answered, in order; the first may run, the others have not begun."""
        self.load = 0.0
        """Estimated seconds of what is outstanding."""
        self.heard = now
        """When it last answered, or was last given work while it had none."""
        self.stuck = False
        """Its work was called back: until it answers it gets nothing to wait behind what it has. (A slot that had not begun anything
        is empty then, and gets one: to send it everything again each time would never end.)"""
        self.killing = 0
        """The attempt it is being killed for, 0: none."""
        self.launched = 0
        self.done = 0
        self.exclusive = False
        """It serves one isolated task and nothing else."""

    @property
    def key(self) -> tuple[str, int]:
        """Host and number."""
        return self.host, self.index

    def room(self, max_tasks: int | None) -> bool:
        """Return whether it may be sent work now."""
        if self.killing or self.exclusive or (max_tasks is not None and self.launched >= max_tasks):
            return False
        if not self.outstanding:
            return self.state in (IDLE, STARTING)
        if self.stuck or self.state != BUSY:
            return False
        return len(self.outstanding) < MAX_DEPTH and (self.load < REFILL_SECONDS or len(self.outstanding) < 2)

    def silent_until(self) -> float:
        """Return until when (CLOCK_MONOTONIC seconds) its silence is nothing out of the ordinary."""
        expected = self.outstanding[0].estimate * SILENCE
        return self.heard + (expected if expected > SILENCE_SECONDS else SILENCE_SECONDS)

    @property
    def serves(self) -> bool:
        """Whether it will run what it is sent."""
        return self.state in (STARTING, IDLE, BUSY) and not self.exclusive

    def remaining(self, now: float) -> float:
        """Return how much work (estimated seconds) is left here; what runs for longer than expected may go on for as long again."""
        if not self.outstanding:
            return 0.0
        ran, expected = now - self.heard, self.outstanding[0].estimate
        return self.load - expected + (expected - ran if ran < expected else ran)

    def behind(self) -> float:
        """Return how much work (estimated seconds) waits behind what it runs."""
        return self.load - self.outstanding[0].estimate if len(self.outstanding) > 1 else 0.0

    def patience(self) -> float:
        """Return how long (seconds) its answers may wait."""
        if self.state == STARTING:
            return 0.0  # that it is up is news
        seconds = self.load * PATIENCE
        return seconds if seconds < MAX_PATIENCE_SECONDS else MAX_PATIENCE_SECONDS

    def takes(self, task: Task[Any], estimate: float) -> bool:
        """Return whether this task may join what is outstanding (which is something)."""
        outstanding = self.outstanding
        if self.load + estimate > FILL_SECONDS and (len(outstanding) > 1 or estimate > AHEAD_SECONDS):
            return False
        if outstanding[0].estimate > AHEAD_SECONDS or self.stuck or self.state is STARTING:
            return False
        if len(outstanding) == 1 and is_big(outstanding[0].task):
            return False  # its way there takes time, which looks like silence
        return not is_big(task)


def is_big(task: Task[Any]) -> bool:
    """Return whether a task's way to its slot takes time."""
    return bool(task._buffers) or size_of(task._payload) > BIG_BYTES
