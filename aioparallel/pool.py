"""The pool: what a user may say.

Guarantees
    `submit` pickles everything at the caller's line: what cannot travel raises there, and what is changed later reaches nobody. A pool
    that is left is dead: normally after its tasks have finished, by an exception or a cancellation at once.
"""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, ParamSpec, Self, TypeVar, cast, overload
from weakref import ref

from ._jobs.task import Task
from ._observe.subscription import Subscription
from ._worker import context
from ._worker.machine import descriptor_limit
from .config import SSH, HostAdded, HostRemoved, Settings, given, unset
from .errors import HostError, PoolClosed, UsageError
from .events import Event
from .options import DEFAULTS, Options
from .status import PoolStatus

if TYPE_CHECKING:
    from ._hosts.base import Host
    from ._jobs.making import Maker
    from ._jobs.results import Results
    from ._scheduler.engine import Engine

    Source = Iterable[Any] | AsyncIterable[Any]

__all__ = ["Pool"]

P = ParamSpec("P")
T = TypeVar("T")

DESCRIPTORS_A_SLOT = 4
DESCRIPTORS_BESIDES = 32
_get_running_loop = asyncio._get_running_loop


class Submitter:
    """The verbs that a pool and its views share."""

    _pool: Pool
    _options: Options

    @overload
    def submit(self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]: ...
    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]: ...
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task[Any]:
        """Have `fn(*args, **kwargs)` run in a slot, and return its task at once.

        Everything is pickled here: later changes of arguments, globals or cells do not reach the task. An `async def` function runs to
        its end in the slot. Raises SerializationError for what cannot be pickled, PoolClosed, and UsageError when called from another
        thread or event loop than the pool's.
        """
        pool = self._pool
        if _get_running_loop() is not pool._loop or pool._phase != "open":
            pool._check_open()
        return pool._maker.make(self._options, fn, args, kwargs)

    @overload
    def map(
        self, fn: Callable[..., Coroutine[Any, Any, T]], /, *iterables: Source, limit: int | None = None, ordered: bool = True,
        chunk: int | None = None, on_error: Literal["raise"] = "raise",
    ) -> Results[T]: ...  # fmt: skip
    @overload
    def map(
        self, fn: Callable[..., Coroutine[Any, Any, T]], /, *iterables: Source, limit: int | None = None, ordered: bool = True,
        chunk: int | None = None, on_error: Literal["return"],
    ) -> Results[T | Exception]: ...  # fmt: skip
    @overload
    def map(
        self, fn: Callable[..., T], /, *iterables: Source, limit: int | None = None, ordered: bool = True,
        chunk: int | None = None, on_error: Literal["raise"] = "raise",
    ) -> Results[T]: ...  # fmt: skip
    @overload
    def map(
        self, fn: Callable[..., T], /, *iterables: Source, limit: int | None = None, ordered: bool = True,
        chunk: int | None = None, on_error: Literal["return"],
    ) -> Results[T | Exception]: ...  # fmt: skip
    def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Source,
        limit: int | None = None,
        ordered: bool = True,
        chunk: int | None = None,
        on_error: Literal["raise", "return"] = "raise",
    ) -> Results[Any]:
        """Have `fn` run on every item, and return the results: `await` them as a list, or iterate them with `async for`.

        iterables: one or several, as for the built-in `map`; asynchronous and endless ones too. limit: items taken from them and not yet
        given to you, at the most (None: as many as keep the slots busy). ordered=False: results as they come. chunk: items that travel
        as one attempt (None: as many as make a few milliseconds of work; 1: each for itself). on_error="raise": the first failure stops
        the map, kills what is under way and names the item's index in a note; "return": the exception stands in the result's place.

        With `timeout`, `deadline`, `memory`, `grace`, `isolate` or `idempotent=False` each item travels for itself. Raises ValueError
        for what cannot be.
        """
        from ._jobs.mapping import make_map  # not needed by who only submits, and 3 ms to import

        pool = self._pool
        pool._check_open()
        return make_map(pool._maker, pool._check_open, pool._engine.slots, self._options, fn, iterables, limit, ordered, chunk, on_error)

    def options(self, **changes: Any) -> PoolView:
        """Return a view of the pool whose calls are made differently; the pool itself does not change.

        timeout: seconds one attempt may run. deadline: seconds from submit over queue, attempts and retries. retries: further attempts
        after one that failed. memory: bytes an attempt's process tree may hold beyond the idle slot. name, data: for `task.name`,
        `task.data`. idempotent=False: never run twice. grace: seconds between asking an attempt to stop and killing it. isolate: a
        fresh slot for each call. copy=False: large buffers are not snapshotted. Raises ValueError or TypeError for what cannot be.
        """
        options = self._options.but(changes)
        self._pool._check_options(options)
        return PoolView(self._pool, options)


