"""The coroutine around the state machine: it performs what `State` asks for and feeds back what happens.

Guarantees
    The way from `cancel()` to the kill, its confirmation and the settle runs in callbacks alone, so it works while `asyncio.run` cancels
    every asyncio task. If the engine's own asyncio task ends before the pool was closed, everything is killed and every task settled.
    An action that raises (KeyboardInterrupt, in a hook of the user's) does not lose those behind it.

How it works
    What was submitted is taken in at the loop's next turn, together; at once where a slot is idle; and after `BURST` tasks, when the
    answers that came meanwhile are taken in too, so that slots work while a program submits thousands in one go.
"""

from __future__ import annotations

import asyncio
import logging
import time
from asyncio import Future
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from .._hosts.base import Host, Outcome, is_shortage
from .._jobs.outcomes import failure_of
from .._jobs.task import Task
from .._wire.arena import clear as clear_arena
from ..config import Settings
from ..errors import HostError
from ..events import Event
from .keeping import Keeping
from .looking import Looking
from .near_news import NearNews
from .settling import Settler
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
    Limit,
    Recall,
    Recalled,
    Retire,
    Settle,
    SettleCancelled,
    Spawn,
    Submitted,
    Want,
    Wanted,
    Withdraw,
)

log = logging.getLogger("aioparallel")

CLOSE_SECONDS = 5.0
"""How long closing waits for the confirmation that everything is dead."""
RESTARTS = 5
"""So many agents in a row may be lost without an answer from any of their slots before the host gives up."""

BURST = 256
"""So many tasks are submitted in one turn of the loop before the slots are looked after."""

_clock = time.monotonic


