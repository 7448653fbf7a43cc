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

from functools import partial
from random import Random
from typing import Any
from weakref import ref

from .._jobs.task import Attempt, Task
from ..errors import PoolClosed, TaskTimeout
from ..events import TaskSubmitted
from ..policies.racing import STOPPED as WITHDRAWN
from ..status import IDLE, QUEUED, RUNNING, STOPPING
from . import far as far_rules, hosts, leaving, near, slots
from .alone import give_up, look_whether_alone
from .assign import assign
from .backing import look
from .backlog import Backlog
from .choosing import matters, short_of
from .endings import Endings
from .evening import call_back_from_silent
from .host_record import HostRecord
from .lanes import Lane, queue_of
from .ledger import Ledger, Slot
from .lifecycle import SETTLED, task_after
from .near import begin_wanted
from .queue import Queue
from .races import Races, take_out
from .retrying import Retrying
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
    FarSilent,
    FarUnreachable,
    FarUp,
    HostCame,
    HostDown,
    HostFailed,
    HostGone,
    HostUp,
    Missed,
    NoMoreHosts,
    Recalled,
    RemoveHost,
    SlotDied,
    SlotUp,
    Submitted,
    Want,
    Wanted,
    Withdrawn,
)
from .timers import Timers

CONFIRM_SECONDS = 5.0
"""How long a cancelled task waits for the death of its process tree, once that may be killed."""
NEVER = float("inf")


