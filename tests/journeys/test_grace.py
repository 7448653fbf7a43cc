"""`grace=`: a task is asked before it is killed, and its record says which was needed."""

from __future__ import annotations

import asyncio
import time

import pytest

from aioparallel import TaskTimeout

from . import deeds
from .looks import is_dead, until, written

POLITE = [deeds.sleep_until_asked, deeds.wait_until_asked, deeds.answer_when_asked]
DEAF = [deeds.ignore_being_asked, deeds.ignore_being_cancelled, deeds.loop_in_c_when_asked]


@pytest.mark.parametrize("polite", POLITE)
async def test_cancelled_and_asked(open_pool, tmp_path, polite):
    async with open_pool(1) as pool:
        pid = await pool.submit(deeds.own_pid)
        task = pool.options(grace=10).submit(polite, str(tmp_path / "a"))
        await written(tmp_path / "a.began")
        began = time.monotonic()
        assert task.cancel("enough") and not task.done()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert caught.value.args == ("enough",) and time.monotonic() - began < 5
        assert (task.state, task.attempts[-1].stopped, task.attempts[-1].outcome) == ("cancelled", "asked", "cancelled")
        if polite is not deeds.answer_when_asked:
            assert (tmp_path / "a").read_text() == "cleaned up\n"
        assert await pool.submit(deeds.own_pid) != pid, "what it was stopped in may be half done: its slot serves nobody again"


async def test_what_a_polite_task_started_is_dead_before_the_task_is_done(open_pool, tmp_path):
    async with open_pool(1) as pool:
        task = pool.options(grace=10).submit(deeds.start_a_child_and_sleep, str(tmp_path / "a"))
        child = int(await written(tmp_path / "a.began"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.attempts[-1].stopped == "asked" and is_dead(child)


@pytest.mark.parametrize("deaf", DEAF)
async def test_cancelled_and_killed_after_the_grace(open_pool, tmp_path, deaf):
    async with open_pool(1) as pool:
        task = pool.options(grace=0.4).submit(deaf, str(tmp_path / "a"))
        pid = int(await written(tmp_path / "a.began"))
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert 0.35 <= time.monotonic() - began < 2
        assert (task.state, task.attempts[-1].stopped) == ("cancelled", "killed") and is_dead(pid)


@pytest.mark.parametrize("polite", POLITE)
async def test_late_and_asked(open_pool, tmp_path, polite):
    async with open_pool(1) as pool:
        pid = await pool.submit(deeds.own_pid)
        task = pool.options(grace=10, timeout=0.4).submit(polite, str(tmp_path / "a"))
        with pytest.raises(TaskTimeout) as caught:
            await task
        assert caught.value.limit == "timeout"
        assert (task.state, task.attempts[-1].stopped, task.attempts[-1].outcome) == ("failed", "asked", "timed out")
        assert await pool.submit(deeds.own_pid) != pid


@pytest.mark.parametrize("deaf", DEAF)
async def test_late_and_killed_after_the_grace(open_pool, tmp_path, deaf):
    async with open_pool(1) as pool:
        task = pool.options(grace=0.3, timeout=0.4).submit(deaf, str(tmp_path / "a"))
        with pytest.raises(TaskTimeout):
            await task
        assert (task.attempts[-1].stopped, task.attempts[-1].outcome) == ("killed", "timed out")
        assert is_dead(task.attempts[-1].pid)


async def test_without_grace_nobody_is_asked(open_pool, tmp_path):
    async with open_pool() as pool:
        task = pool.submit(deeds.sleep_until_asked, str(tmp_path / "a"))
        await written(tmp_path / "a.began")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.attempts[-1].stopped == "killed" and not (tmp_path / "a").exists()


async def test_cancel_again_and_again_during_the_grace(open_pool, tmp_path):
    async with open_pool() as pool:
        task = pool.options(grace=0.4).submit(deeds.ignore_being_asked, str(tmp_path / "a"))
        await written(tmp_path / "a.began")
        assert all(task.cancel(f"message {number}") for number in range(10_000))
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert caught.value.args == ("message 9999",)


async def test_the_request_never_hits_the_next_task(open_pool):
    """Tasks that end at about the time they are asked; behind each waits one that nobody asks."""
    async with open_pool(1) as pool:
        asked, bystanders = [], []
        for number in range(60):
            asked.append(pool.options(grace=5, timeout=0.01).submit(time.sleep, 0.0085 + number * 0.00005))
            bystanders.append(pool.submit(time.sleep, 0.002))
        assert await asyncio.gather(*bystanders) == [None] * 60
        for result in await asyncio.gather(*asked, return_exceptions=True):
            assert result is None or isinstance(result, TaskTimeout)


async def test_closing_the_pool_gives_no_grace(open_pool, tmp_path):
    async with open_pool(bystanders=False) as pool:
        task = pool.options(grace=60).submit(deeds.ignore_being_asked, str(tmp_path / "a"))
        pid = int(await written(tmp_path / "a.began"))
        began = time.monotonic()
        await pool.aclose()
        assert time.monotonic() - began < 2 and is_dead(pid)
        with pytest.raises(Exception, match="closed"):
            await task


async def test_a_kill_of_one_is_not_delayed_by_the_grace_of_another(open_pool, tmp_path):
    async with open_pool(2) as pool:
        slow = pool.options(grace=2).submit(deeds.ignore_being_asked, str(tmp_path / "slow"))
        quick = pool.submit(deeds.ignore_being_asked, str(tmp_path / "quick"))
        await written(tmp_path / "slow.began")
        await written(tmp_path / "quick.began")
        slow.cancel()
        began = time.monotonic()
        quick.cancel()
        with pytest.raises(asyncio.CancelledError):
            await quick
        assert time.monotonic() - began < 1 and not slow.done()
        await until(slow.done)
        assert slow.attempts[-1].stopped == "killed"
