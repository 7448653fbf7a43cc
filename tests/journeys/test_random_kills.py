"""Half of the slots are killed at random, again and again, under many short tasks: none is lost, none is wrong, none counts twice."""

from __future__ import annotations

import asyncio
import collections
import os
import random
import signal

from . import deeds
from .looks import until

TASKS = 2000
KILLING_SECONDS = 5.0
SLOTS = 4


async def test_none_lost_none_wrong_none_twice(open_pool):
    dice = random.Random(20_240_229)
    settled: collections.Counter[int] = collections.Counter()
    async with open_pool(SLOTS, bystanders=False) as pool:  # they would be killed as well, and have no retries
        patient = pool.options(retries=3)
        tasks = [patient.submit(deeds.double_slowly, number, KILLING_SECONDS * SLOTS / TASKS * 0.8) for number in range(TASKS)]
        for task in tasks:
            task.add_done_callback(lambda task: settled.update([task.id]))
        killed = 0
        while len(settled) < TASKS * 0.95:
            up = [slot.pid for slot in pool.status().slots if slot.pid]
            for pid in dice.sample(up, len(up) // 2):
                try:
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
                except ProcessLookupError:
                    pass  # it died of the last round
            # A task that was killed is tried again before others: by then it has had its chance, however busy the machine is.
            enough = len(settled) + dice.randrange(20, 60)
            await until(lambda enough=enough: len(settled) >= min(enough, TASKS))
        results = await asyncio.gather(*tasks)
        assert results == [2 * number for number in range(TASKS)]
        await asyncio.sleep(0)
        assert settled == {task.id: 1 for task in tasks}
        await assert_usable(pool)
        assert killed >= 20 and pool.status().retried >= 1
        died = [attempt for task in tasks for attempt in task.attempts if attempt.outcome == "died"]
        assert all(task.attempts[-1].outcome == "succeeded" for task in tasks) and 1 <= len(died) <= killed


async def test_a_chunked_map_survives_it_too(open_pool):
    """Items that ran when their slot was killed fail; every other has its own result in its own place."""
    dice = random.Random(7)
    async with open_pool(SLOTS, bystanders=False) as pool:  # they would be killed as well, and have no retries
        results = asyncio.ensure_future(collect(pool.map(deeds.double_slowly, range(TASKS), on_error="return")))
        killed = 0
        while not results.done():
            up = [slot.pid for slot in pool.status().slots if slot.pid]
            if up and killed < 10:
                os.kill(dice.choice(up), signal.SIGKILL)
                killed += 1
            await asyncio.sleep(0.03)
        found = await results
        await assert_usable(pool)
        assert len(found) == TASKS
        wrong = [value for number, value in enumerate(found) if value != 2 * number]
        assert all(type(value).__name__ == "WorkerDied" for value in wrong) and len(wrong) <= killed


async def assert_usable(pool):
    """After the last of the kills: slots that were told to die may not be dead yet, so these may be run again."""
    tasks = [pool.options(retries=3).submit(abs, -number) for number in range(100)]
    assert await asyncio.gather(*tasks) == list(range(100))


async def collect(results):
    return [value async for value in results]
