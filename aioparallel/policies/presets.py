"""Rules that others use, to compare with on one's own work. Each looks at what runs; none has a model."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from math import ceil

from .racing import FINISHED, NEVER, Bet, Copy, Scene

__all__ = ["Hedge", "Late", "Mantri", "MapReduce", "Reference", "Spark", "Watching"]

WINDOW = 1024
"""Durations that are kept of a function, and of a host."""
NEVER_LATE = -1.0


class Sample:
    """The last durations of a function or a host, sorted."""

    __slots__ = ("_order", "values")

    def __init__(self) -> None:
        self.values: list[float] = []
        self._order: deque[float] = deque()

    def add(self, seconds: float) -> None:
        """Count one."""
        insort(self.values, seconds)
        self._order.append(seconds)
        if len(self._order) > WINDOW:
            del self.values[bisect_left(self.values, self._order.popleft())]

    def quantile(self, share: float) -> float:
        """Return what a share of them stays below."""
        return self.values[min(len(self.values) - 1, max(0, ceil(share * len(self.values)) - 1))]


class Watching:
    """What the presets have in common: they count, and keep durations."""

    def __init__(self) -> None:
        self.functions: dict[str, Sample] = {}
        self.hosts: dict[str, Sample] = {}
        self.finished = self.total = 0
        self.running = 0
        self._copies: dict[int, int] = {}
        self.useful = self.lost = 0.0
        self.backups: dict[Copy, float] = {}

    def began(self, copy: Copy, now: float) -> None:
        """Note that a copy began to run."""
        if not self.running:
            self.finished = 0
        count = self._copies.get(copy.task, 0)
        self._copies[copy.task] = count + 1
        self.running += count == 0
        if copy.number > 1:
            self.backups[copy] = now

    def ended(self, copy: Copy, now: float, how: str, seconds: float | None = None) -> None:
        """Note how a copy ended."""
        took = now - copy.began if seconds is None else seconds
        self.backups.pop(copy, None)
        left = self._copies.pop(copy.task, 1) - 1
        if left > 0:
            self._copies[copy.task] = left
        self.running -= left <= 0
        if how == FINISHED:
            self.finished += 1
            self.total += 1
            self.useful += took
            self.functions.setdefault(copy.function, Sample()).add(took)
            self.hosts.setdefault(copy.host, Sample()).add(took)
        elif copy.number > 1:
            self.lost += took

    def spent(self, now: float) -> float:
        """Return what backups lost, and what those that run may lose by now."""
        return self.lost + sum(now - began for began in self.backups.values())

    def share_done(self, scene: Scene) -> float:
        """Return how much is done of all that was seen since nothing ran."""
        return self.finished / max(1, self.finished + self.running + scene.queued)


def _single(scene: Scene) -> list[Copy]:
    return [copies[0] for copies in scene.running() if len(copies) == 1]


def _oldest(due: list[tuple[float, Copy]], room: int, price: float, why: str) -> list[Bet]:
    due.sort(key=lambda entry: entry[0])
    return [Bet(copy.task, None, 0.0, price, why) for _, copy in due[:room]]


class Hedge(Watching):
    """A backup once a copy is older than its function's quantile (Dean and Barroso, The Tail at Scale, CACM 2013)."""

    def __init__(self, quantile: float = 0.95, max_extra_work: float = 0.05, samples: int = 20) -> None:
        super().__init__()
        self.quantile, self.max_extra_work, self.samples = quantile, max_extra_work, samples

    def look(self, scene: Scene) -> tuple[list[Bet], float]:
        """See Rule."""
        room = sum(scene.idle().values())
        if not room or self.spent(scene.now) > self.max_extra_work * self.useful:
            return [], NEVER
        limits = {name: known.quantile(self.quantile) for name, known in self.functions.items() if len(known.values) >= self.samples}
        return _past(scene, limits, room, f"older than {self.quantile:.0%} of its function's calls")


def _past(scene: Scene, limits: dict[str, float], room: int, why: str) -> tuple[list[Bet], float]:
    """Return bets on all copies past their function's limit, and when the next one will be."""
    due, following = [], NEVER
    for copy in _single(scene):
        if (limit := limits.get(copy.function)) is not None:
            when = copy.began + limit
            if when <= scene.now:
                due.append((when, copy))
            else:
                following = min(following, when)
    return _oldest(due, room, 0.0, why), following


class Spark(Watching):
    """Once most of a stage is done, a backup for what runs longer than a multiple of the median (Spark's TaskSetManager).

    A stage is all that was seen since the pool last had nothing to do.
    """

    def __init__(self, quantile: float = 0.75, multiplier: float = 1.5) -> None:
        super().__init__()
        self.quantile, self.multiplier = quantile, multiplier

    def look(self, scene: Scene) -> tuple[list[Bet], float]:
        """See Rule."""
        room = sum(scene.idle().values())
        if not room or self.share_done(scene) < self.quantile:
            return [], NEVER
        limits = {name: self.multiplier * known.quantile(0.5) for name, known in self.functions.items()}
        return _past(scene, limits, room, f"{self.quantile:.0%} are done, and it runs for {self.multiplier} times their median")


