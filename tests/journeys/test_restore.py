"""What a task changes in its slot's process is put back before the next task, or the slot is replaced."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from . import changes, deeds

CHANGES = [
    changes.change_folder,
    changes.change_folder_by_descriptor,
    changes.change_environment,
    changes.change_path,
    changes.replace_path,
    changes.change_umask,
    changes.change_recursion_limit,
    changes.change_signal_handlers,
    changes.ignore_signals,
    changes.change_soft_limits,
    changes.close_standard_streams,
    changes.replace_standard_streams,
    changes.redirect_standard_descriptors,
    changes.delete_from_standard_streams,
    changes.stand_in_a_deleted_folder,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
async def test_the_next_task_does_not_see_it(open_pool, change):
    async with open_pool(1) as pool:
        before = await pool.submit(changes.looks_of_the_process)
        for _ in range(2):
            await pool.submit(change)
            assert await pool.submit(changes.looks_of_the_process) == before


async def test_all_of_it_at_once_and_in_a_task_that_fails(open_pool):
    def change_everything(changes_to_make):
        for change in changes_to_make:
            change()
        raise ValueError("and then this")

    async with open_pool(1) as pool:
        before = await pool.submit(changes.looks_of_the_process)
        for _ in range(2):
            with pytest.raises(ValueError, match="and then this"):
                await pool.submit(change_everything, CHANGES)
            assert await pool.submit(changes.looks_of_the_process) == before


async def test_what_was_put_into_the_environment_past_os_environ(open_pool):
    async with open_pool(1) as pool:
        before = await pool.submit(changes.environment_of_a_child)
        await pool.submit(changes.change_environment_by_putenv)
        after = await pool.submit(changes.environment_of_a_child)
        assert after == before


async def test_blocked_signals(open_pool):
    async with open_pool(1) as pool:
        before = await pool.submit(changes.blocked_signals)
        await pool.submit(changes.block_signals)
        assert await pool.submit(changes.blocked_signals) == before


async def test_an_alarm_does_not_ring_in_a_later_task(open_pool):
    async with open_pool(1) as pool:
        pid = await pool.submit(deeds.own_pid)
        await pool.submit(changes.set_an_alarm)
        await pool.submit(deeds.sleep, 0.6)
        assert await pool.submit(deeds.own_pid) == pid


@pytest.mark.parametrize("change", [changes.lower_hard_limit, changes.change_user], ids=lambda change: change.__name__)
async def test_what_cannot_be_put_back_costs_the_slot_not_the_task(open_pool, change):
    if change is changes.change_user and os.geteuid():
        pytest.skip("only root may become somebody else")
    async with open_pool(1) as pool:
        before = await pool.submit(changes.looks_of_the_process)
        for _ in range(2):
            task = pool.submit(change)
            behind = [pool.submit(changes.looks_of_the_process) for _ in range(3)]
            pid = await task
            assert pid == task.attempts[0].pid and task.attempts[0].outcome == "succeeded"
            for other in behind:
                looks = await other
                assert looks["pid"] != pid and looks | {"pid": 0} == before | {"pid": 0}
                assert [attempt.outcome for attempt in other.attempts] == ["succeeded"]


@pytest.mark.near
async def test_the_slots_own_folder_is_deleted(open_pool, tmp_path, monkeypatch):
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    async with open_pool(1) as pool:
        pid = await pool.submit(deeds.own_pid)
        assert await pool.submit(deeds.change_to_and_remove, str(folder)) == pid
        folder.mkdir()
        assert await pool.submit(deeds.own_pid) != pid


async def test_modules_that_a_task_breaks_stay_its_slots(open_pool):
    """A module's own state is not put back, and is said so: `isolate=True` is for that. It never reaches another slot."""
    async with open_pool(1) as pool:
        await pool.submit(deeds.set_attribute, "tests.journeys.deeds", "MARK", 1)
        assert await pool.submit(deeds.get_attribute, "tests.journeys.deeds", "MARK") == 1
        assert await pool.options(isolate=True).submit(deeds.get_attribute, "tests.journeys.deeds", "MARK") is None


async def test_a_controller_that_changes_its_path_takes_its_slots_along(open_pool, tmp_path, monkeypatch):
    (tmp_path / "late_module_of_the_user.py").write_text("def answer():\n    return 42\n")
    async with open_pool(1) as pool:
        await pool.submit(deeds.own_pid)
        monkeypatch.syspath_prepend(str(tmp_path))
        import late_module_of_the_user

        try:
            assert await pool.submit(late_module_of_the_user.answer) == 42
            await pool.submit(changes.change_path)
            assert await pool.submit(late_module_of_the_user.answer) == 42
        finally:
            del sys.modules["late_module_of_the_user"]


@pytest.mark.parametrize("change", [changes.leave_no_room, changes.trace_and_raise], ids=lambda change: change.__name__)
async def test_what_would_hinder_the_answer_does_not(open_pool, change):
    async with open_pool(1) as pool:
        pid = await pool.submit(deeds.own_pid)
        assert await pool.submit(changes.after, change, 1) == Path("1")
        with pytest.raises(ValueError, match="3"):
            await pool.submit(changes.after, change, 3)
        found = await pool.map(changes.after, [change] * 5, range(5), chunk=5, on_error="return")
        assert isinstance(found.pop(3), ValueError) and found == [Path("0"), Path("1"), Path("2"), Path("4")]
        assert await pool.submit(deeds.own_pid) == pid
