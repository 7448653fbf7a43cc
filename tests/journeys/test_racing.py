"""Backups, near and far: the first answer wins, and of all other copies nothing is left."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from aioparallel import Backup
from aioparallel.events import BackupStarted
from aioparallel.policies import Bet
from aioparallel.status import CANCELLED, SUCCEEDED
from aioparallel.testing import EventRecorder

from . import deeds
from .looks import until, written

HANG = 60.0


class Told:
    """A rule that backs up what runs alone, once it is told to."""

    def __init__(self) -> None:
        self.copies = 1

    def look(self, scene):
        alone = [copies[0].task for copies in scene.running() if len(copies) < self.copies]
        return [Bet(task, reason="the test said so") for task in alone], scene.now + 0.01


def gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def pids_of(folder, number: int) -> list[int]:
    return [int(pid) for pid in (await written(folder / str(number))).split() if pid != "0"]


@pytest.mark.parametrize("stopped", [False, True])
async def test_a_backup_wins_and_the_whole_tree_of_the_original_is_killed(open_pool, tmp_path, stopped):
    async with open_pool(3) as pool, EventRecorder(pool) as recorder:
        rule = Told()
        task = pool.options(backup=rule).submit(deeds.late_at_first, str(tmp_path))
        tree = await pids_of(tmp_path, 1)
        if stopped:
            os.kill(tree[0], signal.SIGSTOP)
        rule.copies = 2
        assert await asyncio.wait_for(task, HANG) == 2
        await until(lambda: all(map(gone, tree)))
        await until(lambda: [attempt.outcome for attempt in task.attempts] == [CANCELLED, SUCCEEDED])
        started = await recorder.wait_for(BackupStarted, task=task.id)
        assert started.attempt == 2 and started.reason == "the test said so" and started.age > 0


async def test_the_original_wins_and_the_backup_is_killed(open_pool, tmp_path):
    async with open_pool(3) as pool:
        rule = Told()
        rule.copies = 2
        task = pool.options(backup=rule).submit(deeds.late_at_last, str(tmp_path))
        assert await asyncio.wait_for(task, HANG) == 1
        tree = await pids_of(tmp_path, 2)
        await until(lambda: all(map(gone, tree)))
        await until(lambda: [attempt.outcome for attempt in task.attempts] == [SUCCEEDED, CANCELLED])


async def test_a_cancelled_task_is_done_when_all_its_copies_are_dead(open_pool, tmp_path):
    async with open_pool(3) as pool:
        rule = Told()
        task = pool.options(backup=rule).submit(deeds.late_at_first, str(tmp_path), 2)
        first = await pids_of(tmp_path, 1)
        rule.copies = 2
        trees = first + await pids_of(tmp_path, 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert all(map(gone, trees)), "both trees are dead before the task is done"
        assert [attempt.confirmed_dead for attempt in task.attempts] == [True, True]


async def test_leaving_the_pool_waits_for_the_losers(open_pool, tmp_path):
    async with open_pool(3, bystanders=False) as pool:
        rule = Told()
        task = pool.options(backup=rule).submit(deeds.late_at_first, str(tmp_path))
        tree = await pids_of(tmp_path, 1)
        rule.copies = 2
        await asyncio.wait_for(task, HANG)
    assert all(map(gone, tree))


async def test_a_slot_that_stops_holds_up_nothing(open_pool):
    async with open_pool(4) as pool:
        raced = pool.options(backup=Backup())
        tasks = [raced.submit(deeds.stop_at_first, number, 50) for number in range(120)]
        assert await asyncio.wait_for(asyncio.gather(*tasks), HANG) == list(range(120))
        assert all(sum(attempt.outcome == SUCCEEDED for attempt in task.attempts) == 1 for task in tasks)
        assert len(tasks[50].attempts) > 1
        await until(lambda: tasks[50].attempts[0].outcome == CANCELLED)


async def test_many_raced_tasks_leave_nothing(open_pool):
    async with open_pool(4) as pool:
        rule = Told()
        rule.copies = 2
        raced = pool.options(backup=rule)
        tasks = [raced.submit(time.sleep, 0.002 * (number % 5)) for number in range(200)]
        await asyncio.wait_for(asyncio.gather(*tasks), HANG)
        races = pool._engine.state.races
        await until(lambda: not races.live and not races.copies)
