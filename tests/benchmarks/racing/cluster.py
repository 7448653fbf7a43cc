"""A lean simulator of a cluster under a virtual clock, which drives a rule by the interface of `aioparallel.policies.racing`.

Placement is greedy: the head of the queue goes to the fastest free host by learned speed. A loser's slot is free again after its
cancel delay; on a host that does not answer, not before it does.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Sequence
from math import inf
from time import perf_counter
from typing import Any

from aioparallel._wire.records import Record
from aioparallel.policies.racing import FAILED, FINISHED, LOST, STOPPED, Copy, Stop
from aioparallel.policies.speeds import Speeds

ARRIVES, ENDS, FREES, LOOKS, FALLS_SILENT, SPEAKS = range(6)
SLICE = 1e-9


class VirtualHost(Record):
    """A machine of the simulation."""

    name: str
    slots: int = 4
    speed: float = 1.0
    weight: float = 1.0
    launch_delay: float = 0.1
    cancel_delay: float = 0.05
    outages: tuple[tuple[float, float], ...] = ()
    """(from, to): it does nothing and answers nothing."""
    slowdowns: tuple[tuple[float, float, float], ...] = ()
    """(from, to, factor): it is slower by the factor."""


class VirtualTask(Record):
    """A call of the simulation."""

    function: str = "f"
    arrival: float = 0.0
    durations: Sequence[float] = (1.0,)
    """Seconds on a host of speed 1, for the first, second, ... copy; used in a cycle."""
    fails: Sequence[float | None] = (None,)
    """After which share of it the first, second, ... copy fails."""
    cost: float | None = None
    progress: bool = False
    group: Any = None


class _Host:
    def __init__(self, value: VirtualHost) -> None:
        self.name, self.speed, self.weight = value.name, value.speed, value.weight
        self.launch_delay, self.cancel_delay = value.launch_delay, value.cancel_delay
        self.free = value.slots
        changes = [(start, end, 0.0) for start, end in value.outages] + [(a, b, 1.0 / factor) for a, b, factor in value.slowdowns]
        self.outages = value.outages
        self.steps: list[tuple[float, float]] = []  # (until, speed)
        now = 0.0
        for start, end, factor in sorted(changes):
            self.steps += [(start, self.speed), (end, self.speed * factor)]
            now = end
        self.steps.append((inf, self.speed))
        self.changes = bool(changes) and now > 0

    def end_of(self, start: float, work: float) -> float:
        """Return when work that starts then is done."""
        if not self.changes:
            return start + work / self.speed
        for until, speed in self.steps:
            if until <= start:
                continue
            room = (until - start) * speed if speed else 0.0
            if room >= work:
                return start + work / speed
            work -= room
            start = until
            if start == inf:
                return inf
        return inf

    def done(self, start: float, now: float) -> float:
        """Return how much work is done between two times."""
        if not self.changes:
            return max(0.0, now - start) * self.speed
        total = 0.0
        for until, speed in self.steps:
            if until > start:
                total += max(0.0, min(until, now) - start) * speed
                start = min(until, now)
            if until >= now:
                break
        return total

    def answers(self, now: float) -> float:
        """Return the first time from now on at which it does what it is told."""
        for start, end in self.outages:
            if start <= now < end:
                return end
        return now


class Running(Copy):
    """A copy in the simulation."""

    __slots__ = ("alive", "fails", "machine", "owner", "work")


class Outcome:
    """What became of a task."""

    __slots__ = ("arrival", "attempts", "begun", "copies", "finished", "id", "task")

    def __init__(self, number: int, task: VirtualTask) -> None:
        self.id, self.task, self.arrival = number, task, task.arrival
        self.finished = inf
        self.attempts = self.begun = 0
        self.copies: list[Running] = []


class Cluster:
    """One run. It is its rule's Scene, too."""

    def __init__(
        self,
        hosts: Sequence[VirtualHost],
        *,
        rule: Any = None,
        heartbeat: float | None = None,
        attempt_timeout: float | None = None,
        max_copies: int = 3,
        exact_progress: bool = False,
    ) -> None:
        self.hosts = {host.name: _Host(host) for host in hosts}
        self.slots = sum(host.slots for host in hosts)
        self.rule, self.max_copies = rule, max_copies
        self.attempt_timeout = attempt_timeout or inf
        self.exact_progress = exact_progress
        self.now = 0.0
        self.free = self.slots
        self.queue: deque[Outcome] = deque()
        self.live: dict[int, Outcome] = {}
        self.speeds = Speeds(self.weight)
        self._silent: set[str] = set()
        self.heap: list[tuple[float, int, int, Any]] = []
        self.count = 0
        self.makespan = self.busy = self.useful = self.wasted = 0.0
        self.backups = self.backups_won = 0
        self.stopped = 0
        self.deciding = 0.0
        self.due = inf
        if heartbeat is not None:
            for host in self.hosts.values():
                for start, end in host.outages:
                    if end > start + heartbeat:
                        self._at(start + heartbeat, FALLS_SILENT, host)
                        if end < inf:
                            self._at(end, SPEAKS, host)

    @property
    def queued(self) -> int:
        return len(self.queue)

    def idle(self) -> dict[str, int]:
        return {name: host.free for name, host in self.hosts.items() if host.free and name not in self._silent}

    def weight(self, host: str) -> float:
        return self.hosts[host].weight

    def silent(self) -> set[str]:
        return self._silent

    def running(self) -> Iterable[Sequence[Copy]]:
        return [outcome.copies for outcome in self.live.values()]

    def _at(self, when: float, kind: int, what: Any) -> None:
        self.count += 1
        heapq.heappush(self.heap, (when, self.count, kind, what))

    def run(self, tasks: Sequence[VirtualTask]) -> Cluster:
        """Run all tasks to their end."""
        self.tasks = [Outcome(number, task) for number, task in enumerate(tasks)]
        waiting = deque(sorted(self.tasks, key=lambda outcome: outcome.arrival))
        left = len(waiting)
        heap = self.heap
        while left:
            nearest = min(heap[0][0] if heap else inf, waiting[0].arrival if waiting else inf, self.due)
            assert nearest < inf, "nothing will ever happen again"
            self.now = nearest
            if self.due <= nearest:
                self.due = inf
            while waiting and waiting[0].arrival <= nearest:
                self.queue.append(waiting.popleft())
            while heap and heap[0][0] <= nearest:
                _, _, kind, what = heapq.heappop(heap)
                if kind == ENDS:
                    left -= self._ends(*what)
                elif kind == FREES:
                    what.free += 1
                    self.free += 1
                elif kind == FALLS_SILENT:
                    self._silent.add(what.name)
                    self.free -= what.free
                elif kind == SPEAKS:
                    self._silent.discard(what.name)
                    self.free += what.free
            if self.queue and self.free > 0:
                self._place()
            if self.rule is not None and (self.free > 0 or self.due == inf):
                self._look()
        return self

    def _place(self) -> None:
        while self.queue and (host := self._best(())) is not None:
            self._launch(self.queue.popleft(), host)

    def _best(self, without: Sequence[str]) -> _Host | None:
        best, top = None, -1.0
        for name, host in self.hosts.items():
            if host.free and name not in without and name not in self._silent:
                speed = self.speeds.speed(name)
                if speed > top:
                    best, top = host, speed
        return best

    def _launch(self, outcome: Outcome, host: _Host) -> None:
        now, task, number = self.now, outcome.task, outcome.attempts
        outcome.attempts += 1
        outcome.begun = outcome.begun + 1 if outcome.copies else 1
        copy = Running(outcome.id, task.function, host.name, now, number=outcome.begun, cost=task.cost)
        copy.machine, copy.alive, copy.owner = host, True, outcome
        copy.work = task.durations[number % len(task.durations)]
        fraction = task.fails[number % len(task.fails)]
        copy.fails = fraction is not None
        if task.progress:
            copy.progress = 0.0
        host.free -= 1
        self.free -= 1
        self.live[outcome.id] = outcome
        outcome.copies.append(copy)
        work = copy.work if fraction is None else copy.work * fraction
        end = host.end_of(now + host.launch_delay, work)
        how = FAILED if fraction is not None else FINISHED
        if end > now + self.attempt_timeout:
            end, how = now + self.attempt_timeout, LOST
        if end < inf:
            self._at(end, ENDS, (copy, how))
        if self.rule is not None:
            start = perf_counter()
            self.rule.began(copy, now)
            self.deciding += perf_counter() - start

    def _ends(self, copy: Running, how: str) -> int:
        if not copy.alive:
            return 0
        outcome, now = copy.owner, self.now
        outcome.copies.remove(copy)
        self._close(copy, how)
        if how != FINISHED:
            if copy.number > 1:
                self.wasted += now - copy.began
            if not outcome.copies:
                del self.live[outcome.id]
                self.queue.appendleft(outcome)
            return 0
        outcome.finished = self.makespan = now
        self.useful += now - copy.began
        self.backups_won += copy.number > 1
        for loser in outcome.copies:
            if loser.number > 1:
                self.wasted += now - loser.began + loser.machine.cancel_delay
            self._close(loser, STOPPED)
        outcome.copies = []
        del self.live[outcome.id]
        return 1

    def _close(self, copy: Running, how: str) -> None:
        now, host = self.now, copy.machine
        copy.alive = False
        delay = 0.0 if how == FINISHED else host.cancel_delay
        free_at = host.answers(now) + delay
        if free_at <= now:
            host.free += 1
            self.free += 1
        elif free_at < inf:
            self._at(free_at, FREES, host)
        self.busy += now - copy.began + delay
        seconds = (now - copy.began) / (copy.cost or 1.0)
        if how == FINISHED:
            self.speeds.finished(copy.function, copy.host, seconds)
        elif how == STOPPED:
            self.speeds.stopped(copy.function, copy.host, seconds)
        if self.rule is not None:
            start = perf_counter()
            self.rule.ended(copy, now, how, now - copy.began)
            self.deciding += perf_counter() - start

    def _look(self) -> None:
        if self.exact_progress:
            for outcome in self.live.values():
                for copy in outcome.copies:
                    copy.progress = min(1.0, copy.machine.done(copy.began + copy.machine.launch_delay, self.now) / copy.work)
        while True:
            start = perf_counter()
            bets, due = self.rule.look(self)
            self.deciding += perf_counter() - start
            self.due = max(due, self.now + SLICE)
            launched = sum(self._take(bet) for bet in bets)
            if not launched or self.free <= 0:
                return

    def _take(self, bet: Any) -> bool:
        outcome = self.live.get(bet.task)
        if isinstance(bet, Stop):
            copy = next((copy for copy in outcome.copies if copy.number == bet.number), None) if outcome is not None else None
            if outcome is not None and copy is not None and len(outcome.copies) > 1:
                outcome.copies.remove(copy)
                self.stopped += 1
                if copy.number > 1:
                    self.wasted += self.now - copy.began + copy.machine.cancel_delay
                self._close(copy, STOPPED)
            return False
        if outcome is None or not 0 < len(outcome.copies) < self.max_copies:
            return False
        used = [copy.host for copy in outcome.copies] if len(self.hosts) > 1 else []
        host = self.hosts[bet.host] if bet.host is not None else self._best(used)
        if host is None or host.free <= 0 or host.name in used or host.name in self._silent:
            return False
        self.backups += 1
        self._launch(outcome, host)
        return True


