"""The races of a pool and what they teach: durations, speeds, whether it is the input that is slow, and what was spent."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from math import exp, inf, log2

from .budget import Budget
from .durations import Durations
from .racing import FINISHED, STOPPED, Copy
from .shares import InputShare
from .speeds import Speeds

__all__ = ["Function", "Key", "Race", "Races", "Wager"]

GAPS = 20.0
"""Over so many starts the time between them is averaged."""
PATIENCE = 3.0
"""Gaps without a start after which it is ever less likely that one comes."""
CLASSES = 4
"""Speed classes and cost classes an octave: copies of one class are one queue."""
SLACK = 0.75
"""Classes by which a host's speed must have moved before its copies are sorted anew."""
FRESH = 0.06
"""Durations are estimated anew after so many more samples, as a share."""
MANY, AGED = 100.0, 0.5
"""With so many samples the ages of what runs say little: half a median may pass before they are counted again."""
ENOUGH = 30.0
"""Samples after which a function has a shape of its own."""

Key = tuple[str, int, int, int]
"""Function, speed class, cost class, and 1 for a task without a backup, 2 for one with."""


class Function:
    """What is known of one function."""

    __slots__ = ("durations", "races", "settled_at", "settled_count", "share")

    def __init__(self) -> None:
        self.durations = Durations()
        self.share = InputShare()
        self.races: dict[int, Race] = {}
        self.settled_at, self.settled_count = -inf, 0.0

    def share_at(self, work: float) -> float:
        """Return how often a copy of that age is late because of its input."""
        return self.share.at(work / self.durations.median)


class Arrivals:
    """Whether new work still comes, by when originals began: a batch whose last tasks run wants its idle slots for nothing else."""

    __slots__ = ("_gap", "_last")

    def __init__(self) -> None:
        self._gap, self._last = inf, -inf

    def began(self, now: float) -> None:
        """Note that an original began. What begins at once counts once: a burst says nothing of when the next comes."""
        gap = now - self._last
        if gap > 0:
            self._gap = gap if self._gap == inf else self._gap + (gap - self._gap) / GAPS
            self._last = now

    def alive(self, now: float) -> float:
        """Return how likely it is that new work comes."""
        silence = (now - self._last) / self._gap if self._gap > 0 else inf
        return exp(-(silence - PATIENCE) / PATIENCE) if silence > PATIENCE else 1.0


class Race:
    """One running task: its copies, and the bets on it."""

    __slots__ = ("began", "copies", "cost", "function", "key", "over", "task", "wagers", "zero")

    def __init__(self, copy: Copy) -> None:
        self.task, self.function, self.began = copy.task, copy.function, copy.began
        self.copies = [copy]
        self.cost = copy.cost or 1.0
        self.wagers: list[Wager] = []
        self.over = False
        self.key: Key | None = None
        """The queue where it waits for its time."""
        self.zero = copy.began
        """Where that queue has it: what began first is due first."""


class Wager:
    """A bet that was taken."""

    __slots__ = ("copy", "lateness", "probability", "reserve", "settled", "spared")

    def __init__(self, lateness: float, probability: float, reserve: float) -> None:
        self.copy: Copy | None = None
        self.lateness, self.probability, self.reserve = lateness, probability, reserve
        self.settled = False
        self.spared = False
        """Not to be given up: it was already, or its task runs nowhere else that answers."""


