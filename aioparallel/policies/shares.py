"""Is a late task late because of the place, or because of its input? Learned from the races themselves.

Under "place" a second copy is a fresh draw; under "input" it needs the same work again and cannot win. So the share of "place" is what
backups won, over what they would have won had every one drawn anew.
"""

from __future__ import annotations

from math import log2, sqrt

__all__ = ["InputShare"]

START = 1.0 / 3.0
"""Share of late tasks that is due to the input, before any race."""
START_WINS = 1.0
"""Expected wins that this is worth."""
DOUBT = 1.0
"""Standard errors by which the share may be worse than it looks, when a budget is set aside."""
AGES = 10
"""Half octaves above the median that are told apart."""
NEIGHBOUR = 0.5
"""What a race at one age says about the next half octave."""


class InputShare:
    """For one function, by how late a call is."""

    __slots__ = ("_expected", "_won", "changes", "fresh")

    def __init__(self) -> None:
        self._won = [(1.0 - START) * START_WINS] * AGES
        self._expected = [START_WINS] * AGES
        self.changes = 0
        """How often it changed."""
        self.fresh = [1.0 - START] * AGES
        """By how many half octaves a call is late: how often a second copy draws anew."""

    def at(self, lateness: float) -> float:
        """Return the share at an age, given in medians."""
        return 1.0 - self.fresh[_place(lateness)]

    def at_worst(self, lateness: float) -> float:
        """Return what the share may be, by what is known so far."""
        place = _place(lateness)
        fresh = self.fresh[place]
        return min(1.0, 1.0 - fresh + DOUBT * sqrt(fresh * (1.0 - fresh) / (self._expected[place] + 1.0)))

    def count(self, lateness: float, probability: float, *, won: bool) -> None:
        """Note how a bet at that age ended, which was to be won with that probability had the copy drawn anew."""
        middle = _place(lateness)
        self.changes += 1
        for place, weight in ((middle - 1, NEIGHBOUR), (middle, 1.0), (middle + 1, NEIGHBOUR)):
            if 0 <= place < AGES:
                self._expected[place] += weight * probability
                self._won[place] += weight * won
                self.fresh[place] = min(1.0, self._won[place] / self._expected[place])


def _place(lateness: float) -> int:
    return max(0, min(AGES - 1, int(2.0 * log2(lateness)))) if lateness > 1.0 else 0
