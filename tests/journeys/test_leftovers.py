"""What a task leaves behind in its slot, or takes away from it, costs at the most that task; nothing of it outlives the slot."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import pytest

from aioparallel import WorkerDied

from . import deeds
from .looks import controller, is_dead, living, until, written

# --- processes


async def test_a_sleeper_and_a_daemon_live_until_the_pool_is_closed(open_pool):
    async with open_pool() as pool:
        pids = [await pool.submit(deeds.start_sleeper), await pool.submit(deeds.start_setsid_daemon)]
        assert living(pids) == pids, "libraries leave helpers on purpose"
    assert living(pids) == []


async def test_a_daemon_that_cleared_its_environment_dies_with_the_pool_as_well(open_pool):
    async with open_pool() as pool:
        pid = await pool.submit(deeds.start_setsid_daemon, {})
    assert is_dead(pid)


@pytest.mark.parametrize("start", [deeds.start_sleeper, deeds.start_setsid_daemon])
async def test_leftovers_die_with_their_slot(open_pool, start):
    async with open_pool(1) as pool:
        pid = await pool.submit(start)
        assert not is_dead(pid)
        with pytest.raises(WorkerDied, match="left a thread or a process"):
            await pool.submit(os._exit, 3)
        assert is_dead(pid), "the task was to be settled after all of its slot was dead"


@pytest.mark.parametrize("start", [deeds.start_sleeper, deeds.start_setsid_daemon])
async def test_an_isolated_tasks_leftovers_are_gone_before_the_next_isolated_task(open_pool, start):
    async with open_pool(1, bystanders=False) as pool:
        isolated = pool.options(isolate=True)
        pid = await isolated.submit(start)
        assert await isolated.submit(deeds.is_gone, pid)


async def test_a_cancelled_tasks_whole_tree_is_dead_when_the_task_is_done(open_pool, tmp_path):
    async with open_pool() as pool:
        task = pool.submit(deeds.loop_behind_a_grandchild, str(tmp_path / "pids"))
        await until((tmp_path / "pids").exists)
        pids = list(map(int, (tmp_path / "pids").read_text().split()))
        assert living(pids) == pids and len(pids) == 3
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert living(pids) == []


async def test_processes_that_fork_without_end_do_not_escape(open_pool, tmp_path):
    async with open_pool() as pool:
        task = pool.submit(deeds.fork_without_end, 3, str(tmp_path / "pid"))
        await until(lambda: len(list(tmp_path.glob("pid.*[0-9]"))) >= 4)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        pids = [int(path.suffix[1:]) for path in tmp_path.glob("pid.*[0-9]")]
        assert living(pids) == []
        assert task.attempts[0].confirmed_dead
        await asyncio.to_thread(time.sleep, 0.05)  # whoever escaped would have written another file by now
        assert len(list(tmp_path.glob("pid.*[0-9]"))) == len(pids)


async def test_a_slot_killed_by_its_own_task_takes_its_tree_along(open_pool, tmp_path):
    async with open_pool(1) as pool:
        daemon, sleeper = await pool.submit(deeds.start_setsid_daemon, {}), await pool.submit(deeds.start_sleeper)
        with pytest.raises(WorkerDied):
            await pool.submit(deeds.die_by, 9)
        assert living([daemon, sleeper]) == []


async def test_ignored_sigchld_hides_no_death(open_pool, tmp_path):
    """Where a parent ignores SIGCHLD the kernel reaps its children: the agent hears of their deaths from nobody."""
    async with open_pool() as pool:
        for number in range(3):
            task = pool.submit(deeds.ignore_sigchld_and_loop, str(tmp_path / str(number)))
            pids = list(map(int, (await written(tmp_path / str(number))).split()))
            began = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert living(pids) == [] and task.attempts[0].confirmed_dead and time.monotonic() - began < 2


async def test_dead_children_do_not_pile_up(open_pool):
    async with open_pool(1) as pool:
        pids = [await pool.submit(deeds.leave_dead_children, 30) for _ in range(6)]
        assert len(set(pids)) == 2, "a slot may have a few, and is replaced when it has many"


async def test_a_dead_child_is_not_to_blame(open_pool):
    async with open_pool(1) as pool:
        await pool.submit(deeds.leave_dead_children, 1)
        with pytest.raises(WorkerDied) as caught:
            await pool.submit(os._exit, 3)
        assert "earlier task" not in str(caught.value)


# --- forks that come back


async def test_a_forked_child_that_returns_answers_nothing(open_pool):
    async with open_pool(1) as pool:
        for _ in range(3):
            who, child = await pool.submit(deeds.fork_and_let_both_return)
            assert who == "parent"
            await until(lambda child=child: is_dead(child))
        with pytest.raises(ValueError, match="parent"):
            await pool.submit(deeds.fork_and_let_both_raise)


async def test_a_forked_child_that_leaves_python(open_pool):
    async with open_pool(1) as pool:
        child = await pool.submit(deeds.fork_and_let_the_child_exit_python)
        await until(lambda: is_dead(child))


async def test_children_of_a_map_that_return_answer_nothing(open_pool):
    async with open_pool() as pool:
        results = await pool.map(deeds.fork_and_double, range(8))
        assert results == [2 * number for number in range(8)]


# --- threads


async def test_a_thread_that_never_ends(open_pool):
    async with open_pool(1) as pool:
        assert await pool.submit(deeds.start_endless_thread) == 2
        assert await pool.submit(threading.active_count) == 2, "the slot was to be kept"
        isolated = pool.options(isolate=True)
        assert await isolated.submit(threading.active_count) == 1
        await pool.submit(deeds.start_endless_thread)
        with pytest.raises(WorkerDied, match="left a thread or a process"):
            await pool.submit(os._exit, 3)


# --- descriptors


@pytest.mark.parametrize(("first", "last"), [(0, 2), (3, 100), (0, 100)])
async def test_closing_low_descriptors_costs_nothing(open_pool, first, last):
    async with open_pool(1) as pool:
        pid = await pool.submit(deeds.own_pid)
        for _ in range(3):
            assert await pool.submit(deeds.close_fds, first, last) == "closed"
        assert await pool.submit(os.fstat, 0) and await pool.submit(os.fstat, 2)
        assert await pool.submit(deeds.own_pid) == pid


@pytest.mark.parametrize("kind", ["socket", "pipe"])
async def test_closing_the_link_costs_that_task(open_pool, kind):
    async with open_pool(1) as pool:
        pid = await pool.submit(deeds.own_pid)
        with pytest.raises(WorkerDied, match="closed the slot's own descriptors"):
            await pool.submit(deeds.close_own, kind)
        assert is_dead(pid)
        assert await pool.submit(deeds.own_pid) != pid


async def test_closing_all_descriptors_costs_that_task(open_pool):
    async with open_pool(1) as pool:
        pid = await pool.submit(deeds.own_pid)
        with pytest.raises(WorkerDied, match="closed the slot's own descriptors"):
            await pool.submit(deeds.close_fds, 3, 4096)
        assert is_dead(pid)
        assert await pool.submit(deeds.own_pid) != pid


FLOOD = """
import asyncio, sys
from aioparallel import Pool
from tests.journeys import deeds

