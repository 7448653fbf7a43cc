"""Random submits, cancels and crashes on real slots: every task ends exactly once, in one of the ways it may."""

from __future__ import annotations

import asyncio
import os
import random
import time
from typing import Any

import pytest

from aioparallel import Pool, PoolClosed, Task, TaskPoisoned, TaskTimeout, WorkerDied

from .gate import until

SECONDS = 1.5


def work(number: int, how: str) -> int:
    if how == "slow":
        time.sleep(0.004 + number % 7 / 200)
    elif how == "stuck":
        time.sleep(1000)
    elif how == "crash":
        os._exit(number % 100 + 1)
    elif how == "fail":
        raise LookupError(number)
    return number


class History:
    """The tasks of one run, and what they may end as."""

    def __init__(self, pool: Pool, chance: random.Random) -> None:
        self.pool = pool
        self.chance = chance
        self.tasks: list[tuple[Task[int], int, str]] = []
        self.asked: set[Task[int]] = set()
        self.settled: list[Task[int]] = []

    def submit(self) -> None:
        number = len(self.tasks)
        how = self.chance.choices(["quick", "slow", "stuck", "crash", "fail"], [60, 10, 0.4, 2, 5])[0]
        view: Any = self.pool
        if how == "stuck":
            view = self.pool.options(timeout=0.05, name="stuck")
        elif number % 50 == 49:
            view = self.pool.options(isolate=True)
        elif number % 10 == 9:
            view = self.pool.options(deadline=60.0, retries=1)
        task = view.submit(work, number, how)
        task.add_done_callback(self.settled.append)
        self.tasks.append((task, number, how))

    def cancel(self) -> None:
        for _ in range(self.chance.randrange(1, 6)):
            task = self.chance.choice(self.tasks[-200:])[0]
            if task.cancel("by chance"):
                self.asked.add(task)

    def check(self) -> None:
        assert len(self.settled) == len(set(self.settled)) == len(self.tasks)
        for task, number, how in self.tasks:
            assert task.cancelled() == (task in self.asked), task
            if task.cancelled():
                assert task.state == "cancelled"
                continue
            error = task.exception()
            if how in ("quick", "slow"):
                assert error is None and task.result() == number, (task, error)
                assert task.state == "succeeded" and task.attempts[-1].outcome == "succeeded"
            else:
                crash = TaskPoisoned if task._options.retries else WorkerDied
                expected = {"crash": crash, "fail": LookupError, "stuck": TaskTimeout}[how]
                assert type(error) is expected, (task, error)
                if isinstance(error, WorkerDied):
                    assert error.exit_code == number % 100 + 1, "each is told of its own death"
                if isinstance(error, LookupError):
                    assert error.args == (number,)
            retries = task._options.retries
            assert len(task.attempts) == (1 if how in ("quick", "slow") else 1 + retries), (task, task.attempts)
        status = self.pool.status()
        assert status.succeeded + status.failed + status.cancelled == len(self.tasks)
        assert status.cancelled == len(self.asked)


@pytest.mark.parametrize("seed", [1, 2])
async def test_random_histories(seed: int) -> None:
    chance = random.Random(seed)
    loop = asyncio.get_running_loop()
    async with Pool(local=3) as pool:
        history = History(pool, chance)
        end = loop.time() + SECONDS
        while loop.time() < end:
            for _ in range(chance.randrange(1, 60)):
                history.submit()
            if chance.random() < 0.7:
                history.cancel()
            await asyncio.sleep(chance.choice([0, 0, 0.001, 0.005]))
            await until(pool, lambda: len(pool._engine.state.queue) <= 300)
        async with asyncio.timeout(60):
            await asyncio.wait([task for task, _, _ in history.tasks])
        await asyncio.sleep(0)
        assert len(history.asked) > 10
        history.check()
        state = pool._engine.state
        assert (state.unfinished(), len(state.queue), len(state.isolated)) == (0, 0, 0)
        assert await asyncio.gather(*(pool.submit(abs, -number) for number in range(100))) == list(range(100))


async def test_sent_ahead_and_called_back_over_and_over() -> None:
    """One slot; slow ones among quick ones: what waits behind a slow one is called back, often while it is being cancelled."""
    chance = random.Random(3)
    async with Pool(local=1) as pool:
        await asyncio.gather(*(pool.submit(work, number, "quick") for number in range(200)))
        for _ in range(12):
            tasks = [pool.submit(work, number, "slow" if number % 40 == 0 else "quick") for number in range(120)]
            await asyncio.sleep(chance.choice([0, 0.002, 0.006, 0.01]))
            asked = [task for task in chance.sample(tasks, 30) if task.cancel()]
            async with asyncio.timeout(20):
                await asyncio.wait(tasks)
            assert [task for task in tasks if task.cancelled()] == [task for task in tasks if task in asked]
            assert all(task.result() == number for number, task in enumerate(tasks) if not task.cancelled())
            assert all(len(task.attempts) == 1 for task in tasks if not task.cancelled())


@pytest.mark.parametrize("seed", [4, 5])
async def test_closed_in_the_middle(seed: int) -> None:
    chance = random.Random(seed)
    pool = await Pool(local=2).ready()
    tasks = [pool.submit(work, number, chance.choice(["quick", "quick", "slow", "crash"])) for number in range(600)]
    await asyncio.sleep(chance.random() / 10)
    asked = [task for task in chance.sample(tasks, 50) if task.cancel()]
    await pool.aclose()
    assert all(task.done() for task in tasks)
    for number, task in enumerate(tasks):
        if task.cancelled():
            assert task in asked
        elif task.exception() is None:
            assert task.result() == number and task not in asked
        else:
            assert isinstance(task.exception(), (PoolClosed, WorkerDied)) and task not in asked


@pytest.mark.parametrize("seed", [6])
async def test_agents_killed_under_random_tasks(seed: int) -> None:
    chance = random.Random(seed)
    async with Pool(local=2) as pool:
        (host,) = pool._engine.hosts.values()
        for _ in range(2):
            tasks = [pool.submit(work, number, chance.choice(["quick", "slow"])) for number in range(150)]
            asked: list[Task[int]] = []
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            os.kill(host._agent_pid, 9)  # type: ignore[attr-defined]
            await asyncio.sleep(chance.choice([0, 0.001, 0.01]))
            asked = [task for task in chance.sample(tasks, 20) if task.cancel()]
            async with asyncio.timeout(30):
                await asyncio.wait(tasks)
            for number, task in enumerate(tasks):
                if task in asked:
                    assert task.cancelled()
                else:
                    assert task.result() == number
                    assert {attempt.outcome for attempt in task.attempts[:-1]} <= {"lost"}