class Engine(NearNews, Looking):
    """Performs actions; owns every asyncio task of a pool. One per open pool."""

    def __init__(self, hosts: list[Host], settings: Settings, *, publish: Callable[[Event], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.epoch = time.time() - _clock()
        self.hosts = {host.name: host for host in hosts if not host.far}
        self.state = State(
            {host.name: host.slots for host in self.hosts.values()}, max_tasks_per_slot=settings.max_tasks_per_slot,
            lost_grace=settings.lost_grace, selection=settings.selection, epoch=self.epoch, seed=settings.seed or time.time_ns(),
        )  # fmt: skip
        self.state.retrying.read = failure_of
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
        self._unreachable: set[str] = set()
        self._settler = Settler(self.loop, self.state.endings, self._wake_waiters)
        self._actions: deque[Any] = deque()
        self._perform = self._all_performers()
        self._main = self.loop.create_task(self._restart_lost_hosts(), name="aioparallel engine")
        self._main.add_done_callback(self._main_ended)
        self.keeping = Keeping(self)
        for host in hosts:
            if host.far:
                self.keeping.add(host)
            else:
                host.attach(self)

    def _all_performers(self) -> dict[type, Callable[[Any], None]]:
        return {
            Launch: self._launch,
            Settle: self._settler.settle,
            SettleCancelled: self._settler.cancelled,
            Fail: self._settler.fail,
            Recall: self._recall,
            Kill: lambda action: self.hosts[action.host].kill(action.slot, action.ident, action.grace),
            Withdraw: lambda action: self.hosts[action.host].withdraw(action.idents),
            Want: lambda action: self.hosts[action.host].want(action.slots),
            Limit: self._limit,
            Spawn: lambda action: self.hosts[action.host].spawn(action.slot, action.incarnation),
            Retire: lambda action: self.hosts[action.host].retire(action.slot),
            CloseHost: lambda action: self._close_host(action.host),
            Emit: lambda action: self._publish(action.event),
        }

    # --- in

    def submit(self, task: Task[Any]) -> None:
        """Take a new task. Nothing is settled in here."""
        submitted = self._submitted
        submitted.append(task)
        if len(submitted) == 1:
            if not (self._feeding or self._settler.holding) and self.state.has_idle_slot():
                self._look_after_slots()
            else:
                self.loop.call_soon(self.take_in)
        elif len(submitted) >= BURST and not (self._feeding or self._settler.holding):
            self._look_after_slots(answers=True)

    def _look_after_slots(self, answers: bool = False) -> None:
        settler = self._settler
        settler.holding = True
        try:
            self.take_in()
            if answers:
                for host in self.hosts.values():
                    host.glance()
        finally:
            settler.holding = False

    def take_in(self) -> None:
        """Take in what was submitted in this turn of the loop."""
        if self._submitted:
            tasks, self._submitted = self._submitted, []
            self.feed(Submitted(tasks))

    def cancel(self, task: Task[Any], message: Any) -> bool:
        """See `Task.cancel`. The first call asks for the kill; later ones only keep the message."""
        if message is not None:
            task._message = message
        if not task._asked:
            task._asked = True
            self.take_in()  # the state machine must know a task before it hears that it was cancelled
            self.feed(CancelAsked(task))
            self._settler.rebuilding.abandon(task)
        return True

    def apart(self, work: Callable[[], Any], then: Callable[[Any, Exception | None], None]) -> None:
        """See `Owner`."""
        self._settler.rebuilding.start(object(), work, then)

    def drop(self, numbers: Sequence[int]) -> None:
        """See `_jobs/shared.Owner`."""
        for host in self.hosts.values():
            host.drop(numbers)

    def feed(self, stimulus: Any) -> None:
        """Let the state machine handle a stimulus and perform what it asks for."""
        inbox = self._inbox
        inbox.append(stimulus)
        if self._feeding:
            return
        self._feeding = True
        perform = self._perform
        handle = self.state.handle
        actions = self._actions
        try:
            while True:
                while actions:
                    action = actions.popleft()
                    perform[type(action)](action)
                if not inbox:
                    break
                try:
                    actions.extend(handle(inbox.popleft(), _clock()))
                except Exception as error:  # noqa: BLE001 - a bug of ours
                    self._break(error)
        except BaseException:
            # What stands behind an action that raised is performed before anything else is handled: the state has counted on it.
            self.loop.call_soon(self._go_on)
            raise
        finally:
            self._feeding = False
        state = self.state
        if state.next_due < self._timer_at:
            self._arm()
        if self._waiters:
            self._wake_waiters()
        if state.interrupt is not None:
            interrupt, state.interrupt = state.interrupt, None
            raise interrupt

    def _break(self, error: Exception) -> None:
        """The state machine raised, so what it knows may be wrong from here on: everything ends."""
        log.error("the engine failed", exc_info=error)
        if self.state.closing is None:
            self.loop.call_soon(self.close, f"the pool's engine failed: {error!r}")

    def _go_on(self) -> None:
        self.feed(Clock())

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self.state.next_due
        self._timer = self.loop.call_later(max(0.0, self._timer_at - _clock()), self._tick)

    def _tick(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        for host in self.hosts.values():
            host.glance()  # whoever is judged for his silence is heard first
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
        return not self._submitted and not self._settler.busy and not self.state.unfinished()

    def want(self, slots: int) -> None:
        """Begin slots before there is work for them."""
        self.feed(Wanted(slots))

    # --- actions

    def _launch(self, action: Launch) -> None:
        self.hosts[action.host].launch(action.slot, action.attempts, action.patience)

    def _recall(self, action: Recall) -> None:
        self.feed(Recalled(action.host, action.slot, self.hosts[action.host].recall(action.slot)))

    def _limit(self, action: Limit) -> None:
        where = ", ".join(action.others)
        log.info("host %s is on the same machine as %s: it gets %d of its %d CPUs", action.host, where, action.slots, action.of)
        self.hosts[action.host].limit(action.slots)

    def _close_host(self, name: str) -> None:
        host = self.hosts[name]
        host.close()
        self.loop.call_later(CLOSE_SECONDS, self._give_up, host)

    def _give_up(self, host: Host) -> None:
        name = host.name
        if self.hosts.get(name) is not host or self._is_gone(host) or self.ended.done():
            return  # (another host may have its name by now)
        log.warning("host %s did not confirm in %.0f s that everything is dead; its agent is killed", name, CLOSE_SECONDS)
        host.kill_agent()
        host.abandon()
        host.is_gone = self.state.closing is not None
        self.host_down(name, "it did not answer", {})
        if self.state.closing is None:
            self.keeping.forget(name)

    # --- reports of the hosts (see `_hosts/base.Reports`)

    def answered(self, host: str, index: int, incarnation: int, outcomes: list[Outcome]) -> None:
        """See `Reports`."""
        self._restarts = 0
        self.feed(Answered(host, index, incarnation, outcomes))

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
        if host not in self.hosts:
            return
        self._up.discard(host)
        self.feed(HostDown(host, reason, unbegun, self.hosts[host].is_buried))
        if self.state.closing is not None:
            if not self.ended.done() and all(map(self._is_gone, self.hosts.values())):
                self._end()
        elif self.state.hosts[host].leaving:
            self.keeping.went_down(host)
        elif self.hosts[host].far:
            log.warning("host %s was lost (%s); it is tried again", host, reason)
        else:
            log.warning("host %s was lost (%s); it is started again", host, reason)
            self._lost_hosts.put_nowait(host)

    # --- the end

    def _is_gone(self, host: Host) -> bool:
        return host.is_gone if host.far else self.state.hosts[host.name].down

    def close(self, reason: str) -> None:
        """Begin the end: kill everything, settle everything. `ended` is done when that is confirmed."""
        self.take_in()
        if self.state.closing is None:
            self.feed(Closing(reason))
            if not self.hosts:
                self._end()
        self._settler.close(reason)

    def _end(self) -> None:
        self.ended.set_result(None)
        self._wake_waiters()

    async def finish(self) -> None:
        """Wait for `ended`, whatever is cancelled meanwhile: it comes within seconds."""
        cancelled: asyncio.CancelledError | None = None
        while not self.ended.done():
            try:
                await asyncio.shield(self.ended)
            except asyncio.CancelledError as error:
                cancelled = error
        self._main.cancel()
        self.keeping.stop()
        if self.outputs is not None:
            self.outputs.close()
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
                if is_shortage(error.__cause__) and self._restarts < RESTARTS:
                    self._lost_hosts.put_nowait(name)
                else:
                    self.host_failed(name, error.reason)
            if self.state.closing is not None:
                self.hosts[name].close()  # it was closed when no agent was there to hear it; this one has buried what the last left

    def _main_ended(self, main: asyncio.Task[None]) -> None:
        """The engine's own task ended. If the pool was not closed, that is the loop's end (or a bug): kill and settle everything."""
        if self.state.closing is None:
            reason = "the pool's event loop ended before the pool was closed"
            error = None if main.cancelled() else main.exception()
            if error is not None:
                log.error("the engine failed", exc_info=error)
                reason = f"the pool's engine failed: {error!r}"
            self.close(reason)

    def abandon(self) -> None:
        """Let go of everything without a loop: the agents see it and kill what they have."""
        for host in self.hosts.values():
            host.abandon()
