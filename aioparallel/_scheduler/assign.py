"""Which waiting task goes to which slot, and when a slot is begun.

How it works
    Slots are begun while more waits than empty slots can take. Then each slot with room is filled, the least loaded first, up to a
    little estimated work (`ledger.FILL_SECONDS`), but never with more than its even share of what waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._jobs.task import Attempt, Task
from ..events import AttemptStarted
from ..status import IDLE, RETIRING, STARTING, UNCONFIRMED
from .assign_far import fill as fill_far
from .ledger import EVEN_SECONDS, MAX_DEPTH, SILENCE_SECONDS, Slot
from .lifecycle import LAUNCHED, slot_after
from .stimuli import Action, Emit, Launch, Spawn

if TYPE_CHECKING:
    from .hosts import HostRecord
    from .state import State

NEVER = float("inf")


def assign(state: State, now: float, actions: list[Action]) -> None:
    """Launch what can be launched now."""
    waiting = len(state.queue) + len(state.isolated)
    if not waiting or state.closing is not None:
        return
    limit = state.max_tasks_per_slot
    open_slots = [slot for slot in state.slots.values() if slot.room(limit)]
    missing = waiting - sum(not slot.outstanding for slot in open_slots)
    if state.isolated:
        fresh = sum(not slot.launched and not slot.outstanding for slot in open_slots)
        missing = max(missing, len(state.isolated) - fresh)
    if missing > 0:
        open_slots += _begin_slots(state, missing, now, actions)
    if state.isolated:
        _assign_isolated(state, open_slots, now, actions)
    if open_slots and state.queue:
        _fill(state, open_slots, now, actions)
    if state.has_far and (state.queue or state.isolated):
        fill_far(state, actions)


def call_back_from_silent(state: State, now: float, actions: list[Action]) -> None:
    """Call back what waits behind a slot's long task, to run elsewhere."""
    state.silence_due = NEVER
    for slot in state.slots.values():
        if len(slot.outstanding) < 2 or slot.stuck:
            continue
        due = slot.silent_until()
        if due <= now:
            state.recall(slot, actions)
        elif due < state.silence_due:
            state.silence_due = due


def even_out(state: State, actions: list[Action]) -> None:
    """A slot has nothing to do and nothing waits: call back what waits behind another's task, if it is worth while."""
    fullest = max(state.slots.values(), key=Slot.behind)
    if fullest.behind() >= EVEN_SECONDS and not fullest.stuck:
        state.recall(fullest, actions)


def _fill(state: State, slots: list[Slot], now: float, actions: list[Action]) -> None:
    queue = state.queue
    if len(slots) > 1:
        slots.sort(key=_eagerness)
    live = len(state.slots) + state.far_width()
    limit = state.max_tasks_per_slot
    for slot in slots:
        outstanding = slot.outstanding
        was_empty = not outstanding
        share = min(-(-len(queue) // live), MAX_DEPTH - len(outstanding))
        if limit is not None:
            share = min(share, limit - slot.launched)
        batch = _take(state, slot, max(share, was_empty))
        if batch:
            _launch(state, slot, batch, was_empty, now, actions)


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
        batch.append(_attempt(task, slot, estimate))
    return batch


def _attempt(task: Task[Any], slot: Slot, estimate: float) -> Attempt:
    task._attempt = attempt = Attempt(task, task._attempt, slot, estimate)
    task._state = LAUNCHED[task._state]
    slot.outstanding.append(attempt)
    slot.load += estimate
    slot.launched += 1
    return attempt


def _launch(state: State, slot: Slot, batch: list[Attempt], was_empty: bool, now: float, actions: list[Action]) -> None:
    if was_empty:
        slot.heard = now
        slot.state = slot_after(slot.state, "launched")
    if len(slot.outstanding) > 1:
        state.silence_due = min(state.silence_due, max(slot.silent_until(), now + SILENCE_SECONDS))
    actions.append(Launch(slot.host, slot.index, batch, slot.patience() if state.queue else 0.0))
    if state.watched:
        for attempt in batch:
            where: dict[str, Any] = {"host": slot.host, "slot": slot.index}
            actions.append(Emit(AttemptStarted(at=now + state.epoch, task=attempt.task._id, attempt=attempt.number, **where)))


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
        _launch(state, slot, [_attempt(task, slot, state.estimate(task))], True, now, actions)
    if all(host.failed is not None for host in state.hosts.values()):
        state.endings.fail_waiting(state.isolated, now, actions)  # a fresh slot never comes: those there are serve the others
        return
    coming = sum(slot.state == "retiring" for slot in state.slots.values())
    for slot in [slot for slot in open_slots if slot.state == IDLE and not slot.outstanding]:
        if coming >= len(state.isolated):
            return
        coming += 1
        open_slots.remove(slot)
        state.retire(slot, actions)


def _begin_slots(state: State, wanted: int, now: float, actions: list[Action]) -> list[Slot]:
    begun: list[Slot] = []
    usable = [host for host in state.hosts.values() if host.failed is None and host.backlog is None]
    if all(host.failed is not None for host in state.hosts.values()) and all(
        slot.state in (RETIRING, UNCONFIRMED) for slot in state.slots.values()
    ):
        state.endings.fail_waiting(state.queue, now, actions)
        state.endings.fail_waiting(state.isolated, now, actions)
        return begun
    for host in usable:
        if host.down or now < host.spawn_after:
            continue
        taken = {slot.index for slot in state.slots.values() if slot.host == host.name}
        if len(taken) == host.slots:
            continue
        for index in range(host.slots):
            if len(begun) == wanted:
                return begun
            if index not in taken:
                begun.append(_begin(state, host, index, now, actions))
    return begun


def _begin(state: State, host: HostRecord, index: int, now: float, actions: list[Action]) -> Slot:
    host.incarnations[index] += 1
    slot = Slot(host.name, index, host.incarnations[index], now)
    state.slots[slot.key] = slot
    actions.append(Spawn(host.name, index, slot.incarnation))
    return slot


def replace(state: State, dead: Slot, now: float, actions: list[Action]) -> None:
    """Begin a slot in the place of one that died, so that the next task need not wait for it."""
    host = state.hosts[dead.host]
    if host.failed is None and not host.down and now >= host.spawn_after and not dead.exclusive and dead.key not in state.slots:
        _begin(state, host, dead.index, now, actions)
    begin_wanted(state, state.wanted, now, actions)


def begin_wanted(state: State, slots: int, now: float, actions: list[Action]) -> None:
    """Begin slots before there is work for them, until there are so many."""
    missing = slots - len(state.slots)
    if missing > 0 and state.closing is None:
        _begin_slots(state, missing, now, actions)
