"""What the scheduler knows, as users see it.

How it works
    A status is taken in the pool's loop, so what there is one of for each slot is only noted there, as tuples; who looks at it later
    makes the records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._jobs.task import label_of
from .._observe.history import function_of
from ..status import (
    BUSY,
    FailureRecord,
    FunctionSummary,
    Histogram,
    HostStatus,
    PoolStatus,
    RunningAttempt,
    SlotStatus,
    SlowTask,
    Summary,
)

if TYPE_CHECKING:
    from .._observe.history import History
    from .._observe.sketch import Sketch, Span
    from .backlog import FarSlot
    from .state import State

NEVER = float("inf")
NOTHING = (0, None, "", 0.0, None)
Noted = tuple[str, int, int | None, str, int, int, tuple[int, str | None, str, float, int | None]]
"""Of a slot: its host, number, pid and state, how many tasks it did and how many attempts it has; and of that which runs: its ident, its
task's given name and function, for how long it runs (seconds), and which attempt it is a backup of."""

NotedHost = tuple[str, str, str, float, int, tuple[int, int], float, int, "Sketch | None"]
"""Of a host: its name, health, reason, weight and width, (busy slots, attempts that wait), round trip, failures, and what ran there."""


def busy(state: State) -> int:
    """Return how many slots have something to do."""
    near = sum(bool(slot.outstanding) for slot in state.slots.values())
    return near + sum(min(len(host.backlog.attempts), host.backlog.width) for host in state.hosts.values() if host.backlog)


def queued(state: State) -> int:
    """Return how many tasks wait here."""
    return sum(len(lane.queue) for lane in state.all_lanes()) + len(state.retrying.waiting)


def running(state: State) -> int:
    """Return how many attempts are out."""
    near = sum(len(slot.outstanding) for slot in state.slots.values())
    return near + sum(len(host.backlog.attempts) for host in state.hosts.values() if host.backlog)


def slots(state: State) -> tuple[SlotStatus, ...]:
    """Return every living slot as users see it, near ones first."""
    return _slots(_note(state, state.now))


def status(state: State, notes: tuple[str, ...], name: str, phase: str, max_slots: int, uptime: float, now: float) -> PoolStatus:
    """Return what `Pool.status` shows."""
    endings = state.endings
    history = endings.history
    history.digest()
    p50, p95, p99 = history.run.quantiles(0.5, 0.95, 0.99)
    notes += tuple(f"{host.name}: {host.failed or host.reason}" for host in state.hosts.values() if host.failed or host.reason)
    taken = PoolStatus(
        name=name, state=phase, uptime_seconds=uptime, max_slots=max_slots, queued=queued(state),
        running=running(state), succeeded=endings.succeeded, failed=endings.failed_count,
        cancelled=endings.cancelled_count, retried=endings.retried, run_seconds=endings.run_seconds, notes=notes,
        submitted=state.submitted, busy=busy(state), p50=p50, p95=p95, p99=p99, **_racing(state),
    )  # fmt: skip
    noted = _note(state, now)
    noted_hosts = _note_hosts(state)
    names = {what[2] for *_, what in noted}
    functions = {name: history.functions[name].copy() for name in names if name in history.functions}
    taken.__dict__["make_hosts"] = lambda: _hosts(noted_hosts)
    taken.__dict__["make_slots"] = lambda: _slots(noted)
    taken.__dict__["make_attempts"] = lambda: _attempts(noted, noted_hosts, functions)
    return taken


def _racing(state: State) -> dict[str, Any]:
    races = state.races
    if races is None:
        return {}
    extra = 100 * races.wasted / races.useful if races.useful else 0.0
    return {
        "backups_launched": races.launched, "backups_won": races.won_count, "backups_lost": races.lost_count, "extra_work": extra
    }  # fmt: skip


def summary(state: State, name: str, seconds: float) -> Summary:
    """Return what `Pool.summary` shows."""
    endings = state.endings
    history = endings.history
    history.digest()
    return Summary(
        name=name, seconds=seconds, submitted=state.submitted, succeeded=endings.succeeded, failed=endings.failed_count,
        cancelled=endings.cancelled_count, retried=endings.retried, run_seconds=endings.run_seconds,
        run=_histogram(history.run, history.run_span), queue=_histogram(history.wait, history.wait_span),
        slowest=tuple(SlowTask(task=label, name=task, host=host, seconds=ran) for ran, _, label, task, host in history.slowest),
        functions=_functions(history), hosts=hosts(state), failures=failures(state), failures_count=history.failed.total(),
        spent_seconds=0.0 if state.races is None else state.races.wasted,
    )  # fmt: skip


def failures(state: State) -> tuple[FailureRecord, ...]:
    """Return what `Pool.failures` shows."""
    return tuple(failure.record(state.epoch) for failure in state.endings.history.failures)


def _histogram(sketch: Sketch, span: Span) -> Histogram:
    if not sketch.count:
        return Histogram(count=0, mean=None, least=None, most=None, p50=None, p95=None, p99=None, buckets=())
    p50, p95, p99 = (None if value is None else min(max(value, span.least), span.most) for value in sketch.quantiles(0.5, 0.95, 0.99))
    return Histogram(
        count=sketch.count, mean=span.total / sketch.count, least=span.least, most=span.most, p50=p50, p95=p95, p99=p99,
        buckets=sketch.rows(),
    )  # fmt: skip