class State:
    """All that the scheduler knows."""

    races: Races | None = None
    """The copies that run, once a task may be raced at all."""

    def __init__(
        self,
        near_hosts: dict[str, int],
        *,
        max_tasks_per_slot: int | None = None,
        lost_grace: float = 60.0,
        selection: Any = None,
        epoch: float = 0.0,
        seed: int = 0,
    ) -> None:
        """`near_hosts`: how many slots each near host offers at the most, by its name."""
        self._prepare_choosing(selection, seed)
        self.interrupt: KeyboardInterrupt | None = None
        """What a hook of the user's raised: to be raised again once everything is done."""
        self.claimed = set[str]()
        """Hosts where a task waits for a slot: while work is assigned, no younger one is sent there ahead."""
        self.has_far = self.hosts_may_come = False
        self.machine = ""
        self.left_at = 0.0
        """When a host that had been up left the pool."""
        self.lost_grace = lost_grace
        """So many seconds without a host that is up, and what waits is given up."""
        self.slots: dict[tuple[str, int], Slot] = {}
        self._make_lanes()
        self.hosts = {name: HostRecord(self, name, count, False) for name, count in near_hosts.items()}
        self.resized()
        self.ledger = Ledger()
        self.estimate = self.ledger.estimate
        self.max_tasks_per_slot = max_tasks_per_slot
        self.epoch = epoch
        self.closing: str | None = None
        self.submitted = self.wanted = 0
        """So many tasks there were, and so many slots somebody wished to see up."""
        self.watched = False
        """Whether somebody subscribes to events: else none is built."""
        self.endings = Endings(self)
        self.silence_due = self.alone_due = self.look_due = NEVER
        self._timers = Timers()
        self.at = self._timers.at
        self._handlers = self._all_handlers()

    def _prepare_choosing(self, selection: Any, seed: int) -> None:
        self.selection = selection
        """The policy that chooses hosts; None: LeastLoaded, and where much waits a quicker rule that comes to the same."""
        self.random, self.bad_policies = Random(seed), set[Any]()  # noqa: S311 - for policies
        self.turns: dict[Any, int] = {}
        """How many tasks each policy has placed, by what lanes of its go to."""
        self.layout = object()
        """Another one whenever hosts come or go."""
        self.now = self.short = 0.0
        self.has_predicates = False
        """Whether a function ever said which hosts a task may use: it may say something else when they come up or go down."""

    def _make_lanes(self) -> None:
        self.queue = Queue()
        self.isolated = Queue()
        self.main = Lane(self.queue, None, frozenset(), None, False)
        self.main_isolated = Lane(self.isolated, None, frozenset(), None, True)
        self.lanes: dict[Any, Lane] = {}
        """For the tasks that may not go to just any host."""
        self.retrying = Retrying(self)

    def _all_handlers(self) -> dict[type, Any]:
        return {
            Submitted: self._submitted,
            Wanted: self._wanted,
            CancelAsked: self._cancel_asked,
            Answered: partial(slots.answered, self),
            Recalled: partial(slots.recalled, self),
            SlotUp: partial(slots.up, self),
            SlotDied: partial(slots.died, self),
            Missed: partial(slots.missed, self),
            Clock: self._clock,
            HostUp: partial(hosts.up, self),
            HostDown: partial(hosts.down, self),
            HostFailed: partial(hosts.failed, self),
            HostCame: partial(leaving.came, self),
            RemoveHost: partial(leaving.remove, self),
            HostGone: partial(leaving.gone, self),
            NoMoreHosts: partial(leaving.no_more, self),
            FarUp: partial(far_rules.up, self),
            FarUnreachable: partial(far_rules.unreachable, self),
            FarRoundTrip: partial(far_rules.round_trip, self),
            FarSilent: partial(far_rules.silent, self),
            FarAnswered: partial(far_rules.answered, self),
            Bound: partial(far_rules.bound, self),
            Withdrawn: partial(far_rules.withdrawn, self),
            Closing: self._close,
        }

    def handle(self, stimulus: Any, now: float) -> list[Action]:
        """Take in what happened and return what must be done, in this order."""
        self.now = now
        actions: list[Action] = []
        self._handlers[type(stimulus)](stimulus, now, actions)
        if self.races is not None:
            look(self, self.races, now, actions)
        return actions

    @property
    def next_due(self) -> float:
        """When `Clock` is due (inf: not at all)."""
        due = min(self._timers.next_due, self.silence_due, self.alone_due, self.look_due)
        return due if self.races is None or due < self.races.due else self.races.due

    def race(self, backup: Any) -> None:
        """Have tasks raced whose options say so: from here on it is known which copies run."""
        if self.races is None:
            self.races = Races(self)
        self.races.add(backup)

    def backlog(self, host: str) -> Backlog:
        """Return what a far host was sent."""
        backlog = self.hosts[host].backlog
        assert backlog is not None
        return backlog

    def machine_of(self, host: HostRecord) -> str:
        """Return what names the machine that a host is on, "": that is not known."""
        return self.machine if host.is_local else host.machine

    def far_power(self) -> float:
        """Return how many slots near far hosts are as good as."""
        return sum(host.backlog.power for host in self.hosts.values() if host.backlog is not None) if self.has_far else 0

    def resized(self) -> None:
        """Hosts came, went, or offer more slots or fewer."""
        self.short = short_of(self)

    def all_failed(self) -> bool:
        """Return whether no host will ever begin a slot again."""
        return bool(self.hosts) and all(host.failed is not None for host in self.hosts.values())

    def queue_of(self, task: Task[Any]) -> Queue:
        """Return the queue that a task waits in."""
        if task._options.is_special or task._failures or task._losses:
            return queue_of(self, task)
        return self.queue

    def all_lanes(self) -> list[Lane]:
        """Return every lane."""
        return [self.main, self.main_isolated, *self.lanes.values()]

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
            if task._options.is_special:
                queue_of(self, task).push(task)
            else:
                push(task)
            if task._deadline != NEVER:
                self.at(task._deadline, "deadline", ref(task))  # which must not keep a settled task's result until then
            if self.watched:
                actions.append(Emit(TaskSubmitted(at=now + self.epoch, task=task._id, name=task.name)))
        if self.closing is not None:
            self._refuse_waiting(now, actions)
        if self.has_far or not self.hosts:
            look_whether_alone(self, self.main)
            look_whether_alone(self, self.main_isolated)  # (those in lanes are looked at as they are placed)
        assign(self, now, actions)

    def _wanted(self, stimulus: Wanted, now: float, actions: list[Action]) -> None:
        self.wanted = max(self.wanted, stimulus.slots)
        begin_wanted(self, self.wanted, now, actions)
        actions += [Want(host.name, self.wanted) for host in self.hosts.values() if host.backlog is not None and not host.down]

    def _cancel_asked(self, stimulus: CancelAsked, now: float, actions: list[Action]) -> None:
        task = stimulus.task
        if task._state == STOPPING or task._state in SETTLED:
            return  # settled: its result is being rebuilt in a thread; the engine cancels it then
        if task._state == QUEUED:
            self.endings.cancelled(task, None, now, actions)
            self._leave(task)
            if self.lanes or matters(self):
                assign(self, now, actions)  # it may have been the one for which a slot was kept
            return
        task._state = task_after(task._state, "stopping")
        for attempt in self.out(task):
            self.at(now + task._options.grace + CONFIRM_SECONDS, "unconfirmed", attempt)
            if self.hosts[attempt.slot.host].backlog is not None:
                far_rules.stop(task, attempt, actions)
            else:
                near.recall(self, attempt.slot, actions)

    def out(self, task: Task[Any]) -> list[Attempt]:
        """Return the attempts of a running task that are out: one, unless it is raced."""
        assert task._attempt is not None
        return [task._attempt] if self.races is None else self.races.out(task)

    def _leave(self, task: Task[Any]) -> None:
        """A task that waited is not QUEUED any more."""
        if not self.retrying.leave(task):
            self.queue_of(task).leave()

    def requeue(self, attempts: list[Attempt], happened: str, now: float, actions: list[Action]) -> None:
        """Put back, in order, tasks whose attempts did not begin (or were lost); settle those that may not wait any more."""
        for attempt in reversed(attempts):
            task = attempt.task
            if task._state in SETTLED:
                if self.races is not None:
                    take_out(task, attempt)
                continue
            if happened == "recalled":
                take_out(task, attempt)  # it never was one
                if self.races is not None and self.races.leaves(attempt, WITHDRAWN, now):
                    continue
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

    # --- the end

    def _close(self, stimulus: Closing, now: float, actions: list[Action]) -> None:
        if self.closing is not None:
            return
        self.closing = stimulus.reason
        self._refuse_waiting(now, actions)
        actions += [CloseHost(name) for name in self.hosts]

    def _refuse_waiting(self, now: float, actions: list[Action]) -> None:
        for task in [*(task for lane in self.all_lanes() for task in lane.queue.take_all()), *self.retrying.take_all()]:
            self.endings.failed(task, PoolClosed(self.closing), None, now, actions)

    # --- time

    def _clock(self, _: Clock, now: float, actions: list[Action]) -> None:
        for kind, what in self._timers.due(now):
            if kind == "deadline":
                task = what()
                if task is not None:
                    self._deadline_passed(task, now, actions)
            elif kind == "retry":
                self.retrying.come_back(what())
            elif kind == "unconfirmed":
                self._unconfirmed(what, now, actions)
            elif kind == "again":
                slot: Slot
                slot, ident = what
                if self.slots.get(slot.key) is slot and slot.killing == ident:
                    slots.kill_ended(self, slot, now, actions)
            elif kind == "spawn":
                begin_wanted(self, self.wanted, now, actions)
                assign(self, now, actions)
        self.retrying.go_on(now, actions)
        if now >= self.look_due:
            self.look_due = min((lane.look_due for lane in self.all_lanes() if lane.look_due > now), default=NEVER)
            assign(self, now, actions)
        if now >= self.alone_due:
            give_up(self, now, actions)
        if now >= self.silence_due:
            call_back_from_silent(self, now, actions)

    def _deadline_passed(self, task: Task[Any], now: float, actions: list[Action]) -> None:
        if task._state == QUEUED:
            self._too_late(task, now, actions)
            self._leave(task)
        elif task._state == RUNNING:
            # If it has begun, its agent keeps the deadline. If it waits in its slot, this takes it back.
            for attempt in self.out(task):
                if self.hosts[attempt.slot.host].backlog is not None:
                    far_rules.call_back(attempt, actions)
                else:
                    near.recall(self, attempt.slot, actions)

    def _unconfirmed(self, attempt: Attempt, now: float, actions: list[Action]) -> None:
        task = attempt.task
        if task._state != STOPPING:
            return
        for out in self.out(task):
            out.confirmed_dead = False
            self.endings.tell_unconfirmed(out, now, actions)
        self.endings.cancelled(task, attempt, now, actions)