class PoolView(Submitter):
    """A pool with other options; see `Pool.options`."""

    __slots__ = ("_options", "_pool")

    def __init__(self, pool: Pool, options: Options) -> None:
        self._pool = pool
        self._options = options

    def __repr__(self) -> str:
        changed = {name: getattr(self._options, name) for name in ("timeout", "deadline", "retries", "memory", "grace", "isolate")}
        shown = ", ".join(f"{name}={value}" for name, value in changed.items() if value != getattr(DEFAULTS, name))
        return f"<options({shown}) of {self._pool!r}>"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        self._pool.__reduce_ex__(protocol)
        raise AssertionError


class Pool(Submitter):
    """Slots on this machine and on others, and every task that runs on them.

    local: how many slots; None: one for each CPU this process may use; "serial": run tasks one by one in this process, for a debugger;
    0: none here. hosts: machines that `ssh` reaches, by name or as `SSH(...)`; nothing need be installed there but a Python of the same
    minor version. heartbeat: seconds between words to each of them; after three without an answer it is lost, and its tasks run
    elsewhere. orphan_after: seconds after which a host that hears nothing ends everything it runs. lost_grace: seconds without a host
    that is up (and none here), after which what waits fails with HostLost. reserve: CPUs of this machine that `local=None` leaves free;
    None: 1 where there are hosts.
    name: for messages. seed: what each task's own seed is derived from; None: drawn. preload: modules that every slot has imported.
    max_tasks_per_slot: a slot is replaced after so many. python: the interpreter of the slots, where this program has none of its own.

    Use it with `async with`: leaving normally waits for unfinished tasks, leaving by an exception or a cancellation kills them.
    """

    _drained = True
    """Whether all tasks had finished when it was closed."""
    _opened_at = 0.0
    """On the loop's clock; 0: it never was open, and has no engine."""

    def __init__(
        self,
        *,
        local: int | Literal["serial"] | None = unset("local"),
        hosts: Iterable[str | SSH | Any] | AsyncIterable[HostAdded | HostRemoved] = unset("hosts"),
        name: str | None = unset("name"),
        seed: int | None = unset("seed"),
        preload: Iterable[str] = unset("preload"),
        max_tasks_per_slot: int | None = unset("max_tasks_per_slot"),
        python: str | None = unset("python"),
        reserve: int | None = unset("reserve"),
        heartbeat: float = unset("heartbeat"),
        orphan_after: float = unset("orphan_after"),
        lost_grace: float = unset("lost_grace"),
    ) -> None:
        self._phase = "new"
        arguments = given(locals())
        del arguments["self"]
        self._settings = Settings(**arguments)
        self._begin()

    def _begin(self) -> None:
        if context.in_slot():
            raise UsageError("a task cannot open a pool of its own: return, and submit from the controller")
        self._pool = self
        self._options = DEFAULTS
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()
        self._maker: Maker = cast("Maker", None)
        self._readers: list[ref[Subscription]] = []
        """Weak: one that was dropped has gone, and events are built for the others alone."""
        self._engine: Engine = cast("Engine", None)

    # --- opening and closing

    async def __aenter__(self) -> Self:
        if self._phase != "new":
            raise UsageError(f"this pool is {self._phase}: a pool is opened once; make a new one")
        await self._open()
        return self

    async def _open(self) -> None:
        settings = self._settings
        if not settings.serial:
            self._check_descriptors()
        hosts = self._make_hosts()
        self._phase = "opening"
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        try:
            for host in hosts:
                await host.start()
            # These are imported while the agent starts, on another core.
            from ._jobs.making import Maker
            from ._scheduler.engine import Engine

            self._engine = Engine(hosts, settings, publish=self._publish)
            self._maker = Maker(self._loop, self._engine)
        except BaseException:
            self._phase = "closed"
            for host in hosts:
                host.abandon()
            raise
        self._opened_at = self._loop.time()
        self._phase = "open"

    def _make_hosts(self) -> list[Host]:
        from ._hosts.building import build

        seed = int.from_bytes(os.urandom(8), "little") if self._settings.seed is None else self._settings.seed
        return build(self._settings, seed)

    def _check_descriptors(self) -> None:
        soft, hard = descriptor_limit()
        slots = self._settings.local_slots
        need = DESCRIPTORS_A_SLOT * slots + DESCRIPTORS_BESIDES
        if 0 <= soft < need:
            raise UsageError(
                f"{slots} slots need about {need} file descriptors, and this process may have {soft} (hard limit {hard}): "
                "raise it (`ulimit -n`), or ask for fewer slots with local="
            )

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if os.getpid() != self._pid:
            return  # a forked child left the block: the pool is its parent's
        if self._phase != "open" and (kind is not None or self._phase != "draining"):
            await self.aclose()
            return
        if kind is None:
            try:
                await self._idle()
            except BaseException:
                await self._end("the block of the pool was cancelled while it waited for this task")
                raise
        await self._end("the block of the pool was left by an exception" if kind else "the pool was closed")

    async def aclose(self) -> None:
        """Kill what runs, at once; unfinished tasks end in PoolClosed. If cancelled: finishes first (seconds at the most)."""
        if self._phase in ("new", "closed"):
            self._phase = "closed"
            return
        await self._end("the pool was closed by aclose()")

    async def drain(self, timeout: float | None = None) -> bool:
        """Take no more tasks and wait for those there are; after `timeout` seconds kill the rest. Return whether all finished.

        If cancelled: the rest is killed.
        """
        if self._phase == "closed":
            return self._drained
        self._check_here()
        if self._phase == "open":
            self._phase = "draining"
        finished = False
        try:
            async with asyncio.timeout(timeout):
                await self._idle()
                finished = self._phase == "draining"  # else somebody closed it meanwhile
        except TimeoutError:
            pass
        finally:
            await self._end("the pool was drained, and its time limit passed, or the draining was cancelled")
        return finished

    async def _idle(self) -> None:
        engine = self._engine
        while not engine.idle:
            await engine.wait_until(lambda: engine.idle)
            await asyncio.sleep(0)  # what the last task's end woke may submit more

    async def _end(self, reason: str) -> None:
        if self._phase == "closed":
            return
        self._check_here()
        if self._phase != "closing":
            self._drained = self._engine.idle
        self._phase = "closing"
        self._engine.close(reason)
        try:
            await self._engine.finish()
        finally:
            self._phase = "closed"
            for reader in self._readers:
                if (subscription := reader()) is not None:
                    subscription.end()

    async def ready(self, slots: int | None = None, *, timeout: float | None = None) -> Self:
        """Open the pool if need be, and return it when so many slots are up (None: when every host is up, or has failed once).

        Raises HostError when that will never be, TimeoutError after `timeout` seconds. If cancelled: the pool stays as it is.
        """
        if slots is not None and (type(slots) is not int or slots < 1):
            raise ValueError(f"slots={slots!r}: give a number of slots (1 or more), or None")
        if (wanted := slots or 0) > self._settings.local_slots and not self._settings.hosts:
            raise ValueError(f"slots={slots}: this pool has {self._settings.local_slots} at the most; ask for more with local=")
        if self._phase == "new":
            await self._open()
        self._check_here()
        engine = self._engine
        engine.want(wanted)
        async with asyncio.timeout(timeout):
            await engine.wait_until(lambda: engine.has_up(wanted) or engine.failed is not None or engine.closing is not None)
        if engine.closing is not None:
            raise PoolClosed(engine.closing)
        if engine.failed is not None and not (engine.has_up(wanted) if wanted else engine.any_up):
            raise HostError(*engine.failed)
        return self

    # --- tasks

    def _check_open(self) -> None:
        """Raise unless a task can be submitted here and now."""
        if _get_running_loop() is not self._loop or self._phase != "open":
            self._check_here()
            raise PoolClosed(f"the pool is {self._phase} and takes no more tasks")

    def _check_here(self) -> None:
        """Raise unless the pool is open and this is its thread, loop and process."""
        if os.getpid() != self._pid:
            raise UsageError("this is a forked child's copy of the pool: it belongs to the parent; make a pool of your own")
        if self._phase == "new":
            raise UsageError("the pool is not open: use `async with Pool(...) as pool`, or `await pool.ready()`")
        if self._phase == "opening":
            raise UsageError("the pool is still being opened: await that first")
        if self._phase == "closed":
            raise PoolClosed("the pool is closed and takes no more tasks; make a new one")
        running = _get_running_loop()
        if running is not self._loop:
            where = "without a running event loop" if running is None else "from another event loop"
            raise UsageError(f"the pool was used {where}: it belongs to the loop (and thread) that opened it; use run_coroutine_threadsafe")

    def _check_options(self, options: Options) -> None:
        if self._settings.serial and (options.timeout is not None or options.memory is not None):
            raise UsageError('Pool(local="serial") runs tasks in this process, where timeout= and memory= cannot be kept')

    # --- looking

    def status(self) -> PoolStatus:
        """Return a snapshot of the pool, which prints well."""
        if not self._opened_at:
            return PoolStatus(
                name=self._settings.name, state=self._phase, uptime_seconds=0.0, slots=(), max_slots=self._settings.local_slots,
                queued=0, running=0, succeeded=0, failed=0, cancelled=0, retried=0, run_seconds=0.0,
            )  # fmt: skip
        return self._engine.status(self._settings.name, self._phase, monotonic() - self._opened_at)

    def events(self) -> Subscription:
        """Return an async iterator of what happens from now on, until the pool is closed; see `aioparallel.events`.

        At most 10,000 events wait for a slow reader; then the oldest are dropped and an EventsLost says how many.
        """
        self._check_here()
        subscription = Subscription(lambda closed: self._unsubscribe(ref(closed)))
        self._readers = [*self._readers, ref(subscription, self._unsubscribe)]
        self._engine.state.watched = True
        return subscription

    def _unsubscribe(self, gone: ref[Subscription]) -> None:
        self._readers = [reader for reader in self._readers if reader != gone and reader() is not None]
        self._engine.state.watched = bool(self._readers)

    def _publish(self, event: Event) -> None:
        for reader in self._readers:
            if (subscription := reader()) is not None:
                subscription.put(event)

    def __repr__(self) -> str:
        if self._phase in ("new", "opening", "closed"):
            return f"<Pool {self._settings.name!r} {self._phase}>"
        busy, queued = self._engine.load()
        return f"<Pool {busy}/{self._engine.slots()} slots busy, {queued} queued>"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(f"{self!r} cannot travel to a slot: pass plain values, and submit from the controller")

    def __del__(self) -> None:
        if getattr(self, "_phase", "closed") in ("new", "opening", "closed") or os.getpid() != self._pid:
            return
        try:
            message = f"{self!r} was never closed: use `async with`, or `await pool.aclose()`"
            warnings.warn(message, ResourceWarning, source=self, stacklevel=2)
        finally:  # `-W error` makes it raise
            self._engine.abandon()
