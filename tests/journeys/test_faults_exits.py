"""A task that ends its process, or tries to end Python, costs itself and nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from aioparallel import TaskCancelled, TaskError, TaskExited, WorkerDied

from . import deeds
from .looks import is_dead, written


async def test_os_exit(open_pool):
    async with open_pool() as pool:
        task = pool.submit(os._exit, 3)
        with pytest.raises(WorkerDied, match="exited with code 3") as caught:
            await task
        assert (caught.value.exit_code, caught.value.signal) == (3, None)
        (attempt,) = task.attempts
        assert (task.state, attempt.outcome, attempt.stopped) == ("failed", "died", None)
        assert is_dead(attempt.pid)
        assert f"attempt 1, on {attempt.host}/{attempt.slot} (pid {attempt.pid})" in caught.value.__notes__[0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT, signal.SIGUSR1])
async def test_killed_by_a_signal_in_the_middle(open_pool, number):
    async with open_pool() as pool:
        with pytest.raises(WorkerDied, match=signal.Signals(number).name) as caught:
            await pool.submit(deeds.die_by, int(number))
        assert (caught.value.exit_code, caught.value.signal) == (None, number)


async def test_a_real_segmentation_fault(open_pool):
    async with open_pool() as pool:
        with pytest.raises(WorkerDied) as caught:
            await pool.submit(deeds.read_address_zero)
        assert caught.value.signal == signal.SIGSEGV


async def test_killed_from_outside(open_pool, tmp_path):
    async with open_pool() as pool:
        task = pool.submit(deeds.loop_in_c_when_asked, str(tmp_path / "a"))
        os.kill(int(await written(tmp_path / "a.began")), signal.SIGKILL)
        with pytest.raises(WorkerDied) as caught:
            await task
        assert caught.value.signal == signal.SIGKILL


async def test_what_waits_behind_a_crash_runs_elsewhere_and_no_attempt_is_counted(open_pool):
    async with open_pool(1) as pool:
        # Known to be quick, so that many are sent ahead to the one slot, with the crash among them.
        await asyncio.gather(*(pool.submit(deeds.own_pid) for _ in range(500)))
        ahead = [pool.submit(deeds.own_pid) for _ in range(100)]
        crash = pool.submit(os._exit, 5)
        behind = [pool.submit(deeds.own_pid) for _ in range(100)]
        with pytest.raises(WorkerDied):
            await crash
        first, second = set(await asyncio.gather(*ahead)), set(await asyncio.gather(*behind))
        assert first == {crash.attempts[0].pid} and second.isdisjoint(first)
        assert {len(task.attempts) for task in behind} == {1}


async def test_crashes_one_after_another(open_pool):
    async with open_pool() as pool:
        tasks = [pool.submit(os._exit, number % 5 + 1) if number % 3 == 0 else pool.submit(abs, -number) for number in range(30)]
        for number, result in enumerate(await asyncio.gather(*tasks, return_exceptions=True)):
            if number % 3 == 0:
                assert isinstance(result, WorkerDied) and result.exit_code == number % 5 + 1
            else:
                assert result == number


async def test_a_crash_is_tried_again_only_when_asked(open_pool, tmp_path):
    async with open_pool() as pool:
        task = pool.options(retries=2).submit(deeds.once_then, str(tmp_path / "a"), os._exit, 3)
        assert await task == 2
        assert [attempt.outcome for attempt in task.attempts] == ["died", "succeeded"]
        with pytest.raises(WorkerDied):
            await pool.submit(deeds.once_then, str(tmp_path / "b"), os._exit, 3)
        assert (tmp_path / "b").read_text() == "x"


NO_EXCEPTIONS = [
    (sys.exit, (4,), SystemExit, (4,)),
    (sys.exit, (), SystemExit, ()),
    (deeds.raise_it, (KeyboardInterrupt, "me"), KeyboardInterrupt, ("me",)),
    (deeds.signal_itself, (int(signal.SIGINT),), KeyboardInterrupt, ()),
    (deeds.raise_it, (GeneratorExit,), GeneratorExit, ()),
    (deeds.raise_it, (asyncio.CancelledError, "why"), asyncio.CancelledError, ("why",)),
    (deeds.raise_it, (deeds.OwnBaseException, 1, "two"), deeds.OwnBaseException, (1, "two")),
    (deeds.raise_it, (BaseException, "bare"), BaseException, ("bare",)),
    (deeds.raise_it, (TaskCancelled, "nobody asked"), TaskCancelled, ("nobody asked",)),
]


@pytest.mark.parametrize(("fn", "args", "kind", "cause_args"), NO_EXCEPTIONS, ids=lambda value: getattr(value, "__name__", None))
async def test_what_is_no_exception_arrives_as_task_exited(open_pool, fn, args, kind, cause_args):
    async with open_pool(1) as pool:
        pid = await pool.submit(deeds.own_pid)
        task = pool.submit(fn, *args)
        with pytest.raises(TaskExited) as caught:
            await task
        assert isinstance(caught.value, TaskError) and isinstance(caught.value, Exception)
        assert type(caught.value.cause) is kind and caught.value.cause.args == cause_args
        assert task.state == "failed" and task.attempts[0].outcome == "failed"
        assert await pool.submit(deeds.own_pid) == pid, "the slot was to be kept"


async def test_gather_is_not_brought_down_by_them(open_pool):
    async with open_pool() as pool:
        tasks = [pool.submit(deeds.raise_it, kind) for kind in (SystemExit, KeyboardInterrupt, deeds.OwnBaseException)]
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(error) for error in ended] == [TaskExited] * 3
        assert [type(error.cause) for error in ended] == [SystemExit, KeyboardInterrupt, deeds.OwnBaseException]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, deeds.OwnBaseException])
async def test_from_a_coroutine_as_well(open_pool, kind):
    async with open_pool(1) as pool:
        with pytest.raises(TaskExited) as caught:
            await pool.submit(deeds.raise_in_a_coroutine, kind)
        assert type(caught.value.cause) is kind


async def test_stop_iteration_becomes_a_runtime_error(open_pool):
    async with open_pool() as pool:
        with pytest.raises(RuntimeError, match="StopIteration") as caught:
            await pool.submit(deeds.raise_it, StopIteration, 7)
        assert type(caught.value.__cause__) is StopIteration and caught.value.__cause__.args == (7,)
