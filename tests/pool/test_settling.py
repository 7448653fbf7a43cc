"""When futures are set: not inside `submit`, not twice, and not never."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from anyio import to_thread

from aioparallel import Pool, PoolClosed, Task, WorkerDied

from .gate import Gate, pass_gate

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


# --- large results, which are rebuilt in threads


class Slow:
    """A large result whose rebuilding, in the controller, waits to be let through a gate."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.load = "x" * (2 << 20)

    def __reduce__(self) -> Any:
        return _rebuild_slowly, (self.path, os.getpid(), self.load)


def _rebuild_slowly(path: str, pid: int, load: str) -> int:
    if os.getpid() != pid:
        pass_gate(path)
    return len(load)


async def test_a_cancel_does_not_wait_for_a_result_that_is_being_rebuilt(gate: Gate) -> None:
    async with Pool(local=1) as pool:
        task = pool.submit(Slow, gate.path)
        await gate.met()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await task
        assert task.cancelled() and task.state == "cancelled" and pool.status().cancelled == 1
        task = pool.submit(Slow, gate.path)
        await gate.met()
        assert task.cancel() is True and task.cancelled() and task.cancel() is False
        assert await pool.drain() is True
        gate.open(2)


async def test_closing_does_not_wait_for_a_result_that_is_being_rebuilt(gate: Gate) -> None:
    async with Pool(local=1) as pool:
        task = pool.submit(Slow, gate.path)
        await gate.met()
        await pool.aclose()
        assert isinstance(task.exception(), PoolClosed) and pool.status().failed == 1
        gate.open()


async def test_results_are_rebuilt_while_the_program_has_all_of_its_threads_wait_for_them(gate: Gate) -> None:
    async with Pool(local=1) as pool:
        tokens = int(to_thread.current_default_thread_limiter().total_tokens)
        waiting = [asyncio.ensure_future(to_thread.run_sync(pass_gate, gate.path)) for _ in range(tokens)]
        await gate.met(tokens)
        async with asyncio.timeout(20):
            assert await pool.submit(str.upper, "x" * (2 << 20)) == "X" * (2 << 20)
        gate.open(tokens)
        await asyncio.gather(*waiting)


def in_main_thread(data: bytes) -> bool:
    return threading.current_thread() is threading.main_thread()


class Rebuilt:
    """Rebuilt, it is whether that was done in the main thread."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __reduce__(self) -> tuple[Callable[[bytes], bool], tuple[bytes]]:
        return in_main_thread, (b"x" * self.size,)


@pytest.mark.parametrize(("size", "in_main"), [(10, True), (1 << 20, False)])
async def test_the_large_results_of_a_chunk_are_rebuilt_in_a_thread(size: int, in_main: bool) -> None:
    async with Pool(local=2) as pool:
        assert await pool.map(lambda _: Rebuilt(size), range(6), chunk=3) == [in_main] * 6
        rest = pool.map(lambda n: Rebuilt(size) if n else os._exit(3), range(4), chunk=4, on_error="return")
        assert [value if isinstance(value, bool) else type(value) async for value in rest] == [WorkerDied, *[in_main] * 3]


async def test_a_pool_that_is_closed_does_not_wait_for_a_chunks_large_results() -> None:
    reached.clear()
    let_go.clear()
    async with Pool(local=1) as pool:
        results = pool.map(lambda n: n or Held(), range(2), chunk=2, on_error="return")
        waiting = asyncio.ensure_future(_all(results))
        assert await asyncio.to_thread(reached.wait, 20)
        await pool.aclose()
        assert [type(value) for value in await waiting] == [PoolClosed, PoolClosed]
        let_go.set()


reached, let_go = threading.Event(), threading.Event()


class Held:
    """Its rebuilding in the controller waits."""

    def __reduce__(self) -> tuple[Callable[[bytes], None], tuple[bytes]]:
        return hold, (b"x" * (1 << 20),)


def hold(_: bytes) -> None:
    reached.set()
    let_go.wait(20)


async def _all(results: Any) -> list[Any]:
    return [value async for value in results]
