"""`map`: a list, a stream or a block; bounded, in chunks or one by one; each item stands for itself."""

# ruff: noqa: PT012, PERF401 - loops over a map are what raises

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import psutil
import pytest

from aioparallel import Pool, PoolClosed, SerializationError, TaskTimeout, UsageError, WorkerDied

from .gate import Gate, death, gone, pass_gate, stay, until


class Counted:
    """A source that counts what was taken from it."""

    def __init__(self, size: int | None = None) -> None:
        self._numbers = itertools.count() if size is None else iter(range(size))
        self.taken = 0

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        number = next(self._numbers)
        self.taken += 1
        return number


async def later(source: Any, closed: list[bool] | None = None) -> AsyncIterator[Any]:
    try:
        for item in source:
            await asyncio.sleep(0)
            yield item
    finally:
        if closed is not None:
            closed.append(True)


def double(number: int) -> int:
    return 2 * number


def boxed(number: int) -> list[int]:
    return [number]


async def double_later(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


def picky(number: int, bad: int = 7) -> int:
    if number == bad:
        raise ValueError(number)
    return number


@pytest.mark.parametrize("chunk", [None, 1, 50])
async def test_the_list(chunk: int | None) -> None:
    async with Pool(local=2) as pool:
        expected = [double(number) for number in range(1234)]
        assert await pool.map(double, range(1234), chunk=chunk) == expected
        assert await pool.map(double, later(range(1234)), chunk=chunk) == expected
        assert sorted(await pool.map(double, range(1234), chunk=chunk, ordered=False)) == expected
        assert await pool.map(boxed, range(300), chunk=chunk, limit=7) == [[number] for number in range(300)]
        assert await pool.map(double_later, range(100), chunk=chunk) == expected[:100]
        assert await pool.map(lambda a, b: (a, b), range(99), itertools.count(5), chunk=chunk) == [(n, n + 5) for n in range(99)]
        assert await pool.map(pow, later(range(50)), [2] * 40, later(itertools.repeat(None)), chunk=chunk) == [n**2 for n in range(40)]
        assert await pool.options(timeout=50).map(double, range(20), chunk=chunk) == expected[:20]
        for empty in ([], later([]), (), iter("")):
            assert await pool.map(double, empty, chunk=chunk) == []  # type: ignore[arg-type]
        assert await pool.map(double, [], range(3)) == []


@pytest.mark.parametrize("chunk", [None, 1, 50])
async def test_the_stream(chunk: int | None) -> None:
    async with Pool(local=2) as pool:
        assert [result async for result in pool.map(double, range(500), chunk=chunk)] == [2 * n for n in range(500)]
        assert sorted([result async for result in pool.map(double, later(range(500)), chunk=chunk, ordered=False)]) == [
            2 * n for n in range(500)
        ]
        assert [pair async for pair in pool.map(double, range(500), chunk=chunk).items()] == [(n, 2 * n) for n in range(500)]
        pairs = [pair async for pair in pool.map(double, range(500), chunk=chunk, ordered=False).items()]
        assert sorted(pairs) == [(n, 2 * n) for n in range(500)]
        assert [pair async for pair in pool.map(pow, range(9), range(9), chunk=chunk).items()] == [((n, n), n**n) for n in range(9)]
        async with pool.map(double, range(100), chunk=chunk) as results:
            assert [result async for result in results] == [2 * n for n in range(100)]
        assert [result async for result in pool.map(double, [], chunk=chunk)] == []


@pytest.mark.parametrize("chunk", [None, 1, 4, 50])
@pytest.mark.parametrize("ordered", [True, False])
async def test_the_limit_holds_over_endless_sources(chunk: int | None, ordered: bool) -> None:
    async with Pool(local=2) as pool:
        for limit, wrap in itertools.product([1, 8, 30], [lambda source: source, later]):
            source, given = Counted(), 0
            async with pool.map(double, wrap(source), limit=limit, chunk=chunk, ordered=ordered) as results:
                async for _ in results:
                    given += 1
                    assert source.taken - given <= limit
                    if given == 150:
                        break
            taken = source.taken
            await asyncio.sleep(0)
            assert source.taken == taken and taken - given <= limit


async def test_without_a_limit_an_endless_source_is_bounded_too() -> None:
    async with Pool(local=2) as pool:
        source, given = Counted(), 0
        async for _ in pool.map(double, source, chunk=1):
            given += 1
            assert source.taken - given < 200
            if given == 500:
                break


async def test_the_limit_of_an_awaited_map(gate: Gate) -> None:
    async with Pool(local=2) as pool:
        source = Counted(30)
        waiting = asyncio.ensure_future(_list(pool.map(lambda _: pass_gate(gate.path), source, limit=3)))
        for number in range(30):
            await gate.met()
            assert source.taken <= number + 3 + 1
            gate.open()
        assert await waiting == [None] * 30


async def _list(results: Any) -> Any:
    return await results


@pytest.mark.parametrize("chunk", [None, 1, 50])
async def test_the_first_failure_stops_the_map_and_names_its_item(chunk: int | None) -> None:
    async with Pool(local=2) as pool:
        for source in (range(1000), Counted(), later(Counted())):
            with pytest.raises(ValueError) as caught:
                await pool.map(picky, source, chunk=chunk)
            assert caught.value.args == (7,)
            assert caught.value.__notes__[-1] == "item 7 of map(tests.pool.test_map.picky)"
            assert "attempt 1, on local/" in caught.value.__notes__[0] and "picky" in caught.value.__notes__[0]
        got = []
        with pytest.raises(ValueError, match="7"):
            async for result in pool.map(picky, Counted(), chunk=chunk):
                got.append(result)
        assert got == list(range(7))
        with pytest.raises(ValueError, match="7"):
            await pool.map(picky, range(20), chunk=chunk, ordered=False)
        assert (pool.status().queued, pool.status().running) == (0, 0), "what was under way is dead"
        found = await pool.map(picky, range(100), chunk=chunk, on_error="return")
        assert isinstance(found[7], ValueError) and found[7].args == (7,)
        assert found[:7] + found[8:] == [*range(7), *range(8, 100)]
        assert all(isinstance(error, ValueError) for error in await pool.map(picky, [7] * 120, chunk=chunk, on_error="return"))


async def test_a_failure_far_behind_a_slow_item_is_raised_at_once(gate: Gate) -> None:
    async with Pool(local=2) as pool:
        waiting = asyncio.ensure_future(
            _list(pool.map(lambda n: stay(gate.path) if n == 0 else pass_gate(gate.path, KeyError(n)), range(9)))
        )
        pids = await gate.met(2)  # in either order
        gate.open()
        with pytest.raises(KeyError) as caught:
            async with asyncio.timeout(10):
                await waiting
        assert caught.value.args == (1,) and "item 1 of map" in caught.value.__notes__[-1]
        assert any(map(gone, pids)), "the slot of the slow item"


class Odd:
    """Pickles as it is told to."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> Any:
        if self.how == "going":
            raise KeyError("will not go")
        return (_arrive, (self.how,)) if self.how == "arriving" else (Odd, (self.how,))


def _arrive(how: str) -> Any:
    raise LookupError("will not arrive")


def give(number: Any) -> Any:
    if isinstance(number, int) and number % 10 == 5:
        return threading.Lock()
    if isinstance(number, int) and number % 10 == 6:
        return Odd("arriving")
    return number if isinstance(number, int) else number.how


@pytest.mark.parametrize("chunk", [None, 1, 50])
async def test_what_cannot_travel_costs_its_item_alone(chunk: int | None) -> None:
    async with Pool(local=2) as pool:
        found = await pool.map(give, range(100), chunk=chunk, on_error="return")
        for number, result in enumerate(found):
            if number % 10 in (5, 6):
                assert isinstance(result, SerializationError), (number, result)
            else:
                assert result == number
        items = [Odd("well") if number % 10 else Odd("going") for number in range(100)]
        found = await pool.map(give, items, chunk=chunk, on_error="return")
        assert [type(result) for result in found] == [SerializationError if number % 10 == 0 else str for number in range(100)]
        items = [Odd("well") if number % 10 else Odd("arriving") for number in range(100)]
        found = await pool.map(give, items, chunk=chunk, on_error="return")
        assert [type(result) for result in found] == [SerializationError if number % 10 == 0 else str for number in range(100)]
        with pytest.raises(SerializationError) as caught:
            await pool.map(give, [1, 2, Odd("going")], chunk=chunk)
        assert "item 2 of map" in caught.value.__notes__[-1]


def crash_at(number: int, folder: str) -> int:
    with open(os.path.join(folder, str(number)), "a") as file:
        file.write("x")
    if number == 20:
        os._exit(9)
    return number


@pytest.mark.parametrize("chunk", [1, 50])
async def test_a_crash_in_a_chunk_costs_its_item(chunk: int, tmp_path: Any) -> None:
    async with Pool(local=1) as pool:
        found = await pool.map(crash_at, range(50), [str(tmp_path)] * 50, chunk=chunk, on_error="return")
        died = found.pop(20)
        assert isinstance(died, WorkerDied) and died.exit_code == 9
        assert found == [number for number in range(50) if number != 20]
        runs = {int(path.name): len(path.read_text()) for path in tmp_path.iterdir()}
        assert set(runs) == set(range(50)) and runs[20] == 1
        assert all(runs[number] == 1 for number in range(21, 50))


async def test_answered_items_of_a_crashed_chunk_keep_their_answers(gate: Gate) -> None:
    async with Pool(local=1) as pool:
        results = pool.map(crash_behind_a_gate, [gate.path] * 3, range(3), chunk=3, on_error="return", ordered=False)
        waiting = asyncio.ensure_future(_list(results))
        await gate.met()
        asyncio.get_running_loop().call_later(0.1, gate.open)  # what took so long leaves at once; quick answers wait for company
        found = await waiting
        assert found[0] == 0 and isinstance(found[1], WorkerDied) and found[2] == 2


def crash_behind_a_gate(path: str, number: int) -> int:
    if number == 0:
        return pass_gate(path, 0)  # slow, so that its answer leaves before the next begins
    if number == 1:
        os._exit(3)
    return number


async def test_options_hold_for_each_item(gate: Gate) -> None:
    async with Pool(local=2) as pool:
        warm = [pool.submit(pass_gate, gate.path) for _ in range(2)]
        await gate.met(2)
        gate.open(2)
        await asyncio.gather(*warm)
        found = await pool.options(timeout=0.8).map(lambda n: stay(gate.path) if n == 2 else n, range(5), chunk=5, on_error="return")
        assert isinstance(found.pop(2), TaskTimeout) and found == [0, 1, 3, 4]
        found = await pool.options(idempotent=False).map(crash_and_count, range(6), chunk=6, on_error="return")
        assert isinstance(found.pop(3), WorkerDied) and found == [0, 1, 2, 4, 5]


def crash_and_count(number: int) -> int:
    if number == 3:
        os._exit(1)
    return number


def raising(after: int) -> Iterator[int]:
    yield from range(after)
    raise LookupError("the source is broken")


@pytest.mark.parametrize("chunk", [None, 1, 50])
async def test_a_source_that_raises(chunk: int | None) -> None:
    async with Pool(local=2) as pool:
        for source in (raising, lambda after: later(raising(after))):
            for on_error in ("raise", "return"):
                got = []
                with pytest.raises(LookupError, match="the source is broken"):
                    async for result in pool.map(double, source(130), chunk=chunk, on_error=on_error):  # type: ignore[call-overload]
                        got.append(result)
                assert got == [double(number) for number in range(130)], "what came before it is given first"
            with pytest.raises(LookupError, match="the source is broken"):
                await pool.map(double, source(0), chunk=chunk)


async def test_a_source_that_is_cancelled_is_not_a_short_one() -> None:
    async def source() -> AsyncIterator[int]:
        yield 1
        raise asyncio.CancelledError("from within")

    async with Pool(local=1) as pool:
        with pytest.raises(asyncio.CancelledError):
            await pool.map(double, source())


@pytest.mark.parametrize("how", ["block", "dropped", "closed", "cancelled", "raised"])
@pytest.mark.parametrize("asynchronous", [True, False])
async def test_what_is_under_way_is_killed(how: str, asynchronous: bool, gate: Gate) -> None:
    async with Pool(local=2) as pool:
        closed: list[bool] = []
        source: Any = later(itertools.count(), closed) if asynchronous else itertools.count()
        results = pool.map(lambda n: stay(gate.path) if n > 3 else n, source, chunk=1)
        if how == "block":
            async with results:
                async for number in results:
                    if number == 3:
                        break
                pids = await gate.met(2)
        elif how == "dropped":
            async for number in results:
                if number == 3:
                    pids = await gate.met(2)
                    del results
                    break
        elif how == "closed":
            assert await anext(results) == 0
            pids = await gate.met(2)
            await until(pool, lambda: pool.status().succeeded == 4)  # what they answered before may have been met on its way
            waiting = asyncio.ensure_future(_rest(results))
            await asyncio.sleep(0)
            await asyncio.gather(results.aclose(), results.aclose())
            assert await waiting == [1, 2, 3], "who iterates elsewhere just sees the end"
        elif how == "cancelled":
            waiting = asyncio.ensure_future(_list(results))
            pids = await gate.met(2)
            waiting.cancel()
            await asyncio.wait([waiting])
            assert waiting.cancelled()
        else:
            with pytest.raises(KeyError):
                async with results:
                    pids = await gate.met(2)
                    raise KeyError
        if how == "dropped":
            await death(*pids)
        else:
            assert all(map(gone, pids)), "they are dead when the block has been left"
            assert closed == [True] * asynchronous
        assert await pool.submit(double, 4) == 8
        assert pool.status().queued == 0


async def _rest(results: Any) -> list[Any]:
    return [result async for result in results]


async def test_one_use_each() -> None:
    async with Pool(local=1) as pool:
        results = pool.map(double, range(3))
        assert repr(results) == "<Results of map(tests.pool.test_map.double) not begun>"
        assert await results == [0, 2, 4]
        assert repr(results) == "<Results of map(tests.pool.test_map.double) ended>"
        with pytest.raises(UsageError, match="keep the list, or make a second map"):
            await results
        with pytest.raises(UsageError, match="make a second"):
            _ = [result async for result in results]
        results = pool.map(double, range(3))
        assert [result async for result in results] == [0, 2, 4]
        with pytest.raises(UsageError, match="make a second one to go through the items again"):
            _ = [result async for result in results]
        with pytest.raises(UsageError, match="make a second map"):
            await results
        results = pool.map(double, range(3))
        await results.aclose()
        with pytest.raises(UsageError):
            _ = [result async for result in results]
        pool.map(double, range(3))  # never used: it never begins
        assert pool.status().queued == 0


async def test_two_consumers_are_told(gate: Gate) -> None:
    async with Pool(local=1) as pool:
        results = pool.map(pass_gate, [gate.path])
        one, other = asyncio.ensure_future(anext(results)), asyncio.ensure_future(anext(results))
        await gate.met()
        with pytest.raises(UsageError, match="somebody else waits"):
            await other
        gate.open()
        assert await one is None


async def test_arguments() -> None:
    async with Pool(local=1) as pool:
        wrong: list[tuple[type[Exception], str, Callable[[], Any]]] = [
            (ValueError, r"limit=0: give a number of items \(1 or more\), or None", lambda: pool.map(double, [1], limit=0)),
            (ValueError, "limit=2.5", lambda: pool.map(double, [1], limit=2.5)),  # type: ignore[arg-type]
            (ValueError, "chunk=-1", lambda: pool.map(double, [1], chunk=-1)),
            (ValueError, "chunk=True", lambda: pool.map(double, [1], chunk=True)),
            (ValueError, 'give "raise" or "return"', lambda: pool.map(double, [1], on_error="ignore")),  # type: ignore[call-overload]
            (TypeError, r"map\(\) needs at least one iterable", lambda: pool.map(double)),
            (TypeError, r"map\(\) takes iterables, not int", lambda: pool.map(double, 3)),  # type: ignore[arg-type]
            (TypeError, r"takes a function, not list", lambda: pool.map([1], double)),  # type: ignore[call-overload]
            (TypeError, "unexpected keyword", lambda: pool.map(double, [1], size=3)),  # type: ignore[call-overload]
        ]
        for kind, match, call in wrong:
            with pytest.raises(kind, match=match):
                call()


async def test_a_pool_that_is_closed_meanwhile_ends_the_map() -> None:
    pool = await Pool(local=1).ready()
    for on_error in ("raise", "return"):
        results = pool.map(double, itertools.count(), on_error=on_error, chunk=1)  # type: ignore[call-overload]
        assert await anext(results) == 0
        if on_error == "raise":
            await results.aclose()
    await pool.aclose()
    with pytest.raises(PoolClosed):
        async with asyncio.timeout(10):
            while not isinstance(await anext(results), PoolClosed):
                pass
            while True:
                await anext(results)
    with pytest.raises(PoolClosed):
        await pool.map(double, [1])
    with pytest.raises(PoolClosed):
        await pool.map(double, itertools.count(), on_error="return")


async def test_flat_memory() -> None:
    async with Pool(local=2) as pool:
        total, given, process = 0, 0, psutil.Process()
        async for result in pool.map(double, iter(range(200_000)), limit=1000):
            total += result
            given += 1
            if given == 20_000:
                before = process.memory_info().rss
        assert total == 200_000 * 199_999 and given == 200_000
        assert process.memory_info().rss - before < 12 << 20
        total = 0
        async for result in pool.map(double, range(200_000), ordered=False):
            total += result
        assert total == 200_000 * 199_999
