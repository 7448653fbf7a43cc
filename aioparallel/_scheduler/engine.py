"""The coroutine around the state machine: it performs what `State` asks for and feeds back what happens.

Guarantees
    Every settle goes through `_finish`, which cannot raise. The way from `cancel()` to the kill, its confirmation and the settle runs
    in callbacks alone, so it works while `asyncio.run` cancels every asyncio task. If the engine's own asyncio task ends before the
    pool was closed, everything is killed and every task settled.
"""

from __future__ import annotations

import asyncio
import logging
import time
from asyncio import Future
from collections import deque
from collections.abc import Callable
from typing import Any

from .._hosts.base import Death, Host, Outcome
from .._jobs.outcomes import BIG_PICKLE, opened
from .._jobs.task import Attempt, Task
from .._wire.arena import clear as clear_arena, give
from .._wire.codec import Buffer
from .._wire.messages import OK, STATUS
from ..errors import HostError, PoolClosed
from ..events import Event, TaskProgressed
from ..status import PoolStatus, SlotStatus
from .ledger import Slot
from .state import State
from .stimuli import (
    Answered,
    CancelAsked,
    Clock,
    CloseHost,
    Closing,
    Emit,
    Fail,
    HostDown,
    HostFailed,
    HostUp,
    Kill,
    Launch,
    Missed,
    Recall,
    Recalled,
    Retire,
    Settle,
    SettleCancelled,
    SlotDied,
    SlotUp,
    Spawn,
    Submitted,
    Wanted,
)

log = logging.getLogger("aioparallel")

CLOSE_SECONDS = 5.0
"""How long closing waits for the confirmation that everything is dead."""
RESTARTS = 5
"""So many agents in a row may be lost without an answer from any of their slots before the host gives up."""

_future_cancel = Future.cancel
_future_set_result = Future.set_result
_future_set_exception = Future.set_exception
_clock = time.monotonic


