"""Hosts of a virtual cluster: they work by themselves, at their speed, on the cluster's clock.

Guarantees
    They keep the contract of `_hosts/base`, as real far hosts do: what they were sent is answered, given back, named in a death, or lost
    with them. During an outage they do nothing and hear nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Any, Protocol

from .._hosts.base import Death, Outcome
from .._jobs.task import Attempt
from .._wire.messages import BY_CANCEL, BY_TIMEOUT, OK, RAISED
from .._wire.records import Record

NAN = float("nan")


class VirtualHost(Record):
    """A machine of a `VirtualCluster`. Times are in seconds."""

    name: str
    slots: int = 4
    speed: float = 1.0
    """How fast it is."""
    weight: float = 1.0
    """How fast it is said to be."""
    launch_delay: float = 0.1
    """What each attempt costs its slot before it runs."""
    cancel_delay: float = 0.05
    """How long a kill takes."""
    outages: Sequence[tuple[float, float]] = ()
    """(from, to): it does nothing, and its link says nothing."""
    slowdowns: Sequence[tuple[float, float, float]] = ()
    """(from, to, factor): it is slower by that factor."""


class VirtualTask(Record):
    """A call in a `VirtualCluster`."""

    function: str = "f"
    arrival: float = 0.0
    durations: Sequence[float] = (1.0,)
    """Seconds on a host of speed 1, for the first, second, ... copy; used in a cycle."""
    fails: Sequence[float | None] = (None,)
    """After which share of its duration the first, second, ... copy raises; used in a cycle."""
    cost: float | None = None
    """See `Pool.options`."""
    progress: bool = False
    """Whether it says how far it is."""
    idempotent: bool = True
    group: Any = None
    """A label of yours."""


class Speed:
    """How much work a host has done at which time."""

    __slots__ = ("_outages", "_steps")

    def __init__(self, host: VirtualHost) -> None:
        changes = [(start, end, 0.0) for start, end in host.outages] + [(start, end, 1.0 / factor) for start, end, factor in host.slowdowns]
        self._outages = sorted(host.outages)
        self._steps: list[tuple[float, float]] = []
        """(until, speed)"""
        before = 0.0
        for start, end, share in sorted(changes):
            if start < before or end <= start:
                raise ValueError(f"host {host.name!r}: outages and slowdowns must end after they begin, and not overlap: ({start}, {end})")
            self._steps += [(start, host.speed), (end, host.speed * share)]
            before = end
        self._steps.append((inf, host.speed))

    def end_of(self, start: float, work: float) -> float:
        """Return when work that begins then is done (inf: never)."""
        for until, speed in self._steps:
            if until <= start:
                continue
            if speed and start + work / speed <= until:
                return start + work / speed
            work -= (until - start) * speed
            start = until
        return inf

    def done(self, start: float, end: float) -> float:
        """Return how much work is done between two times."""
        total = 0.0
        for until, speed in self._steps:
            if until > start:
                stop = min(until, end)
                total += max(0.0, stop - start) * speed
                start = stop
            if until >= end:
                break
        return total

    def hears(self, now: float) -> float:
        """Return when what is said to the host now is heard."""
        for start, end in self._outages:
            if start <= now < end:
                return end
        return now


class Cluster(Protocol):
    """What a machine tells, and asks."""

    def far_answered(self, host: str, index: int, incarnation: int, outcomes: list[Outcome]) -> None:
        """See `_hosts/base.Reports`, as for the next three."""

    def bound(self, host: str, index: int, incarnation: int, ident: int) -> None:
        """See `Reports`."""

    def withdrawn(self, host: str, idents: Sequence[int]) -> None:
        """See `Reports`."""

    def slot_died(self, host: str, death: Death) -> None:
        """See `Reports`."""

    def at(self, when: float, what: Callable[[], object]) -> None:
        """Have something happen at a time (inf: never)."""

    def call(self, attempt: Attempt) -> VirtualTask:
        """Return the call that an attempt runs."""

    def worked(self, attempt: Attempt, seconds: float) -> None:
        """An attempt held a slot for so long."""

    @property
    def now(self) -> float:
        """Seconds since the run began."""

    origin: float
    """What the scheduler's clock said then."""


class _Busy:
    __slots__ = ("attempt", "began", "dying", "fails", "index", "work")

    def __init__(self, attempt: Attempt, index: int, began: float, work: float, fails: bool) -> None:
        self.attempt, self.index, self.began, self.work, self.fails = attempt, index, began, work, fails
        self.dying = False


