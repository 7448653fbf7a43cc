"""What a rule for backups may look at, and what it answers: it is pure, has no clock of its own, and decides from what it was told.

A rule is told what begins and ends, is asked now and then, and answers with bets: start another copy of this task, there. The scheduler
itself refuses a copy on a host that already runs one (unless there is only one host), more copies than allowed, a copy of a task with
`idempotent=False`, and any copy while no slot is idle.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import inf
from typing import NamedTuple, Protocol

__all__ = ["FAILED", "FINISHED", "LOST", "NEVER", "STOPPED", "Bet", "Copy", "Rule", "Scene", "Stop"]

FINISHED, STOPPED, FAILED, LOST = "finished", "stopped", "failed", "lost"
"""How a copy ended: its answer settled the task; another copy won or the task was cancelled; it failed and settled nothing; its host or
its link went."""
NEVER = inf
"""When to look again: not before something begins or ends."""


class Copy:
    """One running copy of a task. The scheduler writes it, a rule reads it."""

    __slots__ = ("began", "cost", "function", "host", "number", "progress", "task")

    def __init__(
        self,
        task: int,
        function: str,
        host: str,
        began: float,
        *,
        number: int = 1,
        cost: float | None = None,
        progress: float | None = None,
    ) -> None:
        self.task = task
        """The task's id."""
        self.function = function
        """What its durations are kept under: the function's name, or what `options(key=)` said."""
        self.host = host
        """Where it runs."""
        self.began = began
        """When it was launched, in seconds of the scheduler's clock."""
        self.number = number
        """1: the original; more: a backup."""
        self.cost = cost
        """How long the user expects it to take, in any unit; None: no hint."""
        self.progress = progress
        """How much of it is done, 0 to 1, as its function last said; None: it said nothing."""

    def __repr__(self) -> str:
        return f"<copy {self.number} of task {self.task} ({self.function}) on {self.host}>"


class Bet(NamedTuple):
    """Start another copy of a task."""

    task: int
    host: str | None = None
    """None: on the best free host, as the scheduler sees it."""
    probability: float = 1.0
    """That the new copy answers first."""
    price: float = 0.0
    """What a second of a slot was worth, in seconds of waiting."""
    reason: str = ""


class Stop(NamedTuple):
    """Give up a backup, while its task runs on: so that a budget can be kept whatever a bet turns out to cost."""

    task: int
    number: int
    """Which copy: never the only one of its task."""
    reason: str


class Scene(Protocol):
    """What a rule may look at: live, and read-only."""

    @property
    def now(self) -> float:
        """Seconds on the scheduler's clock."""
        ...

    @property
    def slots(self) -> int:
        """All slots of hosts that are up."""
        ...

    @property
    def queued(self) -> int:
        """Originals that wait for a slot."""
        ...

    def idle(self) -> Mapping[str, int]:
        """Return the free slots by host, of hosts that are up, not silent and not quarantined."""
        ...

    def weight(self, host: str) -> float:
        """Return the declared weight of a host."""
        ...

    def silent(self) -> Collection[str]:
        """Return the hosts whose link is silent now."""
        ...

    def running(self) -> Iterable[Sequence[Copy]]:
        """Yield for each running task its live copies, in the order of their start."""
        ...


class Rule(Protocol):
    """When a task is worth a second copy. The state of one pool; only `look` is needed."""

    def began(self, copy: Copy, now: float) -> None:
        """Note that a copy began to run."""
        ...

    def ended(self, copy: Copy, now: float, how: str, seconds: float | None = None) -> None:
        """Note how a copy ended: FINISHED, STOPPED, FAILED or LOST; `seconds`: what its run took, where that was measured."""
        ...

    def look(self, scene: Scene) -> tuple[Sequence[Bet | Stop], float]:
        """Return the bets to place and the backups to give up now, and when to look again at the latest.

        Asked when the time that it gave has come, and after whatever began or ended while a slot is idle.
        """
        ...
