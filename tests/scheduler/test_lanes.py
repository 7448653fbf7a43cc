"""The lanes of tasks that may not go to just any host."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest

from aioparallel._scheduler import choosing
from aioparallel._scheduler.choosing import LONGEST_LOOK
from aioparallel._scheduler.lanes import Lane
from aioparallel._scheduler.stimuli import FarUp, HostGone
from aioparallel.policies import RoundRobin
from aioparallel.testing import Simulation

from .test_alone import add, down, later, pool


def two() -> Simulation:
    """Return a pool of two far hosts that are up, with one slot each."""
    sim = pool("a", "b")
    for name in "ab":
        sim.feed(FarUp(name, 1, ""))
    return sim


def test_what_failed_on_the_only_host_can_leave_when_there_are_two() -> None:
    sim = pool("a")
    sim.feed(FarUp("a", 1, ""))
    lost = sim.submit()
    down(sim, "a")
    kept = sim.submit()
    add(sim, "b")
    assert lost.cancel() and lost.cancelled()
    assert [len(lane.queue) for lane in sim.state.all_lanes()] == [1, 0]
    sim.feed(FarUp("b", 1, ""))
    assert kept.state == "running" and kept._attempt is not None and kept._attempt.slot.host == "b"


def test_what_was_lost_on_the_first_host_goes_to_the_second() -> None:
    sim = pool("a")
    sim.feed(FarUp("a", 1, ""))
    lost = sim.submit()
    down(sim, "a")
    add(sim, "b")
    sim.feed(FarUp("a", 1, ""))
    down(sim, "a")
    sim.feed(FarUp("b", 1, ""))
    assert lost._attempt is not None and lost._attempt.slot.host == "b"


def test_tasks_that_avoid_no_more_keep_their_place() -> None:
    sim = two()
    lost = [sim.submit(), sim.submit()]
    down(sim, "a")
    down(sim, "b")
    younger = sim.submit()
    sim.feed(HostGone("b"))
    assert list(sim.state.queue._tasks) == [*lost, younger]


@pytest.mark.parametrize("make", [RoundRobin, lambda: "round-robin"])
def test_turns_go_on_from_task_to_task_though_none_waits_between(make: Callable[[], Any]) -> None:
    sim = two()
    first, second = (sim.submit(selection=make()) for _ in range(2))
    assert {task._attempt.slot.host for task in (first, second) if task._attempt is not None} == {"a", "b"}
    assert sim.state.lanes == {}
    turns = []
    for _ in range(4):
        sim.submit(hosts=["a"], selection=lambda task, hosts: turns.append(task.turn))
    assert len(sim.state.turns) == 1


def test_policies_that_decide_alike_share_a_lane() -> None:
    sim = pool("a", "b")
    sim.submit_many(50, hosts=["a", "b"], selection=RoundRobin())
    for _ in range(50):
        sim.submit(hosts=["a", "b"], selection=RoundRobin())
    assert len(sim.state.lanes) == 1


def test_a_policy_that_holds_tasks_is_asked_ever_more_rarely() -> None:
    sim = two()
    asked = []

    def hold(task: Any, hosts: Any) -> None:
        asked.append(task.name)

    sim.state.ledger._seconds["f"] = 1e-6
    for number in range(50):
        sim.submit(selection=lambda task, hosts, number=number: hold(task, hosts))
    before = len(asked)
    later(sim, 10)
    assert (len(asked) - before) / 50 < 50
    before = len(asked)
    later(sim, 10 * LONGEST_LOOK)
    assert (len(asked) - before) / 50 <= 11


@pytest.mark.parametrize("error", [asyncio.CancelledError(), SystemExit(3), ZeroDivisionError()])
def test_a_policy_may_raise_anything(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    def fail(task: Any, hosts: Any) -> None:
        raise error

    sim = two()
    tasks = [sim.submit(selection=fail) for _ in range(2)]
    assert [task.state for task in tasks] == ["running"] * 2
    (said,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert said.exc_info is not None and said.exc_info[1] is error


def test_an_interrupt_in_a_hook_waits_for_what_was_decided() -> None:
    def stop(_: Any, __: Any = None) -> None:
        raise KeyboardInterrupt

    sim = two()
    task = sim.submit(selection=stop)
    assert task.state == "running" and type(sim.state.interrupt) is KeyboardInterrupt
    sim.state.interrupt = None
    waiting = sim.submit(hosts=lambda host: host.name == "b" or stop(host))
    assert not waiting.done()
    assert type(sim.state.interrupt) is KeyboardInterrupt


def test_work_is_evened_out_though_something_waits_for_a_host_that_is_down() -> None:
    sim = pool("a", local=2)
    sim.submit(hosts=["a"])
    sim.state.ledger._seconds["f"] = 0.004
    sim.submit_many(2)
    first, second = sim.slots()
    first.up(), second.up()
    sim.submit_many(2)
    assert [len(slot.outstanding) for slot in (first, second)] == [2, 2]
    first.begin()
    second.answer(seconds=0.004)
    second.answer(seconds=0.004)
    assert [len(slot.outstanding) for slot in (first, second)] == [1, 1]


def test_lanes_of_which_all_hosts_are_full_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"h{number}" for number in range(20)]
    sim = pool(*names)
    for name in names:
        sim.feed(FarUp(name, 1, ""))
    for one, other in combinations(names, 2):
        sim.submit(hosts=[one, other])
    looked: list[Lane] = []
    place = choosing.place
    monkeypatch.setattr(choosing, "place", lambda state, lane, *more: (looked.append(lane), place(state, lane, *more)))
    last = sim.submit(hosts=["h0"])
    assert len(sim.state.lanes) > 100
    assert looked == [] and last.state == "queued"
    down(sim, "h0")
    looked.clear()
    sim.feed(FarUp("h0", 1, ""))
    assert 0 < len(looked) < 30
