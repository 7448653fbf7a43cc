"""What the engine tells whoever asks: whether hosts and slots are up, and what there is."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._jobs.task import Task
from ..errors import UsageError
from ..options import Options
from ..status import RETIRING, Explanation, FailureRecord, PoolStatus, SlotStatus, Summary
from . import overview
from .alone import impossible
from .explaining import explain
from .lanes import allowed_by, may_come

if TYPE_CHECKING:
    from .._hosts.base import Host
    from .state import State


class Looking(ABC):
    """Looks at the state machine, and changes nothing but that what was submitted is taken in first."""

    loop: asyncio.AbstractEventLoop
    state: State
    hosts: dict[str, Host]
    notes: list[str]
    _up: set[str]

    @abstractmethod
    def take_in(self) -> None:
        """Take in what was submitted in this turn of the loop."""

    @property
    def failed(self) -> tuple[str, str] | None:
        """(host, reason) of a host that will never offer slots, where none ever will."""
        hosts = self.state.hosts.values()
        if any(host.failed is None for host in hosts):
            return None
        return next((host.name, host.failed or "") for host in hosts)

    @property
    def closing(self) -> str | None:
        """Why everything ends, once it does."""
        return self.state.closing

    def slots(self) -> int:
        """Return how many slots there may be, of all hosts that are known to offer some."""
        return max(1, sum(host.slots for host in self.state.hosts.values()))

    @property
    def any_up(self) -> bool:
        """Whether a host has come up."""
        return bool(self._up)

    def has_tried(self, host: str) -> bool:
        """Return whether a host is up, or has failed once."""
        record = self.state.hosts.get(host)
        return record is None or host in self._up or record.failed is not None or bool(record.reason)

    def has_up(self, slots: int, hosts: int = 0) -> bool:
        """Return whether so many slots and hosts are up (0 of both: whether every host is up, or has failed once)."""
        if not slots and not hosts:
            return all(self.has_tried(host) for host in self.hosts) and (bool(self.hosts) or not self.state.hosts_may_come)
        if sum(host.name in self._up for host in self.state.hosts.values()) < hosts:
            return False
        far = sum(slot.pid is not None for host in self.state.hosts.values() if host.backlog for slot in host.backlog.slots.values())
        return far + sum(slot.pid is not None and slot.state != RETIRING for slot in self.state.slots.values()) >= slots

    def _look(self) -> None:
        """Take in what was submitted, if somebody looks in the pool's own loop; another thread, or a forked child, must not."""
        if asyncio._get_running_loop() is self.loop:
            self.take_in()

    def load(self) -> tuple[int, int]:
        """Return (busy slots, queued tasks)."""
        self._look()
        return overview.busy(self.state), overview.queued(self.state)

    def status(self, name: str, phase: str, uptime: float) -> PoolStatus:
        """Return what `Pool.status` shows."""
        self._look()
        return overview.status(self.state, tuple(self.notes), name, phase, self.slots(), uptime, monotonic())

    def summary(self, name: str, seconds: float) -> Summary:
        """Return what `Pool.summary` shows."""
        self._look()
        return overview.summary(self.state, name, seconds)

    def explain(self, task: Task[Any]) -> Explanation:
        """Return what `Pool.explain` shows."""
        self._look()
        return explain(self.state, task, monotonic())

    def failures(self) -> tuple[FailureRecord, ...]:
        """Return what `Pool.failures` shows."""
        return overview.failures(self.state)

    def slot_states(self) -> tuple[SlotStatus, ...]:
        """Return what `Pool.slots` shows."""
        self._look()
        return overview.slots(self.state)

    def check_placement(self, options: Options) -> None:
        """Raise UsageError for options that no host of the pool allows, nor any that may come."""
        allowed = allowed_by(self.state, options)
        if allowed is not None and not allowed and not may_come(self.state, options):
            raise UsageError(impossible(self.state, options))
