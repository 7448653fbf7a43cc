"""A map at work: takes items from the source, keeps a bounded number of them under way, and hands out what comes back.

How it works
    Until the first answer, items travel alone. Then as many travel together as make `CHUNK_SECONDS` of work, by a moving average, but
    never so many that `limit` could not be spread over all slots. A synchronous source is read in the loop's callbacks, an
    asynchronous one by an asyncio task.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import PoolClosed
from .outcomes import note
from .task import Task
from .unit import Apart, ChunkSink, Failure, Packed, Unit

if TYPE_CHECKING:
    from .._wire.memory import Buffers

ANSWERED_SECONDS = 1.0
"""A chunk that does not end within this of its items' answers is killed."""
CHUNK_SECONDS = 0.004
"""Work that travels as one attempt: short enough to be sent ahead, long enough that its costs vanish."""
MAX_CHUNK = 4096
UNITS_A_SLOT = 4
"""Units under way for each slot: one runs, one waits in the slot, the others keep the pipe full."""
GROWTH = 8
"""A chunk is at most so many times as large as the one before: one quick item is no proof."""


class Plan(NamedTuple):
    """What a map was asked for."""

    launch: Callable[[Any, tuple[Any, ...]], Task[Any]]
    """(item, seed path) -> the task of that one call."""
    launch_chunk: Callable[[tuple[bytes, tuple[Any, ...]], ChunkSink, tuple[Any, ...]], Task[Any]]
    """(payload and buffers, sink, seed path) -> the task that carries a chunk."""
    pack: Callable[[list[Any]], tuple[bytes, Buffers, int | None]]
    """(items) -> what `pack_items` makes of them."""
    number: int
    """Which map of its pool it is."""
    name: str
    slots: Callable[[], int]
    star: bool
    """Several sources: each item is a tuple of arguments."""
    limit: int | None
    chunk: int | None
    single: bool
    """Every item for itself: the options promise things for each call."""
    apart: Apart
    """Has something done in a thread: see `task.Owner.apart`."""


