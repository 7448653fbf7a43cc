"""Tasks under everything of asyncio and anyio that awaits or cancels: also when the kill comes late, or a result meanwhile."""

# ruff: noqa: PT012 - the blocks around an awaiting are what is tested

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from aioparallel import Pool, Task, TaskExited

from .gate import FrozenAgent, Gate, gone, pass_gate, stay

SOON = 0.05
DELAY = 1.0
"""Seconds by which the kill is delayed."""


async def by_timeout(task: Task[Any]) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SOON):
            await task


async def by_wait_for(task: Task[Any]) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(task, SOON)


async def by_gather(task: Task[Any]) -> None:
    both = asyncio.gather(task, asyncio.sleep(1000))
    asyncio.get_running_loop().call_later(SOON, both.cancel)
    with pytest.raises(asyncio.CancelledError):
        await both
    await asyncio.wait([task])


async def by_task_group(task: Task[Any]) -> None:
    async def fail() -> None:
        await asyncio.sleep(SOON)
        raise KeyError("the group fails")

    async def wait() -> None:
        await task

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            group.create_task(wait())
            group.create_task(fail())
    assert [type(error) for error in caught.value.exceptions] == [KeyError]


async def by_anyio(task: Task[Any]) -> None:
    with anyio.move_on_after(SOON) as scope:
        await task
    assert scope.cancelled_caught


async def by_anyio_fail_after(task: Task[Any]) -> None:
    with pytest.raises(TimeoutError):
        with anyio.fail_after(SOON):
            await asyncio.gather(task, return_exceptions=False)


async def by_outer_cancellation(task: Task[Any]) -> None:
    """The timeout has fired, and then somebody cancels from outside: that is what the awaiter sees."""

    async def inner() -> None:
        async with asyncio.timeout(SOON):
            await task

    outer = asyncio.create_task(inner())
    async with asyncio.timeout(20):
        await task._engine.wait_until(lambda: task.state == "stopping")  # type: ignore[attr-defined]
    outer.cancel("from outside")
    with pytest.raises(asyncio.CancelledError):
        await outer


async def by_nested_timeouts(task: Task[Any]) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SOON):
            async with asyncio.timeout(10):
                async with asyncio.timeout(SOON):
                    await task


WAYS: list[Callable[[Task[Any]], Awaitable[None]]] = [
    by_timeout, by_wait_for, by_gather, by_task_group, by_anyio, by_anyio_fail_after, by_outer_cancellation, by_nested_timeouts,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
async def test_the_tree_is_gone_when_the_awaiting_ends(way: Callable[[Task[Any]], Awaitable[None]], gate: Gate) -> None:
    async with Pool(local=1) as pool:
        task = pool.submit(stay, gate.path)
        (pid,) = await gate.met()
        async with asyncio.timeout(10):
            await way(task)
        assert task.cancelled() and gone(pid)
        assert await pool.submit(abs, -1) == 1


async def test_with_the_kill_delayed(gate: Gate) -> None:
    async with Pool(local=len(WAYS)) as pool:
        tasks = [pool.submit(stay, gate.path) for _ in WAYS]
        pids = await gate.met(len(WAYS))
        loop = asyncio.get_running_loop()
        with FrozenAgent(pool) as agent:
            loop.call_later(DELAY, agent.thaw)
            began = loop.time()
            async with asyncio.timeout(10):
                await asyncio.gather(*(asyncio.create_task(_timed(way, task, began)) for way, task in zip(WAYS, tasks, strict=True)))
        assert all(task.cancelled() and task.attempts[0].confirmed_dead for task in tasks)
        assert all(gone(pid) for pid in pids)


async def _timed(way: Callable[[Task[Any]], Awaitable[None]], task: Task[Any], began: float) -> None:
    loop = asyncio.get_running_loop()
    await way(task)
    assert loop.time() - began > DELAY * 0.9, f"{way.__name__} ended before the tree was dead"


async def test_with_a_result_meanwhile(gate: Gate) -> None:
    async with Pool(local=len(WAYS)) as pool:
        tasks = [pool.submit(pass_gate, gate.path, "late") for _ in WAYS]
        await gate.met(len(WAYS))
        loop = asyncio.get_running_loop()
        with FrozenAgent(pool) as agent:
            loop.call_later(DELAY / 4, gate.open, len(WAYS))
            loop.call_later(DELAY / 2, agent.thaw)
            async with asyncio.timeout(10):
                await asyncio.gather(*(asyncio.create_task(way(task)) for way, task in zip(WAYS, tasks, strict=True)))
        assert all(task.cancelled() for task in tasks)
        assert [task.attempts[0].outcome for task in tasks] == ["cancelled"] * len(WAYS)
        assert await asyncio.gather(*(pool.submit(abs, -1) for _ in range(20))) == [1] * 20


async def test_what_cancels_nothing(gate: Gate) -> None:
    async with Pool(local=1) as pool:
        task = pool.submit(pass_gate, gate.path, 7)
        await gate.met()
        done, pending = await asyncio.wait([task], timeout=SOON)
        assert (done, pending) == (set(), {task})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(task), SOON)
        with pytest.raises(TimeoutError):
            for first in asyncio.as_completed([task], timeout=SOON):
                await first
        shielded = asyncio.shield(task)
        shielded.cancel()
        waiter = asyncio.create_task(asyncio.wait([task]))
        await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.wait([waiter, shielded])
        assert shielded.cancelled() and waiter.cancelled()
        assert task.state == "running"
        gate.open()
        assert [await first for first in asyncio.as_completed([task])] == [7]
        assert (await asyncio.wait([task]))[0] == {task}
        assert await asyncio.shield(task) == 7


