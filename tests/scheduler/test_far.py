"""Promises about far hosts: who waits for which, and what happens to it when they come, go, fail and are lost."""

from __future__ import annotations

import pytest

from aioparallel.errors import HostLost, UsageError
from aioparallel.policies import RoundRobin
from aioparallel.status import QUEUED, RUNNING
from aioparallel.testing import Simulation


def test_what_waits_for_a_host_that_is_removed_is_told_at_once() -> None:
    sim = Simulation(far={"x": 1})
    task = sim.submit(hosts=("x",))
    sim.remove_host("x")
    assert isinstance(task.exception(), UsageError)


def test_what_waits_when_the_last_host_is_removed_is_given_up_after_lost_grace() -> None:
    sim = Simulation(0, far={"x": 1}, lost_grace=10.0)
    sim.far["x"].come_up()
    sim.submit()
    task = sim.submit()
    sim.remove_host("x", drain=False)
    sim.far["x"].lose()
    assert not sim.state.hosts
    sim.advance(9.9)
    assert task.state == QUEUED
    sim.advance(0.2)
    assert isinstance(task.exception(), HostLost)


def test_what_waits_for_a_host_that_may_come_has_its_clock_running_after_another_came() -> None:
    sim = Simulation(far={"x": 1}, lost_grace=10.0)
    task = sim.submit(hosts=("x",))
    sim.add_host("y", 1)
    sim.advance(10.1)
    assert isinstance(task.exception(), HostLost)


def test_what_was_lost_on_the_only_host_avoids_it_when_another_comes() -> None:
    sim = Simulation(0, far={"x": 1})
    sim.far["x"].come_up()
    task = sim.submit()
    sim.far["x"].lose()
    sim.add_host("y", 1)
    assert len(sim.state.queue) == 0, "it waits among those that avoid x"
    task.cancel()
    assert [len(lane.queue) for lane in sim.state.all_lanes() if lane.queue] == []


def test_who_waits_for_some_hosts_is_looked_at_although_one_before_it_was_placed_and_one_behind_it_waits() -> None:
    sim = Simulation(0, far={"x": 2}, selection=lambda task, hosts: hosts[0] if task.turn == 0 else None)
    first = sim.submit()
    sim.clock.advance(1.0)
    placed = sim.submit(selection=RoundRobin())
    sim.clock.advance(1.0)
    last = sim.submit()
    sim.far["x"].come_up()
    assert [first.state, placed.state, last.state] == [RUNNING, RUNNING, QUEUED]


@pytest.mark.parametrize("drain", [True, False])
def test_a_host_that_is_removed_while_nothing_is_there_is_closed(drain: bool) -> None:
    sim = Simulation(far={"x": 1})
    sim.far["x"].come_up()
    sim.remove_host("x", drain=drain)
    assert sim.far["x"].closing
    sim.far["x"].lose()
    assert "x" not in sim.state.hosts


def test_a_far_host_that_failed_is_sent_nothing_while_its_link_ends() -> None:
    sim = Simulation(0, far={"x": 1, "y": 1})
    for host in sim.far.values():
        host.come_up()
    sim.far["x"].fail("no interpreter")
    sim.submit_many(20)
    assert sim.far["y"].out
    assert not sim.far["x"].out


def test_lost_grace_is_counted_from_the_last_loss() -> None:
    sim = Simulation(0, far={"x": 1}, lost_grace=10.0)
    task = sim.submit()
    sim.advance(5.0)
    sim.far["x"].come_up()
    sim.advance(4.0)
    sim.far["x"].lose()
    sim.advance(9.9)
    assert task.state == QUEUED
    sim.advance(0.2)
    assert isinstance(task.exception(), HostLost)


def test_a_near_host_that_failed_is_none_to_wait_for() -> None:
    sim = Simulation(1, far={"x": 1}, lost_grace=10.0)
    sim.hosts["local"].fail()
    task = sim.submit()
    sim.advance(10.1)
    assert isinstance(task.exception(), HostLost)


def test_a_near_host_that_failed_runs_what_its_slots_take_and_what_needs_a_fresh_one_is_given_up() -> None:
    sim = Simulation(1, far={"x": 1}, lost_grace=10.0)
    task = sim.submit()
    (slot,) = sim.slots()
    slot.up()
    sim.hosts["local"].fail()
    alone = sim.submit(isolate=True)
    slot.answer()
    sim.advance(10.1)
    assert task.done()
    assert isinstance(alone.exception(), HostLost)
    other = sim.submit()
    slot.answer()
    assert other.done()


def test_what_waits_behind_a_silent_host_is_called_back_when_there_is_another() -> None:
    sim = Simulation(0, far={"x": 1})
    x = sim.far["x"]
    x.come_up()
    sim.submit()
    x.leave()
    x.arrive()
    slot = x.give(0)
    assert slot is not None
    slot.up()
    slot.begin()
    slot.finish(seconds=0.0001)
    x.pass_on()
    x.deliver()
    sim.submit_many(5)
    assert len(x.out) == 5, "it is known to be short"
    sim.advance(1.0)
    assert not x.called_back, "there is no other"
    sim.add_host("y", 1).come_up()
    assert len(x.called_back) == 4


def test_lost_grace_runs_when_the_last_slot_of_a_near_host_that_failed_dies() -> None:
    sim = Simulation(1, far={"x": 1}, lost_grace=10.0)
    sim.submit()
    (slot,) = sim.slots()
    slot.up()
    sim.hosts["local"].fail()
    tasks = sim.submit_many(20)
    slot.begin()
    sim.advance(20.0)
    assert not any(task.done() for task in tasks)
    slot.die(signal=9)
    sim.advance(10.1)
    assert all(isinstance(task.exception(), HostLost) for task in tasks)


def test_a_cancel_on_a_lost_host_is_settled_when_its_next_agent_is_up() -> None:
    sim = Simulation(0, far={"x": 1})
    x = sim.far["x"]
    x.come_up()
    task = sim.submit()
    task.cancel()
    x.lose()
    assert not task.done()
    x.come_up()
    assert task.cancelled()