class Races:
    """What runs now, and what was learned from all that ran."""

    def __init__(self, max_extra_work: float) -> None:
        self.budget = Budget(max_extra_work)
        self.speeds = Speeds()
        self.arrivals = Arrivals()
        self.functions: dict[str, Function] = {}
        self.shape = Durations()
        """Of all functions, each in medians of its own."""
        self.shape_count = 0.0
        self.live: dict[int, Race] = {}
        self.on: dict[str, dict[int, Race]] = {}
        """By host."""
        self.fresh: list[Race] = []
        """Those that are in no queue yet."""
        self.wagers: dict[Copy, Wager] = {}
        """By the backup that runs."""
        self.placed: dict[int, Wager] = {}
        """By task: bets that were asked for and may begin."""
        self.suspects: set[str] = set()
        """Hosts with an overdue copy that finished nothing since."""
        self.classes: dict[str, int] = {}

    def function(self, name: str) -> Function:
        """Return what is known of a function."""
        found = self.functions.get(name)
        if found is None:
            found = self.functions[name] = Function()
        return found

    def began(self, copy: Copy, now: float) -> None:
        """Note that a copy began to run."""
        race = self.live.get(copy.task)
        if race is None:
            race = self.live[copy.task] = Race(copy)
            self.function(copy.function).races[copy.task] = race
            self.budget.began(copy.began)
            self.arrivals.began(now)
        else:
            race.copies.append(copy)
            wager = self.placed.pop(copy.task, None) or Wager(1.0, 0.0, 0.0)
            wager.copy = copy
            race.wagers.append(wager)
            self.wagers[copy] = wager
            race.zero = copy.began
        self.on.setdefault(copy.host, {})[copy.task] = race
        self._queue_anew(race)

    def _queue_anew(self, race: Race) -> None:
        race.key = None
        self.fresh.append(race)

    def ended(self, copy: Copy, now: float, how: str, seconds: float | None = None) -> None:
        """Note how a copy ended."""
        race = self.live.get(copy.task)
        if race is None or copy not in race.copies:
            return
        race.copies.remove(copy)
        self.on[copy.host].pop(copy.task, None)
        took = now - copy.began if seconds is None else seconds
        if how == FINISHED:
            self._finished(race, copy, took)
        elif how == STOPPED:
            speed = self.speeds.sure(copy.host)
            self.function(copy.function).durations.add_stopped(took * speed / race.cost)
            self.speeds.stopped(copy.function, copy.host, took / race.cost)
            self.reclass(copy.host)
        if (wager := self.wagers.pop(copy, None)) is not None and how != FINISHED:
            self.budget.spent(now - copy.began)
            if how == STOPPED and race.task in self.live and not race.over:
                self.settle(self.function(race.function), wager)
                race.wagers.remove(wager)
        if not race.copies:
            self._forget(race)
        elif not race.over:
            race.zero = race.copies[-1].began
            self._queue_anew(race)

    def _finished(self, race: Race, copy: Copy, took: float) -> None:
        race.over = True
        function = self.function(copy.function)
        work = took * self.speeds.sure(copy.host) / race.cost
        function.durations.add(work)
        if function.durations.median > 0:
            self.shape.add(work / function.durations.median)
        self.speeds.finished(copy.function, copy.host, took / race.cost)
        self.suspects.discard(copy.host)
        self.reclass(copy.host)
        self.budget.won(took)
        winner = self.wagers.get(copy)
        for wager in race.wagers:
            if wager is winner:
                if not wager.settled:
                    function.share.count(wager.lateness, wager.probability, won=True)
            elif winner is None:
                self.settle(function, wager)

    def settle(self, function: Function, wager: Wager) -> None:
        """Note that a bet is lost, once."""
        if not wager.settled:
            wager.settled = True
            function.share.count(wager.lateness, wager.probability, won=False)

    def _forget(self, race: Race) -> None:
        del self.live[race.task]
        self.functions[race.function].races.pop(race.task, None)
        self.placed.pop(race.task, None)
        race.key = None
        self.budget.gone(race.began)

    def class_of(self, host: str) -> int:
        """Return the class that a host's speed is in."""
        found = self.classes.get(host)
        if found is None:
            found = self.classes[host] = round(CLASSES * log2(self.speeds.sure(host)))
        return found

    def reclass(self, host: str) -> None:
        """Sort a host's copies anew if its speed is known to be another."""
        if host in self.classes and abs(CLASSES * log2(self.speeds.sure(host)) - self.classes[host]) > SLACK:
            del self.classes[host]
            for race in self.on.get(host, {}).values():
                if race.key is not None:
                    self._queue_anew(race)

    def work(self, copy: Copy, seconds: float, cost: float) -> float:
        """Return the work that a copy did in that time."""
        return seconds * self.speeds.sure(copy.host) / cost

    def settled(self, function: Function, now: float, *, overdue: bool = False) -> bool:
        """Bring a function's estimate up to date, and return whether there is one. `overdue`: count the ages of what runs as of now."""
        durations = function.durations
        if not durations.count:
            return False
        fresh = FRESH if durations.count < MANY else 2.5 * FRESH
        stale = abs(durations.count - function.settled_count) > fresh * function.settled_count
        if not stale and overdue and function.settled_at < now:
            share = FRESH if durations.count < MANY else AGED
            stale = self._work_since(function, now) > share * durations.median
        if stale:
            if self.shape.count > 1.1 * self.shape_count and self.shape.count >= ENOUGH:
                self.shape.settle(())
                self.shape_count = self.shape.count
            alone = durations.count >= ENOUGH or len(self.functions) == 1
            durations.settle(self._ages(function, now), None if alone or not self.shape_count else self.shape)
            function.settled_at, function.settled_count = now, durations.count
        return True

    def _work_since(self, function: Function, now: float) -> float:
        race = next(iter(function.races.values()), None)
        return self.work(race.copies[-1], now - function.settled_at, race.cost) if race is not None else 0.0

    def _ages(self, function: Function, now: float) -> Iterator[float]:
        for race in function.races.values():
            for copy in race.copies:
                yield self.work(copy, now - copy.began, race.cost)

    def exposed(self, now: float) -> float:
        """Return what the backups that run may lose: what they took, or what was set aside for each."""
        running = sum(max(wager.reserve, now - copy.began) for copy, wager in self.wagers.items())
        return self.budget.lost + running + sum(wager.reserve for wager in self.placed.values())

    def on_silent(self, hosts: Collection[str]) -> Iterator[Race]:
        """Yield the races all of whose copies run on silent hosts."""
        for host in hosts:
            for race in list(self.on.get(host, {}).values()):
                if all(copy.host in hosts for copy in race.copies):
                    yield race
