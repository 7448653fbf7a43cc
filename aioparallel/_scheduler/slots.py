"""The rules for slots that the controller feeds itself: they come up, answer, give back, are killed and die."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._jobs.task import Task
from .._wire.messages import ASKED
from ..events import SlotEnded, SlotStarted
from ..status import IDLE, RUNNING
from . import far, hosts, near
from .alone import look_who_is_alone
from .assign import assign
from .evening import even_out
from .ledger import Slot
from .lifecycle import slot_after
from .stimuli import Action, Answered, Emit, Kill, Missed, Recalled, Settle, SlotDied, SlotUp

if TYPE_CHECKING:
    from .state import State

AGAIN_SECONDS = 0.002
"""A kill that found its attempt not yet begun is repeated after this."""


def _slot(state: State, host: str, index: int, incarnation: int) -> Slot | None:
    slot = state.slots.get((host, index))
    return slot if slot is not None and slot.incarnation == incarnation else None


def up(state: State, stimulus: SlotUp, now: float, actions: list[Action]) -> None:
    """A slot can work."""
    host = state.hosts[stimulus.host]
    if host.backlog is not None:
        far.slot_up(state, host, *stimulus[1:], now, actions)
        return
    slot = _slot(state, *stimulus[:3])
    if slot is None:
        return
    slot.pid = stimulus.pid
    slot.heard = now
    slot.state = slot_after(slot.state, "up")
    state.hosts[slot.host].start_failures = 0
    if slot.outstanding and slot.state == IDLE:
        slot.state = slot_after(slot.state, "launched")
    if state.watched:
        actions.append(Emit(SlotStarted(at=now + state.epoch, host=slot.host, slot=slot.index, pid=stimulus.pid)))
    assign(state, now, actions)


def answered(state: State, stimulus: Answered, now: float, actions: list[Action]) -> None:
    """A slot gave answers, in order."""
    slot = _slot(state, stimulus.host, stimulus.slot, stimulus.incarnation)
    if slot is None:
        return
    outstanding, done = slot.outstanding, slot.done
    ended = state.endings.ended
    settled: list[Task[Any]] = []
    actions.append(Settle(settled))
    for outcome in stimulus.outcomes:
        if not outstanding or outstanding[0].ident != outcome[0]:
            continue  # a stale or repeated answer: it answers nothing that was asked
        attempt = outstanding.popleft()
        slot.load -= attempt.estimate
        slot.done += 1
        if slot.killing == attempt.ident:
            # It ended within its grace, or was asked when it had ended; the agent would say so only when that is over.
            if outcome[1] & ASKED:
                slot.killing = 0
            elif attempt.task._options.grace:
                actions.append(Kill(slot.host, slot.index, attempt.ident, 0.0))
        ended(attempt, outcome, now, settled, actions)
    if slot.done == done:
        return
    slot.heard = now
    slot.stuck = False
    if not outstanding:
        _emptied(state, slot, actions)
    elif outstanding[0].task._state != RUNNING or outstanding[0].is_given_up:
        _kill_if_asked(state, slot, actions)  # it could not be called back: it had begun behind those that answered now
    elif state.races is not None:
        state.races.begins(outstanding[0], now)
    assign(state, now, actions)
    if not outstanding and slot.state == IDLE:
        even_out(state, 0.0, actions)


def _emptied(state: State, slot: Slot, actions: list[Action]) -> None:
    slot.load = 0.0
    slot.state = slot_after(slot.state, "emptied")
    _wear(state, slot, actions)


def _wear(state: State, slot: Slot, actions: list[Action]) -> None:
    """Let an empty slot end that has done all it was meant for."""
    worn = state.max_tasks_per_slot is not None and slot.launched >= state.max_tasks_per_slot
    if (worn or slot.exclusive) and not slot.killing and slot.state == IDLE:
        near.retire(slot, actions)


def recalled(state: State, stimulus: Recalled, now: float, actions: list[Action]) -> None:
    """What a slot had not begun was taken back."""
    slot = state.slots.get((stimulus.host, stimulus.slot))
    if slot is None:
        return
    back = [slot.outstanding.pop() for _ in range(min(stimulus.taken, len(slot.outstanding)))][::-1]
    slot.launched -= len(back)
    slot.load = sum(attempt.estimate for attempt in slot.outstanding)
    state.requeue(back, "recalled", now, actions)
    if slot.outstanding:
        _kill_if_asked(state, slot, actions)
    elif back:
        slot.exclusive = slot.exclusive and slot.launched > 0
        _emptied(state, slot, actions)
    assign(state, now, actions)


def _kill_if_asked(state: State, slot: Slot, actions: list[Action]) -> None:
    attempt = slot.outstanding[0]
    if (attempt.task._state != RUNNING or attempt.is_given_up) and slot.killing != attempt.ident:
        slot.killing = attempt.ident
        grace = 0.0 if state.closing is not None else attempt.task._options.grace
        actions.append(Kill(slot.host, slot.index, attempt.ident, grace))


def missed(state: State, stimulus: Missed, now: float, actions: list[Action]) -> None:
    """A kill found its attempt not running."""
    slot = _slot(state, stimulus.host, stimulus.slot, stimulus.incarnation)
    if slot is None or stimulus.ident != slot.killing:
        return
    if slot.outstanding and slot.outstanding[0].ident == stimulus.ident:
        # Its answer is on the way, or it took its permit and has not begun: then the kill came too early.
        state.at(now + AGAIN_SECONDS, "again", (slot, stimulus.ident))
        return
    kill_ended(state, slot, now, actions)


def kill_ended(state: State, slot: Slot, now: float, actions: list[Action]) -> None:
    """A kill hit nothing: repeat it, or let the slot serve again."""
    slot.killing = 0
    if slot.outstanding:
        _kill_if_asked(state, slot, actions)
    else:
        _wear(state, slot, actions)
    assign(state, now, actions)


def died(state: State, stimulus: SlotDied, now: float, actions: list[Action]) -> None:
    """A slot is dead with everything below it, or cannot be confirmed dead."""
    death = stimulus.death
    host = state.hosts[stimulus.host]
    if host.backlog is not None:
        far.slot_died(state, host, death, now, actions)
        return
    slot = _slot(state, stimulus.host, death.slot, death.incarnation)
    if slot is None:
        return
    started = slot.state != "starting"
    slot.state = slot_after(slot.state, "died" if death.confirmed else "unconfirmed")
    if not death.confirmed:
        state.endings.slot_died(slot, death, now, actions)
        assign(state, now, actions)
        return
    del state.slots[slot.key]
    if state.watched:
        code, number = death.exit_code, death.signal
        actions.append(Emit(SlotEnded(at=now + state.epoch, host=slot.host, slot=slot.index, exit_code=code, signal=number)))
    state.endings.slot_died(slot, death, now, actions)
    if not started and not slot.done:
        hosts.start_failed(state, slot.host, death, now, actions)
    if host.failed is not None:
        look_who_is_alone(state)
    if state.closing is None:
        near.replace(state, slot, now, actions)
        assign(state, now, actions)
