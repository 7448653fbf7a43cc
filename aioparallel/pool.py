"""The pool: what a user may say.

Guarantees
    `submit` pickles everything at the caller's line: what cannot travel raises there, and what is changed later reaches nobody. A pool
    that is left is dead: normally after its tasks have finished, by an exception or a cancellation at once.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import warnings
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, TypeVar, cast
from weakref import WeakSet

from ._jobs.shared import Shared
from ._jobs.submitting import PoolView, Submitter
from ._observe.observing import Observed
from ._worker import context
from ._worker.machine import descriptor_limit
from .config import SSH, HostAdded, HostRemoved, as_value, check_backup, check_selection, given, settled, unset, with_file
from .errors import HostError, PoolClosed, UsageError
from .options import DEFAULTS, Options
from .policies import Hosts, HostView, Selection, Slots
from .status import SlotStatus

if TYPE_CHECKING:
    from ._hosts.base import Host
    from ._jobs.making import Maker
    from ._scheduler.engine import Engine

__all__ = ["Pool", "PoolView"]

T = TypeVar("T")
DESCRIPTORS_A_SLOT = 4
DESCRIPTORS_BESIDES = 32
_get_running_loop = asyncio._get_running_loop


class Pool(Submitter, Observed):
    """Slots on this machine and on others, and every task that runs on them.

    local: how many slots; None: one for each CPU this process may use; "serial": run tasks one by one in this process, for a debugger;
    0: none here. hosts: machines that `ssh` reaches, by name or as `SSH(...)`, or an async iterator of `config.HostAdded` and
    `HostRemoved`; nothing need be installed there but a Python of the same minor version.
    name: for messages. seed: what each task's own seed is derived from; None: drawn. preload: modules that every slot has imported.
    max_tasks_per_slot: a slot is replaced after so many. python: the interpreter of the slots, where this program has none of its own.
    reserve: CPUs of this machine that `local=None` leaves free; None: 1 where there are hosts. selection: the policy that chooses hosts
    (`aioparallel.policies`); None: where a task is expected to end first. backup: True, or a `Backup(...)`: a task that runs late is run
    once more elsewhere, and the first answer wins; None: never two at a time. ship: modules that travel to far hosts as source besides your
    own, though they are installed here; "-name" excludes one.
    heartbeat: seconds between words to each far host; after three without an answer it is lost, and its tasks run elsewhere.
    orphan_after: seconds after which a host that hears nothing ends everything it runs. lost_grace: seconds without a host that is up
    (and none here), after which what waits fails with HostLost.

    What is not given comes from the environment variables AIOPARALLEL_LOCAL, AIOPARALLEL_HOSTS and so on, else it is as shown.

    Use it with `async with`: leaving normally waits for unfinished tasks, leaving by an exception or a cancellation kills them.
    """

    _drained = True
    """Whether all tasks had finished when it was closed."""

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
        selection: Selection | str | None = unset("selection"),
        backup: Any = unset("backup"),
        heartbeat: float = unset("heartbeat"),
        orphan_after: float = unset("orphan_after"),
        lost_grace: float = unset("lost_grace"),
        ship: Iterable[str] = unset("ship"),
    ) -> None:
        self._phase = "new"
        arguments = given(locals())
        del arguments["self"]
        self._settings = settled(arguments)
        self._seed = int.from_bytes(os.urandom(8), "little") if self._settings.seed is None else self._settings.seed
        self._begin()

    @classmethod
    def from_config(cls, path: str | os.PathLike[str] | None = None, **arguments: Any) -> Self:
        """Return a pool with the settings of a TOML file; `arguments` are those of `Pool(...)`, and hold where both say something.

        path: None: the file that the variable AIOPARALLEL_CONFIG names, else `aioparallel.toml` in the working folder or the nearest
        one above it, up to the project's root (a folder with `.git` or `pyproject.toml`), else `aioparallel/config.toml` in
        $XDG_CONFIG_HOME (~/.config). What holds: arguments, then `AIOPARALLEL_*` variables, then the file, then what is built in.

        Raises ConfigError, with the line and the remedy, for a file that is not there or cannot be used.
        """
        return cls(**with_file(path, arguments))

    def _begin(self) -> None:
        if context.in_slot():
            raise UsageError("a task cannot open a pool of its own: return, and submit from the controller")
        self._pool = self
        self._options = DEFAULTS if not self._settings.backup else Options(backup=self._settings.backup)
        self._backups = [] if self._options is DEFAULTS else [self._options.backup]
        """Those that were asked for before there was an engine."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()
        self._maker: Maker = cast("Maker", None)
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
            for backup in self._backups:
                self._engine.state.race(backup)
            self._engine.keeping.follow(self._settings.hosts, self._make_host)
        except BaseException:
            self._phase = "closed"
            for host in hosts:
                host.abandon()
            raise
        self._opened_at = self._loop.time()
        self._phase = "open"
        _opened.add(self)

    def _make_hosts(self) -> list[Host]:
        from ._hosts.building import build

        return build(self._settings, self._seed)

    def _make_host(self, host: Any) -> Host:
        from ._hosts.building import build_far

        return build_far(as_value(host), self._settings, self._seed)

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
        _check_timeout(timeout)
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
            self._maker.shares.close()
            self._end_observing()

    async def ready(self, slots: int | None = None, *, hosts: int | None = None, timeout: float | None = None) -> Self:
        """Open the pool if need be, and return it when so many slots and hosts are up; without numbers: when every host has been tried.

        Raises HostError when that will never be, TimeoutError after `timeout` seconds. If cancelled: the pool stays as it is.
        """
        for name, number in (("slots", slots), ("hosts", hosts)):
            if number is not None and (type(number) is not int or number < 1):
                raise ValueError(f"{name}={number!r}: give a number of {name} (1 or more), or None")
        _check_timeout(timeout)
        wanted = slots or 0
        self._check_possible(wanted, hosts or 0)
        if self._phase == "new":
            await self._open()
        self._check_here()
        engine = self._engine
        engine.want(wanted)

        def is_ready() -> bool:
            return engine.has_up(wanted, hosts or 0) or engine.failed is not None or engine.closing is not None

        async with asyncio.timeout(timeout):
            await engine.wait_until(is_ready)
        if engine.closing is not None:
            raise PoolClosed(engine.closing)
        if engine.failed is not None and not (engine.has_up(wanted, hosts or 0) if wanted or hosts else engine.any_up):
            raise HostError(*engine.failed)
        return self

    def _check_possible(self, slots: int, hosts: int) -> None:
        """Raise ValueError for more slots or hosts than there will be."""
        settings = self._settings
        if self._phase == "open":
            far = sum(host.far for host in self._engine.hosts.values())
            endless = self._engine.state.hosts_may_come
        else:
            endless = isinstance(settings.hosts, AsyncIterable)
            far = 0 if endless else len(settings.hosts)
        if slots > settings.local_slots and not far and not endless:
            raise ValueError(f"slots={slots}: this pool has {settings.local_slots} at the most; ask for more with local=")
        if hosts > far + (settings.local_slots > 0) and not endless:
            raise ValueError(f"hosts={hosts}: this pool has {far + (settings.local_slots > 0)}; more come with hosts= or add_host()")

    # --- hosts

    async def add_host(self, host: str | SSH | Any) -> HostView:
        """Take in one more host, and return it when it is up, or could not be reached once: then it is tried again.

        Raises UsageError where the pool has one of that name, HostError where it is removed meanwhile, PoolClosed. If cancelled: the host
        stays.
        """
        self._check_here()
        if self._settings.serial:
            raise UsageError('local="serial" runs everything in this process: make a pool with hosts=')
        added = self._make_host(host)
        engine = self._engine
        engine.keeping.add(added)
        view = engine.state.hosts[added.name].view

        def is_over() -> bool:
            return engine.hosts.get(added.name) is not added or engine.closing is not None

        await engine.wait_until(lambda: is_over() or engine.has_tried(added.name))
        if engine.closing is not None:
            raise PoolClosed(engine.closing)
        if is_over():
            raise HostError(added.name, "it was removed before it was up")
        return view

    async def remove_host(self, host: str | HostView, *, drain: bool = True) -> None:
        """Use a host no more, and return when everything there is dead.

        drain: what runs there may finish; what has not begun goes elsewhere at once. Without, what runs there is killed and runs again
        elsewhere (with `idempotent=False`: fails with HostLost). Raises UsageError for a host that the pool does not have, and for this
        machine. If cancelled: the host goes all the same.
        """
        self._check_here()
        name: Any = host if isinstance(host, str) else getattr(host, "name", None)
        if not isinstance(name, str):
            raise TypeError(f"remove_host({host!r}): give a host's name, or what pool.hosts has of it")
        await self._engine.keeping.remove(name, drain)

    @property
    def hosts(self) -> Mapping[str, HostView]:
        """The hosts by name, as they are at each look; this machine is "local". None until the pool is open."""
        return Hosts(lambda: self._engine.state.hosts if self._opened_at else {})

    @property
    def slots(self) -> Sequence[SlotStatus]:
        """The slots that live, of all hosts, as they are at each look."""
        return Slots(lambda: self._engine.slot_states() if self._opened_at else ())

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
        check_selection(options.selection)
        check_backup(options.backup)
        if options.backup is not None:
            self._race(options.backup)
        if options.is_placed and self._phase == "open":
            self._engine.check_placement(options)

    def _race(self, backup: Any) -> None:
        if self._phase == "open":
            self._engine.state.race(backup)
        else:
            self._backups.append(backup)

    async def share(self, value: T, *, name: str | None = None) -> Shared[T]:
        """Take a value that many tasks need, and return a handle: a task that is given it, at any depth, gets the value in its place.

        It is pickled here, once; do not change it before this returns. It goes to a host when the first task there needs it, once, and
        a slot opens it once: tasks must not change it (they cannot where it is an array in memory that slots share). It goes from there
        with the last reference to the handle. name: for messages; None: its type's. Raises SerializationError for what cannot be
        pickled, PoolClosed, UsageError where there is no memory. If cancelled: nothing is kept.
        """
        self._check_open()
        return await self._maker.shares.share(value, name)

    # --- looking: see `_observe/observing`

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
            self._phase = "closed"
            self._engine.abandon()
            self._end_sinks()


_opened: WeakSet[Pool] = WeakSet()


@atexit.register
def _at_exit() -> None:
    """See to the pools that were never closed, while there is somebody to tell: Python may keep a module's own objects until too late."""
    with ExitStack() as stack:  # (which calls them all, whatever they raise)
        for pool in list(_opened):
            stack.callback(pool.__del__)


def _check_timeout(timeout: object) -> None:
    """Raise for what are no seconds: before anything is done."""
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout >= 0):
        raise ValueError(f"timeout={timeout!r}: give seconds, 0 or more, or None for no limit")
