"""The results of a map: one object to `await`, to iterate with `async for`, or to hold in an `async with`.

Guarantees
    Never more than `limit` items are taken from the source and not yet given to the user. Leaving an `async with`, `aclose()`, an
    exception (`on_error="raise"`) and dropping the object kill what is under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from ..errors import UsageError
from .stream import Stream, item_error
from .unit import Failure, Unit

__all__ = ["Results"]

T = TypeVar("T")


Counts = Callable[[], tuple[int, int]]
"""How many items are done, and how many of them failed."""


class Display(Protocol):
    """What shows how far a map is."""

    def end(self) -> None:
        """The map has ended: show that, and go."""

    def drop(self) -> None:
        """The map was dropped: go, without waiting for anything."""


Show = Callable[[str, int | None, Counts], Display]
"""(name, items or None, counts) -> what shows them from now on."""


class Results(Generic[T]):
    """What `Pool.map` returns. It begins when it is first awaited, iterated or entered."""

    def __init__(
        self,
        make: Callable[[bool, Callable[[], None]], Stream],
        name: str,
        ordered: bool,
        on_error: str,
        show: Callable[[Counts], Display] | None = None,
    ) -> None:
        self._show = show
        self._display: Display | None = None
        self._make = make
        self._name = name
        self._ordered = ordered
        self._raises = on_error == "raise"
        self._stream: Stream | None = None
        self._alarm = _Alarm()
        self._unit: Unit | None = None
        self._position = 0
        self._used_as: str | None = None
        self._ended = False

    def __repr__(self) -> str:
        return f"<Results of map({self._name}) {'ended' if self._ended else 'under way' if self._stream else 'not begun'}>"

    # --- the list

    def __await__(self) -> Generator[Any, None, list[T]]:
        return self._collect().__await__()

    async def _collect(self) -> list[T]:
        if self._used_as == "await":
            raise UsageError("this map was awaited before: keep the list, or make a second map")
        self._begin("await", ordered=self._ordered)
        assert self._stream is not None
        stream = self._stream
        found: list[T] = []
        try:
            while True:
                while (unit := stream.ready()) is not None:
                    found += self._values(unit)
                    stream.gave(unit)
                if self._raises and (early := stream.first_error()) is not None:
                    raise item_error(self._name, *early)
                if stream.finished:
                    break
                await self._alarm.wait()
            if stream.source_error is not None:
                raise stream.source_error
        finally:
            await self.aclose()
        return found

    def _values(self, unit: Unit) -> list[Any]:
        values = unit.values
        for index, value in enumerate(values):
            if type(value) is Failure:
                if self._raises:
                    raise item_error(self._name, unit.first + index, value.error)
                values[index] = value.error
        return values

    # --- the stream

    def __aiter__(self) -> Self:
        if self._ended:
            raise UsageError("this map has ended: make a second one to go through the items again")
        self._begin("async for", ordered=self._ordered)
        return self

    async def __anext__(self) -> T:
        value: T = (await self._next())[1]
        return value

    def items(self) -> Items[T]:
        """Return an async iterator of (item, result) instead of results alone."""
        return Items(self)

    async def _next(self) -> tuple[Any, Any]:
        unit = self._unit
        if unit is None or self._position >= len(unit.values):
            unit = await self._next_unit()
        position = self._position
        self._position = position + 1
        if self._position == len(unit.values) and self._stream is not None:
            self._stream.gave(unit)
        value = unit.values[position]
        if type(value) is Failure:
            if self._raises:
                error = item_error(self._name, unit.first + position, value.error)
                await self.aclose()
                raise error
            value = value.error
        return unit.items[position], value

    async def _next_unit(self) -> Unit:
        self._begin("async for", ordered=self._ordered)
        stream = self._stream
        assert stream is not None
        while not self._ended:
            unit = stream.ready()
            if unit is not None:
                self._unit, self._position = unit, 0
                return unit
            if stream.finished:
                error = stream.source_error
                await self.aclose()
                if error is not None:
                    raise error
                break
            await self._alarm.wait()
        raise StopAsyncIteration

    # --- beginning and end

    def _begin(self, use: str, *, ordered: bool) -> None:
        if self._used_as not in (None, use):
            raise UsageError(f"this map was begun with `{self._used_as}`: make a second map to use it with `{use}` too")
        if self._stream is None:
            self._used_as = use
            self._stream = self._make(ordered, self._alarm.ring)
            if self._show is not None:
                self._display = self._show(self._stream.counts)  # (which must not keep this object alive)
            self._stream.start()

    async def __aenter__(self) -> Self:
        self._begin("async for", ordered=self._ordered)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Kill what is under way and wait until it is dead. If cancelled: waits to the end, seconds at the most, then raises."""
        first, self._ended = not self._ended, True
        stream = self._stream
        if stream is None:
            return
        tasks = stream.stop()  # a second caller waits as the first does
        self._alarm.ring()
        cancelled = None
        while pending := [task for task in tasks if not task.done()]:
            try:
                await asyncio.wait(pending)
            except asyncio.CancelledError as error:
                cancelled = error
        if first:
            if self._display is not None:
                self._display.end()
            await stream.close_source()
        if cancelled is not None:
            raise cancelled

    def __del__(self) -> None:
        if self._stream is not None and not self._ended:
            self._stream.stop()
            if self._display is not None:
                self._display.drop()


class Items(AsyncIterator[tuple[Any, T]]):
    """(item, result) pairs of a map."""

    def __init__(self, results: Results[T]) -> None:
        self._results = results

    async def __anext__(self) -> tuple[Any, T]:
        """Return the next pair."""
        return await self._results._next()

    async def aclose(self) -> None:
        """See `Results.aclose`."""
        await self._results.aclose()


class _Alarm:
    """Wakes one waiter; remembers a ring that came before. Apart from Results, so that what is under way does not keep that alive."""

    __slots__ = ("_rung", "_waiter")

    def __init__(self) -> None:
        self._rung = False
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """Wake who waits, now or next."""
        self._rung = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        """Wait for a ring."""
        if self._waiter is not None and not self._waiter.done():
            raise UsageError("somebody else waits for this map's next result: give each consumer a map, or a queue between them")
        if not self._rung:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        self._rung = False
