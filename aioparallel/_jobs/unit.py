"""A unit: some items of a map that travel as one attempt, and what comes back of each.

Guarantees
    Each item gets exactly one result or one exception. An item that fails, or under which the slot dies, costs that item alone: those
    that were answered keep their answers, the others go out again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._wire.codec import BIG_PICKLE, loads
from .._wire.memory import Buffer, Buffers
from .._wire.messages import OK, PART_HEAD
from .._worker.chunk import cut, pickled_results
from .._worker.failures import in_words
from ..errors import HostLost, PoolClosed, SerializationError, WorkerDied
from .outcomes import exception_of
from .shared import Named, naming

if TYPE_CHECKING:
    from .task import Attempt, Task

Apart = Callable[[Callable[[], Any], Callable[[Any, Exception | None], None]], None]
Packed = tuple[bytes, Buffers]
"""A chunk's payload and its buffers."""


class Failure:
    """An item's exception, in the place of its result."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Unit:
    """Consecutive items of a map on their way."""

    __slots__ = ("_again", "_done", "estimate", "failed", "first", "items", "left", "losses", "task", "values")

    def __init__(
        self, first: int, items: list[Any], done: Callable[[Unit], None], again: Callable[[Unit, list[int], Packed, Any], None]
    ) -> None:
        self.first = first
        """The first item's index in the map."""
        self.items = items
        self.values: list[Any] = [_MISSING] * len(items)
        self.left = len(items)
        """Items without a result."""
        self.failed: int | None = None
        """The first item known to have failed."""
        self.losses = 0
        self.estimate = 0.0
        """Seconds it is expected to run."""
        self.task: Task[Any] | None = None
        self._done = done
        self._again = again

    def put(self, index: int, value: Any) -> None:
        """Take an item's result, unless it has one."""
        if self.values[index] is _MISSING:
            self.values[index] = value
            if type(value) is Failure and (self.failed is None or index < self.failed):
                self.failed = index
            self.left -= 1
            if not self.left:
                self._done(self)

    def put_all(self, where: list[int], values: list[Any]) -> None:
        """Take several items' results."""
        for index, value in zip(where, values, strict=True):
            self.put(index, value)

    def missing(self) -> list[int]:
        """Return which items have no result."""
        return [index for index, value in enumerate(self.values) if value is _MISSING]

    def fail_missing(self, error: BaseException) -> None:
        """Give all items without a result this exception."""
        for index in self.missing():
            self.put(index, Failure(error))


class ChunkSink:
    """Where the parts of one chunk's attempt go: the items `where` of a unit."""

    __slots__ = ("_apart", "_loading", "_packed", "_unit", "_where", "estimate", "function")

    def __init__(self, unit: Unit, where: list[int], packed: Packed, apart: Apart, estimate: float, function: Any = None) -> None:
        self._unit = unit
        self._where = where
        self._packed = packed
        """What is sent again of it is cut from this: an item may have been changed since."""
        self._apart = apart
        self.function = function
        """The function as it was sent, and what stands before the payload; None: it was not sent yet."""
        self.estimate = estimate
        self._loading: set[int] = set()
        """Which items' results are being rebuilt in a thread."""

    def part(self, attempt: Attempt, status: int, body: Buffer) -> None:
        """Take what some of the items gave."""
        first, count = PART_HEAD.unpack_from(body)
        payload = bytes(memoryview(body)[PART_HEAD.size :])
        if status != OK:
            self._unit.put(self._where[first], Failure(exception_of(attempt.task, attempt, status, payload)))
            return
        if not count:
            return
        atoms, pickles = pickled_results(payload)
        unit = self._unit
        if atoms is not None and count == len(unit.values) == unit.left:
            unit.values = atoms
            unit.left = 0
            unit._done(unit)
            return
        where = self._where[first : first + count]
        if atoms is not None:
            unit.put_all(where, atoms)
        elif len(payload) <= BIG_PICKLE:
            unit.put_all(where, [_load(data) for data in pickles])
        else:
            self._load_apart(where, pickles)

    def _load_apart(self, where: list[int], pickles: list[bytes]) -> None:
        def loaded(values: list[Any] | None, error: Exception | None) -> None:
            self._loading.difference_update(where)
            self._unit.put_all(where, values or [Failure(error or PoolClosed("the map was stopped"))] * len(where))

        self._loading.update(where)
        self._apart(lambda: [_load(data) for data in pickles], loaded)

    def _unanswered(self) -> list[int]:
        values = self._unit.values
        return [index for index in self._where if values[index] is _MISSING and index not in self._loading]

    @property
    def is_answered(self) -> bool:
        """Whether every item has answered."""
        return not self._unanswered()

    def ended(self, task: Task[Any]) -> None:
        """The attempt is over: see to the items that it did not answer."""
        unit = self._unit
        left = self._unanswered()
        if not left:
            return
        if task.cancelled():
            return  # the map was stopped; nobody waits
        error = task.exception()
        if isinstance(error, WorkerDied) and task._attempt is not None:
            item = self._where[min(task._attempt.item, len(self._where) - 1)]
            unit.put(item if item in left else left[0], Failure(error))
            left = self._unanswered()
        elif isinstance(error, HostLost):
            unit.losses += 1
        most = task._options.retry.infrastructure
        final = isinstance(error, PoolClosed) or not isinstance(error, (WorkerDied, HostLost)) or unit.losses > most
        if error is None:
            # Sent again, they would be answered in the same way, and again, without end.
            error = SerializationError("the answer of the item's chunk could not be opened")
        if final:
            for index in left:
                unit.put(index, Failure(error))
        elif left:
            position = {index: position for position, index in enumerate(self._where)}
            data, buffers = cut(self._packed, [position[index] for index in left])
            packed = self._packed[0]
            unit._again(unit, left, (naming(data, packed.shared) if type(packed) is Named else data, buffers), self.function)


def _load(data: bytes) -> Any:
    try:
        return loads(data, keep_classes=True)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a hook of the user's
        return Failure(SerializationError(f"the item's result could not be rebuilt: {in_words(error)}"))


_MISSING: Any = object()
