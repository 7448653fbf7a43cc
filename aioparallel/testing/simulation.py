"""The real scheduler under a fake clock, over scripted hosts.

Guarantees
    Everything happens inside the calls of the test, in one thread, in a fixed order: a history that fails, fails again.
    A task that is settled twice, or otherwise than as cancelled after it was asked to be, is an AssertionError at once.

How it works
    As `_scheduler/engine` does, `feed` gives the state machine one stimulus after the other and performs what it asks for at once. The
    tasks are real ones, on a loop that never runs: callbacks of a settled task run at the end of `feed`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Any, cast

from .._hosts.base import Death, Outcome
from .._jobs.task import Attempt, Owner, Task
from .._scheduler.far_news import FarNews
from .._scheduler.state import State
from .._scheduler.stimuli import (
    Answered,
    CancelAsked,
    Clock,
    CloseHost,
    Closing,
    Emit,
    Fail,
    HostCame,
    HostDown,
    HostFailed,
    HostGone,
    HostUp,
    Kill,
    Launch,
    Limit,
    Missed,
    Recall,
    Recalled,
    RemoveHost,
    Retire,
    Settle,
    SettleCancelled,
    SlotDied,
    SlotUp,
    Spawn,
    Submitted,
    Want,
    Withdraw,
)
from .._wire.memory import Buffer
from .._wire.messages import OK, STATUS
from ..errors import RemoteError
from ..options import Options
from ..status import QUEUED
from .recorder import EventRecorder
from .scripted import FakeClock, ScriptedHost, ScriptedSlot
from .scripted_far import ScriptedFarHost, ScriptedFarSlot


class Simulation(FarNews):
    """A scheduler, its hosts and their clock. `slots`: how many on one near host ("local"), or on each by name; 0: none.

    `far` says the same of far hosts, which are down until they `come_up`; `weights` and `labels` are theirs, by name.
    `settled` holds the tasks that ended, in that order; `recorder` the events (none are built with `watched=False`).
    """

    epoch = 0.0

    def __init__(
        self,
        slots: int | dict[str, int] = 1,
        *,
        far: Mapping[str, int] | None = None,
        weights: Mapping[str, float] | None = None,
        labels: Mapping[str, Mapping[str, str]] | None = None,
        selection: Any = None,
        lost_grace: float = 60.0,
        max_tasks_per_slot: int | None = None,
        watched: bool = True,
    ) -> None:
        by_name = {"local": slots} if isinstance(slots, int) and slots else slots or {}
        assert isinstance(by_name, dict)
        self.clock = FakeClock()
        self.hosts = {name: ScriptedHost(name, count, self, self.clock) for name, count in by_name.items()}
        self.far: dict[str, ScriptedFarHost] = {}
        self.state = State(by_name, max_tasks_per_slot=max_tasks_per_slot, lost_grace=lost_grace, selection=selection)
        self.state.watched = watched
        self.state.retrying.read = lambda _, attempt: error_of(attempt)
        self.recorder = EventRecorder()
        self.settled: list[Task[Any]] = []
        self.answers: dict[int, tuple[int, Buffer]] = {}
        """By a task's id, the attempt and the answer that settled it."""
        self._loop = _StillLoop()
        self._up: set[str] = set()
        self._unreachable: set[str] = set()
        self._inbox: deque[Any] = deque()
        self._feeding = False
        self._last_id = 0
        self._perform = self._all_performers()
        for name, count in (far or {}).items():
            self.add_host(name, count, weight=(weights or {}).get(name, 1.0), labels=(labels or {}).get(name))

    def _all_performers(self) -> dict[type, Callable[[Any], None]]:
        return {
            Launch: self.launch,
            Recall: self._recall,
            Withdraw: lambda action: self.host(action.host).withdraw(action.idents),
            Want: lambda action: self.host(action.host).want(action.slots),
            Limit: lambda action: self.host(action.host).limit(action.slots),
            Kill: lambda action: self.host(action.host).kill(action.slot, action.ident, action.grace),
            Spawn: lambda action: self.hosts[action.host].spawn(action.slot, action.incarnation),
            Retire: lambda action: self.hosts[action.host].retire(action.slot),
            CloseHost: lambda action: self.host(action.host).close(),
            Settle: self._settle,
            Fail: lambda action: self._finish(action.task, action.error),
            SettleCancelled: lambda action: self._finish(action.task, None),
            Emit: lambda action: self.recorder.record(action.event),
        }

    def slots(self) -> list[ScriptedSlot]:
        """Return the living slots of near hosts, by host and number."""
        return [slot for _, host in sorted(self.hosts.items()) for _, slot in sorted(host.live.items())]

    def far_slots(self) -> list[ScriptedFarSlot]:
        """Return the slots of far hosts that live, or may, by host and number."""
        return [slot for _, host in sorted(self.far.items()) for _, slot in sorted(host.live.items())]

    def host(self, name: str) -> ScriptedHost | ScriptedFarHost:
        """Return a host of either kind."""
        return self.hosts.get(name) or self.far[name]

    def feed(self, stimulus: Any) -> list[Any]:
        """Let the scheduler handle a stimulus, perform what it asks for, and what follows from that; return all the actions."""
        performed: list[Any] = []
        self._inbox.append(stimulus)
        if self._feeding:
            return performed
        self._feeding = True
        try:
            while self._inbox:
                for action in self.state.handle(self._inbox.popleft(), self.clock.now):
                    performed.append(action)
                    self._perform[type(action)](action)
        finally:
            self._feeding = False
        self._loop.run_ready()
        return performed

    # --- what users do

    def submit(self, function: str = "f", *, payload: bytes = b"", sink: Any = None, **options: Any) -> Task[Any]:
        """Submit a call of a function that goes by this name, with these options (see `Pool.options`); return its task."""
        task = self.task(function, payload=payload, sink=sink, **options)
        self.feed(Submitted([task]))
        return task

    def submit_many(self, count: int, function: str = "f", **options: Any) -> list[Task[Any]]:
        """Submit several calls in one turn of the loop."""
        tasks = [self.task(function, **options) for _ in range(count)]
        self.feed(Submitted(list(tasks)))
        return tasks

    def task(self, function: str = "f", *, payload: bytes = b"", sink: Any = None, **options: Any) -> Task[Any]:
        """Return a task that is not submitted yet."""
        if options.get("backup") is not None:
            self.state.race(options["backup"])
        self._last_id += 1
        loop = cast("asyncio.AbstractEventLoop", self._loop)
        return make_task(self._last_id, function, payload, sink, Options(**options), loop=loop, engine=self, now=self.clock.now)

    def cancel(self, task: Task[Any], message: Any) -> bool:
        """What `Task.cancel` calls."""
        if message is not None:
            task._message = message
        if not task._asked:
            task._asked = True
            self.feed(CancelAsked(task))
        return True

    def apart(self, work: Callable[[], Any], then: Callable[[Any, Exception | None], None]) -> None:
        """What a map's chunks call; there are no threads here."""
        then(work(), None)

    def close(self, reason: str = "the pool was closed") -> None:
        """Begin the end of the pool; the hosts' `lose` confirms it."""
        self.feed(Closing(reason))

    # --- hosts that come and go

    def add_host(self, name: str, slots: int, *, weight: float = 1.0, labels: Mapping[str, str] | None = None) -> ScriptedFarHost:
        """Have one more far host; it is down until it says otherwise."""
        host = self.far[name] = ScriptedFarHost(name, slots, self, self.clock, weight=weight, labels=labels)
        self.feed(HostCame(name, slots, weight, host.labels))
        return host

    def remove_host(self, name: str, *, drain: bool = True) -> None:
        """Use a far host no more. It is gone from `far` when it was closed and then lost."""
        self.feed(RemoveHost(name, drain))

    # --- time

    def advance(self, seconds: float) -> list[Any]:
        """Let time pass, and whatever is due meanwhile happen when it is due; return the actions."""
        until = self.clock.now + seconds
        performed: list[Any] = []
        while self.state.next_due <= until:
            self.clock.now = max(self.clock.now, self.state.next_due)
            performed += self.ring()
        self.clock.now = until
        return performed

    def jump(self, seconds: float) -> list[Any]:
        """Let time pass as under a blocked loop: what was due meanwhile happens at the end; return the actions."""
        self.clock.advance(seconds)
        return self.ring() if self.state.next_due <= self.clock.now else []

    def ring(self) -> list[Any]:
        """Tell the scheduler that its time has come."""
        performed = self.feed(Clock())
        assert self.state.next_due > self.clock.now, "what was due is still due: a loop would spin"
        return performed

    # --- performing

    def launch(self, action: Launch) -> None:
        """Send attempts to a host."""
        self.host(action.host).launch(action.slot, action.attempts, action.patience)

    def _recall(self, action: Recall) -> None:
        self.feed(Recalled(action.host, action.slot, self.hosts[action.host].recall(action.slot)))

    def _settle(self, action: Settle) -> None:
        for task in action.tasks:
            attempt = task._attempt
            if attempt is None:  # folded
                assert isinstance(task._payload, bytes)
                self.answers[task._id] = task._id << 16 | 1, task._payload
                self._finish(task, None, task._payload)
                continue
            self.answers[task._id] = attempt.ident, attempt.payload
            if attempt.flags & STATUS == OK:
                self._finish(task, None, attempt.payload)
            else:
                self._finish(task, error_of(attempt))

    def _finish(self, task: Task[Any], error: Exception | None, *value: Any) -> None:
        assert not task.done(), f"{task!r} was settled twice"
        assert not task._asked or not (error or value), f"{task!r} was asked to be cancelled and settled otherwise"
        self.settled.append(task)
        if error is not None:
            super(Task, task).set_exception(error)
            task._log_traceback = False  # a test looks at what it wants to look at
        elif value:
            super(Task, task).set_result(value[0])
        else:
            super(Task, task).cancel(task._message)

    # --- reports of the hosts (see `_hosts/base.Reports`)

    def host_up(self, host: str) -> None:
        """See `Reports`."""
        self.feed(HostUp(host))

    def host_down(self, host: str, reason: str, unbegun: dict[int, int]) -> None:
        """See `Reports`."""
        self.feed(HostDown(host, reason, unbegun))
        if host in self.far and self.far[host].is_gone and self.state.closing is None:
            del self.far[host]
            self.feed(HostGone(host))

    def host_failed(self, host: str, reason: str) -> None:
        """See `Reports`."""
        self.feed(HostFailed(host, reason))

    def slot_up(self, host: str, index: int, incarnation: int, pid: int) -> None:
        """See `Reports`."""
        self.feed(SlotUp(host, index, incarnation, pid))

    def slot_died(self, host: str, death: Death) -> None:
        """See `Reports`."""
        self.feed(SlotDied(host, death))

    def answered(self, host: str, index: int, incarnation: int, outcomes: list[Outcome]) -> None:
        """See `Reports`."""
        self.feed(Answered(host, index, incarnation, outcomes))

    def part(self, host: str, index: int, incarnation: int, ident: int, status: int, body: Buffer) -> None:
        """See `Reports`; a scripted slot sends none."""

    def progressed(self, host: str, ident: int, done: float, total: float) -> None:
        """See `Reports`; a scripted slot sends none."""

    def missed(self, host: str, index: int, incarnation: int, ident: int) -> None:
        """See `Reports`."""
        self.feed(Missed(host, index, incarnation, ident))

    def noticed(self, host: str, text: str) -> None:
        """See `Reports`; a scripted slot has nothing to say."""


