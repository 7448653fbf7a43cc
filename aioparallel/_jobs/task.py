"""A task: one call a user asked for, and the awaitable handle to it.

Guarantees
    It is an `asyncio.Future`, so everything in asyncio and anyio works with it. Only the pool settles it. `cancel()` returns at once
    and the task is done when its process tree is gone; it then ends as cancelled and in no other way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import copy
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

from ..status import QUEUED, RUNNING, SUCCEEDED, AttemptRecord

if TYPE_CHECKING:
    from .._wire.codec import Arguments
    from .._wire.functions import Function
    from .._wire.memory import Buffer, Buffers
    from ..options import Options

__all__ = ["FIRST_MAP_ID", "Attempt", "Task"]

T = TypeVar("T")


NAN = float("nan")
FIRST_MAP_ID = 1 << 32
"""A map's tasks are counted from here on: how many they are depends on the moment, and a seed must not."""


def label_of(number: int) -> str:
    """Return a task's number as messages show it."""
    return str(number) if number < FIRST_MAP_ID else f"m{number - FIRST_MAP_ID + 1}"


class Owner(Protocol):
    """Who runs a task and settles it: the engine."""

    def cancel(self, task: Task[Any], message: Any) -> bool:
        """Ask for the task's end; as `Future.cancel`."""
        ...

    def apart(self, work: Callable[[], Any], then: Callable[[Any, Exception | None], None]) -> None:
        """Have something done in a thread, then call `then` in the loop with what it gave, or with why it gave nothing."""
        ...

    epoch: float
    """What to add to CLOCK_MONOTONIC seconds to get seconds since the epoch."""


class Place(Protocol):
    """Where an attempt runs: a slot, as the scheduler knows it."""

    host: str
    index: int
    pid: int | None
    weight: float


class Attempt:
    """One execution of a task on one slot. Made for every launch, so it holds little; what is rare is in the class."""

    __slots__ = (
        "__dict__", "before", "began", "buffers", "cpu", "ended", "estimate", "flags", "ident", "number", "outcome", "payload", "slot",
        "task",
    )  # fmt: skip

    flags: int
    payload: Buffer
    buffers: Buffers
    """What its slot answered (see `_hosts/base.Outcome`), from then until the task is settled."""

    peak: int | None = None
    stopped: str | None = None
    confirmed_dead = True
    is_backup = False
    """Whether it was started while another copy ran."""
    is_given_up = False
    """Whether it is being stopped although its task runs on, in another copy."""
    item = 0
    """Which item of a chunk ran when the slot died."""
    exit: int | None = None
    """How its slot ended under it: the exit code, or minus the signal."""
    ran: float | None = None
    """Seconds that it had run when its slot died, where that is known."""
    since: float | None = None
    """When it began, or was first heard of, where that is known before its end (CLOCK_MONOTONIC seconds)."""

    def __init__(self, task: Task[Any], before: Attempt | None, slot: Place, estimate: float) -> None:
        self.task = task
        number = 1 if before is None else before.number + 1
        self.before = before
        """The attempt before it."""
        self.number: int = number
        self.ident = task._id << 16 | number
        self.slot = slot
        self.estimate = estimate
        """Seconds that it was expected to run."""
        self.outcome = RUNNING
        self.began: float | None = None
        self.ended: float | None = None
        self.cpu: float | None = None

    def record(self, queued: float, epoch: float) -> AttemptRecord:
        """Return what users see of it."""
        return AttemptRecord(
            number=self.number,
            host=self.slot.host,
            slot=self.slot.index,
            pid=self.slot.pid,
            queued_at=queued + epoch,
            started_at=None if self.began is None else self.began + epoch,
            ended_at=None if self.ended is None else self.ended + epoch,
            outcome=self.outcome,
            cpu_seconds=self.cpu,
            peak_bytes=self.peak,
            stopped=self.stopped,
            confirmed_dead=self.confirmed_dead,
        )


