"""Limits of time and memory are kept by the agent: in endless loops of any kind, on whole trees, while the controller's loop is blocked."""

from __future__ import annotations

import asyncio
import time

import pytest

from aioparallel import MemoryLimitExceeded, TaskTimeout, WorkerDied

from . import appetites, deeds
from .looks import is_dead, living, written

MIB = 1 << 20
SOON_SECONDS = 1.5
"""A kill takes milliseconds; a machine that others use, too, needs room."""


@pytest.mark.parametrize(
    "endless", [deeds.loop_in_python, deeds.loop_in_c, deeds.loop_in_a_regex, deeds.loop_in_a_power, deeds.catch_everything]
)
async def test_an_endless_loop_ends_at_its_timeout(open_pool, endless):
    async with open_pool() as pool:
        began = time.monotonic()
        task = pool.options(timeout=0.3).submit(endless)
        with pytest.raises(TaskTimeout, match=r"timeout=0\.3 s") as caught:
            await task
        assert 0.3 <= time.monotonic() - began < 0.3 + SOON_SECONDS
        assert isinstance(caught.value, TimeoutError) and (caught.value.limit, caught.value.seconds) == ("timeout", 0.3)
        (attempt,) = task.attempts
        assert (attempt.outcome, attempt.stopped, attempt.confirmed_dead) == ("timed out", "killed", True)
        assert is_dead(attempt.pid)


async def test_a_timeout_kills_the_whole_tree(open_pool, tmp_path):
    async with open_pool() as pool:
        task = pool.options(timeout=0.6).submit(deeds.loop_behind_a_grandchild, str(tmp_path / "pids"))
        with pytest.raises(TaskTimeout):
            await task
        pids = list(map(int, (tmp_path / "pids").read_text().split()))
        assert len(pids) == 3 and living(pids) == []


async def test_a_deadline_counts_from_submit(open_pool):
    async with open_pool(1) as pool:
        first = pool.options(timeout=0.5).submit(deeds.loop_in_c)
        queued = pool.options(deadline=0.1).submit(abs, -1)
        running = pool.options(deadline=0.9).submit(deeds.loop_in_c)
        for task, limit in ((queued, "deadline"), (first, "timeout"), (running, "deadline")):
            with pytest.raises(TaskTimeout) as caught:
                await task
            assert caught.value.limit == limit
        assert queued.attempts == () and len(running.attempts) == 1


async def test_each_attempt_has_its_timeout_and_all_have_one_deadline(open_pool, tmp_path):
    async with open_pool() as pool:
        task = pool.options(timeout=0.2, retries=1).submit(deeds.once_then, str(tmp_path / "a"), deeds.loop_in_python)
        assert await task == 2
        assert [attempt.outcome for attempt in task.attempts] == ["timed out", "succeeded"]
        task = pool.options(timeout=0.2, deadline=0.5, retries=100).submit(deeds.loop_in_python)
        with pytest.raises(TaskTimeout) as caught:
            await task
        assert caught.value.limit == "deadline" and 2 <= len(task.attempts) <= 3


async def test_a_task_in_time_is_never_late(open_pool):
    """Short limits, never reached, on many tasks that follow each other without a pause."""
    async with open_pool() as pool:
        limited = pool.options(timeout=5)
        assert await asyncio.gather(*(limited.submit(abs, -number) for number in range(2000))) == list(range(2000))


async def test_an_innocent_next_task_is_never_hit(open_pool):
    """Each task ends about when its limit is reached; behind it waits one without any limit."""
    async with open_pool(1) as pool:
        limited, free = [], []
        for number in range(40):
            limited.append(pool.options(timeout=0.01).submit(time.sleep, 0.0090 + number * 0.00005))
            free.append(pool.submit(time.sleep, 0.002))
        assert await asyncio.gather(*free) == [None] * 40
        ended = await asyncio.gather(*limited, return_exceptions=True)
        assert all(result is None or isinstance(result, TaskTimeout) for result in ended)


