"""Many items of a map in one attempt: each item still stands for itself.

Guarantees
    An item that raises, or whose argument or result cannot be pickled, costs that item alone. The page names the item that runs, so
    that one which kills the slot is known too. Results leave at least every few milliseconds.

How it works
    Items and results that are plain immutable values travel as one list. Any other is pickled for itself, at the moment it
    exists: a list pickle would show later changes of shared objects, and could not say which of its parts failed.
"""

from __future__ import annotations

from itertools import accumulate, chain
from sys import getrecursionlimit, gettrace, setrecursionlimit, settrace
from time import monotonic

from .._wire.codec import ATOMS, dumps, dumps_in_band, dumps_plain, loads, loads_plain
from .._wire.memory import Buffers
from .._wire.messages import EXITED, LENGTH, OK, PART_HEAD, RAISED, UNREADABLE
from . import context
from .run import Call, CoroutineType, Outcome, failure, unsendable
from .store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableSequence
    from typing import Any

FLUSH_SECONDS = 0.01
"""How long a finished item's result waits for company."""
MANY = 4096
"""Results that leave together at the most."""
MOST_BUFFERS = 60_000
"""Buffers that travel out of band with one chunk; a frame can announce 65,535."""


def pack_items(items: list[Any], star: bool, copy: bool = True) -> tuple[bytes, Buffers, int | None]:
    """Return a chunk's payload, its buffers, and None; or, as the last, the index of an item that could not be pickled.

    star: each item is a tuple of arguments.
    """
    if ATOMS.issuperset(map(type, chain.from_iterable(items) if star else items)):
        return dumps_plain((items, None, star)), (), None
    pickles: list[tuple[bytes, int]] = []
    buffers: list[Any] = []
    for index, item in enumerate(items):
        try:
            data, own = dumps(item, copy)
            if len(buffers) + len(own) > MOST_BUFFERS:
                data, own = dumps_in_band(item), ()
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - a hook of the user's; the caller sends each item alone and sees
            return b"", (), index
        pickles.append((data, len(own)))
        buffers += own
    return dumps_plain((None, pickles, star)), tuple(buffers), None


def cut(packed: tuple[bytes, Buffers], kept: list[int]) -> tuple[bytes, Buffers]:
    """Return payload and buffers of some of a chunk's items, by their positions."""
    payload, buffers = packed
    atoms, pickles, star = loads_plain(payload)
    if pickles is None:
        return dumps_plain(([atoms[position] for position in kept], None, star)), ()
    ends = list(accumulate(count for _, count in pickles))
    taken: list[Any] = []
    for position in kept:
        taken += buffers[ends[position] - pickles[position][1] : ends[position]]
    return dumps_plain((None, [pickles[position] for position in kept], star)), tuple(taken)


def before_payload(fn: object) -> bytes:
    """Return what stands before a chunk's payload where its callable is pickled with its arguments."""
    pickled = dumps_in_band(fn)
    return LENGTH.pack(len(pickled)) + pickled


def _opened(call: Call, store: Store) -> tuple[Callable[..., Any], Any]:
    """Return the callable, and what `pack_items` packed."""
    payload = call.payload
    if call.function:
        return store.function(call.function), loads_plain(payload)
    (length,) = LENGTH.unpack_from(payload)
    end = LENGTH.size + length
    return loads(payload[LENGTH.size : end]), loads_plain(payload[end:])


def pickled_results(payload: bytes) -> tuple[list[object] | None, list[bytes]]:
    """Return a part's results as (values, []) where they are plain, else as (None, their pickles)."""
    atoms, pickles = loads_plain(payload)
    return atoms, pickles or []


