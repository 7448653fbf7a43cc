"""The verbs that a pool and its views share: submit, map, and to make calls differently."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Literal, NoReturn, ParamSpec, TypeVar, cast, overload

from ..options import DEFAULTS, Options, Retry
from .task import Task

if TYPE_CHECKING:
    from .making import Maker
    from .results import Results

    Source = Iterable[Any] | AsyncIterable[Any]

P = ParamSpec("P")
T = TypeVar("T")

_get_running_loop = asyncio._get_running_loop


class Submitter:
    """The verbs that a pool and its views share."""

    _pool: Any
    """The Pool."""
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
        task: Task[Any] = pool._maker.make(self._options, fn, args, kwargs)
        return task

    @overload
    def map(
        self, fn: Callable[..., Coroutine[Any, Any, T]], /, *iterables: Source, limit: int | None = None, ordered: bool = True,
        chunk: int | None = None, on_error: Literal["raise"] = "raise", progress: bool = False,
    ) -> Results[T]: ...  # fmt: skip
    @overload
    def map(
        self, fn: Callable[..., Coroutine[Any, Any, T]], /, *iterables: Source, limit: int | None = None, ordered: bool = True,
        chunk: int | None = None, on_error: Literal["return"], progress: bool = False,
    ) -> Results[T | Exception]: ...  # fmt: skip
    @overload
    def map(
        self, fn: Callable[..., T], /, *iterables: Source, limit: int | None = None, ordered: bool = True,
        chunk: int | None = None, on_error: Literal["raise"] = "raise", progress: bool = False,
    ) -> Results[T]: ...  # fmt: skip
    @overload
    def map(
        self, fn: Callable[..., T], /, *iterables: Source, limit: int | None = None, ordered: bool = True,
        chunk: int | None = None, on_error: Literal["return"], progress: bool = False,
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
        progress: bool = False,
    ) -> Results[Any]:
        """Have `fn` run on every item, and return the results: `await` them as a list, or iterate them with `async for`.

        iterables: one or several, as for the built-in `map`; asynchronous and endless ones too. limit: items taken from them and not yet
        given to you, at the most (None: as many as keep the slots busy). ordered=False: results as they come. chunk: items that travel
        as one attempt (None: as many as make a few milliseconds of work; 1: each for itself). on_error="raise": the first failure stops
        the map, kills what is under way and names the item's index in a note; "return": the exception stands in the result's place.
        progress=True: a line on standard error says how many are done, how fast, how many failed, and how long it will take.

        With `timeout`, `deadline`, `retries`, `memory`, `grace`, `isolate` or `idempotent=False` each item travels for itself. Raises
        ValueError for what cannot be.
        """
        from .mapping import make_map  # not needed by who only submits, and 3 ms to import

        pool = self._pool
        pool._check_open()
        if type(progress) is not bool:
            raise TypeError(f"progress={progress!r}: give True or False")
        return make_map(
            cast("Maker", pool._maker), pool._check_open, pool._engine.slots, self._options, fn, iterables, limit, ordered, chunk, on_error,
            pool._show_progress if progress else None,
        )  # fmt: skip

    def options(self, **changes: Any) -> PoolView:
        """Return a view of the pool whose calls are made differently; the pool itself does not change.

        timeout: seconds one attempt may run. deadline: seconds from submit over queue, attempts and retries. retries: further attempts
        after one that failed; retry: a `Retry` that says more: after what, after how long, where. memory: bytes an attempt's process
        tree may hold beyond the idle slot. name, data: for `task.name`, `task.data`. idempotent=False: never run twice. grace: seconds
        between asking an attempt to stop and killing it. isolate: a fresh slot for each call. copy=False: large buffers are not
        snapshotted.
        hosts: only these, by name, or those of which a function of a `policies.HostView` says True. labels: only hosts whose entry has
        these. locality: by a host's name, how much better it is (0 indifferent, -1 forbidden). selection: the policy that chooses among
        them. backup: as for the Pool; None: no backups. cost: how much work this call is, in any unit, compared with others of its
        function. Raises ValueError or TypeError for what cannot be, UsageError where the open pool has no such host.
        """
        options = self._options.but(changes)
        self._pool._check_options(options)
        return PoolView(self._pool, options)


class PoolView(Submitter):
    """A pool with other options; see `Pool.options`."""

    __slots__ = ("_options", "_pool")

    def __init__(self, pool: Any, options: Options) -> None:
        self._pool = pool
        self._options = options

    def __repr__(self) -> str:
        names = [
            "timeout",
            "deadline",
            "retries",
            "memory",
            "idempotent",
            "grace",
            "isolate",
            "hosts",
            "labels",
            "locality",
            "selection",
            "backup",
        ]
        if self._options.retry != Retry(attempts=self._options.retries + 1):
            names[2] = "retry"
        changed = {name: getattr(self._options, name) for name in names}
        shown = ", ".join(f"{name}={value}" for name, value in changed.items() if value != getattr(DEFAULTS, name))
        return f"<options({shown}) of {self._pool!r}>"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        self._pool.__reduce_ex__(protocol)
        raise AssertionError
