"""When a task is tried again after a failure of its own: whether its `Retry` says so, after how long, and where it waits meanwhile.

Guarantees
    A task that waits out its delay is QUEUED and in no queue: it is in `waiting`, with a timer, and nowhere else. It leaves at once when
    it is cancelled or the pool closes. No delay reaches the task's deadline.
    Nothing of the user's is opened here: types are matched by the names that came with the failure; for a function, the exception is
    read by whoever owns the state machine.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import ref

from .._jobs.outcomes import names_of
from .._jobs.task import Attempt, Task
from .._wire.messages import STATUS
from .._worker.failures import in_words, type_name, type_names
from ..errors import MemoryLimitExceeded, TaskError, TaskPoisoned, TaskTimeout, WorkerDied
from ..events import RetryPlanned, RetryRefused
from ..status import CANCELLED, DIED, LOST, OUT_OF_MEMORY
from .alone import look_who_is_alone
from .assign import assign
from .lanes import interrupt
from .lifecycle import task_after
from .stimuli import Action, Emit

if TYPE_CHECKING:
    from ..options import Retry
    from .state import State

log = logging.getLogger("aioparallel")

LONGEST_SECONDS = 1e9
"""A delay that grew beyond this (and maybe beyond any number) is this long."""
MEMORY = type_name(MemoryLimitExceeded)


class Retrying:
    """The tasks that wait out a delay."""

    __slots__ = ("_back", "_state", "read", "waiting")

    def __init__(self, state: State) -> None:
        self._state = state
        self.waiting: set[Task[Any]] = set()
        self._back: list[Task[Any]] = []
        """Those whose delay is over, until they are put into their queues; those that left meanwhile, too."""
        self.read: Callable[[Task[Any], Attempt], Exception]
        """Opens what an attempt that failed answered; set by whoever owns the state machine."""

    def delay_before_next(self, attempt: Attempt, error: TaskError | None, others: bool, now: float, actions: list[Action]) -> float | None:
        """Return the seconds after which an attempt that failed is followed by another; None: by none.

        error: ours; None: the attempt answered its own. others: another copy runs already, and takes the place of the next attempt.
        """
        task = attempt.task
        retry = task._options.retry
        if task._failures + 1 >= retry.attempts or self._state.closing is not None:
            return None
        if isinstance(error, TaskTimeout) and error.limit == "deadline":
            return None
        if not self._matches(retry, attempt, error, now, actions):
            return None
        if others:
            return 0.0
        seconds = self._delay(retry, task._failures)
        return None if now < task._deadline <= now + seconds else seconds

    def _matches(self, retry: Retry, attempt: Attempt, error: TaskError | None, now: float, actions: list[Action]) -> bool:
        if retry.predicate is not None:
            return self._ask(retry.predicate, attempt, error, now, actions)
        if attempt.outcome == OUT_OF_MEMORY:
            return retry.names is not None and MEMORY in retry.names
        if retry.names is None:
            return True
        names = names_of(attempt.flags & STATUS, attempt.payload) if error is None else type_names(type(error))
        return not retry.names.isdisjoint(names)

    def _ask(
        self, predicate: Callable[[Exception], object], attempt: Attempt, error: Exception | None, now: float, actions: list[Action]
    ) -> bool:
        task = attempt.task
        try:
            verdict: Any = predicate(error if error is not None else self.read(task, attempt))
            if hasattr(verdict, "__await__"):
                verdict.close()
                raise TypeError("it is async, and nobody can wait for it here: give a plain function")  # noqa: TRY301 - it is said below
            return bool(verdict)
        except BaseException as raised:
            interrupt(self._state, raised)
            log.exception("the function in Retry(on=) failed for task %s, which is not tried again", task.label)
            if self._state.watched:
                at, reason = now + self._state.epoch, f"the function in Retry(on=) raised {_in_words(raised)}"
                actions.append(Emit(RetryRefused(at=at, task=task._id, attempt=attempt.number, reason=reason)))
            return False

    def _delay(self, retry: Retry, failures: int) -> float:
        """Return the seconds of the delay after so many failures and one more: exponential backoff, of which chance leaves out a part."""
        if not retry.delay:
            return 0.0
        try:
            seconds = min(retry.delay * float(retry.backoff) ** failures, LONGEST_SECONDS)
        except OverflowError:
            seconds = LONGEST_SECONDS
        if retry.max_delay is not None:
            seconds = min(seconds, retry.max_delay)
        return seconds * (1.0 - retry.jitter * self._state.random.random())

    def again(self, attempt: Attempt, seconds: float, now: float, actions: list[Action]) -> None:
        """Have a task tried again after so many seconds."""
        state, task = self._state, attempt.task
        if state.watched and task._deadline > now:
            actions.append(Emit(RetryPlanned(at=now + state.epoch, task=task._id, attempt=attempt.number, seconds=seconds)))
        if not seconds or task._deadline <= now:
            state.requeue([attempt], "retried", now, actions)
            return
        task._state = task_after(task._state, "retried")
        self.waiting.add(task)
        state.at(now + seconds, "retry", ref(task))

    def leave(self, task: Task[Any]) -> bool:
        """Say that a task is not QUEUED any more; return whether it waited here."""
        if task not in self.waiting:
            return False
        self.waiting.discard(task)
        return True

    def take_all(self) -> list[Task[Any]]:
        """Return what waited here, which does so no more."""
        tasks = sorted(self.waiting, key=_age)
        self.waiting.clear()
        return tasks

    def come_back(self, task: Task[Any] | None) -> None:
        """A delay is over; `go_on` follows."""
        if task is not None and task in self.waiting:
            self._back.append(task)

    def go_on(self, now: float, actions: list[Action]) -> None:
        """Put those whose delays are over before all that wait, and launch what can be."""
        if not self._back:
            return
        state = self._state
        back, self._back = self._back, []
        for task in sorted(back, key=_age, reverse=True):
            if self.leave(task):
                state.queue_of(task).push_front(task)
        look_who_is_alone(state)
        assign(state, now, actions)


def _age(task: Task[Any]) -> tuple[float, int]:
    return task._queued, task._id


def _in_words(raised: BaseException) -> str:
    return "KeyboardInterrupt" if isinstance(raised, KeyboardInterrupt) else in_words(raised)


def lost_for_good(task: Task[Any]) -> str:
    """Return why a task that was lost with its host does not run again; "": it does."""
    options = task._options
    if options.idempotent is False:
        return "it may not be run again (idempotent=False)"
    losses = sum(attempt.outcome == LOST for attempt in task._history())
    if task._sink is not None or losses > options.retry.infrastructure:
        return f"and Retry(infrastructure={options.retry.infrastructure}) allows no other attempt"
    return ""


def poisoned(task: Task[Any], error: TaskError) -> TaskError:
    """Return the error of a task whose last attempt ended in `error`: TaskPoisoned if it had several, and each took down its slot."""
    history = [attempt for attempt in task._history() if attempt.outcome not in (LOST, CANCELLED)]
    if not isinstance(error, WorkerDied) or len(history) < 2 or any(attempt.outcome != DIED for attempt in history):
        return error
    return TaskPoisoned(tuple([(attempt.slot.host, attempt.slot.index, attempt.exit or 0, attempt.ran) for attempt in history]))


__all__ = ["Retrying", "lost_for_good", "poisoned"]