class Engine:
    """Performs actions; owns every asyncio task of a pool. One per open pool."""

    def __init__(self, hosts: list[Host], *, max_tasks_per_slot: int | None, publish: Callable[[Event], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.epoch = time.time() - _clock()
        self.hosts = {host.name: host for host in hosts}
        slots = {host.name: host.slots for host in hosts}
        self.state = State(slots, max_tasks_per_slot=max_tasks_per_slot, epoch=self.epoch)
        self.notes: list[str] = []
        self.ended: Future[None] = self.loop.create_future()
        """Done when every process of the pool is dead."""
        self._publish = publish
        self._inbox: deque[Any] = deque()
        self._feeding = False
        self._submitted: list[Task[Any]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._waiters: list[tuple[Callable[[], bool], Future[None]]] = []
        self._lost_hosts: asyncio.Queue[str] = asyncio.Queue()
        self._restarts = 0
        self._up: set[str] = set()
        self._helpers: set[asyncio.Task[None]] = set()
        self._perform: dict[type, Callable[[Any], None]] = {
            Launch: self._launch,
            Settle: self._settle,
            SettleCancelled: self._settle_cancelled,
            Fail: self._fail,
            Recall: self._recall,
            Kill: lambda action: self.hosts[action.host].kill(action.slot, action.ident, action.grace),
            Spawn: lambda action: self.hosts[action.host].spawn(action.slot, action.incarnation),
            Retire: lambda action: self.hosts[action.host].retire(action.slot),
            CloseHost: lambda action: self._close_host(action.host),
            Emit: lambda action: self._publish(action.event),
        }
        self._main = self.loop.create_task(self._restart_lost_hosts(), name="aioparallel engine")
        self._main.add_done_callback(self._main_ended)
        for host in hosts:
            host.attach(self)

    # --- in

    def submit(self, task: Task[Any]) -> None:
        """Take a new task; it is launched at the end of this turn of the loop."""
        submitted = self._submitted
        if not submitted:
            self.loop.call_soon(self._turn)
        submitted.append(task)

    def _turn(self) -> None:
        if self._submitted:
            tasks, self._submitted = self._submitted, []
            self.feed(Submitted(tasks))

    def cancel(self, task: Task[Any], message: Any) -> bool:
        """See `Task.cancel`. The first call asks for the kill; later ones only keep the message."""
        if message is not None:
            task._message = message
        if not task._asked:
            task._asked = True
            self._turn()  # the state machine must know a task before it hears that it was cancelled
            self.feed(CancelAsked(task))
        return True

    def feed(self, stimulus: Any) -> None:
        """Let the state machine handle a stimulus and perform what it asks for."""
        inbox = self._inbox
        inbox.append(stimulus)
        if self._feeding:
            return
        self._feeding = True
        perform = self._perform
        handle = self.state.handle
        try:
            while inbox:
                for action in handle(inbox.popleft(), _clock()):
                    perform[type(action)](action)
        finally:
            self._feeding = False
        if self.state.next_due < self._timer_at:
            self._arm()
        if self._waiters:
            self._wake_waiters()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self.state.next_due
        self._timer = self.loop.call_later(max(0.0, self._timer_at - _clock()), self._tick)

    def _tick(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        self.feed(Clock())

    def wait_until(self, condition: Callable[[], bool]) -> Future[None]:
        """Return a future that is done as soon as `condition` holds; it is looked at after every stimulus."""
        future: Future[None] = self.loop.create_future()
        if condition():
            future.set_result(None)
        else:
            self._waiters.append((condition, future))
        return future

    def _wake_waiters(self) -> None:
        for condition, future in self._waiters:
            if not future.done() and condition():
                future.set_result(None)
        self._waiters = [waiter for waiter in self._waiters if not waiter[1].done()]

    # --- looking

    @property
    def idle(self) -> bool:
        """Whether nothing is unfinished."""
        return not self._submitted and not self._helpers and not self.state.unfinished()

    @property
    def failed(self) -> tuple[str, str] | None:
        """(host, reason) of a host that will never offer slots."""
        return next(((host.name, host.failed) for host in self.state.hosts.values() if host.failed is not None), None)

    @property
    def closing(self) -> str | None:
        """Why everything ends, once it does."""
        return self.state.closing

    def want(self, slots: int) -> None:
        """Begin slots before there is work for them."""
        self.feed(Wanted(slots))

    def has_up(self, slots: int) -> bool:
        """Return whether so many slots are up (0: whether a host can begin slots)."""
        if not slots:
            return bool(self._up)
        return sum(slot.pid is not None for slot in self.state.slots.values()) >= slots

    def load(self) -> tuple[int, int]:
        """Return (busy slots, queued tasks)."""
        self._turn()
        busy = sum(bool(slot.outstanding) for slot in self.state.slots.values())
        return busy, len(self.state.queue) + len(self.state.isolated)

    def status(self, name: str, phase: str, max_slots: int, uptime: float) -> PoolStatus:
        """Return what `Pool.status` shows."""
        state, endings = self.state, self.state.endings
        slots = tuple(_slot_status(slot) for slot in sorted(state.slots.values(), key=lambda slot: slot.key))
        return PoolStatus(
            name=name, state=phase, uptime_seconds=uptime, slots=slots, max_slots=max_slots, queued=self.load()[1],
            running=sum(len(slot.outstanding) for slot in state.slots.values()), succeeded=endings.succeeded, failed=endings.failed_count,
            cancelled=endings.cancelled_count, retried=endings.retried, run_seconds=endings.run_seconds, notes=self._all_notes(),
        )  # fmt: skip

    def _all_notes(self) -> tuple[str, ...]:
        return (*self.notes, *(f"{host.name}: {host.failed}" for host in self.state.hosts.values() if host.failed is not None))

    # --- actions

    def _launch(self, action: Launch) -> None:
        self.hosts[action.host].launch(action.slot, action.attempts)

    def _recall(self, action: Recall) -> None:
        self.feed(Recalled(action.host, action.slot, self.hosts[action.host].recall(action.slot)))

    def _close_host(self, name: str) -> None:
        self.hosts[name].close()
        self.loop.call_later(CLOSE_SECONDS, self._give_up, name)

    def _give_up(self, name: str) -> None:
        if not self.ended.done():
            log.warning("host %s did not confirm in %.0f s that everything is dead; its agent is killed", name, CLOSE_SECONDS)
            host = self.hosts[name]
            host.kill_agent()
            host.abandon()
            self.host_down(name, "it did not answer", {})

    def _settle(self, action: Settle) -> None:
        for task, attempt, outcome in action.answers:
            if task._buffers:
                give(task._buffers)
            task._payload, task._buffers = b"", ()
            for ended in task._attempts:
                ended.forget_task()
            _, flags, _, _, _, _, payload, buffers = outcome
            if flags & STATUS == OK and task._sink is not None:
                task._sink.part(attempt, OK, payload)
                self._finish(task, None, None)
            elif len(payload) > BIG_PICKLE:
                self._settle_in_thread(task, attempt, outcome)
            else:
                try:
                    value, error = opened(task, attempt, flags, payload, buffers)
                except KeyboardInterrupt:
                    self._finish(task, None, PoolClosed("interrupted (KeyboardInterrupt) while its result was rebuilt"))
                    raise
                self._finish(task, value, error)

    def _settle_in_thread(self, task: Task[Any], attempt: Attempt, outcome: Outcome) -> None:
        async def rebuild() -> None:
            from anyio import to_thread

            arguments = task, attempt, outcome.status, outcome.payload, outcome.buffers
            value, error = await to_thread.run_sync(opened, *arguments, abandon_on_cancel=True)
            self._finish(task, value, error)

        def rebuilt(helper: asyncio.Task[None]) -> None:
            self._helpers.discard(helper)
            if not task.done():
                reason = "the pool's loop ended" if helper.cancelled() else f"its result could not be rebuilt: {helper.exception()!r}"
                self._finish(task, None, PoolClosed(reason))
            self._wake_waiters()  # who waits for the end of everything waits for this too

        helper = self.loop.create_task(rebuild(), name=f"aioparallel rebuilds the result of task {task.id}")
        self._helpers.add(helper)
        helper.add_done_callback(rebuilt)

    def _settle_cancelled(self, action: SettleCancelled) -> None:
        task = action.task
        task._payload, task._buffers = b"", ()
        self._call(task, _future_cancel, task._message)

    def _fail(self, action: Fail) -> None:
        task, error, attempt = action
        task._payload, task._buffers = b"", ()
        if attempt is not None:
            slot = attempt.slot
            error.add_note(f"in task {task.label} {task.name!r}, attempt {attempt.number}, on {slot.host}/{slot.index} (pid {slot.pid})")
        self._finish(task, None, error)

    def _finish(self, task: Task[Any], value: Any, error: Exception | None) -> None:
        """Set a task's future. A task that was asked to be cancelled meanwhile ends cancelled, and in no other way."""
        if task._asked:
            self.state.endings.amend(task, "withdrawn")
            self._call(task, _future_cancel, task._message)
        elif error is None:
            self._call(task, _future_set_result, value)
        else:
            self.state.endings.amend(task, "unreadable")
            self._call(task, _future_set_exception, error)
            if isinstance(error, PoolClosed):
                task._log_traceback = False  # nobody forgot it: the pool was closed over it

    def _call(self, task: Task[Any], method: Callable[[Any, Any], Any], value: Any) -> None:
        try:
            method(task, value)
        except Exception as error:  # noqa: BLE001 - the loop is closed, or the future was settled behind our back
            log.debug("task %d could not be settled: %s", task.id, error)

    # --- reports of the hosts (see `_hosts/base.Reports`)

    def answered(self, host: str, index: int, incarnation: int, outcomes: list[Outcome]) -> None:
        """See `Reports`."""
        self._restarts = 0
        self.feed(Answered(host, index, incarnation, outcomes))

    def part(self, host: str, index: int, incarnation: int, ident: int, status: int, body: Buffer) -> None:
        """See `Reports`."""
        slot = self.state.slots.get((host, index))
        if slot is None or slot.incarnation != incarnation or not slot.outstanding or slot.outstanding[0].ident != ident:
            return
        attempt = slot.outstanding[0]
        slot.heard = _clock()
        attempt.task._sink.part(attempt, status & STATUS, body)

    def progressed(self, host: str, ident: int, done: float, total: float) -> None:
        """See `Reports`."""
        if self.state.watched:
            event = TaskProgressed(
                at=_clock() + self.epoch, task=ident >> 16, attempt=ident & 0xFFFF, done=done, total=total if total == total else None
            )
            self._publish(event)

    def slot_up(self, host: str, index: int, incarnation: int, pid: int) -> None:
        """See `Reports`."""
        self.feed(SlotUp(host, index, incarnation, pid))

    def slot_died(self, host: str, death: Death) -> None:
        """See `Reports`."""
        log.debug("slot %s/%d died: %s", host, death.slot, death)
        self.feed(SlotDied(host, death))

    def missed(self, host: str, index: int, incarnation: int, ident: int) -> None:
        """See `Reports`."""
        self.feed(Missed(host, index, incarnation, ident))

    def noticed(self, host: str, text: str) -> None:
        """See `Reports`."""
        log.warning("host %s: %s", host, text)
        self.notes.append(f"{host}: {text}")

    def host_up(self, host: str) -> None:
        """See `Reports`."""
        self._up.add(host)
        self.feed(HostUp(host))

    def host_failed(self, host: str, reason: str) -> None:
        """See `Reports`."""
        log.error("%s", HostError(host, reason))
        self.feed(HostFailed(host, reason))

    def host_down(self, host: str, reason: str, unbegun: dict[int, int]) -> None:
        """See `Reports`."""
        self._up.discard(host)
        self.feed(HostDown(host, reason, unbegun))
        if self.state.closing is not None:
            if not self.ended.done() and all(record.down for record in self.state.hosts.values()):
                self.ended.set_result(None)
        else:
            log.warning("host %s was lost (%s); it is started again", host, reason)
            self._lost_hosts.put_nowait(host)

    # --- the end

    def close(self, reason: str) -> None:
        """Begin the end: kill everything, settle everything. `ended` is done when that is confirmed."""
        self._turn()
        if self.state.closing is None:
            self.feed(Closing(reason))

    async def finish(self) -> None:
        """Wait for `ended`, whatever is cancelled meanwhile: it comes within seconds."""
        cancelled: asyncio.CancelledError | None = None
        while not self.ended.done():
            try:
                await asyncio.shield(self.ended)
            except asyncio.CancelledError as error:
                cancelled = error
        self._main.cancel()
        clear_arena()
        if self._timer is not None:
            self._timer.cancel()
        if cancelled is not None:
            raise cancelled

    async def _restart_lost_hosts(self) -> None:
        while True:
            name = await self._lost_hosts.get()
            self._restarts += 1
            if self._restarts > RESTARTS:
                self.host_failed(name, f"{RESTARTS} agents in a row were lost")
                continue
            await asyncio.sleep(0.0 if self._restarts == 1 else 0.05 * 2**self._restarts)
            try:
                await self.hosts[name].start()
            except HostError as error:
                self.host_failed(name, error.reason)
            if self.state.closing is not None:
                self.hosts[name].close()  # it was closed when no agent was there to hear it; this one has buried what the last left

    def _main_ended(self, main: asyncio.Task[None]) -> None:
        """The engine's own task ended. If the pool was not closed, that is the loop's end (or a bug): kill and settle everything."""
        if self.state.closing is None:
            if not main.cancelled() and main.exception() is not None:
                log.error("the engine failed", exc_info=main.exception())
            self.close("the pool's event loop ended before the pool was closed")

    def abandon(self) -> None:
        """Let go of everything without a loop: the agents see it and kill what they have."""
        for host in self.hosts.values():
            host.abandon()


def _slot_status(slot: Slot) -> SlotStatus:
    running = slot.outstanding[0].task if slot.outstanding else None
    return SlotStatus(
        host=slot.host, index=slot.index, pid=slot.pid, state=slot.state, task=f"{running.label} {running.name}" if running else None,
        waiting=max(0, len(slot.outstanding) - 1), tasks_done=slot.done,
    )  # fmt: skip
