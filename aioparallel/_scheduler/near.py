"""Slots that the controller feeds itself: they are begun here, and given work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._jobs.task import Attempt, Place, Task
from ..events import AttemptStarted
from ..status import IDLE, RETIRING, UNCONFIRMED
from .ledger import SILENCE_SECONDS, Slot
from .lifecycle import LAUNCHED, slot_after
from .stimuli import Action, Emit, Launch, Recall, Retire, Spawn

if TYPE_CHECKING:
    from .host_record import HostRecord
    from .state import State


def attempt(task: Task[Any], slot: Slot, estimate: float) -> Attempt:
    """Put a task on a slot; `launch` sends it."""
    task._attempt = begun = Attempt(task, task._attempt, slot, estimate)
    task._state = LAUNCHED[task._state]
    slot.outstanding.append(begun)
    slot.load += estimate
    slot.launched += 1
    return begun


def occupy(slot: Slot, now: float) -> None:
    """A slot that had nothing to do has something now."""
    slot.heard = now
    slot.state = slot_after(slot.state, "launched")


def launch(state: State, slot: Slot, batch: list[Attempt], now: float, actions: list[Action]) -> None:
    """Send attempts to their slot."""
    if len(slot.outstanding) > 1:
        state.silence_due = min(state.silence_due, max(slot.silent_until(), now + SILENCE_SECONDS))
    actions.append(Launch(slot.host, slot.index, batch, slot.patience() if state.queue else 0.0))
    if state.races is not None:
        state.races.begins(slot.outstanding[0], now)
    if state.watched:
        for begun in batch:
            where: dict[str, Any] = {"host": slot.host, "slot": slot.index}
            actions.append(Emit(AttemptStarted(at=now + state.epoch, task=begun.task._id, attempt=begun.number, **where)))


def opening(state: State, host: HostRecord, task: Task[Any], estimate: float) -> Slot | None:
    """Return the slot of a host that would begin a task first; None: none takes it (but one may be begun: see `free_index`)."""
    limit = state.max_tasks_per_slot
    slots = [slot for slot in host.near_slots() if slot.room(limit)]
    if task._options.isolate:
        return next((slot for slot in slots if not slot.outstanding and not slot.launched), None)
    empty = [slot for slot in slots if not slot.outstanding]
    if empty:
        return next((slot for slot in empty if slot.state == IDLE), empty[0])
    if host.name in state.claimed or free_index(state, host, state.now) is not None:
        return None
    return min((slot for slot in slots if slot.takes(task, estimate)), key=lambda slot: slot.load, default=None)


def free_index(state: State, host: HostRecord, now: float) -> int | None:
    """Return the number of a slot that could be begun now, if any."""
    if host.failed is not None or host.down or now < host.spawn_after:
        return None
    return next((index for index in range(host.slots) if (host.name, index) not in state.slots), None)


def begin(state: State, host: HostRecord, index: int, now: float, actions: list[Action]) -> Slot:
    """Begin a slot."""
    host.incarnations[index] += 1
    slot = Slot(host.name, index, host.incarnations[index], now, host.weight)
    state.slots[slot.key] = slot
    actions.append(Spawn(host.name, index, slot.incarnation))
    return slot


def begin_slots(state: State, wanted: int, now: float, actions: list[Action]) -> list[Slot]:
    """Begin slots, up to so many, and return them. Where no host ever will offer one again, what waits is told."""
    begun: list[Slot] = []
    if state.all_failed() and all(slot.state in (RETIRING, UNCONFIRMED) for slot in state.slots.values()):
        for queue in (state.queue, state.isolated):
            state.endings.fail_waiting(queue, next(iter(state.hosts.values())), now, actions)
        return begun
    for host in state.hosts.values():
        if host.backlog is not None:
            continue
        while len(begun) < wanted and (index := free_index(state, host, now)) is not None:
            begun.append(begin(state, host, index, now, actions))
    return begun


def replace(state: State, dead: Slot, now: float, actions: list[Action]) -> None:
    """Begin a slot in the place of one that died, so that the next task need not wait for it."""
    host = state.hosts[dead.host]
    if host.failed is None and not host.down and now >= host.spawn_after and not dead.exclusive and dead.key not in state.slots:
        begin(state, host, dead.index, now, actions)
    begin_wanted(state, state.wanted, now, actions)


def begin_wanted(state: State, slots: int, now: float, actions: list[Action]) -> None:
    """Begin slots before there is work for them, until there are so many."""
    missing = slots - len(state.slots)
    if missing > 0 and state.closing is None:
        begin_slots(state, missing, now, actions)


def retire(slot: Slot, actions: list[Action]) -> None:
    """Let an empty slot end."""
    slot.state = slot_after(slot.state, "retired")
    actions.append(Retire(slot.host, slot.index))


def recall(state: State, place: Place, actions: list[Action]) -> None:
    """Call back what a slot has not begun. Until it is known what that was, no more may be sent behind it."""
    state.slots[place.host, place.index].stuck = True
    actions.append(Recall(place.host, place.index))


def claim_for_isolated(state: State) -> None:
    """Where an isolated task waits for longer than all others, have a slot fall idle for it, if none is on its way."""
    isolated, head = state.isolated.head(), state.queue.head()
    if isolated is None or (head is not None and head._queued < isolated._queued):
        return
    is_coming = any(slot.state == RETIRING or not slot.launched for slot in state.slots.values())
    state.claimed.update(host.name for host in state.hosts.values() if host.backlog is not None or not is_coming)


def make_room(state: State, wanted: int, slots: list[Slot], actions: list[Action]) -> None:
    """Let idle slots end, so that fresh ones may be begun in their place, until so many are on their way."""
    coming = sum(slot.state == RETIRING for slot in state.slots.values())
    for slot in [slot for slot in slots if slot.state == IDLE and not slot.outstanding and not slot.killing]:
        if coming >= wanted:
            return
        coming += 1
        slots.remove(slot)
        retire(slot, actions)
