"""Shared values: pickled once, put on each host once, and named by tasks from then on.

Guarantees
    A handle met while a call is pickled, at any depth and in by-value functions too, stands for its value in the slot. A task keeps the
    values that it names until it is settled. When nobody has a handle any more, every host lets go of the value.

How it works
    A handle's `__reduce_ex__` is called while a call is pickled: it leaves a number in the pickle, and itself with whoever pickles. The
    pickle then travels as `Named`, a `bytes` that holds the handles, so they live exactly as long as it does.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import local
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar
from weakref import WeakValueDictionary

from .._wire.codec import ATOMS, dumps, dumps_plain
from .._worker.failures import in_words
from .._worker.region import Region
from .._worker.shared import value as value_of
from ..errors import PoolClosed, SerializationError, UsageError

if TYPE_CHECKING:
    from .._wire.codec import Arguments
    from .._wire.memory import Buffers

__all__ = ["Shared"]

T = TypeVar("T")

APART_BYTES = 1 << 20
"""More is copied in a thread, so that the loop goes on meanwhile."""
THREADS = 2
"""Our own, and not anyio's usual forty: a program may have all of those wait for us."""
HANDLES: set[int] = set()
"""The identities of all handles in this process: where there are none, none can be met."""
Met = dict[int, "Shared[Any]"]

_pickling = local()
"""`.by`: a stack of who pickles in this thread, and what he has met."""


class Shared(Generic[T]):
    """The handle to a value that `Pool.share` took: pass it to `submit` or `map`, and the task gets the value in its place.

    Hosts keep the value for as long as the handle, or an unfinished task that was given it, is there.
    """

    __slots__ = ("__weakref__", "_number", "_region", "_shares")

    def __init__(self, shares: Shares, number: int, region: Region) -> None:
        self._number = number
        self._region = region
        self._shares = shares
        HANDLES.add(id(self))

    @property
    def name(self) -> str:
        """What `share(name=)` said, or the value's type."""
        return self._region.name

    @property
    def size(self) -> int:
        """Bytes that each host keeps."""
        return self._region.size

    def __reduce_ex__(self, protocol: Any) -> tuple[Callable[[int], Any], tuple[int]]:
        stack = getattr(_pickling, "by", None)
        if not stack:
            raise UsageError(f"{self!r} travels only as an argument, or in a by-value function, of a call of its own pool")
        shares, met = stack[-1]
        if shares is None:
            raise UsageError(f"{self!r} stands in a value that is to be shared: share both apart, and pass both handles to the call")
        if shares is not self._shares:
            whose = "a pool that is closed" if self._shares.closed else "another pool"
            raise UsageError(f"{self!r} belongs to {whose}: share the value with the pool of the call")
        met[self._number] = self
        return value_of, (self._number,)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    def __repr__(self) -> str:
        return f"<Shared {self._number} {self.name!r}, {self.size:,} bytes{', closed' if self._shares.closed else ''}>"

    def __del__(self) -> None:
        HANDLES.discard(id(self))
        self._shares.gone(self._number)


class Named(bytes):
    """A pickle in which shared values are named, and their handles."""

    shared: tuple[Shared[Any], ...]


def naming(data: Arguments, handles: Iterable[Shared[Any]]) -> Named:
    """Return a pickle (or what waits to be one) together with the handles in it, and those that it has already."""
    named = Named(data if isinstance(data, bytes) else dumps_plain((data, {})))
    before = {handle._number: handle for handle in data.shared} if type(data) is Named else {}
    named.shared = tuple({**before, **{handle._number: handle for handle in handles}}.values())
    return named


class Owner(Protocol):
    """Who tells the hosts: the engine."""

    def drop(self, numbers: Sequence[int]) -> None:
        """Have all hosts let go of these values."""


class Shares:
    """The shared values of one pool."""

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: Owner) -> None:
        self._loop = loop
        self._owner = owner
        self._pid = os.getpid()
        self._last = 0
        self._alive: WeakValueDictionary[int, Shared[Any]] = WeakValueDictionary()
        self._gone: list[int] = []
        self._threads: Any = None
        self.closed = False

    # --- while something is pickled

    def begin(self) -> Met:
        """Return where the handles gather that are met from now on, in this thread, until `end`."""
        return _begin(self)

    def end(self) -> None:
        """Meet no more."""
        _pickling.by.pop()

    # --- a value's life

    async def share(self, value: T, name: str | None) -> Shared[T]:
        """See `Pool.share`."""
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name={name!r}: give a str")
        name = type(value).__qualname__ if name is None else name
        data, buffers = _pickled(value, name)
        region = await self._filled(name, (data, *buffers))
        if self.closed:
            raise PoolClosed("the pool was closed while the value was copied")
        self._last += 1
        handle = self._alive[self._last] = Shared(self, self._last, region)
        return handle

    async def _filled(self, name: str, pieces: Buffers) -> Region:
        try:
            region = Region(name, tuple([memoryview(piece).nbytes for piece in pieces]))
            if region.size < APART_BYTES:
                region.fill(pieces)
            else:
                await self._apart(lambda: region.fill(pieces))
        except (OSError, MemoryError) as error:
            what = f"the value {name!r} could not be put into shared memory ({error})"
            raise UsageError(f"{what}: share less at a time, or allow this process more memory and descriptors (`ulimit -n`)") from error
        return region

    async def _apart(self, work: Callable[[], None]) -> None:
        from anyio import CapacityLimiter, to_thread

        if self._threads is None:
            self._threads = CapacityLimiter(THREADS)
        await to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._threads)

    def gone(self, number: int) -> None:
        """The last reference to a handle is gone: in any thread, and in the midst of anything."""
        if not self.closed and os.getpid() == self._pid:
            self._gone.append(number)
            try:
                self._loop.call_soon_threadsafe(self._tell_gone)
            except RuntimeError:
                pass  # the loop is closed, and the pool with it

    def _tell_gone(self) -> None:
        numbers, self._gone = self._gone, []
        if numbers and not self.closed:
            self._owner.drop(numbers)

    def close(self) -> None:
        """Let go of all memory: the pool is closed."""
        self.closed = True
        for handle in list(self._alive.values()):
            handle._region.close()


def _begin(shares: Shares | None) -> Met:
    met: Met = {}
    if not hasattr(_pickling, "by"):
        _pickling.by = []
    _pickling.by.append((shares, met))
    return met


@contextmanager
def _refusing() -> Iterator[None]:
    _begin(None)
    try:
        yield
    finally:
        _pickling.by.pop()


def _pickled(value: object, name: str) -> tuple[bytes, Buffers]:
    """Return a value's pickle and its large buffers, which are not copied yet."""
    if type(value) in ATOMS:
        return dumps_plain(value), ()
    try:
        with _refusing():
            return dumps(value, copy=False)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise SerializationError(f"the value {name!r} could not be pickled: {in_words(error)}") from error
