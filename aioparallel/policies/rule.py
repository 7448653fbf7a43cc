"""The default rule: a task is raced as soon as a second copy is worth its slot.

Let u be the age of a task's only copy. A backup is launched at the first moment when a slot is idle and

    P(the backup finishes first | the copy still runs at age u)  >=  price * new / (1 + price * (old + new))

where `old` and `new` are the speeds of the two hosts and `price` says what a second of a slot is worth, in seconds of waiting: there the
derivative of a bet's expected net value vanishes. The price rises as idle slots become scarce (square-root staffing: Halfin and Whitt,
Heavy-traffic limits for queues with many exponential servers, 1981), while originals wait, and as the budget is used up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from heapq import heappop, heappush
from math import log2, sqrt

from .durations import BINS_AN_OCTAVE, bin_of
from .races import CLASSES, Function, Key, Race, Races, Wager
from .racing import NEVER, Bet, Copy, Scene, Stop

__all__ = ["Racing"]

IDLE_PRICE = 0.02
"""Of a slot that nobody is likely to want."""
STREAM_PRICE = 0.08
"""Added while new work keeps coming: what is spent now is not there for the stragglers to come."""
BUSY_PRICE = 0.20
"""Added when idle slots are scarce."""
SAFETY = 1.5
"""Idle slots beyond so many square roots of the demand are nearly free."""
QUEUE_PRICE = 1.0
"""Added per original that waits, as a share of all slots."""
UNUSED = 0.05
"""What the price is multiplied with while nothing of the budget is used: what is left over at the end helps nobody."""
SLOPE = 1.0
"""How fast that goes as it is used."""
SPARING = 2.0
"""How early the price rises as the budget is used up: with one over the square of what is left of this power of it."""
RESERVE = 1.5
"""What a bet may lose where the input is slow, in medians: then the backup is known to be late, too, and given up if need be."""
THIRD = 0.5
"""What the probability counts that a third copy wins: two that are late are late for the same reason more often than by chance."""
KEEP_LAST = 0.4
"""Of the budget, for the last tasks of a batch."""
LAST = 4.0
"""Those are fewer than one for so many slots."""
KEEP_BACK = 0.08
"""Of the budget, from where on backups that are late themselves are given up, one by one."""
WAITING_SHARE = 0.2
"""Of all slots that backups may hold while originals wait."""
CROWD = 0.5
"""Originals waiting per slot beyond which there are no bets."""
LULL = 0.01
"""Of the shortest median: what a backup may be late by."""
AGAIN = 0.3
"""A copy that was not worth a bet when its time came is looked at again when it is so much older."""
LEAST_PROGRESS = 0.05
"""Below that, progress says nothing yet."""


class Racing:
    """The state of one pool's races. See `Backup`."""

    def __init__(self, *, max_copies: int = 3, max_extra_work: float = 0.1) -> None:
        self.max_copies = max_copies
        self.races = Races(max_extra_work)
        self.began = self.races.began
        self.ended = self.races.ended
        self._queues: dict[Key, list[tuple[float, int]]] = {}
        self._price = 0.0
        self._free: list[str] = []
        self._next = NEVER
        self._limit = NEVER
        self._rest = -NEVER

    def look(self, scene: Scene) -> tuple[list[Bet | Stop], float]:
        """Return the bets that are worth it now, and when the next one could be.

        Events come faster than ages grow: between two real looks lies a small share of the shortest median.
        """
        if scene.now < self._rest and not scene.silent():
            return [], self._rest
        found, due = self._look(scene)
        medians = [] if found else [self.races.function(key[0]).durations.median for key in self._queues]
        self._rest = scene.now + LULL * min(medians, default=0.0)
        return found, due

    def _look(self, scene: Scene) -> tuple[list[Bet | Stop], float]:
        races = self.races
        races.speeds.declare(scene.weight)
        if races.fresh:
            self._enqueue()
        idle = scene.idle()
        free = sum(idle.values())
        stops: list[Bet | Stop] = self._give_up(scene) if races.wagers else []
        self._limit = self._limit if races.wagers else NEVER
        if not free or not races.live or stops:
            return stops, scene.now if stops else self._limit
        bets: list[Bet] = []
        silent = scene.silent()
        self._sort(idle)
        if silent:
            self._leave_silent(silent, idle, bets)
        waiting = scene.queued
        if waiting > CROWD * scene.slots or (waiting and len(races.wagers) >= WAITING_SHARE * scene.slots):
            return list(bets), self._limit
        self._next = NEVER
        self._price = self._price_of(scene, free - len(bets))
        for key in [key for key, queue in self._queues.items() if queue]:
            self._serve(key, scene, idle, bets)
            if len(bets) >= free:
                break
        return list(bets), min(self._next, self._limit)

    def _open(self, scene: Scene) -> float:
        """Return what may be lost by now, less what is kept for the last tasks of a batch: they decide when it ends."""
        races = self.races
        allowance, live = races.budget.allowance(scene.now), len(races.live) + scene.queued
        if races.budget.finished < scene.slots:
            return allowance
        return allowance * (1.0 - KEEP_LAST * (1.0 - races.arrivals.alive(scene.now)) * min(1.0, LAST * live / max(1, scene.slots)))

    def _give_up(self, scene: Scene) -> list[Bet | Stop]:
        """Stop the most overdue backup if what runs may lose nearly all of the budget; else say when that could be."""
        races, now = self.races, scene.now
        late = [copy for copy, wager in races.wagers.items() if wager.settled or now - copy.began > wager.reserve]
        allowance, exposed = self._open(scene), races.exposed(now)
        missing = allowance * (1.0 - KEEP_BACK * len(late) / (len(late) + 2.0)) - exposed
        if missing > 0:
            self._limit = now + max(missing / len(races.wagers), 0.01 * allowance)
            return []
        self._limit = NEVER
        able = [copy for copy in late or races.wagers if not races.wagers[copy].spared and len(races.live[copy.task].copies) > 1]
        if not able:
            return []
        copy = max(able, key=self._overdue(now))
        races.wagers[copy].spared = True
        return [Stop(copy.task, copy.number, "the budget is nearly used up")]

    def _overdue(self, now: float) -> Callable[[Copy], float]:
        races = self.races
        return lambda copy: (
            races.work(copy, now - copy.began, races.live[copy.task].cost) / (races.function(copy.function).durations.median or 1.0)
        )

    def _enqueue(self) -> None:
        races = self.races
        for race in races.fresh:
            if race.copies and race.key is None:
                steps = round(CLASSES * log2(race.cost)) if race.cost != 1.0 else 0
                race.key = race.function, races.class_of(race.copies[-1].host), steps, min(2, len(race.copies))
                heappush(self._queues.setdefault(race.key, []), (race.zero, race.task))
        races.fresh.clear()

    def _sort(self, idle: Mapping[str, int]) -> None:
        """Put the hosts with idle slots in the order in which a backup is to go there."""
        speed, suspects = self.races.speeds.speed, self.races.suspects
        self._free = sorted((host for host, count in idle.items() if count > 0), key=lambda host: (host in suspects, -speed(host)))

    def _price_of(self, scene: Scene, free: int) -> float:
        alive = self.races.arrivals.alive(scene.now)
        demand = alive * (len(self.races.live) + scene.queued)
        scarce = min(1.0, SAFETY * sqrt(demand) / max(1, free))
        price = IDLE_PRICE + alive * STREAM_PRICE + BUSY_PRICE * scarce * scarce + QUEUE_PRICE * scene.queued / max(1, scene.slots)
        allowance = self._open(scene)
        used = self.races.exposed(scene.now) / allowance if allowance > 0 else 1.0
        left = max(0.05, 1.0 - used ** (1.0 + SPARING * alive))
        price *= min(1.0, UNUSED + SLOPE * used)
        return float(price / (left * left))

    def _serve(self, key: Key, scene: Scene, idle: Mapping[str, int], bets: list[Bet]) -> None:
        """Look at one queue, as far as it is due."""
        races, queue, now = self.races, self._queues[key], scene.now
        function = races.function(key[0])
        passed: list[tuple[float, int]] = []
        free = sum(idle.values())
        while queue:
            zero, task = queue[0]
            race = races.live.get(task)
            if race is None or race.key != key or race.zero != zero:
                heappop(queue)
                continue
            if len(bets) >= free:
                break
            due = self._due(function, race, now)
            if due > now:
                self._next = min(self._next, due)
                break
            heappop(queue)
            if self._bet(function, race, scene, idle, bets):
                continue
            passed.append((race.zero, task))
        for entry in passed:
            heappush(queue, entry)
        if not queue:
            del self._queues[key]

    def _due(self, function: Function, race: Race, now: float) -> float:
        """Return when a task is worth a bet, if nothing changes before."""
        if not self.races.settled(function, now):
            return NEVER
        copy = race.copies[-1]
        work = self._fork(function, copy)
        due = race.zero + work * race.cost / self.races.speeds.sure(copy.host)
        if due <= now and self.races.settled(function, now, overdue=True):
            work = self._fork(function, copy)
            due = race.zero + work * race.cost / self.races.speeds.sure(copy.host)
        return due

    def _fork(self, function: Function, copy: Copy) -> float:
        threshold, slower = self._threshold(copy.host, self._free[0])
        return function.durations.fork(slower, threshold, function.share)

    def _threshold(self, old: str, new: str) -> tuple[float, int]:
        """Return the probability that is worth a bet, and by how many bins the old host is slower."""
        speeds = self.races.speeds
        first, second = speeds.sure(old), speeds.sure(new)
        scale = speeds.typical
        price = self._price
        threshold = price * second / scale / (1.0 + price * (first + second) / scale)
        slower = round(BINS_AN_OCTAVE * log2(first / second))
        return max(1e-3, threshold), slower

    def _bet(self, function: Function, race: Race, scene: Scene, idle: Mapping[str, int], bets: list[Bet]) -> bool:
        """Bet on a task that is due, if it is worth it on the host that it would get; return whether that is done."""
        races, copy, now = self.races, race.copies[-1], scene.now
        races.suspects.add(copy.host)
        if len(race.copies) > 1:
            races.settle(function, race.wagers[-1])
        if len(race.copies) >= self.max_copies:
            return True
        host = self._host(race, idle, bets)
        if host is None:
            return False
        probability, alone = self._probability(function, race, host, now)
        probability *= THIRD if len(race.copies) > 1 else 1.0
        threshold, _ = self._threshold(copy.host, host)
        if probability < 0.9 * threshold:
            race.zero = now - (now - race.zero) / (1.0 + AGAIN)
            self._next = min(self._next, max(now + AGAIN * (now - race.zero), self._due(function, race, now)))
            return False
        age = now - copy.began
        lateness = races.work(copy, age, race.cost) / function.durations.median
        worst = function.share.at_worst(lateness)
        typical = age / lateness
        left = function.durations.left(lateness * function.durations.median, RESERVE) * typical
        reserve = (worst + (1.0 - worst) * (1.0 - alone)) * left
        if not (races.wagers or races.placed or bets):
            reserve = min(reserve, 1.5 * typical)
        if not self._affords(reserve, scene):
            return False
        races.placed[race.task] = Wager(lateness, alone, reserve)
        bets.append(Bet(race.task, host, probability, self._price, self._reason(race, function, age)))
        race.key = None
        self._price = self._price_of(scene, sum(idle.values()) - len(bets))
        return True

    def _affords(self, reserve: float, scene: Scene) -> bool:
        """Return whether the budget bears another bet; if not, look again when it may."""
        now, budget = scene.now, self.races.budget
        needed = (self.races.exposed(now) + reserve) * budget.allowance(now) / max(1e-9, self._open(scene))
        wait = budget.until(needed, now)
        if wait <= 0:
            return True
        self._next = min(self._next, now + wait * 1.01)
        return False

    def _host(self, race: Race, idle: Mapping[str, int], bets: list[Bet]) -> str | None:
        used = {copy.host for copy in race.copies}
        alone = len(self.races.on) == 1 and len(idle) == 1
        for host in self._free:
            if (host not in used or alone) and idle[host] > sum(bet.host == host for bet in bets):
                return host
        return None

    def _probability(self, function: Function, race: Race, host: str, now: float) -> tuple[float, float]:
        races, place, same = self.races, 1.0, 1.0
        for copy in race.copies:
            _, slower = self._threshold(copy.host, host)
            age = races.work(copy, now - copy.began, race.cost)
            if copy.progress is not None and copy.progress >= LEAST_PROGRESS:
                left = age * (1.0 - copy.progress) / copy.progress
                place *= function.durations.below(left / 2.0 ** (slower / BINS_AN_OCTAVE))
            else:
                place *= function.durations.win_at(bin_of(age), slower)
            same *= function.durations.win_same(bin_of(age), slower)
        share = function.share_at(races.work(race.copies[0], now - race.copies[0].began, race.cost))
        return place * (1.0 - share) + same * share, place

    def _reason(self, race: Race, function: Function, age: float) -> str:
        typical = function.durations.median * race.cost / self.races.speeds.sure(race.copies[-1].host)
        return f"runs for {age:.3g} s, {age / typical:.1f} times what is typical there"

    def _leave_silent(self, silent: Collection[str], idle: Mapping[str, int], bets: list[Bet]) -> None:
        """Copy what runs on silent hosts alone: no bet, and no budget refuses it."""
        races, free = self.races, sum(idle.values())
        for race in races.on_silent(silent):
            if len(bets) >= free or len(race.copies) >= self.max_copies or race.task in races.placed:
                continue
            host = self._host(race, idle, bets)
            if host is not None:
                races.placed[race.task] = wager = Wager(1.0, 0.0, 0.0)
                wager.spared = True
                bets.append(Bet(race.task, host, 1.0, 0.0, f"{race.copies[-1].host} does not answer"))