class MapReduce(Watching):
    """When little is left and nothing waits, a backup for everything that still runs (Dean and Ghemawat, MapReduce, OSDI 2004)."""

    def __init__(self, remaining: float = 0.05) -> None:
        super().__init__()
        self.remaining = remaining

    def look(self, scene: Scene) -> tuple[list[Bet], float]:
        """See Rule."""
        room = sum(scene.idle().values())
        if not room or scene.queued or self.share_done(scene) < 1.0 - self.remaining:
            return [], NEVER
        return _oldest([(copy.began, copy) for copy in _single(scene)], room, 0.0, f"at most {self.remaining:.0%} are left"), NEVER


class Reference(Watching):
    """Every five seconds at most one backup, for the running task with the highest score; then none for nine seconds."""

    TICK, COOL_DOWN, MEAN_WEIGHT = 5.0, 9.0, 14.0
    BY_BACKUPS = (2.0, 0.5, 0.125)

    def __init__(self) -> None:
        super().__init__()
        self._tick = self._last = -self.COOL_DOWN

    def look(self, scene: Scene) -> tuple[list[Bet], float]:
        """See Rule."""
        if not self.running:
            return [], NEVER
        if scene.now < self._tick:
            return [], self._tick
        self._tick = scene.now + self.TICK
        room = sum(scene.idle().values())
        if room < 1 or self.total < 2 or scene.now - self._last <= self.COOL_DOWN:
            return [], self._tick
        everything = [value for known in self.functions.values() for value in known.values]
        pool = sorted(everything)[int(0.95 * (len(everything) - 1))] if everything else NEVER
        tasks = list(scene.running())
        hosts = {copies[0].host for copies in tasks} | set(self.hosts)
        scale = self.MEAN_WEIGHT * len(hosts) / max(1e-9, sum(map(scene.weight, hosts)))
        scored = [(self._score(copies, scene, scale, pool), -copies[0].task, copies[0]) for copies in tasks]
        best, _, copy = max(scored, key=lambda entry: entry[:2], default=(0.0, 0, None))
        if copy is None or best <= 0:
            return [], self._tick
        self._last = scene.now
        return [Bet(copy.task, None, 0.0, 0.0, f"the highest score: {best:.0f}")], self._tick

    def _score(self, copies: Sequence[Copy], scene: Scene, scale: float, pool: float) -> float:
        if len(copies) > len(self.BY_BACKUPS):
            return 0.0
        first = copies[0]
        age = scene.now - first.began
        own = self.hosts.get(first.host)
        late = own is not None and age > own.quantile(0.95)
        score = 200.0 / max(1e-9, scale * scene.weight(first.host)) + age + (age / 2 if late else 0.0) + (age / 4 if age > pool else 0.0)
        return score * self.BY_BACKUPS[len(copies) - 1]


class Late(Watching):
    """The longest estimated rest first, if its progress is among the slowest (LATE: Zaharia et al., OSDI 2008). Needs progress."""

    SLOTS, SLOWEST = 0.1, 0.25

    def look(self, scene: Scene) -> tuple[list[Bet], float]:
        """See Rule."""
        if not self.functions:
            return [], NEVER
        median = min(known.quantile(0.5) for known in self.functions.values())
        room, tasks = sum(scene.idle().values()), list(scene.running())
        again = scene.now + 0.1 * median if tasks and room else NEVER
        rates: dict[str, list[float]] = {}
        for copies in tasks:
            rates.setdefault(copies[0].function, []).append(_rate(copies[0], scene.now))
        limits = {name: sorted(found)[int(self.SLOWEST * len(found))] for name, found in rates.items()}
        backups = sum(len(copies) - 1 for copies in tasks)
        room = min(room, max(1, int(self.SLOTS * scene.slots)) - backups)
        if room <= 0:
            return [], again
        due = [
            (-(1.0 - (copy.progress or 0.0)) / max(1e-9, _rate(copy, scene.now)), copy)
            for copy in _single(scene)
            if scene.now - copy.began > 0.2 * median and _rate(copy, scene.now) <= limits[copy.function]
        ]
        return _oldest(due, room, 0.0, "its progress is among the slowest"), again


class Mantri(Watching):
    """A backup where the rest is probably longer than two new runs (Ananthanarayanan et al., OSDI 2010). Needs progress."""

    CHANCE, TIMES, COPIES = 0.25, 2.0, 3

    def look(self, scene: Scene) -> tuple[list[Bet], float]:
        """See Rule."""
        room, bets = sum(scene.idle().values()), list[tuple[float, Copy]]()
        if not self.functions:
            return [], NEVER
        median = min(known.quantile(0.5) for known in self.functions.values())
        for copies in scene.running():
            copy, known = copies[-1], self.functions.get(copies[0].function)
            if known is None or len(copies) >= self.COPIES or scene.now - copy.began < 0.2 * median:
                continue
            rest = min((1.0 - (each.progress or 0.0)) / max(1e-9, _rate(each, scene.now)) for each in copies)
            if bisect_left(known.values, rest / self.TIMES) > self.CHANCE * len(known.values):
                bets.append((-rest, copy))
        return _oldest(
            bets, room, 0.0, "a new run would probably take less than half of the rest"
        ), scene.now + 0.1 * median if room else NEVER


def _rate(copy: Copy, now: float) -> float:
    """Return the progress a second."""
    return (copy.progress or 0.0) / max(1e-9, now - copy.began)