class Stream:
    """The state of one map. `wake` is called when something can be handed out."""

    def __init__(self, plan: Plan, source: Iterator[Any] | AsyncIterator[Any], ordered: bool, wake: Callable[[], None]) -> None:
        self._plan = plan
        self._source = source
        self._asynchronous = isinstance(source, AsyncIterator)
        self._ordered = ordered
        self._wake = wake
        self._units: deque[Unit] = deque()
        """Ordered: all units that were not handed out whole, in order. Else: finished ones."""
        self._out: set[Unit] = set()
        self._tasks: set[Task[Any]] = set()
        self._taken = 0
        self._given = 0
        self._done = self._failed = 0
        self._seconds: float | None = None
        self._size = 1 if plan.chunk is None else plan.chunk
        self._exhausted = False
        self._source_error: BaseException | None = None
        self._pump: asyncio.Task[None] | None = None
        self._room: asyncio.Event | None = None
        self._filling = False
        self.stopped = False

    # --- in

    def start(self) -> None:
        """Begin to take items."""
        if self._asynchronous:
            self._room = asyncio.Event()
            name = f"aioparallel reads the source of {self._plan.name}"
            self._pump = asyncio.get_running_loop().create_task(self._read_asynchronous(), name=name)
        else:
            self.fill()

    def _space(self) -> int:
        """Return how many items may be taken now."""
        plan = self._plan
        under_way = self._taken - self._given
        if plan.limit is not None:
            room = plan.limit - under_way
            if not plan.single and plan.chunk is None:
                # A part of a chunk would do, but small chunks cost: wait until there is room for a whole one.
                room = room if room >= min(self._size, plan.limit) else 0
        else:
            room = 2 * UNITS_A_SLOT * plan.slots() * self._size - under_way
        if len(self._out) >= UNITS_A_SLOT * plan.slots() and plan.limit is None:
            return 0
        return max(0, room)

    def fill(self) -> None:
        """Take items from a synchronous source while there is room."""
        if self._filling or self._asynchronous:
            if self._room is not None:
                self._room.set()
            return
        self._filling = True
        try:
            while not self._exhausted and not self.stopped:
                count = min(self._space(), self._size)
                if not count:
                    return
                items = self._take(count)
                if items:
                    self._send(items)
        finally:
            self._filling = False

    def _take(self, count: int) -> list[Any]:
        items: list[Any] = []
        try:
            items.extend(islice(self._source, count))  # type: ignore[arg-type]
            if len(items) < count:
                self._exhausted = True
        except BaseException as error:  # noqa: BLE001 - of the source's
            self._exhausted = True
            self._take_error(error)
        if self._exhausted:
            self._wake()
        return items

    def _take_error(self, error: BaseException) -> None:
        """Keep what the source raised: it is raised again where its items end.

        What is meant for the loop too, it gets in a callback of its own: here it would take along what else is settled in this turn.
        """
        self._source_error = error
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            asyncio.get_running_loop().call_soon(_raise, error)

    async def _read_asynchronous(self) -> None:
        assert self._room is not None
        waiting: list[Any] = []

        def send() -> None:
            if waiting and not self.stopped:
                self._send(waiting.copy())
                waiting.clear()

        loop = asyncio.get_running_loop()
        try:
            async for item in self._source:  # type: ignore[union-attr]
                if not waiting:
                    loop.call_soon(send)  # what comes in one turn of the loop travels together
                waiting.append(item)
                if len(waiting) >= self._size:
                    send()
                while self._space() <= len(waiting) and not self.stopped:
                    self._room.clear()
                    send()
                    await self._room.wait()
        except asyncio.CancelledError as error:
            if not self.stopped:
                self._take_error(error)
            raise
        except BaseException as error:  # noqa: BLE001 - of the source's
            if not self.stopped:
                self._take_error(error)
        finally:
            send()
            self._exhausted = True
            self._wake()

    def _send(self, items: list[Any]) -> None:
        unit = Unit(self._taken, items, self._unit_done, self._send_rest)
        self._taken += len(items)
        self._out.add(unit)
        if self._ordered:
            self._units.append(unit)
        try:
            self._launch(unit)
        except BaseException:  # a KeyboardInterrupt, in a hook of the user's: the map must end all the same
            unit.fail_missing(PoolClosed("interrupted (KeyboardInterrupt) while the items were pickled"))
            raise

    def _launch(self, unit: Unit) -> None:
        """Send a unit."""
        plan = self._plan
        items = unit.items
        if not plan.single and len(items) > 1:
            payload, buffers, bad = plan.pack(items)
            if bad is None:
                self._launch_chunk(unit, list(range(len(items))), (payload, buffers))
                return
            # Nobody knows what comes before it until it has been sent; the bad one fails, the others go each for itself.
        for index, item in enumerate(items):
            self._launch_single(unit, index, item)

    def _launch_chunk(self, unit: Unit, where: list[int], packed: Packed, function: Any = None) -> None:
        """Send the items `where` of a unit together; `function`: as it was sent before."""
        sink = ChunkSink(unit, where, packed, self._plan.apart, (self._seconds or 0.0) * len(where), function)
        try:
            path = self._plan.number, unit.first, None if len(where) == len(unit.items) else ranges(where)
            task = self._plan.launch_chunk(packed, sink, path)
        except Exception as error:  # noqa: BLE001 - the pool is closed, or the function cannot be pickled
            self._unsent(error)
            unit.fail_missing(error)
            return
        unit.task = task
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._chunk_ended(sink, task))

    def _launch_single(self, unit: Unit, index: int, item: Any) -> None:
        try:
            task = self._plan.launch(item, (self._plan.number, unit.first + index))
        except Exception as error:  # noqa: BLE001 - a bad argument, or the pool is closed
            self._unsent(error)
            unit.put(index, Failure(error))
            return
        self._tasks.add(task)

        def ended(task: Task[Any]) -> None:
            self._tasks.discard(task)
            if task.cancelled():
                return
            error = task.exception()
            if error is None and unit.left:
                self._learn(task, 1)
            unit.put(index, task.result() if error is None else Failure(error))

        task.add_done_callback(ended)

    def _unsent(self, error: Exception) -> None:
        """An item could not be sent. If that is because the pool is closed, none will be: end, however long the source is."""
        if isinstance(error, PoolClosed) and not self._exhausted:
            self._exhausted, self._source_error = True, error

    def _chunk_ended(self, sink: ChunkSink, task: Task[Any]) -> None:
        self._tasks.discard(task)
        sink.ended(task)

    def _send_rest(self, unit: Unit, where: list[int], packed: Packed, function: Any) -> None:
        if not self.stopped:
            self._launch_chunk(unit, where, packed, function)

    # --- back

    def _learn(self, task: Task[Any], items: int) -> None:
        seconds = task._ran_for()
        if seconds is None:
            return
        each = max(seconds / items, 1e-8)
        self._seconds = each if self._seconds is None else self._seconds + (each - self._seconds) * 0.25
        plan = self._plan
        if plan.chunk is None and not plan.single:
            ceiling = MAX_CHUNK if plan.limit is None else max(1, plan.limit // (UNITS_A_SLOT * plan.slots()))
            self._size = max(1, min(int(CHUNK_SECONDS / self._seconds), self._size * GROWTH, ceiling, MAX_CHUNK))

    def _unit_done(self, unit: Unit) -> None:
        self._out.discard(unit)
        self._done += len(unit.items)
        if unit.failed is not None:
            self._failed += sum(type(value) is Failure for value in unit.values)
        if unit.task is not None and len(unit.items) > 1:
            self._learn(unit.task, len(unit.items))
            unit.task = None
        if not self._ordered:
            self._units.append(unit)
        self._wake()
        self.fill()

    # --- out

    @property
    def finished(self) -> bool:
        """Whether nothing more will come."""
        return self._exhausted and not self._out and not self._units

    @property
    def source_error(self) -> BaseException | None:
        """What the source raised; it is due when all that came before it has been handed out."""
        return self._source_error

    def counts(self) -> tuple[int, int]:
        """Return how many items are done, and how many of them failed."""
        return self._done, self._failed

    def ready(self) -> Unit | None:
        """Take the next unit that is whole."""
        return self._units.popleft() if self._units and not self._units[0].left else None

    def gave(self, unit: Unit) -> None:
        """Take note that the user has all of a unit's results, and take further items in its place."""
        self._given += len(unit.items)
        self.fill()

    def first_error(self) -> tuple[int, BaseException] | None:
        """Return (index, exception) of a failed item, whether or not it is its turn, if there is one."""
        for unit in self._units if self._ordered else (*self._units, *self._out):
            if unit.failed is not None:
                return unit.first + unit.failed, unit.values[unit.failed].error
        return None

    def stop(self) -> list[Task[Any]]:
        """Take no more, and kill what is under way; return the tasks to wait for.

        A chunk whose items have all answered has nothing of the user's left to kill, and ends by itself in a moment: to kill it would
        cost a slot.
        """
        self.stopped = True
        if self._room is not None:
            self._room.set()
        if self._pump is not None:
            self._pump.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            if task._sink is not None and task._sink.is_answered and task.get_loop().is_running():
                task.get_loop().call_later(ANSWERED_SECONDS, task.cancel)
            else:
                task.cancel()
        return tasks

    async def close_source(self) -> None:
        """Close an asynchronous source, as `async for` would not."""
        if self._pump is not None:
            await asyncio.wait([self._pump])
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await close()


def ranges(numbers: list[int]) -> tuple[tuple[int, int], ...]:
    """Return ascending numbers as pairs (first, behind the last): of a large chunk that crashed they would fill a frame."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number:
            found[-1] = found[-1][0], number + 1
        else:
            found.append((number, number + 1))
    return tuple(found)


def _raise(error: BaseException) -> None:
    raise error


def item_error(name: str, index: int, error: BaseException) -> BaseException:
    """Return the exception with a note that names the item."""
    note(error, f"item {index} of map({name})")
    return error


__all__ = ["Plan", "Stream", "item_error"]
