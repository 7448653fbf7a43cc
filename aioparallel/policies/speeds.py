"""How fast each host is: learned from finished work, with the declared weight as the prior. Only ratios mean anything.

The logarithm of a host's speed is followed by a scalar Kalman filter (Kalman, A new approach to linear filtering and prediction
problems, 1960): each finished call says how fast its host was, as far as the function's durations let one tell.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp, log, sqrt

__all__ = ["Speeds"]

PRIOR = 0.5**2
"""Variance of the log of a declared weight: one in three is wrong by a factor of 1.6 or more."""
DRIFT = 0.02**2
"""Variance that a host's speed gains with each observation: a machine that others use changes within some hundred calls."""
LEAST_NOISE = 0.1**2
"""Calls of one function differ by 10 % at least, whatever the first two of them say."""
CLIP = 2.0
"""An observation counts as no further off than so many standard deviations: a straggler is no slow host."""
MEMORY = 200.0
"""Calls over which a function's typical duration is averaged."""


class _Typical:
    """The log of a function's work: its mean and variance, over about the last calls."""

    __slots__ = ("count", "mean", "variance")

    def __init__(self) -> None:
        self.count, self.mean, self.variance = 0.0, 0.0, 1.0

    def add(self, value: float) -> None:
        self.count = min(MEMORY, self.count + 1.0)
        step = value - self.mean if self.count > 1 else 0.0
        if self.count == 1:
            self.mean = value
        self.mean += step / self.count
        if self.count > 1:  # the prior variance of 1 is worth two samples
            self.variance += (step * step - self.variance) / (self.count + 2.0)


class Speeds:
    """The speeds of a pool's hosts."""

    __slots__ = ("_hosts", "_sum", "_typical", "_weight")

    def __init__(self, weight: Callable[[str], float] | None = None) -> None:
        self._weight = weight or (lambda _host: 1.0)
        self._sum = 0.0
        self._hosts: dict[str, list[float]] = {}
        self._typical: dict[str, _Typical] = {}

    def declare(self, weight: Callable[[str], float]) -> None:
        """Say where declared weights are found. What was learned stays."""
        self._weight = weight

    def _of(self, host: str) -> list[float]:
        state = self._hosts.get(host)
        if state is None:
            state = self._hosts[host] = [log(max(1e-6, self._weight(host))), PRIOR, 1.0, 1.0]
            self._sum += state[0]
            self._note(state)
        return state

    def speed(self, host: str) -> float:
        """Return the estimate."""
        state = self._hosts.get(host)
        return state[2] if state is not None else self._of(host)[2]

    def sure(self, host: str) -> float:
        """Return how fast it is at least known to be, or at most: the estimate, moved one standard error towards the mean of all hosts.

        As long as nothing else is known, hosts are alike.
        """
        state = self._hosts.get(host)
        return state[3] if state is not None else self._of(host)[3]

    @property
    def typical(self) -> float:
        """The geometric mean of all hosts' estimates."""
        return exp(self._sum / len(self._hosts)) if self._hosts else 1.0

    def _note(self, state: list[float]) -> None:
        middle, doubt = self._sum / len(self._hosts), sqrt(state[1])
        off = state[0] - middle
        state[2] = exp(state[0])
        state[3] = exp(middle + (off - doubt if off > doubt else off + doubt if off < -doubt else 0.0))

    def deviation(self, host: str) -> float:
        """Return the standard error of the log of the estimate."""
        return sqrt(self._of(host)[1])

    def finished(self, function: str, host: str, seconds: float) -> None:
        """Learn from a call that took so long; a cost hint is to be divided out before."""
        typical = self._typical.get(function)
        if typical is None:
            typical = self._typical[function] = _Typical()
        state = self._of(host)
        took = log(max(seconds, 1e-9))
        if typical.count:
            self._learn(state, typical.mean - took, typical.variance)
        typical.add(took + state[0])

    def stopped(self, function: str, host: str, seconds: float) -> None:
        """Learn from a call that had run for so long when it was stopped: it says something only if that is long."""
        typical = self._typical.get(function)
        if typical is None or not typical.count:
            return
        state = self._of(host)
        seen = typical.mean - log(max(seconds, 1e-9))
        if seen < state[0]:
            self._learn(state, seen, typical.variance)

    def _learn(self, state: list[float], seen: float, noise: float) -> None:
        variance = state[1] + DRIFT
        spread = variance + max(LEAST_NOISE, noise)
        limit = CLIP * sqrt(spread)
        gain = variance / spread
        step = gain * max(-limit, min(limit, seen - state[0]))
        state[0] += step
        self._sum += step
        state[1] = variance * (1.0 - gain)
        self._note(state)
