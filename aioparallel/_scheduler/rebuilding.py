"""Large results are rebuilt in threads, so that the loop goes on meanwhile.

Guarantees
    `then` is called once for each work, in the loop: with what it gave, or with why there is nothing. Neither a cancel nor the pool's
    end waits for a thread: it goes on for nobody.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Task as AsyncTask
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from ..errors import PoolClosed

if TYPE_CHECKING:
    from anyio import CapacityLimiter

THREADS = 4
"""Our own, and not anyio's usual forty: a program may have all of those wait for us."""
Then = Callable[[Any, Exception | None], None]


class Rebuilding:
    """What is under way in threads."""

    def __init__(self, loop: AbstractEventLoop, caught_up: Callable[[], None]) -> None:
        self._loop = loop
        self._caught_up = caught_up
        self._helpers: dict[Hashable, tuple[AsyncTask[Any], Then]] = {}
        self._threads: CapacityLimiter | None = None
        self._closed: str | None = None

    def __bool__(self) -> bool:
        return bool(self._helpers)

    def start(self, key: Hashable, work: Callable[[], Any], then: Then) -> None:
        """Have `work()` done in a thread, and then `then(value, None)`, or `then(None, error)`."""
        if self._closed is not None:
            then(None, PoolClosed(self._closed))
            return
        helper = self._loop.create_task(self._run(work), name="aioparallel rebuilds a large result")
        self._helpers[key] = helper, then
        helper.add_done_callback(lambda helper: self._ended(key, helper))

    async def _run(self, work: Callable[[], Any]) -> Any:
        from anyio import CapacityLimiter, to_thread

        if self._threads is None:
            self._threads = CapacityLimiter(THREADS)
        return await to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._threads)

    def _ended(self, key: Hashable, helper: AsyncTask[Any]) -> None:
        if self._helpers.get(key, (None,))[0] is not helper:
            return  # it was abandoned
        _, then = self._helpers.pop(key)
        if helper.cancelled():
            then(None, PoolClosed("the pool's loop ended"))
        elif (error := helper.exception()) is not None:
            then(None, PoolClosed(f"its result could not be rebuilt: {error!r}"))
        else:
            then(helper.result(), None)
        self._caught_up()

    def abandon(self, key: Hashable, error: Exception | None = None) -> None:
        """Wait no more for a work, if it is under way: `then(None, error)` is called now."""
        helper, then = self._helpers.pop(key, (None, None))
        if helper is not None and then is not None:
            helper.cancel()
            then(None, error)
            self._caught_up()

    def close(self, reason: str) -> None:
        """Wait for none of them, and for none from here on."""
        self._closed = reason
        for key in list(self._helpers):
            self.abandon(key, PoolClosed(reason))


__all__ = ["Rebuilding"]
