"""A host as the scheduler sees it, and what policies see of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._jobs.task import Task
from ..policies import HostView
from ..status import RETIRING, UNCONFIRMED
from .backlog import Backlog
from .ledger import Slot
from .near import free_index

if TYPE_CHECKING:
    from .state import State


class HostRecord:
    """One host of the pool."""

    __slots__ = (
        "_state", "backlog", "down", "failed", "incarnations", "is_declared", "is_silent", "labels", "leaving", "limbo", "lost_at",
        "machine", "name", "reason", "room", "slots", "spawn_after", "start_failures", "view", "weight",
    )  # fmt: skip

    def __init__(
        self, state: State, name: str, slots: int, far: bool, weight: float = 1.0, labels: Mapping[str, str] | None = None
    ) -> None:
        self._state = state
        self.name = name
        self.slots = slots
        """How many it may have; of a far one, how many it said that it has."""
        self.is_declared = slots > 0
        """Whether the number of its slots was given."""
        self.machine = ""
        """What names the machine that a far one is on, once that is known."""
        self.weight = weight
        self.labels: Mapping[str, str] = labels or {}
        self.backlog = Backlog(name, weight) if far else None
        """What it was sent, if it is far: then nothing of the slots' starting below is used."""
        self.is_silent = False
        """Whether its link says nothing, although it is not given up."""
        self.down = far
        self.lost_at = 0.0
        """When it was up for the last time, if it is not."""
        self.reason = ""
        """Why it is down, once that is known."""
        self.failed: str | None = None
        self.leaving = False
        """Whether it is being removed: it gets nothing more."""
        self.start_failures = 0
        self.spawn_after = 0.0
        self.incarnations = [0] * slots
        self.limbo: list[Task[Any]] = []
        """Tasks that are being cancelled, whose trees the next agent will kill."""
        self.room = False
        """Whether it would take the task that is being placed."""
        self.view = HostView(self)

    def near_slots(self) -> list[Slot]:
        """Return its slots, if it is near."""
        return [slot for slot in self._state.slots.values() if slot.host == self.name]

    def confirm_limbo(self) -> None:
        """Everything that ran here before is known to be dead."""
        for task in self.limbo:
            attempt = task._attempt
            while attempt is not None:
                attempt.confirmed_dead = attempt.confirmed_dead or attempt.slot.host == self.name
                attempt = attempt.before

    # --- what `HostView` shows

    @property
    def is_up(self) -> bool:
        """Whether it offers slots."""
        if self.leaving or self.down:
            return False
        return self.width > 0 if self.failed is None else any(slot.serves for slot in self.near_slots())

    @property
    def is_full(self) -> bool:
        """Whether it is up and takes nothing more, or hardly anything."""
        if self.backlog is not None:
            return self.is_up and self.backlog.is_full
        state = self._state
        if len(self.near_slots()) < self.slots and free_index(state, self, state.now) is not None:
            return False
        return self.is_up and not any(slot.room(state.max_tasks_per_slot) for slot in self.near_slots())

    @property
    def is_local(self) -> bool:
        """Whether there is no link to it."""
        return self.backlog is None

    @property
    def why(self) -> str:
        """Why it is not up."""
        return self.failed or self.reason or ("it is being removed" if self.leaving else "")

    @property
    def width(self) -> int:
        """How many slots it offers now."""
        return self.slots if self.backlog is None else self.backlog.width

    @property
    def round_trip(self) -> float:
        """Seconds there and back."""
        return 0.0 if self.backlog is None else self.backlog.round_trip

    def occupied(self) -> tuple[int, int]:
        """Return (busy slots, attempts that wait there)."""
        if self.backlog is not None:
            out = len(self.backlog.attempts)
            return min(out, self.backlog.width), max(0, out - self.backlog.width)
        slots = self.near_slots()
        return sum(bool(slot.outstanding) for slot in slots), sum(max(0, len(slot.outstanding) - 1) for slot in slots)

    @property
    def wait(self) -> float:
        """Seconds (estimated) until what is sent now would begin, and its answer could be back."""
        now = self._state.now
        if self.backlog is not None:
            return self.backlog.wait(now)
        slots = [slot for slot in self.near_slots() if slot.state not in (RETIRING, UNCONFIRMED)]
        soonest = [slot.remaining(now) for slot in slots]
        if len(slots) < self.slots and self.failed is None:
            soonest.append(max(0.0, self.spawn_after - now))
        return min(soonest, default=0.0)


__all__ = ["HostRecord"]
