"""Cancelled means dead: the kill, its confirmation, and what happens when there is none."""

from __future__ import annotations

import pytest

from aioparallel._scheduler.slots import AGAIN_SECONDS
from aioparallel._scheduler.state import CONFIRM_SECONDS
from aioparallel._scheduler.stimuli import CancelAsked, Closing, FarUp, HostCame, HostDown, Kill, Submitted
from aioparallel._scheduler.timers import SLACK
from aioparallel.events import CancelUnconfirmed
from aioparallel.status import IDLE, QUEUED, RUNNING, STOPPING
from aioparallel.testing import ScriptedHost, ScriptedSlot, Simulation


def running(slots: int = 1, **options: object) -> tuple[Simulation, ScriptedSlot]:
    """A simulation with one task, which runs."""
    sim = Simulation(slots)
    sim.submit(**options)  # type: ignore[arg-type]
    (slot,) = sim.slots()
    slot.up()
    slot.begin()
    return sim, slot


def deep(count: int) -> tuple[Simulation, ScriptedSlot]:
    """A simulation with one slot, to which so many short tasks were sent."""
    sim, slot = running()
    slot.answer(seconds=0.0001)
    sim.submit_many(count)
    assert len(slot.waiting) == count
    return sim, slot


def test_a_waiting_task_is_cancelled_at_once() -> None:
    sim, _ = running()
    task = sim.submit()
    assert task.state == QUEUED
    assert task.cancel("because")
    assert task.cancelled() and task._message == "because"
    assert not sim.state.queue


def test_a_task_that_was_lost_is_cancelled_when_another_host_has_come() -> None:
    """It waits for any host while there is but one, and then for another than that one."""
    sim, slot = running()
    task, other = slot.running.task, sim.submit()
    sim.feed(HostDown("local", "gone", {}))
    assert [task.state, other.state] == [QUEUED, QUEUED]
    sim.feed(HostCame("far", 1, 1.0, {}))
    assert [len(lane.queue) for lane in sim.state.all_lanes()] == [1, 0, 1]
    task.cancel()
    assert task.cancelled() and [len(lane.queue) for lane in sim.state.all_lanes()] == [1, 0]
    other.cancel()
    assert other.cancelled() and not sim.state.queue


@pytest.mark.parametrize("again", ["up", "closed", "buried"])
def test_a_task_that_is_cancelled_on_a_host_that_is_lost(again: str) -> None:
    """Whether it is dead is known when the next agent there has seen to it, and not before."""
    sim = Simulation({})
    far = ScriptedHost("far", 1, sim, sim.clock)
    sim.hosts["far"] = far
    sim.feed(HostCame("far", 1, 1.0, {}))
    far.launch = far.kill = lambda *_: None  # type: ignore[method-assign]
    sim.feed(FarUp("far", 1, ""))
    task = sim.submit()
    task.cancel()
    sim.feed(HostDown("far", "silent", {}, False))
    assert task.state == STOPPING and not task.attempts[0].confirmed_dead
    if again == "up":
        sim.feed(FarUp("far", 1, ""))
    else:
        far.close = lambda: None  # type: ignore[method-assign]
        sim.feed(Closing("closed"))
        sim.feed(HostDown("far", "closed", {}, again == "buried"))
    assert task.cancelled() and task.attempts[0].confirmed_dead is (again != "closed")
    assert len([event for event in sim.recorder.events if isinstance(event, CancelUnconfirmed)]) == (again == "closed")


def test_a_task_that_was_sent_ahead_is_cancelled_at_once_and_the_others_go_on() -> None:
    _sim, slot = deep(3)
    slot.begin()
    first, second, third = (attempt.task for attempt in slot.outstanding)
    assert second.cancel()
    assert second.cancelled() and second.attempts == () and not slot.kills
    assert [first.state, third.state] == [RUNNING, QUEUED]
    slot.answer(seconds=0.0001)
    slot.answer(seconds=0.0001)
    assert third.done()


