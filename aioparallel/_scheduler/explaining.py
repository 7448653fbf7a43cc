"""Why a task is where it is, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._jobs.task import Attempt, Task
from ..status import CANCELLED, FAILED, QUEUED, RUNNING, STARTING, STOPPING, Explanation
from ..status.words import in_units
from .lanes import allowed_by, avoided, describe

if TYPE_CHECKING:
    from .host_record import HostRecord
    from .state import State


def explain(state: State, task: Task[Any], now: float) -> Explanation:
    """Return why a task is where it is."""
    reasons = {QUEUED: _queued, RUNNING: _running, STOPPING: _stopping}
    reason = reasons[task._state](state, task, now) if task._state in reasons else _ended(task)
    return Explanation(task=task.label, name=task.name, state=task._state, reason=reason, attempts=task.attempts)


def _queued(state: State, task: Task[Any], now: float) -> str:
    waited = f"it has waited for {in_units(max(0.0, now - task._queued))}"
    if state.closing is not None:
        return f"{waited}; {state.closing}"
    hosts, limits = _hosts(state, task)
    tried = [f"{len(task.attempts)} attempts of it have ended"] if task._attempt is not None else []
    up = [host for host in hosts if host.is_up]
    if not hosts:
        why = f"no host of this pool is allowed by options({describe(task._options)})" if limits else "the pool has no hosts yet"
    elif not up:
        why = "no host is up that it may use: " + "; ".join(f"{host.name}: {host.why or 'not reached yet'}" for host in hosts)
    else:
        why = _where_up(state, task, up)
    return "; ".join([waited, *tried, *limits, why])


def _hosts(state: State, task: Task[Any]) -> tuple[list[HostRecord], list[str]]:
    """Return the hosts that it may go to, and what keeps it from others."""
    allowed = allowed_by(state, task._options) if task._options.is_placed else None
    hosts = [host for host in state.hosts.values() if not host.leaving and (allowed is None or host.name in allowed)]
    limits = [] if allowed is None else [f"options({describe(task._options)}) allows {', '.join(sorted(allowed)) or 'no host'}"]
    avoid = avoided(task) if task._attempt is not None and len(hosts) > 1 else frozenset()
    if avoid:
        limits.append(f"it failed on {', '.join(sorted(avoid))}, which is used again only where nothing else is up")
    return hosts, limits


def _where_up(state: State, task: Task[Any], up: list[HostRecord]) -> str:
    places = ", ".join(f"{host.name} {host.occupied()[0]}/{host.width} busy" for host in up)
    before = _before(state, task)
    if task._options.isolate:
        return f"it needs a fresh slot of its own (isolate=True), and {before} wait before it ({places})"
    if any(host.occupied()[0] < host.width for host in up):
        return f"a slot is being started for it, or its policy has it wait; {before} tasks wait before it ({places})"
    return f"every slot that it may use is busy, and {before} tasks wait before it ({places})"


def _before(state: State, task: Task[Any]) -> int:
    """Return how many tasks stand before it in its queue."""
    before = 0
    for other in state.queue_of(task)._tasks:
        if other is task:
            return before
        before += other._state == QUEUED
    return before


def _running(state: State, task: Task[Any], now: float) -> str:
    attempt = task._attempt
    assert attempt is not None
    where = _place(attempt)
    slot = state.slots.get((attempt.slot.host, attempt.slot.index))
    if slot is not None and slot.outstanding and slot.outstanding[0] is not attempt:
        first = slot.outstanding[0].task
        ahead = next(place for place, other in enumerate(slot.outstanding) if other is attempt)
        return f"it was sent ahead to {where}, and waits there behind {ahead} others, of which task {first.label} {first.name!r} runs"
    if slot is not None and slot.state == STARTING:
        return f"it was sent to {where}, which is being started"
    if attempt.slot.index < 0:
        return f"it was sent to {attempt.slot.host}, and has not been heard of since: it waits there, or has just begun"
    since = attempt.since if attempt.since is not None else slot.heard if slot is not None else now
    return f"it runs on {where} for {in_units(max(0.0, now - since))} now; {_race(state, task)}"


def _race(state: State, task: Task[Any]) -> str:
    options = task._options
    if options.backup is None:
        return "no backup was asked for"
    if options.idempotent is False or task._sink is not None:
        return f"it is never raced: {'idempotent=False' if options.idempotent is False else 'it is a chunk of a map'}"
    copies = [] if state.races is None else state.races.out(task)
    if len(copies) > 1:
        return f"{len(copies)} copies of it race: " + ", ".join(_place(copy) for copy in copies)
    return "it may be raced, and no backup of it was worth it so far"


def _stopping(_: State, task: Task[Any], _now: float) -> str:
    attempt = task._attempt
    where = "" if attempt is None else f" on {_place(attempt)}"
    return f"it is being cancelled, and the death of its process tree{where} is not confirmed yet"


def _ended(task: Task[Any]) -> str:
    attempts = task.attempts
    if not attempts:
        how = {CANCELLED: "it was cancelled before it ran", FAILED: "it failed before it ran"}.get(task._state, "it ended before it ran")
        return how + _error(task)
    last = attempts[-1]
    ran = "" if last.started_at is None or last.ended_at is None else f" in {in_units(last.ended_at - last.started_at)}"
    tries = f", attempt {last.number}" if len(attempts) > 1 else ""
    return f"it {task._state if task._state != CANCELLED else 'was cancelled'} on {last.host}/{last.slot}{tries}{ran}" + _error(task)


def _error(task: Task[Any]) -> str:
    if task._state != FAILED or not task.done() or task.cancelled():
        return ""
    error = task._exception  # (to ask `exception()` for it would count as having seen it)
    return "" if error is None else f" ({type(error).__name__})"


def _place(attempt: Attempt) -> str:
    slot = attempt.slot
    return f"{slot.host}/{slot.index} (pid {slot.pid or '-'})" if slot.index >= 0 else slot.host


__all__ = ["explain"]
