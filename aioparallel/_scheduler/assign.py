"""Which waiting task goes to which slot, and when a slot is begun.

How it works
    What waits for any host is one queue: slots near are begun while more waits than empty slots can take; then each with room is filled,
    the least loaded first, up to a little estimated work (`ledger.FILL_SECONDS`), but never with more than its even share of what waits;
    then far hosts. Tasks that choose among hosts (`lanes`), and whatever waits where a choice matters, are placed one by one (`choosing`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._jobs.task import Attempt
from ..status import STARTING
from . import choosing, near
from .assign_far import fill as fill_far
from .lanes import drop_empty
from .ledger import MAX_DEPTH, Slot

if TYPE_CHECKING:
    from .state import State
    from .stimuli import Action


def assign(state: State, now: float, actions: list[Action]) -> None:
    """Launch what can be launched now."""
    if state.closing is not None or not (state.queue or state.isolated or state.lanes):
        return
    state.claimed.clear()
    if choosing.matters(state):
        choosing.place_in_order(state, [state.main, state.main_isolated, *state.lanes.values()], now, actions)
    elif state.queue or state.isolated:
        oldest = min(task._queued for queue in (state.queue, state.isolated) if (task := queue.head()) is not None)
        older, younger = choosing.split(state, oldest)
        choosing.place_in_order(state, older, now, actions)
        _assign_all(state, now, actions)
        choosing.place_in_order(state, younger, now, actions)
    else:
        choosing.place_in_order(state, list(state.lanes.values()), now, actions)
    if state.lanes:
        drop_empty(state)


def _assign_all(state: State, now: float, actions: list[Action]) -> None:
    waiting = len(state.queue) + len(state.isolated)
    limit = state.max_tasks_per_slot
    if state.isolated:
        near.claim_for_isolated(state)
    claimed = state.claimed
    open_slots = [slot for slot in state.slots.values() if slot.room(limit) and not (claimed and slot.outstanding and slot.host in claimed)]
    missing = waiting - sum(not slot.outstanding for slot in open_slots)
    if state.isolated:
        fresh = sum(not slot.launched and not slot.outstanding for slot in open_slots)
        missing = max(missing, len(state.isolated) - fresh)
    if missing > 0:
        open_slots += near.begin_slots(state, missing, now, actions)
    if state.isolated:
        _assign_isolated(state, open_slots, now, actions)
    if open_slots and state.queue:
        _fill(state, open_slots, now, actions)
        if state.isolated:
            _assign_isolated(state, open_slots, now, actions)  # those that had to let an older one go first
    if state.has_far and (state.queue or state.isolated):
        fill_far(state, now, actions)


def _fill(state: State, slots: list[Slot], now: float, actions: list[Action]) -> None:
    queue = state.queue
    if len(slots) > 1:
        slots.sort(key=_eagerness)
    live = len(state.slots) + state.far_power()
    limit = state.max_tasks_per_slot
    for slot in slots:
        outstanding = slot.outstanding
        was_empty = not outstanding
        share = min(-int(-len(queue) // live), MAX_DEPTH - len(outstanding))
        if limit is not None:
            share = min(share, limit - slot.launched)
        batch = _take(state, slot, max(share, was_empty))
        if batch:
            if was_empty:
                near.occupy(slot, now)
            near.launch(state, slot, batch, now, actions)


def _eagerness(slot: Slot) -> tuple[bool, float]:
    return slot.state == STARTING, slot.load


def _take(state: State, slot: Slot, share: int) -> list[Attempt]:
    """Take up to `share` tasks, as many as a slot takes, from the queue to it."""
    batch: list[Attempt] = []
    head, pop, estimate_of, outstanding = state.queue.head, state.queue.pop, state.estimate, slot.outstanding
    for _ in range(share):
        task = head()
        if task is None:
            break
        estimate = estimate_of(task)
        if outstanding and not slot.takes(task, estimate):
            break
        pop()
        batch.append(near.attempt(task, slot, estimate))
    return batch


def _assign_isolated(state: State, open_slots: list[Slot], now: float, actions: list[Action]) -> None:
    """Give isolated tasks the slots that never served; where there are none, let an idle one end to make room.

    They have their turn, and no more: a task that was submitted before gets a slot before them.
    """
    for slot in [slot for slot in open_slots if not slot.outstanding and not slot.launched]:
        task, other = state.isolated.head(), state.queue.head()
        if task is None or (other is not None and other._queued < task._queued):
            return
        state.isolated.pop()
        open_slots.remove(slot)
        slot.exclusive = True
        near.occupy(slot, now)
        near.launch(state, slot, [near.attempt(task, slot, state.estimate(task))], now, actions)
    if state.all_failed():  # a fresh slot never comes: those there are serve the others
        state.endings.fail_waiting(state.isolated, next(iter(state.hosts.values())), now, actions)
        return
    near.make_room(state, len(state.isolated), open_slots, actions)
