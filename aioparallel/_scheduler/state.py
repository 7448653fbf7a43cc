"""The scheduler's brain: a pure state machine. `handle(stimulus, now)` returns what must be done; it awaits, reads and writes nothing.

Guarantees (each an invariant of the suite of random histories)
    No slot runs two attempts at once, no attempt is on two slots. A task is settled exactly once. A task that was asked to be cancelled
    is never settled in another way. An answer counts only if it comes from the slot that was asked, for the attempt it was asked for.
    Whatever happens, every task is settled in the end.

How it works
    This file routes: what an end means is in `endings`, which slot gets what in `assign`, what may follow what in `lifecycle`. `now` is
    CLOCK_MONOTONIC seconds.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any
from weakref import ref

from .._jobs.task import Attempt, Place, Task
from .._wire.messages import ASKED
from ..errors import PoolClosed, TaskTimeout
from ..events import CancelUnconfirmed, SlotEnded, SlotStarted, TaskSubmitted
from ..status import IDLE, QUEUED, RUNNING, STOPPING
from . import far as far_rules, hosts
from .assign import assign, begin_wanted, call_back_from_silent, even_out, replace
from .backlog import Backlog
from .endings import Endings
from .hosts import HostRecord
from .ledger import Ledger, Slot
from .lifecycle import SETTLED, slot_after, task_after
from .queue import Queue
from .stimuli import (
    Action,
    Answered,
    Bound,
    CancelAsked,
    Clock,
    CloseHost,
    Closing,
    Emit,
    FarAnswered,
    FarRoundTrip,
    FarUnreachable,
    FarUp,
    HostDown,
    HostFailed,
    HostUp,
    Kill,
    Missed,
    Recall,
    Recalled,
    Retire,
    Settle,
    SlotDied,
    SlotUp,
    Submitted,
    Wanted,
    Withdrawn,
)
from .timers import Timers

CONFIRM_SECONDS = 5.0
"""How long a cancelled task waits for the death of its process tree, once that may be killed."""
AGAIN_SECONDS = 0.002
"""A kill that found its attempt not yet begun is repeated after this."""
NEVER = float("inf")


class State:
    """All that the scheduler knows."""

    def __init__(
        self,
        slots: dict[str, int],
        *,
        far: Collection[str] = (),
        max_tasks_per_slot: int | None = None,
        lost_grace: float = 60.0,
        epoch: float = 0.0,
    ) -> None:
        """`slots`: how many each host offers at the most, by its name; `far`: those that feed their slots themselves."""
        self.hosts = {name: HostRecord(name, count, name in far) for name, count in slots.items()}
        self.has_far = bool(far)
        self.lost_grace = lost_grace
        """So many seconds without a host that is up, and what waits is given up."""
        self.alone = False
        """Whether that time runs."""
        self.slots: dict[tuple[str, int], Slot] = {}
        self.queue = Queue()
        self.isolated = Queue()
        self.ledger = Ledger()
        self.estimate = self.ledger.estimate
        self.max_tasks_per_slot = max_tasks_per_slot
        self.epoch = epoch
        self.closing: str | None = None
        self.submitted = 0
        self.wanted = 0
        """So many slots somebody wished to see up."""
        self.watched = False
        """Whether somebody subscribes to events: else none is built."""
        self.endings = Endings(self)
        self.silence_due = NEVER
        self._timers = Timers()
        self.at = self._timers.at
        self._handlers = self._all_handlers()

    def _all_handlers(self) -> dict[type, Any]:
        return {
            Submitted: self._submitted,
            Wanted: self._wanted,
            Answered: self._answered,
            CancelAsked: self._cancel_asked,
            Recalled: self._recalled,
            SlotUp: self._slot_up,
            SlotDied: self._slot_died,
            Missed: self._missed,
            Clock: self._clock,
            HostUp: partial(hosts.up, self),
            HostDown: partial(hosts.down, self),
            HostFailed: partial(hosts.failed, self),
            FarUp: partial(far_rules.up, self),
            FarUnreachable: partial(far_rules.unreachable, self),
            FarRoundTrip: partial(far_rules.round_trip, self),
            FarAnswered: partial(far_rules.answered, self),
            Bound: partial(far_rules.bound, self),
            Withdrawn: partial(far_rules.withdrawn, self),
            Closing: self._close,
        }

    def handle(self, stimulus: Any, now: float) -> list[Action]:
        """Take in what happened and return what must be done, in this order."""
        actions: list[Action] = []
        self._handlers[type(stimulus)](stimulus, now, actions)
        return actions

    @property
    def next_due(self) -> float:
        """When `Clock` is due (inf: not at all)."""
        return min(self._timers.next_due, self.silence_due)

    def backlog(self, host: str) -> Backlog:
        """Return what a far host was sent."""
        backlog = self.hosts[host].backlog
        assert backlog is not None
        return backlog

    def far_width(self) -> int:
        """Return how many slots far hosts offer."""
        return sum(host.backlog.width for host in self.hosts.values() if host.backlog is not None) if self.has_far else 0

    def queue_of(self, task: Task[Any]) -> Queue:
        """Return the queue that a task waits in."""
        return self.isolated if task._options.isolate else self.queue

    def unfinished(self) -> int:
        """Return how many tasks are not settled."""
        return self.submitted - self.endings.settled

    def has_idle_slot(self) -> bool:
        """Return whether a slot waits for work."""
        return any(slot.state == IDLE and not slot.killing for slot in self.slots.values())

    # --- tasks

    def _submitted(self, stimulus: Submitted, now: float, actions: list[Action]) -> None:
        push = self.queue.push
        self.submitted += len(stimulus.tasks)
        for task in stimulus.tasks:
            if task._options.isolate:
                self.isolated.push(task)
            else:
                push(task)
            if task._deadline != NEVER:
                self.at(task._deadline, "deadline", ref(task))  # which must not keep a settled task's result until then
            if self.watched:
                actions.append(Emit(TaskSubmitted(at=now + self.epoch, task=task._id, name=task.name)))
        if self.closing is not None:
            self._refuse_waiting(now, actions)
        if self.has_far:
            far_rules.look_whether_alone(self, now)
        assign(self, now, actions)

    def _wanted(self, stimulus: Wanted, now: float, actions: list[Action]) -> None:
        self.wanted = max(self.wanted, stimulus.slots)
        begin_wanted(self, self.wanted, now, actions)

    def _cancel_asked(self, stimulus: CancelAsked, now: float, actions: list[Action]) -> None:
        task = stimulus.task
        if task._state == STOPPING or task._state in SETTLED:
            return  # settled: its result is being rebuilt in a thread; the engine cancels it then
        if task._state == QUEUED:
            self.endings.cancelled(task, None, now, actions)
            self.queue_of(task).leave()
            return
        task._state = task_after(task._state, "stopping")
        attempt = task._attempt
        assert attempt is not None
        self.at(now + task._options.grace + CONFIRM_SECONDS, "unconfirmed", attempt)
        if self.hosts[attempt.slot.host].backlog is not None:
            far_rules.stop(task, attempt, actions)
        else:
            self.recall(attempt.slot, actions)

    def requeue(self, attempts: list[Attempt], happened: str, now: float, actions: list[Action]) -> None:
        """Put back, in order, tasks whose attempts did not begin (or were lost); settle those that may not wait any more."""
        for attempt in reversed(attempts):
            task = attempt.task
            if task._state in SETTLED:
                continue
            if happened == "recalled":
                task._attempt = attempt.before  # it never was one
            if task._state == STOPPING:
                self.endings.cancelled(task, None, now, actions)
                continue
            task._state = task_after(task._state, happened)
            if self.closing is not None:
                self.endings.failed(task, PoolClosed(self.closing), None, now, actions)
            elif task._deadline <= now:
                self._too_late(task, now, actions)
            else:
                self.queue_of(task).push_front(task)

    def _too_late(self, task: Task[Any], now: float, actions: list[Action]) -> None:
        self.endings.failed(task, TaskTimeout("deadline", task._options.deadline or 0.0), None, now, actions)

    # --- slots

    def _slot(self, host: str, index: int, incarnation: int) -> Slot | None:
        slot = self.slots.get((host, index))
        return slot if slot is not None and slot.incarnation == incarnation else None

    def _slot_up(self, stimulus: SlotUp, now: float, actions: list[Action]) -> None:
        host = self.hosts[stimulus.host]
        if host.backlog is not None:
            far_rules.slot_up(self, host, *stimulus[1:], now, actions)
            return
        slot = self._slot(*stimulus[:3])
        if slot is None:
            return
        slot.pid = stimulus.pid
        slot.heard = now
        slot.state = slot_after(slot.state, "up")
        self.hosts[slot.host].start_failures = 0
        if slot.outstanding and slot.state == IDLE:
            slot.state = slot_after(slot.state, "launched")
        if self.watched:
            actions.append(Emit(SlotStarted(at=now + self.epoch, host=slot.host, slot=slot.index, pid=stimulus.pid)))
        assign(self, now, actions)

    def _answered(self, stimulus: Answered, now: float, actions: list[Action]) -> None:
        slot = self._slot(stimulus.host, stimulus.slot, stimulus.incarnation)
        if slot is None:
            return
        outstanding, done = slot.outstanding, slot.done
        ended = self.endings.ended
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
            self._emptied(slot, actions)
        elif outstanding[0].task._state != RUNNING:
            self._kill_if_asked(slot, actions)  # it could not be called back: it had begun behind those that answered now
        assign(self, now, actions)
        if not outstanding and slot.state == IDLE:
            even_out(self, actions)

    def _emptied(self, slot: Slot, actions: list[Action]) -> None:
        slot.load = 0.0
        slot.state = slot_after(slot.state, "emptied")
        self._wear(slot, actions)

    def _wear(self, slot: Slot, actions: list[Action]) -> None:
        """Let an empty slot end that has done all it was meant for."""
        worn = self.max_tasks_per_slot is not None and slot.launched >= self.max_tasks_per_slot
        if (worn or slot.exclusive) and not slot.killing and slot.state == IDLE:
            self.retire(slot, actions)

    def retire(self, slot: Slot, actions: list[Action]) -> None:
        """Let an empty slot end."""
        slot.state = slot_after(slot.state, "retired")
        actions.append(Retire(slot.host, slot.index))

    def recall(self, place: Place, actions: list[Action]) -> None:
        """Call back what a slot has not begun. Until it is known what that was, no more may be sent behind it."""
        self.slots[place.host, place.index].stuck = True
        actions.append(Recall(place.host, place.index))

    def _recalled(self, stimulus: Recalled, now: float, actions: list[Action]) -> None:
        slot = self.slots.get((stimulus.host, stimulus.slot))
        if slot is None:
            return
        back = [slot.outstanding.pop() for _ in range(min(stimulus.taken, len(slot.outstanding)))][::-1]
        slot.launched -= len(back)
        slot.load = sum(attempt.estimate for attempt in slot.outstanding)
        self.requeue(back, "recalled", now, actions)
        if slot.outstanding:
            self._kill_if_asked(slot, actions)
        elif back:
            slot.exclusive = slot.exclusive and slot.launched > 0
            self._emptied(slot, actions)
        assign(self, now, actions)

    def _kill_if_asked(self, slot: Slot, actions: list[Action]) -> None:
        attempt = slot.outstanding[0]
        if attempt.task._state != RUNNING and slot.killing != attempt.ident:
            slot.killing = attempt.ident
            grace = 0.0 if self.closing is not None else attempt.task._options.grace
            actions.append(Kill(slot.host, slot.index, attempt.ident, grace))

    def _missed(self, stimulus: Missed, now: float, actions: list[Action]) -> None:
        slot = self._slot(stimulus.host, stimulus.slot, stimulus.incarnation)
        if slot is None or stimulus.ident != slot.killing:
            return
        if slot.outstanding and slot.outstanding[0].ident == stimulus.ident:
            # Its answer is on the way, or it took its permit and has not begun: then the kill came too early.
            self.at(now + AGAIN_SECONDS, "again", (slot, stimulus.ident))
            return
        self._kill_ended(slot, now, actions)

    def _kill_ended(self, slot: Slot, now: float, actions: list[Action]) -> None:
        """A kill hit nothing: repeat it, or let the slot serve again."""
        slot.killing = 0
        if slot.outstanding:
            self._kill_if_asked(slot, actions)
        else:
            self._wear(slot, actions)
        assign(self, now, actions)

    def _slot_died(self, stimulus: SlotDied, now: float, actions: list[Action]) -> None:
        death = stimulus.death
        host = self.hosts[stimulus.host]
        if host.backlog is not None:
            far_rules.slot_died(self, host, death, now, actions)
            return
        slot = self._slot(stimulus.host, death.slot, death.incarnation)
        if slot is None:
            return
        started = slot.state != "starting"
        slot.state = slot_after(slot.state, "died" if death.confirmed else "unconfirmed")
        if not death.confirmed:
            self.endings.slot_died(slot, death, now, actions)
            assign(self, now, actions)
            return
        del self.slots[slot.key]
        if self.watched:
            code, number = death.exit_code, death.signal
            actions.append(Emit(SlotEnded(at=now + self.epoch, host=slot.host, slot=slot.index, exit_code=code, signal=number)))
        self.endings.slot_died(slot, death, now, actions)
        if not started and not slot.done:
            hosts.start_failed(self, slot.host, death, now, actions)
        if self.closing is None:
            replace(self, slot, now, actions)
            assign(self, now, actions)

    # --- the end

    def _close(self, stimulus: Closing, now: float, actions: list[Action]) -> None:
        if self.closing is not None:
            return
        self.closing = stimulus.reason
        self._refuse_waiting(now, actions)
        actions += [CloseHost(name) for name in self.hosts]

    def _refuse_waiting(self, now: float, actions: list[Action]) -> None:
        for task in self.queue.take_all() + self.isolated.take_all():
            self.endings.failed(task, PoolClosed(self.closing), None, now, actions)

    # --- time

    def _clock(self, _: Clock, now: float, actions: list[Action]) -> None:
        for kind, what in self._timers.due(now):
            if kind == "deadline":
                task = what()
                if task is not None:
                    self._deadline_passed(task, now, actions)
            elif kind == "unconfirmed":
                self._unconfirmed(what, now, actions)
            elif kind == "again":
                slot: Slot
                slot, ident = what
                if self.slots.get(slot.key) is slot and slot.killing == ident:
                    self._kill_ended(slot, now, actions)
            elif kind == "spawn":
                begin_wanted(self, self.wanted, now, actions)
                assign(self, now, actions)
            elif kind == "alone":
                far_rules.give_up(self, now, actions)
        if now >= self.silence_due:
            call_back_from_silent(self, now, actions)

    def _deadline_passed(self, task: Task[Any], now: float, actions: list[Action]) -> None:
        if task._state == QUEUED:
            self._too_late(task, now, actions)
            self.queue_of(task).leave()
        elif task._state == RUNNING:
            # If it has begun, its agent keeps the deadline. If it waits in its slot, this takes it back.
            assert task._attempt is not None
            if self.hosts[task._attempt.slot.host].backlog is not None:
                far_rules.call_back(task._attempt, actions)
            else:
                self.recall(task._attempt.slot, actions)

    def _unconfirmed(self, attempt: Attempt, now: float, actions: list[Action]) -> None:
        task = attempt.task
        if task._state != STOPPING:
            return
        attempt.confirmed_dead = False
        self.endings.cancelled(task, attempt, now, actions)
        if self.watched:
            actions.append(Emit(CancelUnconfirmed(at=now + self.epoch, task=task._id, host=attempt.slot.host, slot=attempt.slot.index)))
