"""Promises of `aioparallel.testing`: what tests are made of can be believed itself."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

import aioparallel
from aioparallel.events import SlotStarted, TaskEnded, TaskSubmitted
from aioparallel.testing import EventRecorder, FakeClock, Simulation


def test_time_passes_when_told_to() -> None:
    clock = FakeClock(5.0)
    clock.advance(2.5)
    assert clock() == clock.now == 7.5


def test_advancing_meets_each_moment_and_jumping_only_the_last() -> None:
    sim = Simulation()
    sim.submit()
    early, late = sim.submit(deadline=1.0), sim.submit(deadline=2.0)
    sim.advance(3.0)
    assert [event.at for event in sim.recorder.of(TaskEnded)] == [1001.0, 1002.0]
    assert sim.settled == [early, late]
    third = sim.submit(deadline=1.0)
    sim.jump(10.0)
    assert sim.recorder.of(TaskEnded, task=third.id)[0].at == 1013.0


def test_callbacks_of_a_settled_task_run() -> None:
    sim = Simulation()
    task = sim.submit()
    called = []
    task.add_done_callback(called.append)
    (slot,) = sim.slots()
    slot.up()
    slot.answer(payload=b"42")
    assert called == [task] and task.result() == b"42"


def test_a_second_settle_is_an_error_at_once() -> None:
    sim = Simulation()
    task = sim.submit()
    task.cancel()
    with pytest.raises(AssertionError, match="settled twice"):
        sim._finish(task, ValueError())


def test_a_scripted_slot_keeps_the_contract() -> None:
    sim = Simulation()
    sim.submit()
    (slot,) = sim.slots()
    slot.up()
    with pytest.raises(AssertionError, match="nothing runs"):
        slot.finish()
    slot.begin()
    with pytest.raises(AssertionError, match="nothing else to do"):
        slot.take()
    assert slot.host.recall(0) == 0, "what has begun cannot be taken back"
    slot.die(signal=9)
    assert not slot.alive


def test_a_word_about_work_is_seen_before_what_has_not_left_and_again_behind_it() -> None:
    sim = Simulation(0, far={"x": 1})
    x = sim.far["x"]
    x.come_up()
    task = sim.submit()
    task.cancel()
    x.arrive()
    assert x.out, "the word came before the attempt, and found nothing"
    x.leave()
    x.arrive()
    x.deliver()
    assert task.cancelled()
    assert not x.begun


def test_a_far_hosts_slots_answer_in_any_order() -> None:
    sim = Simulation(0, far={"x": 2})
    x = sim.far["x"]
    x.come_up()
    tasks = sim.submit_many(2)
    x.leave()
    x.arrive()
    slots = [slot for index in (1, 0) if (slot := x.give(index)) is not None]
    for slot in slots:
        slot.up()
        slot.begin()
    for slot in slots:
        slot.finish(payload=b"%d" % slot.index)
    assert not any(task.done() for task in tasks)
    x.pass_on(1)
    x.deliver()
    assert [task.done() for task in tasks] == [True, False]
    x.pass_on()
    x.deliver()
    assert [task.result() for task in tasks] == [b"1", b"0"]
    assert [(attempt.host, attempt.slot) for task in tasks for attempt in task.attempts] == [("x", 1), ("x", 0)]


def test_a_lost_link_takes_with_it_what_was_not_delivered() -> None:
    sim = Simulation(0, far={"x": 1})
    x = sim.far["x"]
    x.come_up()
    task = sim.submit()
    x.leave()
    x.arrive()
    slot = x.give(0)
    assert slot is not None
    slot.up()
    slot.begin()
    slot.finish()
    x.pass_on()
    x.lose()
    x.come_up()
    x.deliver()
    assert not task.done()
    assert len(task.attempts) == 2


async def test_the_events_of_a_real_pool_are_recorded_and_can_be_waited_for() -> None:
    async with aioparallel.Pool(local=1) as pool:
        async with EventRecorder(pool) as recorder:
            task = pool.submit(abs, -3)
            assert await task == 3
            ended = await recorder.wait_for(TaskEnded, task=task.id)
            assert ended.outcome == "succeeded"
            assert await recorder.wait_for(TaskEnded) is ended, "it is there already"
            waiting = asyncio.ensure_future(recorder.wait_for(TaskSubmitted, task=task.id + 1))
            await pool.submit(abs, -4)
            assert (await waiting).task == task.id + 1
            assert len(recorder.of(SlotStarted)) == 1
        before = len(recorder.events)
        await pool.submit(abs, -5)
        assert len(recorder.events) == before


async def test_who_waits_for_an_event_of_a_closed_pool_is_told() -> None:
    async with aioparallel.Pool(local=1) as pool, EventRecorder(pool) as recorder:
        waiting = asyncio.ensure_future(recorder.wait_for(SlotStarted, slot=77))
        await pool.aclose()
        with pytest.raises(LookupError, match="SlotStarted"):
            await waiting


async def test_a_recorder_needs_a_pool_to_listen_to() -> None:
    with pytest.raises(ValueError, match=r"EventRecorder\(pool\)"):
        async with EventRecorder():
            pass


def test_no_test_library_is_needed() -> None:
    program = "import sys, aioparallel.testing; sys.exit(bool({'pytest', 'hypothesis', 'unittest'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