async def test_one_awaiter_of_a_shared_task_cancels_it_for_all(gate: Gate) -> None:
    async with Pool(local=1) as pool:
        task = pool.submit(stay, gate.path)

        async def wait() -> None:
            await task

        one, other = asyncio.create_task(wait()), asyncio.create_task(wait())
        await gate.met()
        one.cancel()
        await asyncio.wait([one, other])
        assert task.cancelled() and one.cancelled() and other.cancelled()


async def test_a_task_group_takes_coroutines(gate: Gate) -> None:
    async with Pool(local=1) as pool:
        task = pool.submit(abs, -1)
        async with asyncio.TaskGroup() as group:
            with pytest.raises(TypeError):
                group.create_task(task)  # type: ignore[arg-type]
        assert await task == 1


async def test_tasks_in_sets_and_callbacks() -> None:
    async with Pool(local=1) as pool:
        called: list[Task[Any]] = []
        tasks = {pool.submit(abs, -number): number for number in range(10)}
        for task in tasks:
            task.add_done_callback(called.append)
        assert await asyncio.gather(*tasks) == list(tasks.values())
        await asyncio.sleep(0)
        assert called == list(tasks)
        assert {task: task.result() for task in tasks} == tasks
        assert asyncio.isfuture(called[0]) and called[0].exception() is None


def leave(how: str) -> None:
    if how == "exit":
        sys.exit("a text")
    if how == "interrupt":
        raise KeyboardInterrupt
    if how == "cancelled":
        raise asyncio.CancelledError("mine")
    if how == "generator":
        raise GeneratorExit
    raise StopIteration(3)


async def test_what_would_bring_down_a_loop_arrives_as_an_ordinary_exception() -> None:
    async with Pool(local=1) as pool:
        hows = ["exit", "interrupt", "cancelled", "generator"]
        found = await asyncio.gather(*(pool.submit(leave, how) for how in hows), return_exceptions=True)
        assert [type(error) for error in found] == [TaskExited] * 4
        causes = [error.cause for error in found if isinstance(error, TaskExited)]
        assert [type(cause) for cause in causes] == [SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit]
        assert causes[0].code == "a text" and causes[2].args == ("mine",)
        with pytest.raises(RuntimeError, match="the task raised StopIteration") as caught:
            await pool.submit(leave, "stop")
        assert isinstance(caught.value.__cause__, StopIteration) and caught.value.__cause__.value == 3
        for wrapped in (asyncio.gather(pool.submit(leave, "stop")), asyncio.shield(pool.submit(leave, "stop"))):
            with pytest.raises(RuntimeError, match="StopIteration"):
                await wrapped
        for chunk in (1, 5):
            found = await pool.map(leave, ["stop"] * 5, chunk=chunk, on_error="return")
            assert [type(error) for error in found] == [RuntimeError] * 5
            with pytest.raises(RuntimeError, match="StopIteration"):
                await pool.map(leave, ["stop"] * 5, chunk=chunk)
        with pytest.raises(StopAsyncIteration):
            await pool.submit(stop_async)
        pids = {attempt.pid for task in [pool.submit(os.getpid)] if await task for attempt in task.attempts}
        assert pids == {slot.pid for slot in pool.status().slots}, "none of it cost the slot"


def stop_async() -> None:
    raise StopAsyncIteration


async def test_the_loop_may_be_blocked(gate: Gate) -> None:
    """A task that ends in time is never called late because the loop was."""
    async with Pool(local=1) as pool:
        task = pool.options(timeout=1.0).submit(pass_gate, gate.path, "in time")
        await gate.met()
        gate.open()
        time.sleep(1.5)  # noqa: ASYNC251 - the blocked loop is the point
        assert await task == "in time"


async def test_contexts_of_the_user_see_the_error_once() -> None:
    async with Pool(local=2) as pool:
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                for number in (1, 0):
                    group.create_task(_await(pool.submit(divmod, 1, number)))
        assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]


async def _await(task: Task[Any]) -> Any:
    return await task
