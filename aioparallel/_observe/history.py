"""What ended, and how: counted as it happens, bounded, and cheap for the many that succeed.

How it works
    A success adds four values to a list; a thousand are sorted into buckets together, by functions that are written in C:
    0.1 us for the first and 0.15 for the second, where a sketch that is fed one by one costs 1.
"""

from __future__ import annotations

from array import array
from collections import Counter, deque
from collections.abc import Sequence
from heapq import heappush, heappushpop
from typing import TYPE_CHECKING, Any

from ..status import FailureRecord
from .sketch import Sketch, Span, buckets_of

if TYPE_CHECKING:
    from .._jobs.task import Attempt, Task

BATCH = 4 * 1024
"""Four values for each."""
MAX_FAILURES = 1_000
MAX_NAMES = 1_000
"""So many functions, and hosts, are told apart; what comes behind them counts as `OTHERS`."""
OTHERS = "(others)"
SLOWEST = 10

Slow = tuple[float, int, str, str, str]
"""Seconds, a number that tells equal ones apart, the task's label and name, its host."""


class Failure:
    """What is kept of an attempt that failed, or of a task that failed without one."""

    __slots__ = ("attempt", "ended", "error", "function", "label", "name", "outcome", "queued")

    def __init__(self, task: Task[Any], attempt: Attempt | None, outcome: str, error: str, ended: float) -> None:
        self.label = task.label
        self.name = task.name
        self.function = function_of(task)
        self.queued = task._queued
        self.attempt = None if attempt is None else Remains(attempt)
        self.outcome = outcome
        self.error = error
        self.ended = ended

    def record(self, epoch: float) -> FailureRecord:
        """Return what users see of it."""
        ran = self.attempt
        return FailureRecord(
            task=self.label, name=self.name, function=self.function, host="" if ran is None else ran.host,
            slot=-1 if ran is None else ran.slot, pid=None if ran is None else ran.pid, attempt=0 if ran is None else ran.number,
            outcome=self.outcome, error=self.error, exit_code=None if ran is None else ran.exit_code,
            signal=None if ran is None else ran.signal, queued_at=self.queued + epoch,
            started_at=None if ran is None or ran.began is None else ran.began + epoch, ended_at=self.ended + epoch,
            cpu_seconds=None if ran is None else ran.cpu, peak_bytes=None if ran is None else ran.peak,
        )  # fmt: skip


class Remains:
    """What is kept of an attempt: not its task, nor its answer."""

    __slots__ = ("began", "cpu", "exit_code", "host", "number", "peak", "pid", "signal", "slot")

    def __init__(self, attempt: Attempt) -> None:
        place, ended = attempt.slot, attempt.exit
        self.number, self.host, self.slot, self.pid = attempt.number, place.host, place.index, place.pid
        self.began, self.cpu, self.peak = attempt.began, attempt.cpu, attempt.peak
        self.exit_code = ended if ended is not None and ended >= 0 else None
        self.signal = -ended if ended is not None and ended < 0 else None


class History:
    """Of one pool."""

    __slots__ = ("_failures", "_slowest", "failed", "functions", "hosts", "run", "run_span", "seen", "slow", "wait", "wait_span")

    def __init__(self) -> None:
        self.seen: list[Any] = []
        """Of each success that is not sorted yet, one behind the other: its function, its host, the seconds that it ran, and waited
        before that."""
        self.slow = -1.0
        """An attempt that runs longer (seconds) is among the slowest."""
        self.run = Sketch()
        self.run_span = Span()
        self.wait = Sketch()
        self.wait_span = Span()
        self.hosts: dict[str, Sketch] = {}
        self.functions: dict[str, Sketch] = {}
        self.failed: Counter[str] = Counter()
        """Failures by host; "": of tasks that were on none."""
        self._failures: deque[Failure] = deque(maxlen=MAX_FAILURES)
        self._slowest: list[Slow] = []

    # --- in

    def look(self, task: Task[Any], host: str, seconds: float) -> None:
        """See to a success that is among the slowest, or the last of a batch."""
        if seconds > self.slow:
            slow: Slow = seconds, task._id, task.label, task.name, host
            if len(self._slowest) < SLOWEST:
                heappush(self._slowest, slow)
            else:
                heappushpop(self._slowest, slow)
                self.slow = self._slowest[0][0]
        if len(self.seen) >= BATCH:
            self.digest()

    def digest(self) -> None:
        """Sort what was seen into buckets."""
        seen = self.seen
        if not seen:
            return
        functions, hosts, seconds, waits = seen[0::4], seen[1::4], array("d", seen[2::4]), array("d", seen[3::4])
        seen.clear()
        buckets = buckets_of(seconds)
        counts = Counter(buckets)
        self.run.add(counts)
        if hosts.count(hosts[0]) == len(hosts) == functions.count(functions[0]):
            self._sketch(self.hosts, hosts[0]).add(counts)
            self._sketch(self.functions, functions[0]).add(counts)
        else:
            self._count_by(self.hosts, hosts, buckets)
            self._count_by(self.functions, functions, buckets)
        self.run_span.take(seconds)
        self.wait.add(Counter(buckets_of(waits)))
        self.wait_span.take(waits)

    def _count_by(self, sketches: dict[str, Sketch], names: list[str], buckets: Sequence[int]) -> None:
        counts: dict[str, dict[int, int]] = {}
        for (name, bucket), count in Counter(zip(names, buckets, strict=False)).items():
            counts.setdefault(name, {})[bucket] = count
        for name, found in counts.items():
            self._sketch(sketches, name).add(found)

    def _sketch(self, sketches: dict[str, Sketch], name: str) -> Sketch:
        found = sketches.get(name)
        if found is None:
            if len(sketches) >= MAX_NAMES:
                name = OTHERS
            found = sketches.setdefault(name, Sketch())
        return found

    def fail(self, task: Task[Any], attempt: Attempt | None, outcome: str, error: str, now: float) -> None:
        """Keep what is known of a failure."""
        ended = now if attempt is None or attempt.ended is None else attempt.ended
        failure = Failure(task, attempt, outcome, error, ended)
        self._failures.append(failure)
        self.failed["" if failure.attempt is None else failure.attempt.host] += 1

    # --- out

    @property
    def failures(self) -> list[Failure]:
        """The latest failures, oldest first."""
        return list(self._failures)

    @property
    def slowest(self) -> list[Slow]:
        """The slowest successes, slowest first."""
        return sorted(self._slowest, reverse=True)


def function_of(task: Task[Any]) -> str:
    """Return the name of a task's function."""
    function = task._function
    return function if isinstance(function, str) else function.name


def since(attempt: Attempt, began: float) -> float:
    """Return since when a retry waited: the end of what failed before it. A backup waits for nothing."""
    before = attempt.before
    return began if before is None or before.ended is None else before.ended


__all__ = ["BATCH", "History", "function_of", "since"]