async def test_in_time_though_the_loop_is_blocked(open_pool, tmp_path):
    async with open_pool() as pool:
        await pool.ready(2)
        tasks = [pool.options(timeout=1.0).submit(time.sleep, 0.2) for _ in range(2)]
        endless = pool.options(timeout=0.5).submit(deeds.loop_behind_a_grandchild, str(tmp_path / "pids"))
        await written(tmp_path / "pids")
        pids = list(map(int, (tmp_path / "pids").read_text().split()))
        blocked_at = time.monotonic()
        time.sleep(5.0)  # noqa: ASYNC251 - the user's own code, in the way
        assert living(pids) == [], "the limit was to be kept without the loop's help"
        with pytest.raises(TaskTimeout):
            await endless
        assert await asyncio.gather(*tasks) == [None, None]
        assert time.monotonic() - blocked_at < 5.0 + SOON_SECONDS


# --- memory


async def test_four_gib_in_steps_under_a_limit(open_pool):
    async with open_pool() as pool:
        task = pool.options(memory=256 * MIB).submit(appetites.grow, 4096 * MIB)
        with pytest.raises(MemoryLimitExceeded) as caught:
            await task
        assert caught.value.limit == 256 * MIB
        (attempt,) = task.attempts
        assert attempt.outcome == "out of memory" and attempt.peak_bytes == caught.value.peak
        assert is_dead(attempt.pid) or attempt.stopped is None


async def test_four_gib_in_one_sprint(open_pool):
    async with open_pool(1) as pool:
        task = pool.options(memory=256 * MIB).submit(appetites.sprint, 4096 * MIB)
        with pytest.raises(MemoryLimitExceeded, match=r"far over memory=268,435,456") as caught:
            await task
        assert caught.value.limit == 256 * MIB
        assert await pool.submit(appetites.sprint, 64 * MIB) == 64 * MIB, "the ceiling was that task's alone"


async def test_a_sprint_that_the_task_hides_is_its_own_affair(open_pool):
    async with open_pool() as pool:
        assert await pool.options(memory=256 * MIB).submit(appetites.sprint_and_hide_it, 4096 * MIB) == "went on with less"


async def test_a_task_that_stays_within_its_memory(open_pool):
    async with open_pool() as pool:
        task = pool.options(memory=256 * MIB).submit(appetites.grow, 100 * MIB, 0.2)
        assert await task >= 100 * MIB
        assert 90 * MIB < task.attempts[0].peak_bytes < 160 * MIB
        plain = pool.submit(appetites.grow, 16 * MIB)
        await plain
        assert plain.attempts[0].peak_bytes is None


async def test_memory_of_a_grandchild_counts(open_pool):
    async with open_pool() as pool:
        task = pool.options(memory=128 * MIB, timeout=30).submit(appetites.grow_in_a_grandchild, 512 * MIB)
        with pytest.raises(MemoryLimitExceeded) as caught:
            await task
        assert caught.value.peak > 128 * MIB
        assert (task.attempts[0].stopped, task.attempts[0].outcome) == ("killed", "out of memory")


async def test_a_limit_over_the_last_tasks_memory_is_not_counted_against_the_next(open_pool):
    """What an earlier task left in its slot is part of that slot's idle baseline."""
    async with open_pool(1) as pool:
        await pool.submit(appetites.keep, 200 * MIB)
        assert await pool.options(memory=64 * MIB).submit(appetites.grow, 16 * MIB) == 16 * MIB


# --- large results


async def test_a_result_of_one_gib(open_pool):
    """As an array, which travels beside its pickle: the memory is touched three times in all (made, sent, received)."""
    size = 1024 * MIB
    async with open_pool() as pool:
        try:
            result = await pool.submit(appetites.make_array, size)
        except (MemoryError, WorkerDied):
            pytest.skip("this machine has no room for a result of 1 GiB")
        assert len(result) == size and result[-1] == 1 and (result[: -1 : MIB // 8] == 165).all()


async def test_a_large_result_in_band(open_pool):
    size = 64 * MIB
    async with open_pool() as pool:
        result = await pool.submit(appetites.make_bytes, size)
        assert len(result) == size and result[-1:] == b"\xa5" and result[:: MIB // 8] == b"\xa5" * (8 * 64)


async def test_a_pool_ends_after_a_large_result_was_the_last(open_pool):
    async with open_pool(bystanders=False) as pool:
        assert len(await pool.submit(appetites.make_bytes, 4 * MIB)) == 4 * MIB