def test_a_running_task_is_done_when_its_tree_is_dead() -> None:
    _sim, slot = running()
    task = slot.running.task
    assert task.cancel() and task.cancel("twice")
    assert task.state == STOPPING and not task.done() and len(slot.kills) == 1
    assert slot.look_at_kill() == "killed"
    assert task.cancelled() and task.attempts[0].stopped == "killed" and task.attempts[0].confirmed_dead
    assert not task.cancel()


@pytest.mark.parametrize("order", ["answer first", "missed first"])
def test_a_result_that_arrives_after_the_cancel_is_dropped_and_the_slot_serves_again(order: str) -> None:
    """Even where the news that the kill missed comes before the answer: then nobody else would wake who waits."""
    sim, slot = running()
    task = slot.running.task
    after = sim.submit()
    slot.finish()
    task.cancel()
    if order == "answer first":
        slot.deliver()
        assert task.cancelled() and after.state == QUEUED, "it serves nobody until the kill is accounted for"
        assert slot.look_at_kill() == "missed"
    else:
        assert slot.look_at_kill() == "missed"
        slot.deliver()
        sim.advance(AGAIN_SECONDS)
    assert task.cancelled()
    assert after.state == RUNNING and slot.answer().task is after


def test_a_kill_that_came_too_early_is_repeated() -> None:
    sim, slot = deep(2)
    task = slot.take().task
    assert task.cancel()
    assert slot.look_at_kill() == "missed"
    slot.begin()
    assert not slot.kills
    sim.advance(AGAIN_SECONDS)
    assert slot.look_at_kill() == "killed"
    assert task.cancelled()


def test_a_task_that_had_begun_behind_answers_under_way_is_killed_when_they_arrive() -> None:
    """Its slot gives nothing back, and the first that is outstanding is another's."""
    _sim, slot = deep(2)
    slot.begin()
    slot.finish()
    task = slot.begin().task
    assert task.cancel() and not slot.kills
    slot.deliver()
    assert slot.look_at_kill() == "killed"
    assert task.cancelled()


def test_an_unconfirmed_death_settles_the_task_after_five_seconds_and_the_slot_serves_nobody() -> None:
    sim, slot = running()
    task = slot.running.task
    other = sim.submit()
    task.cancel()
    sim.advance(CONFIRM_SECONDS - 0.001)
    assert not task.done()
    sim.advance(0.001)
    assert task.cancelled() and not task.attempts[0].confirmed_dead
    assert [event.task for event in sim.recorder.of(CancelUnconfirmed)] == [task.id]
    assert other.state == QUEUED and sim.state.unfinished() == 1
    assert slot.look_at_kill() == "killed"
    assert task.attempts[0].confirmed_dead
    assert other.state == RUNNING


def test_who_waits_for_a_pool_to_be_idle_does_not_wait_for_a_slot_that_cannot_be_killed() -> None:
    sim, slot = running()
    slot.running.task.cancel()
    sim.advance(CONFIRM_SECONDS)
    assert slot.alive and slot.running is not None
    assert sim.state.unfinished() == 0


def test_a_kill_goes_on_after_its_task_was_settled_without_it() -> None:
    """A slot which took a permit, was stopped for long, and begins then: what it begins is nobody's."""
    sim, slot = deep(2)
    task = slot.take().task
    task.cancel()
    sim.advance(CONFIRM_SECONDS)
    assert task.cancelled()
    assert slot.look_at_kill() == "missed"
    slot.begin()
    sim.advance(AGAIN_SECONDS)
    assert slot.look_at_kill() == "killed"


def test_grace_asks_first() -> None:
    sim, slot = running(grace=2.0)
    task = slot.running.task
    task.cancel()
    assert slot.kills[0].grace == 2.0
    assert slot.look_at_kill() == "asked"
    sim.advance(CONFIRM_SECONDS + 1.9)
    assert not task.done(), "five seconds after the grace"
    assert slot.look_at_kill() == "killed"
    assert task.cancelled() and task.attempts[0].stopped == "killed"


