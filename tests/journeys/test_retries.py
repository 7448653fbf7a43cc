"""Calls that are tried again as `Retry` says, near and far."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from aioparallel import HostLost, MemoryLimitExceeded, PoolClosed, Retry, TaskExited, TaskPoisoned, WorkerDied
from aioparallel.events import RetryRefused

from . import appetites, deeds
from .looks import until, written
from .test_agent_lost import processes_of

MIB = 1 << 20
FOR_EVER = 100_000.0


def outcomes(task):
    return [attempt.outcome for attempt in task.attempts]


async def put_off(pool, retry, *call, **options):
    """Return a task that waits out its delay."""
    task = pool.options(retry=retry, **options).submit(*call)
    await until(lambda: task.attempts and task.attempts[0].outcome == "failed" and task.state == "queued")
    return task


async def test_a_task_is_tried_again_after_its_delay_and_knows_its_attempt(open_pool):
    async with open_pool() as pool:
        retry = Retry(attempts=4, on=OSError, delay=0.2, backoff=1.5)
        task = pool.options(retry=retry).submit(deeds.raise_before, 3, ConnectionResetError)
        assert await task == 3
        assert outcomes(task) == ["failed", "failed", "succeeded"]
        first, second, third = task.attempts
        assert second.started_at - first.ended_at > 0.9 * 0.2 - 0.02
        assert third.started_at - second.ended_at > 0.9 * 0.3 - 0.02


async def test_types_are_matched_by_name_and_bases_and_others_are_the_end(open_pool):
    async with open_pool() as pool:
        for on, kind in (
            (deeds.OwnError, deeds.OwnError),
            (ValueError, deeds.OwnError),
            ((KeyError, deeds.OwnBaseException), deeds.OwnBaseException),
            (TaskExited, deeds.OwnBaseException),
        ):
            assert await pool.options(retry=Retry(attempts=2, on=on)).submit(deeds.raise_before, 2, kind) == 2
        for on in (OSError, KeyError, WorkerDied):
            task = pool.options(retry=Retry(attempts=9, on=on)).submit(deeds.raise_before, 2, deeds.OwnError)
            with pytest.raises(deeds.OwnError) as caught:
                await task
            assert caught.value.args == (1,) and outcomes(task) == ["failed"]
        task = pool.options(retry=Retry(attempts=9, on=deeds.OwnError)).submit(deeds.exit_before, 2, 3)
        with pytest.raises(WorkerDied, match="code 3"):
            await task
        assert outcomes(task) == ["died"]
        assert await pool.options(retry=Retry(attempts=2, on=WorkerDied)).submit(deeds.exit_before, 2, 3) == 2


async def test_a_function_is_asked_about_the_real_exception(open_pool):
    seen = []

    def only_the_first_two(error):
        seen.append((type(error), error.args))
        return error.args[0] < 3

    async with open_pool() as pool:
        task = pool.options(retry=Retry(attempts=9, on=only_the_first_two)).submit(deeds.raise_before, 9, deeds.OwnError, "more")
        with pytest.raises(deeds.OwnError) as caught:
            await task
        assert caught.value.args == (3, "more") and outcomes(task) == ["failed"] * 3
        assert seen == [(deeds.OwnError, (number, "more")) for number in (1, 2, 3)]
        assert len([note for note in caught.value.__notes__ if "attempt 3, on" in note]) == 1


async def test_a_function_that_raises_is_said_and_the_task_ends_as_it_did(open_pool, caplog):
    async with open_pool() as pool:
        stream = pool.events()
        task = pool.options(retry=Retry(attempts=9, on=lambda error: error.nothing)).submit(deeds.raise_before, 9, deeds.OwnError)
        with pytest.raises(deeds.OwnError):
            await task
        assert outcomes(task) == ["failed"]
        async with asyncio.timeout(30):
            event = await anext(event async for event in stream if isinstance(event, RetryRefused))
        assert (event.task, event.attempt) == (task.id, 1) and "raised AttributeError" in event.reason
        assert "the function in Retry(on=) failed" in caplog.text


async def test_a_task_that_takes_down_its_slot_each_time_is_poisoned(open_pool):
    async with open_pool() as pool:
        task = pool.options(retry=Retry(attempts=3, delay=0.01)).submit(deeds.die_by, signal.SIGKILL)
        with pytest.raises(TaskPoisoned, match=r"on each of 3 attempts: attempt 1 on .*killed by signal 9 \(SIGKILL\)") as caught:
            await task
        error = caught.value
        assert isinstance(error, WorkerDied) and error.signal == signal.SIGKILL
        assert [attempt[:3] for attempt in error.attempts] == [(attempt.host, attempt.slot, -9) for attempt in task.attempts]
        assert all(seconds is None or 0 <= seconds < 60 for *_, seconds in error.attempts)
        assert "attempt 3, on" in error.__notes__[0]


async def test_what_outgrew_its_memory_is_tried_again_only_when_that_is_named(open_pool):
    async with open_pool() as pool:
        for retry, attempts in ((Retry(attempts=2), 1), (Retry(attempts=2, on=MemoryLimitExceeded), 2)):
            task = pool.options(memory=128 * MIB, retry=retry).submit(appetites.grow, 4096 * MIB)
            with pytest.raises(MemoryLimitExceeded):
                await task
            assert outcomes(task) == ["out of memory"] * attempts


async def test_cancelling_ends_the_delay_at_once(open_pool):
    async with open_pool() as pool:
        task = await put_off(pool, Retry(attempts=2, delay=FOR_EVER), deeds.raise_before, 2, OSError)
        assert pool.status().queued == 1
        assert task.cancel() and task.done(), "nothing is out that would have to die first"
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await pool.options(retry=Retry(attempts=2, delay=FOR_EVER)).submit(deeds.raise_before, 2, OSError)
        assert pool.status().queued == 0


async def test_the_pools_end_is_the_delays_end(open_pool):
    async with open_pool(bystanders=False) as pool:
        task = await put_off(pool, Retry(attempts=2, delay=FOR_EVER), deeds.raise_before, 2, OSError)
        await pool.aclose()
        with pytest.raises(PoolClosed):
            await task
    async with open_pool(bystanders=False) as pool:
        task = await put_off(pool, Retry(attempts=2, delay=0.5), deeds.raise_before, 2, OSError)
    assert await task == 2, "a pool that is left normally waits for what is to be tried again"


async def test_no_delay_reaches_the_deadline(open_pool):
    async with open_pool() as pool:
        retry = Retry(attempts=9, delay=0.01, backoff=1e9)
        task = pool.options(retry=retry, deadline=600.0).submit(deeds.raise_before, 9, OSError)
        with pytest.raises(OSError) as caught:
            await task
        assert caught.value.args == (2,) and len(task.attempts) == 2


async def test_items_of_a_map_are_tried_again_each_for_itself(open_pool):
    async with open_pool() as pool:
        patient = pool.options(retry=Retry(attempts=3, on=OSError, delay=0.01))
        assert await patient.map(deeds.raise_before, [1, 2, 3] * 4, [OSError] * 12) == [1, 2, 3] * 4


async def test_a_lost_host_is_made_good_as_often_as_was_said(open_pool, tmp_path):
    async with open_pool() as pool:
        for most in (0, 1):
            agent, _ = await processes_of(pool)
            path = tmp_path / str(most)
            retry = Retry(attempts=5, infrastructure=most, delay=FOR_EVER)
            task = pool.options(retry=retry).submit(
                deeds.once_then, str(path), deeds.loop_behind_a_grandchild, str(tmp_path / f"{most}.pids")
            )
            await written(tmp_path / f"{most}.pids")
            os.kill(agent, signal.SIGKILL)
            if most:
                assert await task == 2
                continue
            with pytest.raises(HostLost, match=r"Retry\(infrastructure=0\) allows no other"):
                await task
            assert outcomes(task) == ["lost"]


@pytest.mark.parametrize("most", [0, 1])
async def test_a_chunk_that_is_lost_is_sent_again_as_often_as_was_said(open_pool, tmp_path, most):
    async with open_pool() as pool:
        agent, _ = await processes_of(pool)
        (tmp_path / "second").write_text("it is not the first time")
        paths = [str(tmp_path / "first"), str(tmp_path / "second")]
        view = pool.options(retry=Retry(infrastructure=most))
        async with view.map(
            deeds.once_then, paths, [deeds.loop_behind_a_grandchild] * 2, [str(tmp_path / "pids")] * 2, chunk=2, on_error="return"
        ) as results:
            under_way = asyncio.ensure_future(anext(results))
            await written(tmp_path / "pids")
            os.kill(agent, signal.SIGKILL)
            found = [await under_way, await anext(results)]
        assert found == [1, 1] if most else [type(error) for error in found] == [HostLost] * 2
