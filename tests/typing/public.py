"""The public types, pinned: mypy and pyright (strict) read this file; nothing runs it.

Each `type: ignore` is an error that must be reported: where it is not, the comment is one too many, and that is an error.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Literal, assert_type

import aioparallel
from aioparallel import Pool, Retry, Shared, Task, TaskError, TaskTimeout, WorkerDied, current_task, report_progress
from aioparallel.events import Event
from aioparallel.status import AttemptRecord, FailureRecord, HostStatus, PoolStatus, RunningAttempt, SlotStatus, Summary


def repeat(text: str, times: int = 1) -> str:
    return text * times


async def halve(number: int) -> float:
    return number / 2


async def submit_knows_arguments_and_result(pool: Pool) -> None:
    assert_type(pool.submit(repeat, "a", times=2), Task[str])
    assert_type(await pool.submit(repeat, "a"), str)
    assert_type(await pool.submit(halve, 3), float)
    assert_type(await pool.submit(partial(repeat, "a")), str)
    assert_type(await pool.options(timeout=1.0, retries=2).submit(repeat, "a"), str)
    assert_type(await pool.options(retry=Retry(attempts=3, on=OSError, delay=1)).submit(repeat, "a"), str)
    assert_type(Retry(on=lambda error: error.args == (1,)).but(attempts=2), Retry)
    Retry(on=[OSError, TaskError])
    Retry(3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Retry(on="OSError")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    text = await pool.share("a", name="letter")
    assert_type(text, Shared[str])
    assert_type(await pool.submit(len, [text]), int)
    pool.submit(repeat, 1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    pool.submit(repeat)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    pool.submit(repeat, "a", many=2)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
    pool.submit(1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


async def map_knows_its_results(pool: Pool, how: Literal["raise", "return"]) -> None:
    assert_type(await pool.map(repeat, ["a"], [1]), list[str])
    assert_type(await pool.map(halve, range(3)), list[float])
    assert_type(await pool.map(halve, range(3), on_error="return"), list[float | Exception])
    assert_type(await pool.options(timeout=1).map(repeat, ["a"], limit=3, ordered=False, chunk=1), list[str])
    async with pool.map(repeat, ["a"], on_error="return") as results:
        async for result in results:
            assert_type(result, str | Exception)
    async for item, found in pool.map(halve, [1]).items():
        print(item)
        assert_type(found, float)
    assert_type(await pool.map(repeat, ["a"], on_error=how), list[str] | list[str | Exception])
    pool.map(repeat, ["a"], on_error="ignore")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    pool.map("repeat", ["a"])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


async def a_task_is_a_future(pool: Pool) -> None:
    task = pool.submit(repeat, "a")
    future: asyncio.Future[str] = task
    both = await asyncio.gather(task, pool.submit(halve, 1))
    assert_type(both, tuple[str, float])
    assert_type(await asyncio.wait_for(future, 1), str)
    assert_type(task.id, int)
    assert_type(task.name, str)
    assert_type(task.state, str)
    assert_type(task.attempts, tuple[AttemptRecord, ...])
    assert_type(task.cancel(), bool)


async def the_pool(name: str | None) -> None:
    local: int | Literal["serial"] | None = None
    async with Pool(local=local, name=name, seed=1, preload=["json"], max_tasks_per_slot=10, python=None) as pool:
        assert_type(pool, Pool)
        assert_type(await pool.ready(1), Pool)
        assert_type(pool.status(), PoolStatus)
        assert_type(pool.status().slots, tuple[SlotStatus, ...])
        assert_type(pool.status().attempts, tuple[RunningAttempt, ...])
        assert_type(pool.status().hosts[0], HostStatus)
        assert_type(pool.summary(), Summary)
        assert_type(pool.failures, tuple[FailureRecord, ...])
        assert_type(await pool.drain(timeout=1), bool)
        events: AsyncIterator[Event] = pool.events()
        async for event in events:
            assert_type(event, Event)
    assert_type(Pool.from_config(Path("pool.toml"), local=4), Pool)
    Pool.from_config(4)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Pool(4)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Pool(local="threads")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def in_a_task() -> str:
    report_progress(1, 10)
    task = current_task()
    assert_type(task.id, int)
    assert_type(task.deadline, float | None)
    assert_type(task.seed, int)
    return task.scratch


def errors_are_a_tree() -> None:
    kinds: tuple[type[TaskError], ...] = (WorkerDied, TaskTimeout)
    timeout: type[TimeoutError] = TaskTimeout
    cancelled: type[BaseException] = aioparallel.TaskCancelled
    root: type[aioparallel.AioparallelError] = aioparallel.HostError
    print(kinds, timeout, cancelled, root)


def a_submitter(submit: Callable[[int], Task[int]]) -> Task[int]:
    return submit(1)
