"""One reader of a pool's events: a bounded queue that drops the oldest, and says so."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self

from ..events import Event, EventsLost

log = logging.getLogger("aioparallel")

MAX_EVENTS = 10_000
"""Events that wait for a slow reader at the most."""


class Subscription(AsyncIterator[Event]):
    """An async iterator of events; `close()`, the end of a `with` block or the pool's end ends it."""

    def __init__(
        self, on_close: Callable[[Subscription], None], size: int = MAX_EVENTS, to: Callable[[Event], object] | None = None
    ) -> None:
        self._to = to
        """Who is called with each event; then none waits here."""
        self._events: deque[Event] = deque()
        self._size = size
        self._lost = 0
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False
        self._on_close = on_close

    def put(self, event: Event) -> None:
        """Add an event; where there is no room, drop the oldest."""
        if self._to is not None:
            self._hand_over(event)
            return
        if len(self._events) >= self._size:
            self._events.popleft()
            self._lost += 1
        self._events.append(event)
        self._wake()

    def _hand_over(self, event: Event) -> None:
        try:
            self._to(event)  # type: ignore[misc]
        except Exception:
            log.exception("%r was called with an event, and raised; it is called no more", self._to)
            self.close()

    def end(self) -> None:
        """Let the reader have what waits, and then end."""
        if not self._ended:
            self._ended = True
            if callable(close := getattr(self._to, "close", None)):
                close()
        self._wake()

    def close(self) -> None:
        """Stop listening."""
        self._on_close(self)
        self._events.clear()
        self.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def __anext__(self) -> Event:
        while not self._events:
            if self._ended:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._lost:
            lost, self._lost = self._lost, 0
            return EventsLost(at=time.time(), count=lost)
        return self._events.popleft()
