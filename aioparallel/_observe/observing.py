"""The verbs by which a pool is looked at. Whoever does not look pays nothing: no event is built, and no timer runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, TextIO, cast
from weakref import ref

from ..events import Event
from ..status import Explanation, FailureRecord, Histogram, PoolStatus, Summary
from .subscription import Subscription

if TYPE_CHECKING:
    from .._jobs.task import Task
    from .progress import MapProgress
    from .watching import Watch

_NOTHING = Histogram(count=0, mean=None, least=None, most=None, p50=None, p95=None, p99=None, buckets=())


class Observed:
    """What a pool has that is looked at."""

    _engine: Any
    _settings: Any
    _phase: str
    _loop: asyncio.AbstractEventLoop | None
    _opened_at = 0.0
    """On the loop's clock; 0: it never was open, and has no engine."""
    _ended_at = 0.0
    _readers: tuple[ref[Subscription], ...] = ()
    """Weak: one that was dropped has gone, and events are built for the others alone."""
    _sinks: tuple[Subscription, ...] = ()
    """Those that nobody else need hold."""

    def _check_here(self) -> None:
        raise NotImplementedError

    # --- at one moment

    def status(self) -> PoolStatus:
        """Return a snapshot of the pool: print it, `as_dict()` it, or have a notebook show it. It costs a millisecond at most."""
        name, phase = self._settings.name, self._phase
        if not self._opened_at:
            return PoolStatus(
                name=name, state=phase, uptime_seconds=0.0, slots=(), max_slots=self._settings.local_slots, queued=0, running=0,
                succeeded=0, failed=0, cancelled=0, retried=0, run_seconds=0.0,
            )  # fmt: skip
        status: PoolStatus = self._engine.status(name, phase, self._seconds())
        return status

    def summary(self) -> Summary:
        """Return what the pool has done, so far or in the end: how long tasks ran and waited, what was slow, what failed."""
        if not self._opened_at:
            return Summary(
                name=self._settings.name, seconds=0.0, submitted=0, succeeded=0, failed=0, cancelled=0, retried=0, run_seconds=0.0,
                run=_NOTHING, queue=_NOTHING, slowest=(), functions=(), hosts=(), failures=(), failures_count=0,
            )  # fmt: skip
        summary: Summary = self._engine.summary(self._settings.name, self._seconds())
        return summary

    @property
    def failures(self) -> tuple[FailureRecord, ...]:
        """The latest failures of attempts (and of tasks that had none), at most 1,000, oldest first."""
        return self._engine.failures() if self._opened_at else ()

    def explain(self, task: Task[Any]) -> Explanation:
        """Say why a task does not run, or where it ran: print what is returned.

        Raises TypeError for what is no Task, ValueError for a task of another pool.
        """
        from .._jobs.task import Task

        if not isinstance(task, Task):
            raise TypeError(f"explain({type(task).__qualname__}): give a Task, as submit() returns it")
        if not self._opened_at or cast("Any", task)._engine is not self._engine:
            raise ValueError(f"{task!r} is not a task of {self!r}: ask the pool that it was submitted to")
        explanation: Explanation = self._engine.explain(task)
        return explanation

    def _seconds(self) -> float:
        return (self._ended_at or monotonic()) - self._opened_at

    # --- as it happens

    def events(self, to: Callable[[Event], object] | None = None) -> Subscription:
        """Return an async iterator of what happens from now on, until the pool is closed; see `aioparallel.events`.

        At most 10,000 events wait for a slow reader; then the oldest are dropped and an EventsLost says how many.
        to: a function that is called with each event instead, in the pool's loop (its `close()` at the end, if it has one), as
        `events.to_jsonl(path)` is; then what is returned need not be kept, and its `close()` ends it.
        """
        self._check_here()
        if to is not None and not callable(to):
            raise TypeError(f"events(to={to!r}): give a function that is called with each event")
        subscription = Subscription(lambda closed: self._unsubscribe(ref(closed)), to=to)
        self._readers = (*self._readers, ref(subscription, self._unsubscribe))
        if to is not None:
            self._sinks = (*self._sinks, subscription)
        self._engine.state.watched = True
        return subscription

    def trace(self, path: str | os.PathLike[str]) -> Subscription:
        """Write what happens from now on to a file that Perfetto (ui.perfetto.dev) and chrome://tracing open.

        One row a slot, attempts as bars; those that did not succeed are marked. The file is whole when the pool is closed, or with
        `close()` of what is returned, or at the end of its `with` block. Raises OSError where it cannot be written.
        """
        self._check_here()
        from .tracing import ChromeTrace

        return self.events(ChromeTrace(path, self._settings.name))

    def watch(self, every: float | None = None, *, stream: TextIO | None = None, quiet: bool = False) -> Watch:
        """Return an `async with` block during which the scoreboard is shown on a terminal, and redrawn in place.

        Where there is no terminal, a line says how things stand; where `rich` is not installed, one line is redrawn.
        every: seconds between two looks; None: 0.5 on a terminal, else 5. stream: where to, None: standard error. quiet: show nothing.
        Raises ValueError for what are no seconds. If cancelled: the terminal is left as it was.
        """
        from .watching import Watch

        return Watch(self.status, every, stream, quiet)

    def _show_progress(self, name: str, total: int | None, counts: Callable[[], tuple[int, int]]) -> MapProgress:
        from .progress import MapProgress

        return MapProgress(name, total, counts)

    def _unsubscribe(self, gone: ref[Subscription]) -> None:
        self._readers = tuple(reader for reader in self._readers if reader != gone and reader() is not None)
        self._sinks = tuple(sink for sink in self._sinks if sink is not gone())
        self._engine.state.watched = bool(self._readers)

    def _publish(self, event: Event) -> None:
        for reader in self._readers:
            if (subscription := reader()) is not None:
                subscription.put(event)

    def _end_sinks(self) -> None:
        """Nobody closed the pool: files, at least, shall be whole."""
        for sink in self._sinks:
            sink.end()

    def _end_observing(self) -> None:
        """The pool is closed: readers have what waits, and end."""
        self._ended_at = monotonic()
        for reader in self._readers:
            if (subscription := reader()) is not None:
                subscription.end()
        self._sinks = ()


__all__ = ["Observed"]
