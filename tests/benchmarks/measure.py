"""What a measure is, and how two figures become a verdict; pure, so that it is tested without timing anything.

A measure has contenders: aioparallel ("ours") and its peers. Each takes one sample: a coroutine function that gets the size of the work
and returns named figures. The runner takes samples of all contenders in turn, in fresh processes, for a number of rounds. A `Row` picks
one figure, reduces its samples, and holds it against a peer or against a bound.
"""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

Sample = dict[str, float]
Contender = Callable[[int], Awaitable[Sample]]

OURS = "ours"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: a figure, whose it is, and what it has to reach."""

    label: str
    figure: str
    unit: str
    more_is_better: bool = False
    ours: str = OURS
    peer: str | None = None  # the contender it stands beside
    ratio: float | None = None  # bound on ours / peer, a lower one where more is better
    bound: float | None = None  # bound on ours itself, likewise
    pick: str = "best"  # of the rounds: best (noise only slows down), median, or worst (for what must never happen)

    def reduce(self, figures: Sequence[float]) -> float:
        """Return the one figure that stands for all rounds."""
        if self.pick == "median":
            return statistics.median(figures)
        return max(figures) if (self.pick == "best") == self.more_is_better else min(figures)

    def reached(self, ours: float, peer: float | None) -> bool | None:
        """Return whether ours is good enough; None: there is no bound, or nothing to hold it against."""
        if self.bound is not None:
            return ours >= self.bound if self.more_is_better else ours <= self.bound
        if self.ratio is None or not peer:
            return None
        return ours / peer >= self.ratio if self.more_is_better else ours / peer <= self.ratio

    @property
    def reach(self) -> str:
        """The bound, in words."""
        sign = ">=" if self.more_is_better else "<="
        if self.bound is not None:
            return f"{sign} {self.bound:,g} {self.unit}"
        return f"{sign} {self.ratio:g}x" if self.ratio is not None else "-"


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One piece of work, its contenders, and the rows that its figures fill."""

    name: str
    size: int  # of the work, at full scale: tasks, items or bytes
    contenders: Mapping[str, Contender]
    rows: tuple[Row, ...]
    rounds: int = 5
    least: int = 10  # the size below which the work says nothing any more
    needs: Callable[[], str] | None = None  # says what is missing on this machine, or nothing

    def scaled(self, scale: float) -> int:
        """Return the size at a scale of 0..1."""
        return max(int(self.size * scale), self.least)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A filled row."""

    row: Row
    ours: float | None
    peer: float | None

    @property
    def ratio(self) -> float | None:
        """Ours over the peer's."""
        return self.ours / self.peer if self.ours is not None and self.peer else None

    @property
    def text(self) -> str:
        """What the last column says."""
        if self.ours is None:
            return "FAILED"
        reached = self.row.reached(self.ours, self.peer)
        if reached is None:
            return "no peer" if self.row.ratio is not None else "-"
        return "reached" if reached else "MISSED"

    def cells(self) -> tuple[str, ...]:
        """Return the columns of the table: measure, ours, peer, ratio, reach, verdict."""
        row = self.row
        peer = f"{number(self.peer)} ({row.peer})" if self.peer is not None else "-"
        ours = f"{number(self.ours)} {row.unit}" if self.ours is not None else "-"
        return row.label, ours, peer, "-" if self.ratio is None else _times(self.ratio), row.reach, self.text


def judge(row: Row, samples: Mapping[str, Sequence[Sample]]) -> Verdict:
    """Fill a row from the samples of all rounds, by contender."""

    def reduced(contender: str | None) -> float | None:
        figures = [sample[row.figure] for sample in samples.get(contender or "", ()) if row.figure in sample]
        return row.reduce(figures) if figures else None

    return Verdict(row=row, ours=reduced(row.ours), peer=reduced(row.peer))


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}x" if ratio >= 100 else f"{ratio:.2f}x"


def number(figure: float) -> str:
    """Return a figure with three digits that mean something."""
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"
