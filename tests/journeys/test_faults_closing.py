"""Closing in the middle of everything: nothing hangs, everything is settled, nothing lives on."""

from __future__ import annotations

import asyncio
import operator
import time

import pytest

from aioparallel import PoolClosed

from . import deeds
from .looks import is_dead, living, written


async def test_submit_after_close(open_pool):
    async with open_pool(bystanders=False) as pool:
        assert await pool.submit(abs, -1) == 1
    for use in (lambda: pool.submit(abs, -1), lambda: pool.options(timeout=1).submit(abs, -1)):
        with pytest.raises(PoolClosed, match=r"closed.*no more tasks"):
            use()
    await pool.aclose()
    assert await pool.drain() is True


async def test_close_with_a_full_queue(open_pool, tmp_path):
    async with open_pool(bystanders=False) as pool:
        running = [pool.submit(deeds.loop_behind_a_grandchild, str(tmp_path / str(number))) for number in range(2)]
        pids = []
        for number in range(2):
            pids += map(int, (await written(tmp_path / str(number))).split())
        queued = [pool.submit(operator.neg, number) for number in range(10_000)]
        began = time.monotonic()
        await pool.aclose()
        assert time.monotonic() - began < 2
        assert all(task.done() for task in running + queued) and living(pids) == []
        for error in await asyncio.gather(*running, *queued, return_exceptions=True):
            assert isinstance(error, PoolClosed)


async def test_an_exception_in_the_block_kills_what_runs(open_pool, tmp_path):
    tasks = []

    async def body():
        async with open_pool(bystanders=False) as pool:
            tasks.append(pool.submit(deeds.loop_in_c_when_asked, str(tmp_path / "a")))
            await written(tmp_path / "a.began")
            raise LookupError("the user's own")

    with pytest.raises(LookupError, match="the user's own"):
        await body()
    assert is_dead(int((tmp_path / "a.began").read_text()))
    with pytest.raises(PoolClosed, match="left by an exception"):
        await tasks[0]


async def test_leaving_normally_waits_for_what_runs(open_pool):
    async with open_pool(bystanders=False) as pool:
        tasks = [pool.submit(deeds.double_slowly, number, 0.01) for number in range(50)]
    assert [task.result() for task in tasks] == [2 * number for number in range(50)]


async def test_drain_kills_at_its_limit(open_pool, tmp_path):
    async with open_pool(bystanders=False) as pool:
        endless = pool.submit(deeds.loop_in_c_when_asked, str(tmp_path / "a"))
        pid = int(await written(tmp_path / "a.began"))
        quick = pool.submit(abs, -1)
        assert await pool.drain(timeout=0.3) is False
        assert is_dead(pid) and await quick == 1
        with pytest.raises(PoolClosed):
            await endless


async def test_closing_while_slots_start_and_die(open_pool):
    for pause in range(6):
        async with open_pool(4, bystanders=False) as pool:
            tasks = [pool.submit(deeds.die_by, 9) for _ in range(20)]
            await asyncio.sleep(pause * 0.01)
            await pool.aclose()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(type(error).__name__ in ("WorkerDied", "PoolClosed") for error in ended)


async def test_cancelled_while_it_closes(open_pool, tmp_path):
    async with open_pool(bystanders=False) as pool:
        pool.submit(deeds.loop_in_c_when_asked, str(tmp_path / "a"))
        pid = int(await written(tmp_path / "a.began"))
        closing = asyncio.ensure_future(pool.aclose())
        for _ in range(3):
            await asyncio.sleep(0)
            closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert is_dead(pid)


async def test_opening_is_cancelled_or_nothing_is_done_with_it(open_pool):
    for pause in (0, 0.001, 0.01, 0.05):
        opening = asyncio.wait_for(open_and_stay(open_pool), pause)
        with pytest.raises(TimeoutError):
            await opening
    async with open_pool(bystanders=False):
        pass


async def open_and_stay(open_pool):
    async with open_pool(bystanders=False) as pool:
        await pool.ready(2)
        await asyncio.sleep(1000)
