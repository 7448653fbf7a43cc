"""When futures are set: not inside `submit`, not twice, and not never."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from aioparallel import Pool, PoolClosed, Task

MANY = 1_000_000
"""More tasks than any machine leaves unanswered while they are submitted."""


def interrupt() -> None:
    raise KeyboardInterrupt


class Interrupts:
    """Raises KeyboardInterrupt where it is rebuilt."""

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return interrupt, ()


def make_it(number: int) -> Any:
    return Interrupts() if number % 100 == 0 else number


async def answered_but_not_settled(pool: Pool) -> list[Task[int]]:
    """Submit without an `await` until a slot has answered something."""
    await asyncio.gather(*(pool.submit(abs, -number) for number in range(100)))
    tasks: list[Task[int]] = []
    for number in count():
        assert number < MANY, "the slots' answers are not taken in while tasks are submitted"
        tasks.append(pool.submit(abs, -number))
        if tasks[0].state == "succeeded":
            return tasks
    raise AssertionError


async def test_answers_are_taken_in_while_tasks_are_submitted_and_nothing_is_settled() -> None:
    async with Pool(local=2) as pool:
        tasks = await answered_but_not_settled(pool)
        assert not any(task.done() for task in tasks)
        assert await asyncio.gather(*tasks) == list(range(len(tasks)))
        assert pool.status().succeeded == len(tasks) + 100


async def test_cancelling_what_has_answered_but_is_not_settled() -> None:
    async with Pool(local=2) as pool:
        tasks = await answered_but_not_settled(pool)
        assert tasks[0].cancel() is True and not tasks[0].done()
        await asyncio.wait(tasks)
        assert tasks[0].cancelled() and tasks[0].state == "cancelled"
        assert [task.result() for task in tasks[1:]] == list(range(1, len(tasks)))
        assert pool.status().cancelled == 1


async def test_closing_settles_what_has_answered() -> None:
    async with Pool(local=2) as pool:
        tasks = await answered_but_not_settled(pool)
        await pool.aclose()
        assert all(task.done() for task in tasks) and tasks[0].result() == 0
        for number, task in enumerate(tasks):
            assert isinstance(task.exception(), PoolClosed) or task.result() == number


def test_an_interrupt_in_a_map_costs_its_chunk_and_nothing_else() -> None:
    loop = asyncio.new_event_loop()
    try:

        async def opened() -> Pool:
            return await Pool(local=1).ready()

        async def mapped() -> list[Any]:
            return await pool.map(make_it, range(50), chunk=50, on_error="return")

        pool = loop.run_until_complete(opened())
        results = asyncio.ensure_future(mapped(), loop=loop)
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(results)
        found = loop.run_until_complete(asyncio.wait_for(results, 20))
        assert len(found) == 50 and all(isinstance(one, PoolClosed) or one == number for number, one in enumerate(found))
        loop.run_until_complete(asyncio.wait_for(pool.drain(), 20))
    finally:
        loop.close()


def test_interrupts_in_hooks_lose_nothing_behind_them() -> None:
    loop = asyncio.new_event_loop()
    try:

        async def opened() -> Pool:
            return await Pool(local=1).ready()

        async def submitted() -> list[Task[Any]]:
            tasks = [pool.submit(make_it, number) for number in range(3000)]
            await asyncio.wait(tasks)
            return tasks

        pool = loop.run_until_complete(opened())
        tasks = asyncio.ensure_future(submitted(), loop=loop)
        for _ in range(30):
            with pytest.raises(KeyboardInterrupt):
                loop.run_until_complete(tasks)
        for number, task in enumerate(loop.run_until_complete(asyncio.wait_for(tasks, 20))):
            if number % 100 == 0:
                assert isinstance(task.exception(), PoolClosed)
            else:
                assert task.result() == number
        loop.run_until_complete(pool.aclose())
    finally:
        loop.close()
