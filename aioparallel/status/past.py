"""What was: how long things took, what was slow, what failed and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .._wire.records import Record
from .board import HostStatus
from .states import AttemptRecord
from .words import Table, as_html, as_lines, as_plain, in_bytes, in_units

BAR_COLUMNS = 40
SHOWN = 10
"""So many failures and functions are printed; the fields hold more."""


class Histogram(Record):
    """How long something took, over all attempts that succeeded: counts by bucket, of equal ratio, from the least to the most."""

    count: int
    mean: float | None
    least: float | None
    most: float | None
    p50: float | None
    """Right to 2 %, as the others; None where nothing was counted."""
    p95: float | None
    p99: float | None
    buckets: tuple[tuple[float, float, int], ...]
    """(from seconds, to seconds, how many); their counts sum up to `count`."""

    def _lines(self, title: str) -> list[str]:
        if not self.count:
            return [f"  {title}: nothing was counted"]
        head = (
            f"  {title}: {self.count} counted, mean {in_units(self.mean)}, p50 {in_units(self.p50)}, p95 {in_units(self.p95)}, "
            f"p99 {in_units(self.p99)}, from {in_units(self.least)} to {in_units(self.most)}"
        )
        return [head, *as_lines(self._table(), "    ")]

    def _table(self) -> Table:
        top = max((count for _, _, count in self.buckets), default=1)
        rows = [
            (in_units(low), in_units(high), str(count), "#" * -(-count * BAR_COLUMNS // top))
            for low, high, count in self.buckets
        ]  # fmt: skip
        return ("from", "to", "count", ""), rows

    def __str__(self) -> str:
        return "\n".join(line.strip() for line in self._lines("seconds"))


class SlowTask(Record):
    """One of the tasks whose attempts ran longest, of those that succeeded."""

    task: str
    name: str
    host: str
    seconds: float


class FunctionSummary(Record):
    """One function's attempts that succeeded."""

    name: str
    finished: int
    p50: float | None
    p95: float | None


class FailureRecord(Record):
    """One attempt that failed, or a task that failed before it had one: who, where, how, when. Never why in the user's own words."""

    task: str
    name: str
    function: str
    host: str
    """"" where it never was on one, as the slot is -1 then."""
    slot: int
    pid: int | None
    attempt: int
    """0: it failed before its first."""
    outcome: str
    """As in `AttemptRecord`; "failed" is the function's own exception, or an error of ours where there was no attempt."""
    error: str
    """The type of the error of ours, "" where it is the function's own."""
    exit_code: int | None
    signal: int | None
    queued_at: float
    started_at: float | None
    ended_at: float
    cpu_seconds: float | None
    peak_bytes: int | None
    """The most that its processes held; None without `memory=`."""


class Summary(Record):
    """A pool's work, so far or in the end. Print it; `as_dict()` is for JSON, and a notebook shows it as tables."""

    name: str
    seconds: float
    """From the opening of the pool to its end, or to now."""
    submitted: int
    succeeded: int
    failed: int
    cancelled: int
    retried: int
    run_seconds: float
    """The sum of all ended attempts' run times."""
    run: Histogram
    """How long attempts ran (a map's chunk is one attempt), of those that succeeded."""
    queue: Histogram
    """How long they waited before that, since their submit or the end of the attempt before."""
    slowest: tuple[SlowTask, ...]
    functions: tuple[FunctionSummary, ...]
    hosts: tuple[HostStatus, ...]
    failures: tuple[FailureRecord, ...]
    """The latest, at most 1,000; `failures_count` says how many there were."""
    failures_count: int
    saved_seconds: float = 0.0
    """What racing won; for now always 0, as nobody keeps what the losers would have taken."""
    spent_seconds: float = 0.0
    """For how long copies ran that lost."""

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON can hold it."""
        whole: dict[str, Any] = as_plain(self)
        return whole

    def _head(self) -> list[str]:
        head = (
            f"pool {self.name!r}, {in_units(self.seconds)}: {self.submitted} submitted, {self.succeeded} succeeded, {self.failed} failed, "
            f"{self.cancelled} cancelled, {self.retried} retried; {in_units(self.run_seconds)} of work"
        )
        race = f"  racing won {in_units(self.saved_seconds)} for {in_units(self.spent_seconds)}"
        return [head, race] if self.saved_seconds or self.spent_seconds else [head]

    def _tables(self) -> Iterator[Table]:
        yield (
            ("host", "finished", "failures", "p50", "p95"),
            [(host.name, str(host.finished), str(host.failures), in_units(host.p50), in_units(host.p95)) for host in self.hosts],
        )
        yield (
            ("function", "finished", "p50", "p95"),
            [(one.name, str(one.finished), in_units(one.p50), in_units(one.p95)) for one in self.functions[:SHOWN]],
        )
        yield ("slowest", "ran", "on"), [(f"{slow.task} {slow.name}", in_units(slow.seconds), slow.host) for slow in self.slowest]
        yield (
            ("failure", "attempt", "on", "exit", "after", "memory", "how"),
            [_of_failure(failure) for failure in self.failures[-SHOWN:]],
        )

    def __str__(self) -> str:
        lines = [*self._head(), *self.run._lines("ran"), *self.queue._lines("waited")]
        for table in self._tables():
            lines += as_lines(table)
        if self.failures_count > SHOWN:
            lines.append(f"  ... and {self.failures_count - min(SHOWN, len(self.failures))} failures before these")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head = [*self._head(), self.run._lines("ran")[0], self.queue._lines("waited")[0]]
        return as_html(head, [self.run._table(), self.queue._table(), *self._tables()])


def _of_failure(failure: FailureRecord) -> tuple[str, ...]:
    exit_ = "-" if failure.exit_code is None and failure.signal is None else f"signal {failure.signal}"
    if failure.exit_code is not None:
        exit_ = str(failure.exit_code)
    place = f"{failure.host}/{failure.slot} (pid {failure.pid or '-'})" if failure.host else "-"
    ran = None if failure.started_at is None else failure.ended_at - failure.started_at
    how = f"{failure.outcome} ({failure.error})" if failure.error else failure.outcome
    return f"{failure.task} {failure.name}", str(failure.attempt), place, exit_, in_units(ran), in_bytes(failure.peak_bytes), how


class Explanation(Record):
    """Why a task is where it is: what `pool.explain(task)` says."""

    task: str
    name: str
    state: str
    reason: str
    """In words."""
    attempts: tuple[AttemptRecord, ...]
    """Where it ran."""

    def __str__(self) -> str:
        lines = [f"task {self.task} {self.name!r} {self.state}: {self.reason}"]
        for attempt in self.attempts:
            seconds = None if attempt.started_at is None or attempt.ended_at is None else attempt.ended_at - attempt.started_at
            ran = "" if seconds is None else f" after {in_units(seconds)}"
            where = f"{attempt.host}/{attempt.slot} (pid {attempt.pid or '-'})" if attempt.slot >= 0 else attempt.host
            lines.append(f"  attempt {attempt.number} on {where}: {attempt.outcome}{ran}")
        return "\n".join(lines)