def oracle(hosts: Sequence[VirtualHost], tasks: Sequence[VirtualTask]) -> Cluster:
    """Return a run that knows every duration: of the first two draws the shorter counts, and the longest task goes first.

    Each goes where it ends first. In a stream nobody sees slowdowns coming, as in the study: it is the scale that its figures have.
    """
    best = [min(task.durations[:2]) for task in tasks]
    outcome = Cluster(hosts)
    outcome.tasks = [Outcome(number, task) for number, task in enumerate(tasks)]
    if any(task.arrival for task in tasks):
        _stream(outcome, best)
    else:
        _batch(outcome, best)
    outcome.makespan = max(task.finished for task in outcome.tasks)
    return outcome


def _batch(outcome: Cluster, best: list[float]) -> None:
    """Give each task, the longest first, to the slot where it ends first."""
    slots = [(host, [0.0] * host.free) for host in outcome.hosts.values()]
    for task in sorted(outcome.tasks, key=lambda task: -best[task.id]):
        ends = [(host.end_of(frees[0] + host.launch_delay, best[task.id]), number) for number, (host, frees) in enumerate(slots)]
        task.finished, number = min(ends)
        heapq.heapreplace(slots[number][1], task.finished)


def _stream(outcome: Cluster, best: list[float]) -> None:
    """Give the longest task that waits to the next slot that is free."""
    free = [(0.0, number, host) for number, host in enumerate(host for host in outcome.hosts.values() for _ in range(host.free))]
    order = deque(sorted(outcome.tasks, key=lambda task: task.arrival))
    ready: list[tuple[float, int]] = []
    while order or ready:
        at = max(free[0][0], order[0].arrival if not ready else 0.0)
        while order and order[0].arrival <= at:
            task = order.popleft()
            heapq.heappush(ready, (-best[task.id], task.id))
        length, number = heapq.heappop(ready)
        _, slot, host = free[0]
        outcome.tasks[number].finished = end = host.end_of(max(at, free[0][0]) + host.launch_delay, -length)
        heapq.heapreplace(free, (end, slot, host))