def error_of(attempt: Attempt) -> RemoteError:
    """Return what stands for an attempt's exception: its status and what its slot wrote."""
    return RemoteError(f"status {attempt.flags & STATUS}", bytes(attempt.payload).decode(errors="replace"))


def make_task(
    number: int, function: str, payload: bytes, sink: Any, options: Options, *, loop: asyncio.AbstractEventLoop, engine: Owner, now: float
) -> Task[Any]:
    """Return a task as `Pool` makes them, of a function that is only a name."""
    task: Task[Any] = Task(loop=loop)
    task._id = number
    task._function = function
    task._payload = payload
    task._buffers = ()
    task._options = options
    task._extras = b""
    task._state = QUEUED
    task._attempt = task._place = None
    task._failures = task._losses = 0
    task._asked = False
    task._message = None
    task._queued = now
    task._deadline = float("inf") if options.deadline is None else now + options.deadline
    task._sink = sink
    task._engine = engine
    return task


class _StillLoop:
    """As much of a loop as a future needs."""

    def __init__(self) -> None:
        self._ready: deque[asyncio.Handle] = deque()

    def get_debug(self) -> bool:
        return False

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, cast("asyncio.AbstractEventLoop", self), context)
        self._ready.append(handle)
        return handle

    def run_ready(self) -> None:
        while self._ready:
            self._ready.popleft()._run()


__all__ = ["Simulation", "make_task"]