class Task(asyncio.Future[T]):
    """The handle to a submitted call: await it for its result.

    If the awaiting is cancelled, so is the task: its process tree is killed, and the awaiting ends when that is confirmed.
    """

    __slots__ = (
        "_asked", "_attempt", "_began", "_buffers", "_cpu", "_deadline", "_ended", "_engine", "_extras", "_failures", "_function", "_id",
        "_losses", "_message", "_options", "_payload", "_place", "_queued", "_sink", "_state",
    )  # fmt: skip

    _id: int
    _function: Function | str
    """The function, or its name where the callable itself is in the payload."""
    _payload: Arguments
    _buffers: tuple[Any, ...]
    _options: Options
    _state: str
    _attempt: Attempt | None
    """The latest; each knows the one before it."""
    _place: Place | None
    _began: float
    _ended: float
    _cpu: float
    """What is left of an attempt that was the first, and succeeded, and left nothing else to tell: the garbage collector then has one
    object less to look at, for each task that somebody keeps."""
    _failures: int
    _losses: int
    _asked: bool
    _message: Any
    _queued: float
    _deadline: float
    _engine: Owner
    _sink: Any
    _extras: bytes
    """What the slot must know besides: see `_wire/messages.EXTRAS`."""

    @property
    def id(self) -> int:
        """The task's number in its pool."""
        return self._id

    @property
    def label(self) -> str:
        """The id as messages show it: those of a map's tasks are counted apart ("m1")."""
        return label_of(self._id)

    @property
    def name(self) -> str:
        """What `options(name=)` said, or the function's name."""
        function = self._function
        return self._options.name or (function if isinstance(function, str) else function.name)

    @property
    def state(self) -> str:
        """One of "queued", "running", "stopping", "succeeded", "failed", "cancelled"."""
        return self._state

    @property
    def data(self) -> Any:
        """What `options(data=)` gave."""
        return self._options.data

    @property
    def attempts(self) -> tuple[AttemptRecord, ...]:
        """Every execution so far, oldest first."""
        epoch = self._engine.epoch
        return tuple(attempt.record(self._queued, epoch) for attempt in self._history())

    def _fold(self, attempt: Attempt, began: float, ended: float, cpu: float) -> None:
        """Keep of an attempt only where and when it ran, and its CPU seconds (nan: not measured)."""
        self._place, self._began, self._ended = attempt.slot, began, ended
        self._cpu = cpu if cpu == cpu else NAN
        self._attempt = None

    def _detach(self) -> None:
        """Break the circle of a task that has ended and its attempts, so that it goes with the last reference to it.

        Of the last attempt a copy is kept: the scheduler may still look at the other, and at its task, for some seconds. One that is
        not confirmed dead stays as it is: its end is still to come.
        """
        last = self._attempt
        if last is None or not last.confirmed_dead:
            return
        self._attempt = copy(last)
        kept: Attempt | None = self._attempt
        while kept is not None:
            if kept is self._attempt or kept.outcome != RUNNING:  # (a copy that is being stopped is still looked at)
                kept.task = None  # type: ignore[assignment]
            kept = kept.before

    def _ran_for(self) -> float | None:
        """Return the seconds that the latest attempt took; None: it did not end by itself."""
        if self._place is not None:
            return self._ended - self._began
        last = self._attempt
        return None if last is None or last.began is None or last.ended is None else last.ended - last.began

    def _history(self) -> list[Attempt]:
        """Return all attempts, oldest first."""
        history: list[Attempt] = []
        attempt = self._attempt
        if self._place is not None:
            attempt = Attempt(self, None, self._place, 0.0)
            attempt.began, attempt.ended, attempt.outcome = self._began, self._ended, SUCCEEDED
            attempt.cpu = self._cpu if self._cpu == self._cpu else None
        while attempt is not None:
            history.append(attempt)
            attempt = attempt.before
        return sorted(history, key=lambda attempt: attempt.number)

    def cancel(self, msg: Any = None) -> bool:
        """Ask for the task's end; return False if it is done already.

        A task that is on no slot is cancelled at once. Otherwise its process tree is killed (or asked first: `options(grace=)`) and the
        task is done, as cancelled, when that is confirmed, at the latest after five seconds.
        """
        if self.done():
            return False
        return self._engine.cancel(self, msg)

    def set_result(self, result: Any) -> NoReturn:
        """Raise RuntimeError: only the pool settles a task."""
        raise RuntimeError("a Task is settled by its pool alone")

    def set_exception(self, exception: Any) -> NoReturn:
        """Raise RuntimeError: only the pool settles a task."""
        raise RuntimeError("a Task is settled by its pool alone")

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(f"{self!r} cannot travel to a slot: await it and pass on its result")

    def __repr__(self) -> str:
        last = self._attempt
        place = self._place if last is None else last.slot
        where = f" on {place.host}/{place.index}" if place is not None and self._state != QUEUED else ""
        tries = f", attempt {last.number}" if last is not None and last.number > 1 else ""
        return f"<Task {self.label} {self.name!r} {self._state}{where}{tries}>"
