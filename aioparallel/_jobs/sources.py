"""The sources of a map, joined to one iterator."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
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
