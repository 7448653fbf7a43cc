"""The shipped scheduler and policies on machines that do not exist, under a clock that does not run.

Guarantees
    Nothing of a decision is written twice: what decides is the state machine that a `Pool` has. The same seed gives the same report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import heappop, heappush
from math import inf
from typing import Any, cast

from .._jobs.task import Attempt, Task
from .._scheduler.stimuli import HostCame, HostDown, Submitted
from .._wire.records import Record
from ..events import Event
from ..status import SUCCEEDED, AttemptRecord
from .machines import Machine, VirtualHost, VirtualTask
from .scripted_far import ScriptedFarHost
from .simulation import Simulation

__all__ = ["VirtualCluster", "VirtualHost", "VirtualOutcome", "VirtualReport", "VirtualTask"]

MAX_SECONDS = 1e9
"""Where nothing has ended by then, something waits for what will not come."""


class VirtualOutcome(Record):
    """What became of one call. Times are seconds since the run began; `finished` is inf where it never ended."""

    arrival: float
    finished: float
    outcome: str
    attempts: tuple[AttemptRecord, ...]
    group: Any


class VirtualReport(Record):
    """What a run took. `busy`, `useful`, `wasted`: slot-seconds of all attempts, of those that settled a task, and of backups that did not.

    (An original that was overtaken is neither: it would have run in any case.)
    """

    tasks: tuple[VirtualOutcome, ...]
    makespan: float
    busy: float
    useful: float
    wasted: float
    backups: int
    backups_won: int
    events: tuple[Event, ...]


class VirtualCluster:
    """Hosts, and how calls on them are made. Each `run` begins anew.

    hosts: far hosts, all up from the start. heartbeat: how long after the start of an outage the host is given up (it comes back with the
    outage's end); None: never. seed: of what is drawn. backup, retry, selection: as for a `Pool`. attempt_timeout: seconds that an
    attempt may run. events: whether the report has them (they take time and memory).
    """

    def __init__(
        self,
        hosts: Iterable[VirtualHost],
        *,
        heartbeat: float | None = None,
        seed: int = 0,
        backup: Any = None,
        retry: Any = None,
        selection: Any = None,
        attempt_timeout: float | None = None,
        events: bool = True,
    ) -> None:
        self.hosts = tuple(hosts)
        names = [host.name for host in self.hosts]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"hosts= {names}: give one or more, each with a name of its own")
        self._heartbeat = heartbeat
        self._seed = seed
        self._selection = selection
        self._events = events
        given = {"backup": backup, "retry": retry, "timeout": attempt_timeout}
        self._options = {name: value for name, value in given.items() if value is not None}

    def run(self, tasks: Iterable[VirtualTask]) -> VirtualReport:
        """Run calls to their end, and return what that took."""
        return _Run(self.hosts, self._heartbeat, self._seed, self._selection, self._events, self._options).run(list(tasks))


class _Run(Simulation):
    """One run: a simulation whose hosts work by themselves."""

    def __init__(
        self, hosts: Sequence[VirtualHost], heartbeat: float | None, seed: int, selection: Any, events: bool, options: Mapping[str, Any]
    ) -> None:
        super().__init__(0, selection=selection, watched=events, lost_grace=inf)
        self.state.random.seed(seed)
        self.origin = self.clock.now
        self._values = {host.name: host for host in hosts}
        self._options = options
        self._calls: list[VirtualTask] = []
        self._tasks: list[Task[Any]] = []
        self._ends: dict[int, float] = {}
        self._worked: list[tuple[int, float, bool]] = []
        self._agenda: list[tuple[float, int, Callable[[], object]]] = []
        self._count = 0
        for host in hosts:
            self.feed(HostCame(host.name, host.slots, host.weight, {}))
            self._rise(host.name)
            for start, end in host.outages:
                self._plan_outage(host.name, start, end, heartbeat)

    @property
    def now(self) -> float:
        """Seconds since the run began."""
        return self.clock.now - self.origin

    def at(self, when: float, what: Callable[[], object]) -> None:
        """Have something happen at a time (inf: never)."""
        if when < inf:
            self._count += 1
            heappush(self._agenda, (self.origin + when, self._count, what))

    def _rise(self, name: str) -> None:
        value = self._values[name]
        self.far[name] = cast("ScriptedFarHost", Machine(value, self, self._options.get("timeout", inf)))
        self.far_up(name, value.slots, "")

    def _plan_outage(self, name: str, start: float, end: float, heartbeat: float | None) -> None:
        if heartbeat is None or start + heartbeat >= end:
            return
        self.at(start + heartbeat / 3, lambda: self.far_silent(name, silent=True))
        self.at(start + heartbeat, lambda: self._fall(name))
        self.at(end, lambda: self._rise(name))

    def _fall(self, name: str) -> None:
        cast("Machine", self.far[name]).lose()
        self.feed(HostDown(name, "nothing was heard from it", {}, confirmed=False))

    # --- the calls

    def run(self, calls: list[VirtualTask]) -> VirtualReport:
        """See `VirtualCluster.run`."""
        self._calls = calls
        arrivals: dict[float, list[Task[Any]]] = {}
        for call in calls:
            options: dict[str, Any] = {**self._options, "cost": call.cost, "idempotent": None if call.idempotent else False}
            task = self.task(call.function, **options)
            self._tasks.append(task)
            arrivals.setdefault(call.arrival, []).append(task)
        for when, tasks in arrivals.items():
            self.at(when, lambda tasks=tasks: self._arrive(tasks))  # type: ignore[misc]
        self._play()
        return self._report()

    def _arrive(self, tasks: list[Task[Any]]) -> None:
        for task in tasks:
            task._queued = self.clock.now
        self.feed(Submitted(tasks))

    def call(self, attempt: Attempt) -> VirtualTask:
        """Return the call that an attempt runs."""
        return self._calls[(attempt.ident >> 16) - 1]

    def worked(self, attempt: Attempt, seconds: float) -> None:
        """An attempt held a slot for so long."""
        self._worked.append((attempt.ident, seconds, attempt.is_backup))

    def _play(self) -> None:
        reports = any(call.progress for call in self._calls)
        while len(self._ends) < len(self._tasks) or self._stopping():
            due = self.state.next_due
            when = min(due, self._agenda[0][0] if self._agenda else inf)
            if when > self.origin + MAX_SECONDS:
                return
            self.clock.now = max(self.clock.now, when)
            if reports and self.state.races is not None:
                for host in self.far.values():
                    for ident, share in cast("Machine", host).progress():
                        self.state.races.progressed(ident, share)
            if due <= when:
                self.ring()
            else:
                heappop(self._agenda)[2]()

    def _stopping(self) -> bool:
        """Return whether copies that lost are still being stopped."""
        return any(host.backlog is not None and host.backlog.attempts and not host.down for host in self.state.hosts.values())

    def _finish(self, task: Task[Any], error: Exception | None, *value: Any) -> None:
        super()._finish(task, error, *value)
        self._ends[task._id] = self.now

    def _report(self) -> VirtualReport:
        won = {ident for ident, _ in self.answers.values()}
        busy = sum(seconds for _, seconds, _ in self._worked)
        useful = sum(seconds for ident, seconds, _ in self._worked if ident in won)
        wasted = sum(seconds for ident, seconds, backup in self._worked if backup and ident not in won)
        races = self.state.races
        outcomes = tuple(
            VirtualOutcome(
                arrival=call.arrival, finished=self._ends.get(task._id, inf), outcome=task.state if task.done() else "unfinished",
                attempts=task.attempts, group=call.group,
            )
            for call, task in zip(self._calls, self._tasks, strict=True)
        )  # fmt: skip
        return VirtualReport(
            tasks=outcomes, makespan=max((one.finished for one in outcomes if one.outcome == SUCCEEDED), default=0.0),
            busy=busy, useful=useful, wasted=wasted, backups=races.launched if races is not None else 0,
            backups_won=races.won_count if races is not None else 0, events=tuple(self.recorder.events),
        )  # fmt: skip
