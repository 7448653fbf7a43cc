"""What the end of an attempt means for its task: settled, tried again, or run elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._hosts.base import Death, Outcome
from .._jobs.task import Attempt, Task
from .._observe.history import BATCH, History, since
from .._wire.messages import ASKED, BY_CANCEL, BY_DEADLINE, BY_MEMORY, BY_TIMEOUT, OK, OUT_OF_MEMORY as CEILING, STATUS
from ..errors import HostError, HostLost, MemoryLimitExceeded, PoolClosed, TaskError, TaskTimeout, WorkerDied
from ..events import AttemptEnded, CancelUnconfirmed, TaskEnded
from ..policies.racing import FAILED as COPY_FAILED, LOST as COPY_LOST, STOPPED
from ..status import CANCELLED, DIED, FAILED, LOST, OUT_OF_MEMORY, RUNNING, STOPPING, SUCCEEDED, TIMED_OUT
from .ledger import Slot
from .lifecycle import SETTLED, SUCCESS, task_after
from .queue import Queue
from .retrying import lost_for_good, poisoned
from .stimuli import Action, Emit, Fail, Settle, SettleCancelled

if TYPE_CHECKING:
    from .host_record import HostRecord
    from .state import State

LOST_LINK = 81
"""The exit code of a slot that cannot answer: see `_worker/slot.py`."""
_AFTER_SUCCESS = SUCCESS[RUNNING]
MAX_LOSSES = 10
"""How often a task may be sent to slots that die before they begin it."""


class Endings:
    """The rules, and the counts of what ended how."""

    __slots__ = ("_learn", "_saw", "_state", "cancelled_count", "failed_count", "history", "retried", "run_seconds", "succeeded")

    def __init__(self, state: State) -> None:
        self._state = state
        self._learn = state.ledger.learn
        self.history = History()
        self._saw = self.history.seen.extend
        self.succeeded = 0
        self.failed_count = 0
        self.cancelled_count = 0
        self.retried = 0
        self.run_seconds = 0.0

    @property
    def settled(self) -> int:
        """How many tasks ended."""
        return self.succeeded + self.failed_count + self.cancelled_count

    def ended(self, attempt: Attempt, outcome: Outcome, now: float, settled: list[Task[Any]], actions: list[Action]) -> None:
        """An attempt gave its answer; `settled` takes the tasks that it settles."""
        task = attempt.task
        _, flags, began, seconds, cpu, peak, payload, buffers = outcome
        self.run_seconds += seconds
        if flags == OK and task._state == RUNNING:
            slot = attempt.slot
            self._learn(task, seconds * slot.weight)
            raced = (races := self._state.races) is not None and races.decided(attempt, now, seconds, actions)
            name = task._function if type(task._function) is str else task._function.name  # type: ignore[union-attr]
            self._saw((name, slot.host, seconds, began - (task._queued if attempt.number == 1 else since(attempt, began))))
            if seconds > self.history.slow or len(self.history.seen) >= BATCH:
                self.history.look(task, slot.host, seconds)
            task._state = _AFTER_SUCCESS
            self.succeeded += 1
            if raced or peak or buffers or task._buffers or attempt.before is not None or task._sink is not None:
                self._note(attempt, outcome)
                attempt.outcome = SUCCEEDED
            else:
                task._fold(attempt, began, began + seconds, cpu)
                task._payload = payload  # type: ignore[assignment] # an answer without buffers is bytes
            settled.append(task)
            if self._state.watched:
                attempt.began, attempt.ended, attempt.outcome = began, began + seconds, SUCCEEDED
                self._tell(task, attempt, SUCCEEDED, now, actions)
            return
        self._note(attempt, outcome)
        if task._state in SETTLED or task._state == STOPPING:
            attempt.payload, attempt.buffers = b"", ()
            attempt.stopped = "asked" if flags & ASKED else None
            self._ended_for_nothing(attempt, now, actions)
            if task._state == STOPPING and not self._others_run(attempt, STOPPED, now) and not self._is_in_limbo(task):
                self.cancelled(task, None, now, actions)
        elif flags & ASKED:
            attempt.payload, attempt.buffers = b"", ()
            attempt.stopped = "asked"
            self._failed_attempt(attempt, TIMED_OUT, _timeout(task, began), self._others_run(attempt, COPY_FAILED, now), now, actions)
        else:
            how = OUT_OF_MEMORY if flags & STATUS == CEILING else FAILED
            self._failed_attempt(attempt, how, None, self._others_run(attempt, COPY_FAILED, now), now, actions)

    def _note(self, attempt: Attempt, outcome: Outcome) -> None:
        _, attempt.flags, began, seconds, cpu, peak, attempt.payload, attempt.buffers = outcome
        attempt.began, attempt.ended = began, began + seconds
        if cpu == cpu:
            attempt.cpu = cpu
        if peak:
            attempt.peak = peak

    def slot_died(self, slot: Slot, death: Death, now: float, actions: list[Action]) -> None:
        """A slot died: blame the attempt that ran, and put the others back."""
        blamed, others = None, []
        for attempt in slot.outstanding:
            if attempt.ident == death.ident:
                blamed = attempt
            else:
                others.append(attempt)
        slot.outstanding.clear()
        if blamed is None and others and others[0].task._state == RUNNING:
            self._innocent(others[0], now, actions)
        self._state.requeue([attempt for attempt in others if attempt.task._state not in SETTLED], "recalled", now, actions)
        if blamed is not None:
            blamed.ran = max(0.0, now - slot.heard)
            self.killed(blamed, death, now, actions)

    def _innocent(self, attempt: Attempt, now: float, actions: list[Action]) -> None:
        """A slot died before this could begin: not its doing, but if that goes on and on, somebody must say so."""
        task = attempt.task
        task._losses += 1
        if task._losses > MAX_LOSSES:
            error = WorkerDied(None, None, f"and so did {MAX_LOSSES} others before they could begin it")
            task._state = task_after(task._state, "failed")
            self._fail(task, error, attempt, now, actions)

    def killed(self, attempt: Attempt, death: Death, now: float, actions: list[Action]) -> None:
        """An attempt ended with its slot."""
        task = attempt.task
        attempt.ended = now
        attempt.confirmed_dead = death.confirmed
        attempt.item = death.item
        attempt.exit = death.exit_code if death.signal is None else -death.signal
        if task._options.memory is not None:
            attempt.peak = death.peak
        if death.why:
            attempt.stopped = "killed"
        if task._state in SETTLED:
            self._ended_for_nothing(attempt, now, actions)
            return
        others = self._others_run(attempt, STOPPED if attempt.is_given_up else COPY_FAILED, now)
        if attempt.is_given_up and task._state == RUNNING and self._state.closing is None:
            self._ended_for_nothing(attempt, now, actions)
            if not others:
                self._state.requeue([attempt], "lost", now, actions)
        elif task._state == STOPPING:
            if others or self._is_in_limbo(task):
                self._ended_for_nothing(attempt, now, actions)
            else:
                self.cancelled(task, attempt, now, actions)
        elif self._state.closing is not None:
            task._state = task_after(task._state, "failed")
            attempt.outcome = CANCELLED
            self._fail(task, PoolClosed(self._state.closing), None, now, actions)
        elif death.why in (BY_TIMEOUT, BY_DEADLINE):
            limit = "timeout" if death.why == BY_TIMEOUT else "deadline"
            error: TaskError = TaskTimeout(limit, getattr(task._options, limit))
            self._failed_attempt(attempt, TIMED_OUT, error, others, now, actions)
        elif death.why == BY_MEMORY:
            error = MemoryLimitExceeded(task._options.memory or 0, death.peak)
            self._failed_attempt(attempt, OUT_OF_MEMORY, error, others, now, actions)
        else:
            self._failed_attempt(attempt, DIED, WorkerDied(death.exit_code, death.signal, _detail(death)), others, now, actions)

    def lost(self, attempt: Attempt, reason: str, now: float, actions: list[Action]) -> None:
        """The attempt's host was lost under it."""
        task = attempt.task
        attempt.ended = now
        attempt.outcome = LOST
        if task._state in SETTLED:
            return
        others = self._others_run(attempt, COPY_LOST, now)
        self.history.fail(task, attempt, LOST, "", now)
        if self._state.closing is not None:
            attempt.outcome, attempt.stopped = CANCELLED, "killed"
            if task._state == STOPPING:
                self.tell_unconfirmed(attempt, now, actions)
                self.cancelled(task, attempt, now, actions)
            else:
                task._state = task_after(task._state, "failed")
                self._fail(task, PoolClosed(self._state.closing), None, now, actions)
            return
        if task._state == STOPPING:
            self._state.hosts[attempt.slot.host].limbo.append(task)
            return
        task._losses += 1
        if others:
            self._tell_attempt(task, attempt, now, actions)
            return
        if why := lost_for_good(task):
            task._state = task_after(task._state, "failed")
            error = HostLost(f"host {attempt.slot.host!r} was lost while it ran the task ({reason}), {why}")
            self._fail(task, error, attempt, now, actions)
            return
        self._state.requeue([attempt], "lost", now, actions)

    def fail_waiting(self, queue: Queue, host: HostRecord, now: float, actions: list[Action]) -> None:
        """No host will ever offer a slot for these, and this one is to be named: say so."""
        for task in queue.take_all():
            self.failed(task, HostError(host.name, host.failed or ""), None, now, actions)

    def end_limbo(self, host: HostRecord, now: float, actions: list[Action]) -> None:
        """Everything on a host is known to be dead, or never will be: settle the tasks whose cancelling waited for that."""
        limbo, host.limbo = host.limbo, []
        for task in limbo:
            if task._state in SETTLED or (self._state.races is not None and task._id in self._state.races.live) or self._is_in_limbo(task):
                continue
            if task._attempt is not None:
                self.tell_unconfirmed(task._attempt, now, actions)
            self.cancelled(task, task._attempt, now, actions)

    def tell_unconfirmed(self, attempt: Attempt, now: float, actions: list[Action]) -> None:
        """Some of a cancelled attempt may live: tell whoever listens."""
        if self._state.watched and not attempt.confirmed_dead:
            where: dict[str, Any] = {"host": attempt.slot.host, "slot": attempt.slot.index}
            actions.append(Emit(CancelUnconfirmed(at=now + self._state.epoch, task=attempt.task._id, **where)))

    def _failed_attempt(self, attempt: Attempt, how: str, error: TaskError | None, others: bool, now: float, actions: list[Action]) -> None:
        """An attempt failed by the task's own doing: try again if that was asked for, else settle with `error`, or what it answered.

        `others`: another copy runs, and may do better than one that did not answer.
        """
        task = attempt.task
        attempt.outcome = how
        self.history.fail(task, attempt, how, "" if error is None else type(error).__name__, now)
        retrying = self._state.retrying
        is_late = isinstance(error, TaskTimeout) and error.limit == "deadline"
        if (delay := retrying.delay_before_next(attempt, error, others, now, actions)) is not None:
            task._failures += 1
            attempt.payload, attempt.buffers = b"", ()
            self._tell_attempt(task, attempt, now, actions)
            if not others:
                self.retried += 1
                retrying.again(attempt, delay, now, actions)
            return
        if others and how != FAILED and not is_late:
            self._tell_attempt(task, attempt, now, actions)
            return  # the other copy may do better
        if self._state.races is not None:
            self._state.races.decided(attempt, now, None, actions)
        task._state = task_after(task._state, "failed")
        if error is not None:
            self._fail(task, poisoned(task, error), attempt, now, actions)
            return
        self.failed_count += 1
        actions.append(Settle([task]))
        self._tell(task, attempt, FAILED, now, actions)

    def _is_in_limbo(self, task: Task[Any]) -> bool:
        """Return whether a copy of a raced task was lost with its host, and may live there."""
        return self._state.races is not None and any(task in host.limbo for host in self._state.hosts.values())

    def _others_run(self, attempt: Attempt, how: str, now: float) -> bool:
        """An attempt ended, and did not settle its task: return whether another copy of it is out."""
        races = self._state.races
        return races is not None and races.leaves(attempt, how, now)

    def _ended_for_nothing(self, attempt: Attempt, now: float, actions: list[Action]) -> None:
        """An attempt ended whose task needs it no more."""
        if attempt.outcome == RUNNING:
            attempt.outcome = CANCELLED
            self._tell_attempt(attempt.task, attempt, now, actions)

    def failed(self, task: Task[Any], error: Exception, attempt: Attempt | None, now: float, actions: list[Action]) -> None:
        """A waiting task ends in an error of ours."""
        task._state = task_after(task._state, "failed")
        self._fail(task, error, attempt, now, actions)

    def _fail(self, task: Task[Any], error: Exception, attempt: Attempt | None, now: float, actions: list[Action]) -> None:
        self.failed_count += 1
        if self._state.races is not None:
            self._state.races.given_up(task, attempt, now, actions)
        if attempt is None:
            self.history.fail(task, None, FAILED, type(error).__name__, now)
        actions.append(Fail(task, error, attempt))
        self._tell(task, attempt, FAILED, now, actions)

    def cancelled(self, task: Task[Any], attempt: Attempt | None, now: float, actions: list[Action]) -> None:
        """A task ends as cancelled."""
        task._state = task_after(task._state, "cancelled")
        if attempt is not None:
            attempt.outcome = CANCELLED
            attempt.ended = now
        self.cancelled_count += 1
        if self._state.races is not None:
            self._state.races.forget(task, now)
        actions.append(SettleCancelled(task))
        self._tell(task, attempt, CANCELLED, now, actions)

    def amend(self, task: Task[Any], happened: str) -> None:
        """An answer was counted, and then proved to be "unreadable", or was "withdrawn" by a cancel while it was rebuilt."""
        before, task._state = task._state, task_after(task._state, happened)
        self.succeeded -= before == SUCCEEDED
        self.failed_count += (task._state == FAILED) - (before == FAILED)
        self.cancelled_count += (task._state == CANCELLED) - (before == CANCELLED)

    def _tell_attempt(self, task: Task[Any], attempt: Attempt, now: float, actions: list[Action]) -> None:
        if self._state.watched:
            where: dict[str, Any] = {"host": attempt.slot.host, "slot": attempt.slot.index}
            if attempt.began is not None and attempt.ended is not None:
                where |= {"started_at": attempt.began + self._state.epoch, "seconds": attempt.ended - attempt.began}
            ended = AttemptEnded(at=now + self._state.epoch, task=task._id, attempt=attempt.number, outcome=attempt.outcome, **where)
            actions.append(Emit(ended))

    def _tell(self, task: Task[Any], attempt: Attempt | None, outcome: str, now: float, actions: list[Action]) -> None:
        if self._state.watched:
            if attempt is not None:
                self._tell_attempt(task, attempt, now, actions)
            actions.append(Emit(TaskEnded(at=now + self._state.epoch, task=task._id, name=task.name, outcome=outcome)))


def _timeout(task: Task[Any], began: float) -> TaskTimeout:
    """Return the error for an attempt that ended within its grace after a limit of time."""
    timeout = task._options.timeout
    if timeout is not None and began + timeout <= task._deadline:
        return TaskTimeout("timeout", timeout)
    return TaskTimeout("deadline", task._options.deadline or 0.0)


def _detail(death: Death) -> str:
    if death.exit_code == LOST_LINK or death.why == BY_CANCEL:  # (by no cancel of the task's own: its pool saw the link end first)
        return "it could not answer any more: the task closed the slot's own descriptors"
    if death.leftovers:
        return "an earlier task had left a thread or a process in that slot (isolate=True avoids this)"
    return ""
