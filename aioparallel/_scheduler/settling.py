"""The one place where a task's future is set.

Guarantees
    Every settle goes through `_finish`, which cannot raise. A task that was asked to be cancelled ends cancelled, and in no other way.
    Nothing is settled inside `Pool.submit`: what an answer that is taken in there settles, waits for the loop's next turn.
"""

from __future__ import annotations

import logging
from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._jobs.outcomes import opened
from .._jobs.task import Attempt, Task
from .._wire.arena import give
from .._wire.codec import BIG_PICKLE, takes_time
from .._wire.memory import Buffer, Buffers
from .._wire.messages import OK, STATUS
from .._worker.failures import in_words
from ..errors import PoolClosed, SerializationError
from ..status import RUNNING
from .rebuilding import Rebuilding
from .stimuli import Fail, Settle, SettleCancelled

if TYPE_CHECKING:
    from .endings import Endings

log = logging.getLogger("aioparallel")

SETTLED_A_TURN = 256
"""So many tasks whose settling had to wait are settled before the loop may do something else: slots wait for work meanwhile."""

_future_cancel = Future.cancel
_future_set_result = Future.set_result
_future_set_exception = Future.set_exception


class Settler:
    """Sets futures, in the order of the answers."""

    def __init__(self, loop: AbstractEventLoop, endings: Endings, caught_up: Callable[[], None]) -> None:
        self._loop = loop
        self._endings = endings
        self._caught_up = caught_up
        self.holding = False
        """While this is True nothing is settled."""
        self._later: deque[Settle | Fail | SettleCancelled] = deque()
        self.rebuilding = Rebuilding(loop, caught_up)
        """By task, where it is that task's own result."""

    @property
    def busy(self) -> bool:
        """Whether something that has ended is not settled yet."""
        return bool(self._later or self.rebuilding)

    def settle(self, action: Settle) -> None:
        """Settle tasks with what their slot answered."""
        if self.holding or self._later:
            self._postpone(action)
        else:
            self._settle(action)

    def fail(self, action: Fail) -> None:
        """Settle a task with an error of ours."""
        if self.holding:
            self._postpone(action)
        else:
            self._fail(action)

    def cancelled(self, action: SettleCancelled) -> None:
        """Settle a task as cancelled."""
        if self.holding:
            self._postpone(action)
            return
        task = action.task
        task._payload, task._buffers = b"", ()
        task._detach()
        _call(task, _future_cancel, task._message)

    def _postpone(self, action: Settle | Fail | SettleCancelled) -> None:
        if not self._later:
            self._loop.call_soon(self._catch_up)
        self._later.append(action)

    def _catch_up(self) -> None:
        room = SETTLED_A_TURN
        try:
            while self._later and room > 0:
                room -= self._perform_one()
        finally:  # a KeyboardInterrupt, in a hook of the user's
            if self._later:
                self._loop.call_soon(self._catch_up)
        if not self._later:
            self._caught_up()

    def flush(self) -> None:
        """Settle now what waits."""
        self.holding = False
        while self._later:
            self._perform_one()

    def close(self, reason: str) -> None:
        """Settle now what waits, and what is being rebuilt; wait for no thread from here on."""
        self.flush()
        self.rebuilding.close(reason)

    def _perform_one(self) -> int:
        action = self._later.popleft()
        if isinstance(action, Settle):
            self._settle(action)
            return len(action.tasks)
        if isinstance(action, Fail):
            self._fail(action)
        else:
            self.cancelled(action)
        return 1

    def _settle(self, action: Settle) -> None:
        payload: Buffer
        buffers: Buffers
        tasks = iter(action.tasks)
        for task in tasks:
            try:
                attempt = task._attempt
                if attempt is None:
                    flags, payload, buffers = OK, task._payload, ()  # type: ignore[assignment]
                    task._payload = b""
                else:
                    flags, payload, buffers = self._take_answer(task, attempt)
                    if task._sink is not None and flags & STATUS == OK:
                        task._sink.part(attempt, OK, payload)
                        self._finish(task, None, None)
                        continue
                if (buffers or len(payload) > BIG_PICKLE) and takes_time(payload, buffers):
                    self._settle_in_thread(task, attempt, flags, payload, buffers)
                    continue
                value, error = opened(task, attempt, flags, payload, buffers)
                if error is None and not task._asked:
                    _call(task, _future_set_result, value)
                else:
                    self._finish(task, value, error)
            except Exception as raised:  # noqa: BLE001 - a hook of the user's that was not thought of costs its own task
                self._finish_unopened(task, raised)
            except BaseException as raised:
                self._finish_unopened(task, raised)
                self._later.appendleft(Settle(list(tasks)))
                self._loop.call_soon(self._catch_up)
                raise

    def _finish_unopened(self, task: Task[Any], raised: BaseException) -> None:
        """Settle a task whose answer raised where it was opened."""
        if task.done():
            log.debug("task %d was settled, and then raised", task.id, exc_info=raised)
        elif isinstance(raised, KeyboardInterrupt):
            self._finish(task, None, PoolClosed("interrupted (KeyboardInterrupt) while its result was rebuilt"))
        else:
            self._finish(task, None, SerializationError(f"the answer of {task.name!r} could not be opened: {in_words(raised)}"))

    def _take_answer(self, task: Task[Any], attempt: Attempt) -> tuple[int, Buffer, Buffers]:
        """Take flags, payload and buffers out of an attempt, and break the circle of it and its task.

        So a result's memory goes with the last reference to the task.
        """
        answer = attempt.flags, attempt.payload, attempt.buffers
        attempt.payload, attempt.buffers = b"", ()
        if task._buffers:
            give(task._buffers)
        task._payload, task._buffers = b"", ()
        ended: Attempt | None = attempt
        while ended is not None:
            if ended is attempt or ended.outcome != RUNNING:  # (a copy that is being stopped is still looked at)
                ended.task = None  # type: ignore[assignment]
            ended = ended.before
        return answer

    def _settle_in_thread(self, task: Task[Any], attempt: Attempt | None, flags: int, payload: Buffer, buffers: Buffers) -> None:
        def rebuilt(result: tuple[Any, Exception | None] | None, reason: Exception | None) -> None:
            if not task.done():
                value, error = result or (None, reason)
                self._finish(task, value, error)

        self.rebuilding.start(task, lambda: opened(task, attempt, flags, payload, buffers), rebuilt)

    def _fail(self, action: Fail) -> None:
        task, error, attempt = action
        task._payload, task._buffers = b"", ()
        task._detach()
        if attempt is not None:
            slot = attempt.slot
            error.add_note(f"in task {task.label} {task.name!r}, attempt {attempt.number}, on {slot.host}/{slot.index} (pid {slot.pid})")
        self._finish(task, None, error)

    def _finish(self, task: Task[Any], value: Any, error: Exception | None) -> None:
        """Set a task's future. A task that was asked to be cancelled meanwhile ends cancelled, and in no other way."""
        if task._asked:
            self._endings.amend(task, "withdrawn")
            _call(task, _future_cancel, task._message)
        elif error is None:
            _call(task, _future_set_result, value)
        else:
            self._endings.amend(task, "unreadable")
            _call(task, _future_set_exception, error)
            if isinstance(error, PoolClosed):
                task._log_traceback = False  # nobody forgot it: the pool was closed over it


def _call(task: Task[Any], method: Callable[[Any, Any], Any], value: Any) -> None:
    try:
        method(task, value)
    except Exception as error:  # noqa: BLE001 - the loop is closed, or the future was settled behind our back
        log.debug("task %d could not be settled: %s", task.id, error)


__all__ = ["Settler"]
