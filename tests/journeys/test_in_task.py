"""What a task has inside its slot: itself, a scratch folder, its own randomness, and all other ways of running things."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from aioparallel import TaskTimeout, UsageError, WorkerDied

from . import deeds, insides
from .looks import is_dead, until, written

# --- current_task()


async def test_current_task(open_pool):
    async with open_pool(name="mine") as pool:
        data = {"a": [1]}
        task = pool.options(name="wonderful", data=data, deadline=50).submit(insides.about_itself)
        seen = await task
        (attempt,) = task.attempts
        assert (seen["id"], seen["name"], seen["attempt"]) == (task.id, "wonderful", 1)
        assert (seen["host"], seen["pid"]) == (attempt.host, attempt.pid)
        assert seen["data"] == data and task.data is data
        assert 40 < seen["deadline"] - seen["now"] <= 50
        plain = await pool.submit(insides.about_itself)
        assert plain["deadline"] is plain["data"] is None and plain["name"].endswith("about_itself")


async def test_each_look_at_the_data_gives_a_new_copy(open_pool):
    async with open_pool() as pool:
        assert await pool.options(data=[1]).submit(insides.change_the_data_it_was_given) == ([1], False)


async def test_seeds_come_from_the_pools_seed_and_the_task(open_pool, tmp_path):
    async def seeds(**options):
        async with open_pool(bystanders=False, **options) as pool:
            return await asyncio.gather(*(pool.submit(insides.seed) for _ in range(20)))

    first = await seeds(seed=7)
    assert first == await seeds(seed=7, slots=1)
    assert len(set(first)) == 20 and all(0 <= seed < 1 << 64 for seed in first)
    assert set(first).isdisjoint(await seeds(seed=8)) and set(await seeds()).isdisjoint(await seeds())
    async with open_pool(seed=7) as pool:
        seed = await pool.options(retries=1).submit(insides.fail_at_first, str(tmp_path / "seed"))
        assert (tmp_path / "seed").read_text() == str(seed), "all attempts of a task share its seed"


async def test_outside_of_a_task_it_is_a_clear_error():
    with pytest.raises(UsageError, match="outside a task"):
        insides.seed()


# --- the scratch folder


async def test_scratch_is_made_0700_and_removed(open_pool, tmp_path):
    async with open_pool(1) as pool:
        folder, mode, above, same = await pool.submit(insides.use_scratch, str(tmp_path / "a"))
        assert (mode, above, same) == (0o700, 0o700, True)
        other, *_ = await pool.submit(insides.use_scratch, str(tmp_path / "b"))
        assert other != folder and not os.path.exists(folder)  # noqa: ASYNC240 - a look, microseconds


@pytest.mark.parametrize(
    ("then", "args"), [(deeds.raise_it, (ValueError, "x")), (os._exit, (3,)), (deeds.loop_in_c, ())], ids=["raises", "dies", "killed"]
)
async def test_scratch_is_removed_however_the_task_ends(open_pool, tmp_path, then, args):
    async with open_pool(1) as pool:
        for number in range(2):
            task = pool.options(timeout=1).submit(insides.use_scratch_and, str(tmp_path / str(number)), then, *args)
            with pytest.raises((ValueError, WorkerDied, TaskTimeout)):
                await task
            folder = Path(await written(tmp_path / str(number)))
            await until(lambda folder=folder: not folder.exists())
            assert not any(folder.parent.parent.glob("*/*")), "what is above it may stay until the pool is closed; nothing else does"


# --- randomness, threads, stdin


@pytest.mark.parametrize("preload", [(), ("random", "uuid", "numpy.random")])
async def test_slots_never_share_randomness(open_pool, preload):
    async with open_pool(4, preload=preload) as pool:
        await pool.ready(4)
        drawn = await asyncio.gather(*(pool.options(isolate=True).submit(insides.randomness) for _ in range(6)))
        for values in zip(*drawn, strict=True):
            assert len(set(values)) == 6, values


@pytest.mark.near
@pytest.mark.parametrize("said", [None, "7"])
async def test_numeric_libraries_get_a_fair_share_of_threads(open_pool, monkeypatch, said):
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    if said:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    async with open_pool(64, bystanders=False) as pool:
        seen = await pool.submit(insides.thread_variables)
        assert seen["OMP_NUM_THREADS"] == (said or "1")
        assert seen["OPENBLAS_NUM_THREADS"] == (None if said else "1"), "a user's word for OMP speaks for those that fall back to it"


async def test_stdin_is_empty(open_pool):
    async with open_pool() as pool:
        assert await pool.submit(insides.read_stdin) == ""


# --- nested pools


@pytest.mark.parametrize("nested", [insides.open_a_pool, insides.open_a_pool_in_a_coroutine])
async def test_a_pool_inside_a_task_is_a_clear_error(open_pool, nested):
    async with open_pool() as pool:
        with pytest.raises(UsageError, match="a task cannot open a pool of its own: return, and submit from the controller"):
            await pool.submit(nested)


# --- multiprocessing and subprocess


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
async def test_multiprocessing(open_pool, method):
    async with open_pool(1) as pool:
        assert await pool.submit(insides.use_multiprocessing, method) == [number * number for number in range(10)]
        pid, code = await pool.submit(insides.use_a_multiprocessing_process, method)
        assert code == 0 and is_dead(pid)


@pytest.mark.parametrize("kind", ["ThreadPoolExecutor", "ProcessPoolExecutor"])
async def test_executors(open_pool, kind):
    async with open_pool(1) as pool:
        assert await pool.submit(insides.use_an_executor, kind) == [number * number for number in range(10)]


async def test_subprocess(open_pool):
    async with open_pool(1) as pool:
        assert await pool.submit(insides.use_subprocess) == ("hello\n", 3)
        assert await pool.submit(insides.use_subprocess_with_a_timeout) == "timed out"
        assert await pool.submit(insides.use_asyncio_subprocess) == b"hello\n"


# --- the end of a slot


async def test_at_retirement_atexit_functions_and_finalizers_run(open_pool, tmp_path):
    async with open_pool(1, max_tasks_per_slot=2, bystanders=False) as pool:
        first = await pool.submit(insides.register_at_exit, str(tmp_path / "a"))
        assert not (tmp_path / "a").exists()
        assert await pool.submit(deeds.own_pid) == first
        assert await pool.submit(deeds.own_pid) != first
        await until(lambda: is_dead(first))
        assert sorted((tmp_path / "a").read_text().split()) == ["atexit", "finalizer"]


async def test_max_tasks_per_slot(open_pool):
    async with open_pool(2, max_tasks_per_slot=5, bystanders=False) as pool:
        pids = await asyncio.gather(*(pool.submit(deeds.own_pid) for _ in range(100)))
        assert max(pids.count(pid) for pid in set(pids)) <= 5 and len(set(pids)) >= 20


async def test_an_isolated_slot_retires_as_well(open_pool, tmp_path):
    async with open_pool(1) as pool:
        pid = await pool.options(isolate=True).submit(insides.register_at_exit, str(tmp_path / "a"))
        assert await pool.submit(deeds.own_pid) != pid
        assert sorted((tmp_path / "a").read_text().split()) == ["atexit", "finalizer"]


@pytest.mark.parametrize("how", ["cancel", "crash", "kill", "close"])
async def test_at_a_kill_they_do_not_run(open_pool, tmp_path, how):
    async with open_pool(1, bystanders=False) as pool:
        pid = await pool.submit(insides.register_at_exit, str(tmp_path / "a"))
        if how == "cancel":
            task = pool.submit(deeds.ignore_being_asked, str(tmp_path / "begun"))
            await written(tmp_path / "begun.began")  # one that was only sent would be called back, and the slot would live
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        elif how == "crash":
            with pytest.raises(WorkerDied):
                await pool.submit(os._exit, 3)
        elif how == "kill":
            os.kill(pid, signal.SIGKILL)
            await until(lambda: is_dead(pid))
        else:
            await pool.aclose()
        assert is_dead(pid) and not (tmp_path / "a").exists()