def _functions(history: History) -> tuple[FunctionSummary, ...]:
    found: list[FunctionSummary] = []
    for name, sketch in history.functions.items():
        p50, p95 = sketch.quantiles(0.5, 0.95)
        found.append(FunctionSummary(name=name, finished=sketch.count, p50=p50, p95=p95))
    return tuple(sorted(found, key=lambda one: (-one.finished, one.name)))


def hosts(state: State) -> tuple[HostStatus, ...]:
    """Return every host as users see it: those that there are, and those that were used and have gone."""
    return _hosts(_note_hosts(state))


def _note_hosts(state: State) -> list[NotedHost]:
    history = state.endings.history
    sketches, failed = history.hosts, history.failed
    noted: list[NotedHost] = []
    for host in state.hosts.values():
        name = host.name
        health = "leaving" if host.leaving else "up" if host.is_up else "failed" if host.failed is not None else "down"
        sketch = sketches[name].copy() if name in sketches else None
        noted.append((name, health, host.why, host.weight, host.width, host.occupied(), host.round_trip, failed[name], sketch))
    gone = [name for name in dict.fromkeys((*sketches, *failed)) if name and name not in state.hosts]  # ("": failed on none)
    noted += [(name, "gone", "it was removed", 1.0, 0, (0, 0), 0.0, failed[name], sketches.get(name)) for name in gone]
    return noted


def _hosts(noted: list[NotedHost]) -> tuple[HostStatus, ...]:
    found: list[HostStatus] = []
    for name, health, reason, weight, width, (busy, waiting), round_trip, failures, sketch in noted:
        p50, p95 = sketch.quantiles(0.5, 0.95) if sketch is not None else (None, None)
        finished = 0 if sketch is None else sketch.count
        found.append(
            HostStatus(
                name=name, state=health, reason=reason, speed=weight, weight=weight, slots=width, busy=busy, in_flight=busy + waiting,
                finished=finished, failures=failures, p50=p50, p95=p95, round_trip=round_trip,
            )
        )  # fmt: skip
    return tuple(found)


def _note(state: State, now: float) -> list[Noted]:
    """Return what is known of each slot, near ones first."""
    noted: list[Noted] = []
    for slot in state.slots.values():
        attempt = slot.outstanding[0] if slot.outstanding else None
        if attempt is not None and (task := attempt.task) is not None:
            function = task._function
            name: str = function if type(function) is str else function.name  # type: ignore[union-attr]
            backup_of = attempt.before.number if attempt.is_backup and attempt.before is not None else None
            what: Any = (attempt.ident, task._options.name, name, now - (attempt.since or slot.heard), backup_of)
        else:
            what = NOTHING
        noted.append((slot.host, slot.index, slot.pid, slot.state, slot.done, len(slot.outstanding), what))
    for host in state.hosts.values():
        if host.backlog is not None:
            noted += [_note_far(slot, now) for _, slot in sorted(host.backlog.slots.items())]
    return noted


def _note_far(slot: FarSlot, now: float) -> Noted:
    attempt = slot.running
    what: Any = NOTHING
    if attempt is not None and (task := attempt.task) is not None:
        backup_of = attempt.before.number if attempt.is_backup and attempt.before is not None else None
        what = attempt.ident, task._options.name, function_of(task), now - (attempt.since or now), backup_of
    return slot.host, slot.index, slot.pid, slot.state, slot.done, attempt is not None, what


def _slots(noted: list[Noted]) -> tuple[SlotStatus, ...]:
    order = {host: place for place, host in enumerate(dict.fromkeys(one[0] for one in noted))}
    noted = sorted(noted, key=lambda one: (order[one[0]], one[1]))
    return tuple(
        SlotStatus(
            host=host, index=index, pid=pid, state=state, task=f"{_label(what[0])} {what[1] or what[2]}" if what[0] else None,
            waiting=max(0, outstanding - 1), tasks_done=done,
        )
        for host, index, pid, state, done, outstanding, what in noted
    )  # fmt: skip


def _attempts(noted: list[Noted], noted_hosts: list[NotedHost], functions: dict[str, Sketch]) -> tuple[RunningAttempt, ...]:
    by_host = {host[0]: host[-1].p95 for host in noted_hosts if host[-1] is not None}
    by_function = {name: sketch.p95 for name, sketch in functions.items()}
    running = [
        RunningAttempt(
            task=_label(ident), name=name or function, function=function, host=host, slot=index, pid=pid, attempt=ident & 0xFFFF,
            seconds=seconds, over_host_p95=seconds > by_host.get(host, NEVER), over_function_p95=seconds > by_function.get(function, NEVER),
            backup_of=backup_of,
        )
        for host, index, pid, state, _, _, (ident, name, function, seconds, backup_of) in noted
        if ident and state == BUSY
    ]  # fmt: skip
    return tuple(sorted(running, key=lambda attempt: -attempt.seconds))


def _label(ident: int) -> str:
    return label_of(ident >> 16)
