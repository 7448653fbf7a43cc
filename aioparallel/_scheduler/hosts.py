"""The rules for hosts as a whole: they come up, are lost, or cannot offer slots any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._hosts.base import Death
from ..events import HostDown as HostDownEvent, HostUp as HostUpEvent
from ..status import STARTING
from . import far
from .alone import look_who_is_alone
from .assign import assign
from .leaving import go_on
from .lifecycle import slot_after
from .near import begin_wanted, recall
from .stimuli import Action, Emit, HostDown, HostFailed, HostUp

if TYPE_CHECKING:
    from .state import State

START_FAILURES = 5
"""So many slots in a row may die as they start before the host gives up."""


def start_failed(state: State, name: str, death: Death, now: float, actions: list[Action]) -> None:
    """A slot died as it started: wait longer before the next, and after some in a row say why."""
    host = state.hosts[name]
    host.start_failures += 1
    host.spawn_after = now + 0.05 * 2**host.start_failures
    state.at(host.spawn_after, "spawn", name)
    if host.start_failures >= START_FAILURES:
        how = death.detail or (f"with code {death.exit_code}" if death.signal is None else f"with signal {death.signal}")
        reason = f"{START_FAILURES} slots in a row died as they started, the last {how}"
        failed(state, HostFailed(name, reason), now, actions)


def up(state: State, stimulus: HostUp, now: float, actions: list[Action]) -> None:
    """A host's agent supervises, and nothing of an agent before it is alive."""
    host = state.hosts[stimulus.host]
    host.down = False
    host.confirm_limbo()
    state.endings.end_limbo(host, now, actions)
    if state.watched:
        actions.append(Emit(HostUpEvent(at=now + state.epoch, host=host.name)))
    begin_wanted(state, state.wanted, now, actions)
    assign(state, now, actions)


def down(state: State, stimulus: HostDown, now: float, actions: list[Action]) -> None:
    """A host's agent was lost, and its slots with it."""
    host = state.hosts[stimulus.host]
    host.down = True
    if state.watched:
        actions.append(Emit(HostDownEvent(at=now + state.epoch, host=host.name, reason=stimulus.reason)))
    if host.backlog is not None:
        far.down(state, host, stimulus, now, actions)
        go_on(host, actions)
    for slot in [slot for slot in state.slots.values() if slot.host == host.name]:
        del state.slots[slot.key]
        begun = max(0, len(slot.outstanding) - stimulus.unbegun.get(slot.index, 0))
        attempts = list(slot.outstanding)
        state.requeue(attempts[begun:], "recalled", now, actions)
        for attempt in attempts[:begun]:
            state.endings.lost(attempt, stimulus.reason, now, actions)
    if state.closing is not None:
        end_all(state, now, actions)
    assign(state, now, actions)


def failed(state: State, stimulus: HostFailed, now: float, actions: list[Action]) -> None:
    """A host will not offer slots any more; those it has serve on."""
    host = state.hosts[stimulus.host]
    if host.is_up:
        host.lost_at = now
    host.failed = stimulus.reason
    if state.watched:
        actions.append(Emit(HostDownEvent(at=now + state.epoch, host=host.name, reason=stimulus.reason)))
    for slot in [slot for slot in state.slots.values() if slot.host == host.name and slot.state == STARTING]:
        slot.state = slot_after(slot.state, "retired")  # it may never come up; if it does, it idles until the end
        if slot.outstanding:
            recall(state, slot, actions)
    look_who_is_alone(state)
    assign(state, now, actions)


def end_all(state: State, now: float, actions: list[Action]) -> None:
    """The pool is closed and everything is dead: settle what waited for that."""
    for host in state.hosts.values():
        state.endings.end_limbo(host, now, actions)
