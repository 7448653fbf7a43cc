"""How much extra work backups may be: a promise, so what runs counts as lost until it has won."""

from __future__ import annotations

__all__ = ["Budget"]

MARGIN = 0.92
"""Of the allowance that is given out: what a backup loses is known only when its race is over."""
BURST = 2.0
"""Tasks' worth that may be lost before there is any useful work to measure by."""


class Budget:
    """What backups have lost, against what was useful."""

    __slots__ = ("_began", "_running", "extra", "finished", "lost", "useful")

    def __init__(self, extra: float) -> None:
        self.extra = extra
        """The share of useful work that backups may lose."""
        self.useful = 0.0
        self.finished = 0
        self.lost = 0.0
        self._running = 0
        self._began = 0.0

    def began(self, now: float) -> None:
        """Note that an original began."""
        self._running += 1
        self._began += now

    def gone(self, began: float) -> None:
        """Note that it runs no more."""
        self._running -= 1
        self._began = self._began - began if self._running else 0.0

    def won(self, seconds: float) -> None:
        """Note work that settled a task."""
        self.useful += seconds
        self.finished += 1

    def spent(self, seconds: float) -> None:
        """Note a backup that lost."""
        self.lost += seconds

    def allowance(self, now: float) -> float:
        """Return the slot-seconds that may be lost, by all backups up to now: by the work that is done, and that is being done."""
        work = self.useful + max(0.0, self._running * now - self._began)
        burst = BURST * self.useful / self.finished if self.finished else 0.0
        return max(self.extra * MARGIN * work, min(burst, self.extra * 12.0 * burst))

    def until(self, needed: float, now: float) -> float:
        """Return in how many seconds the allowance is that large, if everything runs on; infinite: it never is."""
        rate = self.extra * MARGIN * self._running
        missing = needed - self.allowance(now)
        return max(0.0, missing) / rate if rate > 0 else float("inf")