class _Parts:
    """The results that have not left yet."""

    __slots__ = ("_atoms", "_first", "_pickles", "_send", "left")

    def __init__(self, send: Callable[[int, bytes, Buffers], None]) -> None:
        self._send = send
        self._first = 0
        self._atoms: list[object] = []
        self._pickles: list[bytes] | None = None
        self.left = monotonic()

    def add(self, value: object) -> None:
        """Take an item's result; raises what its pickling raises."""
        if self._pickles is None:
            if type(value) in ATOMS:
                self._atoms.append(value)
                return
            if self._atoms:
                self.flush()
            self._pickles = []
        self._pickles.append(dumps_in_band(value))

    def count(self) -> int:
        return len(self._atoms) if self._pickles is None else len(self._pickles)

    def payload(self) -> tuple[int, int, bytes]:
        """Return (first item, number of items, payload) of what has not left, and forget it."""
        first, count = self._first, self.count()
        data = dumps_plain((self._atoms, None) if self._pickles is None else (None, self._pickles))
        self._first += count
        self._atoms = []
        if self._pickles is not None:
            self._pickles = []
        return first, count, data

    def flush(self) -> None:
        self.left = monotonic()
        if self.count():
            first, count, data = self.payload()
            self._send(OK, PART_HEAD.pack(first, count) + data, ())

    def fail(self, status: int, payload: bytes) -> None:
        """Say that the next item failed."""
        self.flush()
        self._send(status, PART_HEAD.pack(self._first, 1) + payload, ())
        self._first += 1


def perform_chunk(
    call: Call,
    store: Store,
    run_coroutine: Callable[[Any], Any],
    shown: MutableSequence[int] | memoryview,
    send_part: Callable[[int, bytes, Buffers], None],
) -> Outcome:
    """Run a chunk; send its parts as they come, and return the last as the outcome (see `run.perform`).

    shown: its first number says which item runs. Raises ValueError where that is a memoryview which was released meanwhile.
    """
    shown[0] = 0
    try:
        function, (atoms, pickles, star) = _opened(call, store)
    except BaseException as error:  # noqa: BLE001 - hooks of the user's may raise anything
        return failure(error, UNREADABLE if isinstance(error, Exception) else EXITED, "the function could not be rebuilt")
    parts = _Parts(send_part)
    items: Iterator[Any] | _rebuilt = iter(atoms) if pickles is None else _rebuilt(pickles, list(call.buffers))
    index, limit, trace = 0, getrecursionlimit(), gettrace()
    while True:
        shown[0] = context.item = index
        try:
            item = next(items, _END)
            if item is _END:
                break
        except BaseException as error:  # noqa: BLE001 - as above
            status, payload, _ = failure(error, UNREADABLE if isinstance(error, Exception) else EXITED, "the item could not be rebuilt")
            parts.fail(status, payload)
        else:
            _one(function, item, star, parts, run_coroutine, limit, trace)
        index += 1
        if monotonic() - parts.left > FLUSH_SECONDS or parts.count() >= MANY:
            parts.flush()
    first, count, data = parts.payload()
    return OK, PART_HEAD.pack(first, count) + data, ()


_END = object()


class _rebuilt:  # noqa: N801 - an iterator that goes on behind an item that failed, which a generator cannot
    def __init__(self, pickles: list[tuple[bytes, int]], buffers: list[Any]) -> None:
        self._pickles = iter(pickles)
        self._buffers = iter(buffers)

    def __next__(self) -> Any:
        data, count = next(self._pickles)
        own = [next(self._buffers) for _ in range(count)]
        return loads(data, own)


def _one(
    function: Callable[..., Any], item: Any, star: bool, parts: _Parts, run_coroutine: Callable[[Any], Any], limit: int, trace: Any
) -> None:
    """Run one item. limit, trace: the recursion limit and trace function before the chunk."""
    try:
        try:
            value = function(*item) if star else function(item)
            if type(value) is CoroutineType:
                value = run_coroutine(value)
        finally:  # as in `run.perform`
            if gettrace() is not trace:
                settrace(trace)
            if getrecursionlimit() < limit:
                setrecursionlimit(limit)
    except BaseException as error:  # noqa: BLE001 - it is the item's outcome
        status, payload, _ = failure(error, RAISED if isinstance(error, Exception) else EXITED)
        parts.fail(status, payload)
        return
    try:
        parts.add(value)
    except BaseException as error:  # noqa: BLE001 - a hook of the user's
        status, payload, _ = unsendable(value, error)
        parts.fail(status, payload)


__all__ = ["before_payload", "cut", "pack_items", "perform_chunk", "pickled_results"]
