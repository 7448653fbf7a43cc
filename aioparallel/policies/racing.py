"""What a rule for backups is told, may look at, and answers. Pure: no clock and no events but those it is given."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

__all__ = ["FAILED", "FINISHED", "LOST", "STOPPED", "Bet", "Copy", "Rule", "Scene", "Stop"]

FINISHED = "finished"
"""Its answer settled the task."""
STOPPED = "stopped"
"""Another copy won, or the task was cancelled: how long it would have taken nobody knows."""
FAILED = "failed"
LOST = "lost"


class Copy:
    """One running copy of a task. The scheduler alone changes it."""

    __slots__ = ("began", "cost", "function", "host", "number", "progress", "task")

    def __init__(self, task: int, function: str, host: str, began: float, number: int = 1, cost: float | None = None) -> None:
        self.task = task
        self.function = function
        """What its durations are learned by."""
        self.host = host
        self.began = began
        """When it was launched (seconds on the scheduler's clock)."""
        self.number = number
        """Which of the task's attempts it is."""
        self.cost = cost
        """The user's hint, in any unit."""
        self.progress: float | None = None
        """0 to 1, where the task said."""


class Bet(NamedTuple):
    """A backup that is worth starting now."""

    task: int
    host: str | None = None
    """Where; None: the best that is free."""
    probability: float = 1.0
    """That it ends first."""
    price: float = 0.0
    """What a slot-second was worth, in seconds of latency."""
    reason: str = ""


class Stop(NamedTuple):
    """Give up a backup, while its task runs on: so that a budget can be kept whatever a bet turns out to cost."""

    task: int
    number: int
    """Which copy: never the only one of its task."""
    reason: str


class Scene(Protocol):
    """What a rule may look at: live."""

    @property
    def now(self) -> float:
        """Seconds on the scheduler's clock."""

    @property
    def slots(self) -> int:
        """How many slots the hosts offer that are up."""

    @property
    def queued(self) -> int:
        """How many tasks wait for a slot."""

    def idle(self) -> Mapping[str, int]:
        """Return the free slots by host, of those that are up and answer."""

    def weight(self, host: str) -> float:
        """Return how fast a slot of a host is, as declared."""

    def silent(self) -> Collection[str]:
        """Return the hosts whose link is silent now."""

    def running(self) -> Iterable[Sequence[Copy]]:
        """Return of each running task its live copies, in order of start."""


class Rule(Protocol):
    """Decides which tasks are backed up. One object serves one pool."""

    def began(self, copy: Copy, now: float) -> None:
        """A copy began to run."""

    def ended(self, copy: Copy, now: float, how: str, seconds: float | None = None) -> None:
        """A copy ended; `seconds`: how long it ran, where it finished."""

    def look(self, scene: Scene) -> tuple[list[Bet | Stop], float]:
        """Return what to start and what to give up now, and when to look again at the latest (inf: when something begins or ends).

        Called while a slot is idle, whenever something happened, and when the time has come that it gave.
        """
