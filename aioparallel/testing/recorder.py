"""Events, collected: to look at afterwards, or to wait for."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self, TypeVar

from ..events import Event
from ..pool import Pool

E = TypeVar("E", bound=Event)


class EventRecorder:
    """All events of a simulation (which has one) or, as an async context manager, those of an open pool.

    ::

        async with EventRecorder(pool) as recorder:
            ...
            died = await recorder.wait_for(SlotEnded, signal=9)
    """

    def __init__(self, pool: Pool | None = None) -> None:
        self.events: list[Event] = []
        self._pool = pool
        self._reader: asyncio.Task[None] | None = None
        self._waiters: list[asyncio.Future[None]] = []

    def record(self, event: Event) -> None:
        """Add an event."""
        self.events.append(event)
        self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    def of(self, kind: type[E], **fields: Any) -> list[E]:
        """Return the events of one kind whose fields have these values, oldest first."""
        return [event for event in self.events if isinstance(event, kind) and all(getattr(event, name) == fields[name] for name in fields)]

    async def wait_for(self, kind: type[E], **fields: Any) -> E:
        """Return the first such event, past or to come. Raises LookupError when the pool was closed without it.

        If cancelled: nothing is lost.
        """
        while not (found := self.of(kind, **fields)):
            if self._reader is not None and self._reader.done():
                raise LookupError(f"no more events come, and there was no {kind.__name__} with {fields}")
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        return found[0]

    async def __aenter__(self) -> Self:
        if self._pool is None:
            raise ValueError("EventRecorder() records what is given to `record`; name a pool to read its events: EventRecorder(pool)")
        events = self._pool.events()

        async def read() -> None:
            async for event in events:
                self.record(event)

        self._reader = asyncio.create_task(read(), name="aioparallel event recorder")

        def ended(_: asyncio.Task[None]) -> None:
            events.close()
            self._wake()

        self._reader.add_done_callback(ended)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])