def test_a_slot_whose_task_ended_within_its_grace_serves_at_once() -> None:
    """The agent looks again only when the grace is over; nobody waits for that, and its late news harms nobody."""
    sim, slot = running(grace=60.0)
    task, after = slot.running.task, sim.submit()
    task.cancel()
    slot.look_at_kill()
    slot.finish()
    slot.deliver()
    assert task.cancelled() and task.attempts[0].stopped == "asked"
    assert after.state == RUNNING
    slot.begin()
    assert slot.look_at_kill() == "missed"
    slot.answer()
    assert after.done() and not after.cancelled()


def test_no_grace_while_the_pool_closes() -> None:
    sim, slot = running(grace=2.0)
    task = slot.running.task
    sim.close()
    task.cancel()
    assert slot.kills[0].grace == 0.0


def test_the_state_machine_may_be_told_twice() -> None:
    sim, slot = running()
    task = slot.running.task
    task.cancel()
    assert sim.feed(CancelAsked(task)) == []
    slot.look_at_kill()
    assert sim.feed(CancelAsked(task)) == []


# --- the host is lost under it


def test_a_cancelled_task_whose_host_was_lost_is_done_when_the_next_agent_has_swept() -> None:
    sim, slot = running()
    task = slot.running.task
    task.cancel()
    slot.host.lose()
    assert not task.done() and sim.state.unfinished() == 1
    slot.host.come_up()
    assert task.cancelled() and sim.state.unfinished() == 0


def test_a_cancelled_task_whose_host_never_comes_back_is_settled_and_forgotten() -> None:
    sim, slot = running()
    task = slot.running.task
    task.cancel()
    slot.host.lose()
    slot.host.fail()
    sim.advance(CONFIRM_SECONDS)
    assert task.cancelled() and sim.state.unfinished() == 0
    slot.host.come_up()
    assert sim.settled == [task]


def test_limbo_ends_when_the_pool_does() -> None:
    sim, slot = running()
    task = slot.running.task
    task.cancel()
    slot.host.lose()
    sim.close()
    slot.host.lose()
    assert task.cancelled()


def test_ten_thousand_that_wait_are_cancelled_without_a_kill() -> None:
    sim = Simulation(slots=1, watched=False)
    sim.submit("long")
    tasks = [sim.task() for _ in range(10_000)]
    actions = sim.feed(Submitted(tasks))
    for task in tasks:
        actions += sim.feed(CancelAsked(task))
    assert all(task.cancelled() for task in tasks)
    assert not [action for action in actions if isinstance(action, Kill)]
    assert len(sim.state.queue) == 0 and len(sim.state.queue._tasks) < 5000, "the dead do not pile up"
    (slot,) = sim.slots()
    slot.up()
    slot.answer()
    assert sim.state.slots["local", 0].state == IDLE


def test_a_request_to_stop_that_met_an_attempt_at_its_end_does_not_cost_its_slot_the_grace() -> None:
    """The answer was under way when it was asked, so the answer does not say so; the agent is asked to look once more."""
    sim, slot = running(grace=100.0)
    task = slot.running.task
    after = sim.submit()
    task.cancel()
    slot.finish()
    slot.kills.clear()  # as the agent does that has asked: it looks again when the grace is over
    slot.deliver()
    assert task.cancelled() and after.state == QUEUED
    assert slot.look_at_kill() == "missed"
    assert slot.answer().task is after


def test_timers_of_tasks_that_ended_do_not_pile_up() -> None:
    sim = Simulation(slots=1)
    (slot,) = (sim.submit(), *sim.slots())[1:]
    slot.up()
    slot.answer(seconds=0.0001)
    for _ in range(3 * SLACK):
        sim.submit(deadline=1e6)
        slot.answer(seconds=0.0001)
    assert len(sim.state._timers) <= SLACK
