"""How long a function takes: a histogram in logarithmic bins that counts what still runs, and when a second copy would win.

Copies that were stopped and copies that still run are right-censored: they say "longer than this". Without them the first stragglers of
a batch are invisible. The estimate is the posterior mean of a Dirichlet process (Susarla and Van Ryzin, Nonparametric Bayesian
estimation of survival curves from incomplete observations, JASA 1976), over bins.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import ceil, inf, log2
from operator import mul

from .shares import InputShare

__all__ = ["BINS_AN_OCTAVE", "Durations"]

BINS_AN_OCTAVE = 6
"""A bin is 12 % wide: finer than what a thousand samples can tell apart, coarse enough for sixty bins to hold a function."""
HALF_OCTAVE = BINS_AN_OCTAVE // 2
LOWEST = -20 * BINS_AN_OCTAVE
"""A microsecond: below that nothing is told apart."""
BINS = 50 * BINS_AN_OCTAVE
"""Up to 2^30 s: 34 years; cost hints in other units shift it."""
SHAPE = 3.0
"""Of the prior, a log-logistic around the median: 1 in 9 takes twice as long as the median, 1 in 65 four times."""
PRIOR_SAMPLES = 3.0
"""What the prior is worth."""
REACH = 14 * BINS_AN_OCTAVE
"""How many bins beyond an age are looked at."""
WINDOW = 1024
"""Samples; beyond that all are halved, so what a function did long ago fades."""

STEPS = 8
"""Thresholds an octave that are told apart."""
EARLIEST = 0.2
"""No copy is raced before so many of its kind would be done."""


def bin_of(work: float) -> float:
    """Return the place of an amount of work on the scale of bins, as a fraction."""
    return log2(work) * BINS_AN_OCTAVE - LOWEST if work > 1e-6 else 0.0


def work_at(place: float) -> float:
    """Return the amount of work at a place on the scale of bins."""
    return float(2.0 ** ((place + LOWEST) / BINS_AN_OCTAVE))


def _gaps() -> list[int]:
    """Return for each m how many bins below an age the rest of a duration lies that ends m bins above that age."""
    return [round(log2(2.0 ** ((m + 0.5) / BINS_AN_OCTAVE) - 1.0) * BINS_AN_OCTAVE) for m in range(REACH)]


GAPS = _gaps()


class Durations:
    """What is known of one function's durations, in work: seconds x speed / cost."""

    __slots__ = ("_counts", "_cumulative", "_curves", "_forks", "_least", "_mass", "_stopped", "_survival", "_until", "count", "median")

    def __init__(self) -> None:
        self._counts = array("d", bytes(8 * BINS))
        self._stopped: dict[int, float] = {}
        self.count = 0.0
        """Finished samples in the window."""
        self.median: float = 0.0
        """As of the last `settle`."""
        self._least, self._until = BINS, 0
        self._mass: list[float] = []
        self._survival: list[float] = []
        self._cumulative: list[float] = []
        self._forks: dict[tuple[int, int, int], float] = {}
        self._curves: dict[int, dict[int, tuple[float, float]]] = {}

    def add(self, work: float) -> None:
        """Count a duration."""
        place = min(BINS - 1, int(bin_of(work)))
        self._counts[place] += 1.0
        self.count += 1.0
        self._least, self._until = min(self._least, place), max(self._until, place + 1)
        if self.count > WINDOW:
            self._halve()

    def add_stopped(self, work: float) -> None:
        """Count a copy that had run for so long when it was stopped."""
        place = min(BINS - 1, int(bin_of(work)))
        self._stopped[place] = self._stopped.get(place, 0.0) + 1.0
        self._until = max(self._until, place + 1)

    def _halve(self) -> None:
        for place in range(self._least, self._until):
            self._counts[place] /= 2.0
        self._stopped = {place: count / 2.0 for place, count in self._stopped.items() if count > 0.1}
        self.count /= 2.0

    def settle(self, ages: Iterable[float], shape: Durations | None = None) -> None:
        """Make the estimate anew, from what ended and from the ages of what runs. `shape`: what the whole pool learned, as the prior."""
        censored = dict(self._stopped)
        for age in ages:
            place = min(BINS - 1, int(bin_of(age)))
            censored[place] = censored.get(place, 0.0) + 1.0
        bottom, top = self._bounds(censored)
        prior = self._prior(bottom, top, shape)
        at_risk = self.count + sum(count for place, count in censored.items() if place >= bottom)
        left = sum(prior)
        survival, alive = [1.0] * (bottom + 1), 1.0
        mass = [0.0] * bottom
        for place in range(bottom, top):
            weight = prior[place - bottom]
            ended = self._counts[place] + weight
            hazard = min(1.0, ended / (at_risk + left)) if at_risk + left > 1e-9 else 1.0
            mass.append(alive * hazard)
            alive *= 1.0 - hazard
            survival.append(alive)
            at_risk -= self._counts[place] + censored.get(place, 0.0)
            left -= weight
        self._mass, self._survival = mass, survival
        self._cumulative = [1.0 - value for value in survival]
        self._curves.clear()
        self._forks.clear()
        self.median = work_at(self._place_of(0.5))

    def _bounds(self, censored: dict[int, float]) -> tuple[int, int]:
        least = self._least if self.count else min(censored, default=0)
        top = max(self._until, max(censored, default=0) + 1) + 4 * BINS_AN_OCTAVE
        return max(0, least - BINS_AN_OCTAVE), min(BINS, top)

    def _prior(self, bottom: int, top: int, shape: Durations | None) -> list[float]:
        """Return the prior's weight in each bin: around the plain median of what ended."""
        half, seen, middle = self.count / 2.0, 0.0, bottom
        for middle in range(self._least, self._until):
            seen += self._counts[middle]
            if seen >= half:
                break
        if shape is not None and shape._mass:
            shift = round(shape._place_of(0.5)) - middle
            mass = shape._mass
            weights = [mass[place + shift] if 0 <= place + shift < len(mass) else 0.0 for place in range(bottom, top)]
        else:
            edges = [1.0 / (1.0 + 2.0 ** (-SHAPE * (place - middle - 0.5) / BINS_AN_OCTAVE)) for place in range(bottom, top + 1)]
            weights = [upper - lower for lower, upper in pairwise(edges)]
        total = sum(weights) or 1.0
        return [PRIOR_SAMPLES * weight / total for weight in weights]

    def _place_of(self, share: float) -> float:
        """Return where a share of the durations lies below."""
        cumulative = self._cumulative
        above = bisect_left(cumulative, share)
        if above == 0 or above == len(cumulative):
            return float(above)
        low = cumulative[above - 1]
        return above - 1 + (share - low) / (cumulative[above] - low)

    def quantile(self, share: float) -> float:
        """Return the work that a share of the calls stays below."""
        return work_at(self._place_of(share))

    def below(self, work: float) -> float:
        """Return the share of calls that take less."""
        place, cumulative = bin_of(work), self._cumulative
        low = int(place)
        if low + 1 >= len(cumulative):
            return cumulative[-1] if cumulative else 0.0
        return cumulative[low] + (cumulative[low + 1] - cumulative[low]) * (place - low)

    def win(self, place: int, slower: int) -> float:
        """Return how probably a fresh copy overtakes one of that age, if it draws anew. `slower`: bins by which its host is slower."""
        cumulative, mass = self._cumulative, self._mass
        last = len(cumulative) - 1
        if place >= last or (alive := self._survival[place]) <= 1e-12:
            return 1.0 - self._survival[max(0, min(last, place - slower))] if cumulative else 0.0
        base, tail = place - slower, mass[place : place + REACH]
        values = [cumulative[min(last, at)] if (at := base + gap) > 0 else 0.0 for gap in GAPS[: len(tail)]]
        beyond = max(0.0, self._survival[min(last, place + len(tail))])
        return float((sum(map(mul, tail, values)) + beyond * values[-1]) / alive)

    def win_same(self, place: float, slower: int) -> float:
        """Return how probably a fresh copy overtakes if it needs the same work: only where its host is faster, and the old one not far."""
        if slower >= 0:
            return 0.0
        ahead = -BINS_AN_OCTAVE * log2(1.0 - 2.0 ** (slower / BINS_AN_OCTAVE))
        now = self._alive(place)
        return self._alive(place + ahead) / now if now > 1e-12 else 0.0

    def _alive(self, place: float) -> float:
        return self._survival[min(len(self._survival) - 1, max(0, int(place)))]

    def left(self, work: float, most: float) -> float:
        """Return the mean rest at an age, where no rest counts as more than so many medians; in medians."""
        start = bin_of(work)
        end, total, alive = work + most * self.median, 0.0, self._alive(start)
        if alive <= 1e-12:
            return most
        place, at = int(start), work
        while at < end:
            place += 1
            upper = min(end, work_at(place))
            total += self._alive(place - 1) * max(0.0, upper - at)
            at = max(at, upper)
        return total / alive / self.median

    def win_at(self, place: float, slower: int) -> float:
        """Return the same between two bins."""
        low = int(place)
        first = self.win(low, slower)
        return first + (self.win(low + 1, slower) - first) * (place - low)

    def fork(self, slower: int, threshold: float, share: InputShare) -> float:
        """Return the work after which a fresh copy wins with that probability at least; infinite where that never comes.

        `share`: how often a copy that late would draw anew. See `win` for `slower`. Thresholds are rounded up, so that answers are found
        again until the next `settle`.
        """
        step = ceil(STEPS * log2(threshold))
        key = slower, step, share.changes
        found = self._forks.get(key)
        if found is None:
            found = self._forks[key] = self._search(slower, 2.0 ** (step / STEPS), share.fresh)
        return found

    def _search(self, slower: int, threshold: float, fresh: Sequence[float]) -> float:
        first, before = max(0, int(self._place_of(EARLIEST)) + min(0, 2 * slower)), 0.0
        middle, last = int(bin_of(self.median)), len(fresh) - 1
        curve = self._curves.setdefault(slower, {})
        for place in range(first, len(self._survival)):
            chance = curve.get(place)
            if chance is None:
                chance = curve[place] = self.win(place, slower), self.win_same(place, slower)
            anew = fresh[0 if place <= middle else min(last, (place - middle) // HALF_OCTAVE)]
            worth = chance[0] * anew + chance[1] * (1.0 - anew)
            if worth >= threshold:
                back = (worth - threshold) / (worth - before) if worth > before > 0 else 0.0
                return work_at(place - min(1.0, back))
            before = worth
        return inf