class Machine:
    """One incarnation of a virtual host, from its start to its loss."""

    def __init__(self, host: VirtualHost, cluster: Cluster, timeout: float) -> None:
        self.name = host.name
        self._host = host
        self._cluster = cluster
        self._timeout = timeout
        self._speed = Speed(host)
        self._waiting: deque[Attempt] = deque()
        self._free = list(range(host.slots))
        self._incarnations = [1] * host.slots
        self._busy: dict[int, _Busy] = {}
        self.lost = False

    # --- orders

    def launch(self, index: int, attempts: Sequence[Attempt], patience: float) -> None:
        """See `_hosts/base.Host`."""
        self._when_heard(lambda: self._take(attempts))

    def kill(self, index: int, ident: int, grace: float) -> None:
        """See `Host`."""
        self._when_heard(lambda: self._stop(ident))

    def withdraw(self, idents: Sequence[int]) -> None:
        """See `Host`."""
        self._when_heard(lambda: self._give_back(idents))

    def want(self, slots: int) -> None:
        """See `Host`: its slots are up."""

    def limit(self, slots: int) -> None:
        """See `Host`: it is alone on its machine."""

    def close(self) -> None:
        """See `Host`."""

    def _when_heard(self, what: Callable[[], object]) -> None:
        now = self._cluster.now
        heard = self._speed.hears(now)
        self._cluster.at(heard, lambda: None if self.lost else what())

    # --- work

    def _take(self, attempts: Iterable[Attempt]) -> None:
        self._waiting.extend(attempts)
        self._fill()

    def _fill(self) -> None:
        while self._free and self._waiting:
            self._begin(self._waiting.popleft(), self._free.pop(0))

    def _begin(self, attempt: Attempt, index: int) -> None:
        call, now = self._cluster.call(attempt), self._cluster.now
        turn = attempt.number - 1
        work = call.durations[turn % len(call.durations)]
        share = call.fails[turn % len(call.fails)]
        work = work if share is None else work * share
        busy = self._busy[attempt.ident] = _Busy(attempt, index, now, work, share is not None)
        self._cluster.bound(self.name, index, self._incarnations[index], attempt.ident)
        start = self._speed.end_of(now, self._host.launch_delay * self._host.speed)
        end = self._speed.end_of(start, work)
        limit = self._speed.hears(now + self._timeout)
        if end <= limit:
            self._cluster.at(end, lambda: self._end(busy))
        else:
            self._cluster.at(limit, lambda: self._die(busy, BY_TIMEOUT))

    def progress(self) -> Iterable[tuple[int, float]]:
        """Yield (ident, share of its work that is done) for each attempt that says so."""
        for ident, busy in self._busy.items():
            if self._cluster.call(busy.attempt).progress and not busy.dying:
                start = self._speed.end_of(busy.began, self._host.launch_delay * self._host.speed)
                yield ident, min(1.0, self._speed.done(start, self._cluster.now) / busy.work) if busy.work else 1.0

    def _end(self, busy: _Busy) -> None:
        if self.lost or busy.dying:
            return
        now, attempt = self._cluster.now, busy.attempt
        self._leave(busy)
        status = RAISED if busy.fails else OK
        seconds = now - busy.began
        outcome = Outcome(attempt.ident, status, self._cluster.origin + busy.began, seconds, NAN, 0, b"", ())
        self._cluster.far_answered(self.name, busy.index, self._incarnations[busy.index], [outcome])
        self._fill()

    def _stop(self, ident: int) -> None:
        if self._give_back((ident,)):
            return
        busy = self._busy.get(ident)
        if busy is not None and not busy.dying:
            busy.dying = True
            self._cluster.at(self._speed.hears(self._cluster.now + self._host.cancel_delay), lambda: self._dead(busy, BY_CANCEL))

    def _die(self, busy: _Busy, why: int) -> None:
        if not self.lost and not busy.dying and busy.attempt.ident in self._busy:
            busy.dying = True
            self._cluster.at(self._speed.hears(self._cluster.now + self._host.cancel_delay), lambda: self._dead(busy, why))

    def _dead(self, busy: _Busy, why: int) -> None:
        if self.lost:
            return
        self._leave(busy)
        incarnation = self._incarnations[busy.index]
        self._incarnations[busy.index] += 1
        self._cluster.slot_died(self.name, Death(busy.index, incarnation, None, 9, busy.attempt.ident, why, 0, 0, False, False))
        self._fill()

    def _leave(self, busy: _Busy) -> None:
        del self._busy[busy.attempt.ident]
        self._free.append(busy.index)
        self._cluster.worked(busy.attempt, self._cluster.now - busy.began)

    def _give_back(self, idents: Sequence[int]) -> bool:
        """Give back what has not begun; return whether there was any."""
        back = [attempt for attempt in self._waiting if attempt.ident in idents]
        if back:
            self._waiting = deque(attempt for attempt in self._waiting if attempt.ident not in idents)
            self._cluster.withdrawn(self.name, [attempt.ident for attempt in back])
        return bool(back)

    def lose(self) -> None:
        """End, with all it has."""
        self.lost = True
        for busy in self._busy.values():
            self._cluster.worked(busy.attempt, self._cluster.now - busy.began)


__all__ = ["Machine", "VirtualHost", "VirtualTask"]
