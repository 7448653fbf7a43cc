"""`Pool(local="serial")`: the same results and exceptions, in this very process."""

from __future__ import annotations

import asyncio
import functools
import math
import os
import threading
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import aioparallel
from aioparallel import Pool, PoolClosed, Retry, SerializationError, TaskExited, UsageError, events


@asynccontextmanager
async def serial(**arguments: Any) -> AsyncIterator[Pool]:
    with pytest.warns(RuntimeWarning, match="crashes, exits and endless loops are not contained") as said:
        pool = await Pool(local="serial", **arguments).ready()
    assert len(said) == 1 and said[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with asyncio.timeout(30):
            try:
                yield pool
                await pool.drain()
            finally:
                await pool.aclose()


class Odd(Exception):
    pass


def fail(number: int) -> None:
    raise Odd(number)


def leave(code: int) -> None:
    raise SystemExit(code)


def spoil(items: list[int]) -> int:
    items.append(1)
    return len(items)


async def where() -> tuple[int, str]:
    await asyncio.sleep(0)
    return os.getpid(), threading.current_thread().name


def look() -> tuple[Any, ...]:
    task = aioparallel.current_task()
    with open(os.path.join(task.scratch, "x"), "w") as file:
        file.write("x")
    aioparallel.report_progress(1, 2)
    return task.name, task.data, task.attempt, task.host, task.seed


def stop() -> None:
    raise StopIteration


CALLS: list[tuple[Any, tuple[Any, ...]]] = [
    (abs, (-3,)),
    (math.sqrt, (-1,)),
    (lambda number: number + 1, (1,)),
    (functools.partial(pow, 2), (3,)),
    (fail, (3,)),
    (leave, (4,)),
    (stop, ()),
    (threading.Lock, ()),
    (spoil, ([1, 2],)),
    (str.upper, ("a" * 100,)),
    ([3, 4].index, (5,)),
]


async def test_the_same_as_in_a_slot() -> None:
    async def ends(pool: Pool) -> list[Any]:
        found = await asyncio.gather(*(pool.submit(fn, *args) for fn, args in CALLS), return_exceptions=True)
        found += await pool.map(fail, range(3), on_error="return")
        found += await pool.map(spoil, [[1], [2, 3]], chunk=2)
        return found

    async with serial(seed=3) as pool:
        mine = await ends(pool)
        seeds = [await pool.submit(look), await pool.map(seed_of, range(5))]
    async with Pool(local=1, seed=3) as pool:
        theirs = await ends(pool)
    for one, other in zip(mine, theirs, strict=True):
        assert type(one) is type(other) and (str(one) == str(other) or isinstance(one, SerializationError))
        if isinstance(one, BaseException):
            assert "attempt 1, on serial/0" in one.__notes__[0]
    assert seeds


def seed_of(_: int) -> int:
    return aioparallel.current_task().seed


async def test_calls_are_snapshots_here_too() -> None:
    async with serial() as pool:
        items = [1, 2]
        task = pool.submit(spoil, items)
        items.append(3)
        assert await task == 3 and items == [1, 2, 3]
        array = bytearray(200_000)
        assert await pool.submit(len, array) == 200_000


async def test_where_it_runs() -> None:
    async with serial() as pool:
        assert await pool.submit(os.getpid) == os.getpid()
        pid, thread = await pool.submit(where)
        assert pid == os.getpid() and thread != threading.current_thread().name
        assert await pool.map(where, []) == []
        assert pool.status().slots[0].pid == os.getpid()


async def test_context_and_events() -> None:
    async with serial(seed=1) as pool:
        stream = pool.events()
        name, data, attempt, host, seed = await pool.options(name="n", data=(1,)).submit(look)
        assert (name, data, attempt, host) == ("n", (1,), 1, "serial") and isinstance(seed, int)
        kinds = set()
        async for event in stream:
            kinds.add(type(event))
            if isinstance(event, events.TaskEnded):
                break
        assert events.TaskProgressed in kinds
        stream.close()
        with pytest.raises(UsageError, match="outside a task"):
            aioparallel.current_task()


async def test_what_it_cannot_do() -> None:
    async with serial() as pool:
        for wrong in ({"timeout": 1}, {"memory": 10**9}):
            with pytest.raises(UsageError, match="timeout= and memory= cannot be kept"):
                pool.options(**wrong)
        with pytest.raises(TaskExited):
            await pool.submit(leave, 3)
        with pytest.raises(SerializationError, match="cannot travel"):
            pool.submit(len, pool)


async def test_queue_cancel_retry_and_close() -> None:
    async with serial() as pool:
        tasks = [pool.submit(abs, -number) for number in range(300)]
        assert tasks[200].cancel() and not tasks[0].done()
        await asyncio.wait(tasks)
        assert tasks[200].cancelled()
        assert [task.result() for task in tasks if not task.cancelled()] == [number for number in range(300) if number != 200]
        assert await pool.options(retries=2).submit(fail_twice) == 3
        assert await pool.options(retry=Retry(attempts=3, on=ValueError, delay=0.01)).submit(fail_twice) == 3
        assert await pool.options(retry=Retry(attempts=3, on=lambda error: type(error) is ValueError)).submit(fail_twice) == 3
        assert await pool.options(isolate=True).submit(abs, -1) == 1
        assert [number async for number in pool.map(abs, range(-50, 0), limit=3)] == list(range(50, 0, -1))
        running = [pool.submit(abs, -number) for number in range(10)]
        await asyncio.sleep(0)
        await pool.aclose()
        assert all(task.done() and (task.exception() is None or isinstance(task.exception(), PoolClosed)) for task in running)


def fail_twice() -> int:
    attempt = aioparallel.current_task().attempt
    if attempt < 3:
        raise ValueError
    return attempt


def litter(name: str) -> str:
    folder = os.path.dirname(aioparallel.current_task().scratch)
    with open(os.path.join(folder, name), "w") as file:
        file.write("x")
    return folder


async def test_what_a_task_leaves_beside_its_scratch_folder() -> None:
    async with serial() as pool, serial() as other:
        folders = [await pool.submit(litter, "one"), await other.submit(litter, "other")]
        assert await pool.map(litter, ["a", "b"], chunk=2) == folders[:1] * 2
    assert len(set(folders)) == 2 and not any(map(os.path.exists, folders))
