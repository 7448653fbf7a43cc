"""From the arguments of `Pool.map` to its results."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from .._worker.chunk import pack_items
from ..options import Options
from .making import Maker, name_of
from .results import Counts, Display, Results, Show
from .shared import HANDLES, naming
from .sources import length_of, zipped
from .stream import Plan, Stream
from .task import Task

if TYPE_CHECKING:
    from .._wire.memory import Buffers


def make_map(
    maker: Maker,
    check: Callable[[], None],
    slots: Callable[[], int],
    options: Options,
    fn: Any,
    sources: tuple[Any, ...],
    limit: int | None,
    ordered: bool,
    chunk: int | None,
    on_error: str,
    show: Show | None = None,
) -> Results[Any]:
    """Check the arguments and return the results, not begun. `check` raises where the pool takes no tasks."""
    name = name_of(fn)
    source = _checked(sources, limit, chunk, on_error)
    alone = options.but({"retry": options.retry.but(attempts=1)}) if options.retries else options
    special = (options.timeout, options.deadline, options.memory, options.grace or None, options.isolate or None)
    single = chunk == 1 or options.idempotent is False or bool(options.retries) or any(value is not None for value in special)
    star = len(sources) > 1

    def launch(item: Any, seed_path: tuple[Any, ...]) -> Task[Any]:
        check()
        return maker.make(options, fn, item if star else (item,), {}, seed_path=seed_path)

    def launch_chunk(payload: tuple[bytes, tuple[Any, ...]], sink: Any, seed_path: tuple[Any, ...]) -> Task[Any]:
        check()
        return maker.make(alone, fn, (), {}, payload, sink, seed_path)

    def pack(items: list[Any]) -> tuple[bytes, Buffers, int | None]:
        met = maker.shares.begin() if HANDLES else None
        try:
            data, buffers, bad = pack_items(items, star, options.copy)
        finally:
            if met is not None:
                maker.shares.end()
        return (naming(data, met.values()) if met else data), buffers, bad

    plan = Plan(launch, launch_chunk, pack, maker.next_id(), name, slots, star, limit, chunk, single, maker.owner.apart)
    return Results(lambda ordered, wake: Stream(plan, source, ordered, wake), name, ordered, on_error, _display(show, name, sources))


def _checked(sources: tuple[Any, ...], limit: Any, chunk: Any, on_error: Any) -> Iterator[Any] | AsyncIterator[Any]:
    """Return one iterator over the items. Raises for what cannot be."""
    for name, value in (("limit", limit), ("chunk", chunk)):
        if value is not None and (type(value) is not int or value < 1):
            raise ValueError(f"{name}={value!r}: give a number of items (1 or more), or None")
    if on_error not in ("raise", "return"):
        raise ValueError(f'on_error={on_error!r}: give "raise" or "return"')
    if not sources:
        raise TypeError("map() needs at least one iterable")
    return zipped(sources)


def _display(show: Show | None, name: str, sources: tuple[Any, ...]) -> Callable[[Counts], Display] | None:
    return None if show is None else partial(show, name, length_of(sources))
