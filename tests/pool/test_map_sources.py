"""Sources of a map that raise what is no Exception: it is theirs, and nothing else is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from aioparallel import Pool, PoolClosed

from .test_map import double

BREAKS_AT = 200


def breaking(error: BaseException) -> Iterator[int]:
    yield from range(BREAKS_AT)
    raise error


async def breaking_later(error: BaseException) -> AsyncIterator[int]:
    for number in range(BREAKS_AT):
        await asyncio.sleep(0)
        yield number
    raise error


@pytest.mark.parametrize("make", [breaking, breaking_later])
@pytest.mark.parametrize("kind", [asyncio.CancelledError, GeneratorExit])
@pytest.mark.parametrize("chunk", [1, 16])
async def test_what_a_source_raises_is_the_maps_own(make: Any, kind: type[BaseException], chunk: int) -> None:
    async with Pool(local=2) as pool:
        others = [pool.submit(abs, -number) for number in range(500)]
        found = []
        with pytest.raises(kind):  # noqa: PT012 - the loop is what raises
            async for result in pool.map(double, make(kind("mine")), chunk=chunk):
                found.append(result)
                others.append(pool.submit(abs, -len(others)))
        assert found == [double(number) for number in range(BREAKS_AT)]
        async with asyncio.timeout(20):
            assert await asyncio.gather(*others) == list(range(len(others)))


@pytest.mark.parametrize("make", [breaking, breaking_later])
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_what_is_meant_for_the_loop_reaches_it_and_loses_nothing(make: Any, kind: type[BaseException]) -> None:
    async def opened() -> Pool:
        return await Pool(local=2).ready()

    async def mapped(source: Any) -> list[int]:
        return await pool.map(double, source, chunk=1)

    loop = asyncio.new_event_loop()
    try:
        pool = loop.run_until_complete(opened())
        others = asyncio.ensure_future(mapped(range(2000)), loop=loop)
        results = asyncio.ensure_future(mapped(make(kind("mine"))), loop=loop)
        for _ in range(2):  # out of the loop, and where the map is awaited
            with pytest.raises(kind, match="mine"):
                loop.run_until_complete(results)
        with pytest.raises(kind, match="mine"):
            results.result()
        assert loop.run_until_complete(asyncio.wait_for(others, 20)) == [double(number) for number in range(2000)]
        loop.run_until_complete(pool.aclose())
    finally:
        loop.close()


class Interrupting:
    def __reduce__(self) -> Any:
        raise KeyboardInterrupt("mine")


@pytest.mark.parametrize("chunk", [1, 16])
def test_an_interrupt_while_items_are_pickled_costs_no_more_than_those(chunk: int) -> None:
    async def opened() -> Pool:
        return await Pool(local=2).ready()

    async def mapped() -> list[Any]:
        items = [Interrupting() if number == BREAKS_AT else number for number in range(2 * BREAKS_AT)]
        return await pool.map(double, items, chunk=chunk, on_error="return")

    loop = asyncio.new_event_loop()
    try:
        pool = loop.run_until_complete(opened())
        results = asyncio.ensure_future(mapped(), loop=loop)
        with pytest.raises(KeyboardInterrupt, match="mine"):
            loop.run_until_complete(results)
        if results.done():  # the item was pickled in a step of the map's own, which has ended by that
            assert isinstance(results.exception(), KeyboardInterrupt)
        else:
            found = loop.run_until_complete(asyncio.wait_for(results, 20))
            lost = [number for number, result in enumerate(found) if isinstance(result, PoolClosed)]
            assert BREAKS_AT in lost and len(lost) <= 2 * chunk
            assert all(result == double(number) for number, result in enumerate(found) if number not in lost)
        loop.run_until_complete(pool.aclose())
    finally:
        loop.close()