async def main():
    async with Pool(local=2) as pool:
        lines = await asyncio.gather(*(pool.submit(deeds.flood, 5 << 20) for _ in range(2)))
        assert await asyncio.gather(*(pool.submit(abs, -n) for n in range(50))) == list(range(50))
        print(sum(lines), "lines")

asyncio.run(main(), debug=False)
"""


def test_ten_mb_to_stdout_and_to_stderr_reach_the_controllers():
    program = controller(FLOOD)
    out, err = program.communicate(timeout=60)
    lines = out.splitlines()
    expected = 2 * ((5 << 20) // 1000)
    assert program.returncode == 0
    assert lines[-1] == f"{expected} lines" and lines.count("x" * 999) == expected
    assert err.splitlines() == ["x" * 999] * expected


FLOOD_WITHOUT_READER = """
import asyncio, os
from aioparallel import Pool, TaskTimeout
from tests.journeys import deeds

async def main():
    async with Pool(local=2) as pool:
        try:
            await pool.options(timeout=0.5).submit(deeds.flood, 5 << 20)
        except TaskTimeout:
            os.write(2, b"timed out\\n")
        os.write(2, b"%d\\n" % await pool.submit(abs, -5))

asyncio.run(main(), debug=False)
"""


def test_output_that_nobody_reads_blocks_its_task_alone():
    read, write = os.pipe()
    program = controller(FLOOD_WITHOUT_READER.replace("deeds.flood", "deeds.flood_stdout"), stdout=write)
    os.close(write)
    _, err = program.communicate(timeout=60)
    os.close(read)
    assert (program.returncode, err.splitlines()) == (0, ["timed out", "5"])
