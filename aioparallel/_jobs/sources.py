"""The sources of a map, joined to one iterator."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from operator import length_hint
from typing import Any


def zipped(sources: tuple[Any, ...]) -> Iterator[Any] | AsyncIterator[Any]:
    """Return one iterator over the items: of a single source as they are, of several as tuples, to the end of the shortest.

    It is asynchronous if one of the sources is. Raises TypeError for what cannot be iterated.
    """
    for source in sources:
        if not isinstance(source, (Iterable, AsyncIterable)) and not hasattr(source, "__getitem__"):
            raise TypeError(f"map() takes iterables, not {type(source).__qualname__}")
    if any(isinstance(source, AsyncIterable) for source in sources):
        if len(sources) == 1:
            alone: AsyncIterator[Any] = aiter(sources[0])
            return alone
        return _zip_asynchronously(sources)
    return iter(sources[0]) if len(sources) == 1 else zip(*sources, strict=False)


async def _zip_asynchronously(sources: tuple[Any, ...]) -> AsyncIterator[tuple[Any, ...]]:
    iterators = [aiter(source) if isinstance(source, AsyncIterable) else iter(source) for source in sources]
    while True:
        row = []
        for iterator in iterators:
            try:
                row.append(await anext(iterator) if isinstance(iterator, AsyncIterator) else next(iterator))
            except (StopIteration, StopAsyncIteration):
                return
        yield tuple(row)


def length_of(sources: tuple[Any, ...]) -> int | None:
    """Return how many items several sources give together, if they say; it may be wrong of those that only guess."""
    known: list[int] = []
    for source in sources:
        try:
            hint = length_hint(source, -1)
        except Exception:  # noqa: BLE001 - it is the user's; endless ones raise TypeError
            hint = -1
        if hint >= 0:
            known.append(hint)
    return min(known) if len(known) == len(sources) else None
