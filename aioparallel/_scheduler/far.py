"""The rules for hosts that feed their own slots: what is sent to them, and what their news mean.

How it works
    Nothing here is known of a far slot but what its agent tells. An answer counts if the attempt is out on that host; the slot and
    incarnation that it carries were bound to it by the agent. A far host that is lost takes with it whatever it had not answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._hosts.base import Death, Outcome
from .._jobs.task import Attempt, Task
from ..events import AttemptStarted, HostUp as HostUpEvent, SlotEnded, SlotStarted
from .alone import look_who_is_alone
from .assign import assign
from .backlog import FAR, Backlog
from .evening import call_back_from_silent, even_out
from .lanes import ask_again
from .leaving import go_on
from .stimuli import (
    Action,
    Bound,
    Emit,
    FarAnswered,
    FarRoundTrip,
    FarSilent,
    FarUnreachable,
    FarUp,
    HostDown,
    Kill,
    Limit,
    Settle,
    Want,
    Withdraw,
    Withdrawn,
)

if TYPE_CHECKING:
    from .host_record import HostRecord
    from .state import State


def stop(task: Task[Any], attempt: Attempt, actions: list[Action]) -> None:
    """End an attempt, wherever on its host it is."""
    actions.append(Kill(attempt.slot.host, FAR, attempt.ident, task._options.grace))


def call_back(attempt: Attempt, actions: list[Action]) -> None:
    """Take an attempt back if it has not begun."""
    actions.append(Withdraw(attempt.slot.host, (attempt.ident,)))


def answered(state: State, stimulus: FarAnswered, now: float, actions: list[Action]) -> None:
    """A slot of a far host gave answers."""
    backlog = state.backlog(stimulus.host)
    backlog.heard, backlog.stuck = now, False
    slot = backlog.slot(stimulus.slot, stimulus.incarnation)
    settled: list[Task[Any]] = []
    actions.append(Settle(settled))
    outcome: Outcome
    for outcome in stimulus.outcomes:
        attempt = backlog.take(outcome.ident)
        if attempt is None:
            continue  # it was given up, or answered before
        attempt.slot = slot
        slot.done += 1
        state.endings.ended(attempt, outcome, now, settled, actions)
    slot.running = None
    go_on(state.hosts[stimulus.host], actions)
    assign(state, now, actions)
    if len(backlog.attempts) < backlog.width:
        even_out(state, backlog.round_trip, actions)


def bound(state: State, stimulus: Bound, now: float, actions: list[Action]) -> None:
    """The agent gave an attempt to a slot."""
    backlog = state.backlog(stimulus.host)
    attempt = backlog.attempts.get(stimulus.ident)
    if attempt is None:
        return
    slot = backlog.slot(stimulus.slot, stimulus.incarnation)
    attempt.slot, slot.running, slot.since, attempt.since = slot, attempt, now, now
    if state.races is not None:
        state.races.begins(attempt, now)
    if state.watched:
        where: dict[str, Any] = {"host": slot.host, "slot": slot.index}
        actions.append(Emit(AttemptStarted(at=now + state.epoch, task=attempt.task._id, attempt=attempt.number, **where)))


def withdrawn(state: State, stimulus: Withdrawn, now: float, actions: list[Action]) -> None:
    """Attempts were given back: they never began."""
    backlog = state.backlog(stimulus.host)
    back = [attempt for ident in stimulus.idents if (attempt := backlog.take(ident)) is not None]
    state.requeue(back, "recalled", now, actions)
    if state.hosts[stimulus.host].leaving:
        look_who_is_alone(state)
    go_on(state.hosts[stimulus.host], actions)
    assign(state, now, actions)


def slot_up(state: State, host: HostRecord, index: int, incarnation: int, pid: int, now: float, actions: list[Action]) -> None:
    """A slot of a far host can work."""
    assert host.backlog is not None
    host.backlog.slot(index, incarnation).pid = pid
    if state.watched:
        actions.append(Emit(SlotStarted(at=now + state.epoch, host=host.name, slot=index, pid=pid)))


def slot_died(state: State, host: HostRecord, death: Death, now: float, actions: list[Action]) -> None:
    """A slot of a far host died; what waited in it is with the agent."""
    assert host.backlog is not None
    slot = host.backlog.slot(death.slot, death.incarnation)
    slot.unconfirmed = not death.confirmed
    if death.confirmed and host.backlog.slots.get(death.slot) is slot:
        del host.backlog.slots[death.slot]
    if state.watched and death.confirmed:
        code, number = death.exit_code, death.signal
        actions.append(Emit(SlotEnded(at=now + state.epoch, host=host.name, slot=death.slot, exit_code=code, signal=number)))
    attempt = host.backlog.take(death.ident)
    if attempt is not None:
        attempt.slot = slot
        attempt.ran = now - slot.since if slot.running is attempt else None
        state.endings.killed(attempt, death, now, actions)
    slot.running = None
    go_on(host, actions)
    assign(state, now, actions)


def up(state: State, stimulus: FarUp, now: float, actions: list[Action]) -> None:
    """A far host offers its slots."""
    host = state.hosts[stimulus.host]
    host.down, host.reason = False, ""
    host.confirm_limbo()
    state.endings.end_limbo(host, now, actions)
    host.machine = stimulus.machine
    state.backlog(stimulus.host).width = host.slots = _share(state, host, stimulus.slots, actions)
    state.resized()
    ask_again(state)
    if state.watched:
        actions.append(Emit(HostUpEvent(at=now + state.epoch, host=host.name)))
    if state.wanted:
        actions.append(Want(host.name, state.wanted))
    assign(state, now, actions)
    call_back_from_silent(state, now, actions)  # while there was no other host, nothing was


def _share(state: State, host: HostRecord, slots: int, actions: list[Action]) -> int:
    """Return how many slots a host gets: where their number was not given, those that others on its machine leave; at least one."""
    if host.is_declared or not host.machine:
        return slots
    others = [
        other for other in state.hosts.values() if other is not host and not other.leaving and state.machine_of(other) == host.machine
    ]
    left = min(slots, max(1, slots - sum(other.slots for other in others)))
    if left < slots:
        actions.append(Limit(host.name, left, slots, tuple(other.name for other in others)))
    return left


def round_trip(state: State, stimulus: FarRoundTrip, now: float, actions: list[Action]) -> None:
    """How far away a host is."""
    state.backlog(stimulus.host).round_trip = stimulus.seconds
    assign(state, now, actions)


def silent(state: State, stimulus: FarSilent, _now: float, _: list[Action]) -> None:
    """A far host says nothing, or something again: rules for backups look at that."""
    state.hosts[stimulus.host].is_silent = stimulus.silent


def unreachable(state: State, stimulus: FarUnreachable, _now: float, _: list[Action]) -> None:
    """A far host could not be reached."""
    host = state.hosts[stimulus.host]
    host.reason = stimulus.reason
    look_who_is_alone(state)


def down(state: State, host: HostRecord, stimulus: HostDown, now: float, actions: list[Action]) -> None:
    """A far host was lost, with all it had; where nobody confirms that this is dead, it may run there for a while."""
    assert host.backlog is not None
    host.reason = stimulus.reason
    host.is_silent = False
    if stimulus.confirmed:
        host.confirm_limbo()
    if host.backlog.width and not host.leaving:
        host.lost_at = now
    attempts = list(host.backlog.attempts.values())
    host.backlog = Backlog(host.name, host.weight)
    state.resized()
    ask_again(state)
    for attempt in reversed(attempts):
        attempt.confirmed_dead = stimulus.confirmed
        state.endings.lost(attempt, stimulus.reason, now, actions)
    look_who_is_alone(state)
