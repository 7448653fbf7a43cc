"""The delays of `Retry`: how long they are, what may happen meanwhile, and where a task goes then; and with copies that race."""

from __future__ import annotations

from typing import Any

import pytest

from aioparallel._wire.messages import OK, RAISED
from aioparallel._worker.run import failure
from aioparallel.errors import HostLost, PoolClosed, RemoteError, TaskTimeout
from aioparallel.events import RetryPlanned
from aioparallel.options import Retry
from aioparallel.status import CANCELLED, QUEUED, RUNNING
from aioparallel.testing import ScriptedSlot, Simulation

from .test_races import Wishes, assert_over, race
from .test_retrying import fail, slot_of

# --- after how long


def delays(sim: Simulation) -> list[float]:
    return [event.seconds for event in sim.recorder.of(RetryPlanned)]


def test_delays_grow_up_to_the_longest_and_nothing_runs_before() -> None:
    sim = Simulation()
    task = sim.submit(retry=Retry(attempts=5, delay=1.0, backoff=3.0, jitter=0.0, max_delay=5.0))
    for expected in (1.0, 3.0, 5.0, 5.0):
        fail(sim)
        assert task.state == QUEUED and not slot_of(sim).outstanding
        sim.advance(expected - 0.001)
        assert task.state == QUEUED and not slot_of(sim).outstanding
        sim.advance(0.001)
        assert task.state == RUNNING
    slot_of(sim).answer(payload=b"at last")
    assert task.result() == b"at last" and delays(sim) == [1.0, 3.0, 5.0, 5.0]


def test_chance_leaves_out_a_part_and_the_same_one_each_time() -> None:
    def planned() -> list[float]:
        sim = Simulation(slots=1)
        tasks = [sim.submit(retry=Retry(attempts=2, delay=10.0, jitter=0.4)) for _ in range(20)]
        for _ in tasks:
            fail(sim)
        return delays(sim)

    first = planned()
    assert first == planned(), "all chance comes from the pool's seed"
    assert len(set(first)) == 20 and all(6.0 <= seconds <= 10.0 for seconds in first)


def test_a_delay_that_grew_beyond_all_numbers_is_a_long_one() -> None:
    sim = Simulation()
    task = sim.submit(retry=Retry(attempts=5, delay=1e300, backoff=1e300, jitter=0.0))
    fail(sim)
    assert task.state == QUEUED and delays(sim) == [1e9]
    assert task.cancel() and task.cancelled()


def test_without_a_delay_it_is_tried_again_at_once() -> None:
    sim = Simulation()
    task = sim.submit(retries=2)
    fail(sim)
    assert task.state == RUNNING and delays(sim) == [0.0]


def test_losses_wait_for_nothing() -> None:
    sim = Simulation({"a": 1, "b": 1})
    task = sim.submit(retry=Retry(attempts=2, delay=100.0))
    slot = sim.slots()[0]
    slot.up()
    slot.begin()
    slot.host.lose()
    assert task.state == RUNNING and delays(sim) == []


def test_others_have_the_slot_meanwhile_and_then_the_task_goes_first() -> None:
    sim = Simulation()
    task = sim.submit(retry=Retry(attempts=2, delay=1.0, jitter=0.0))
    first, second = sim.submit_many(2)
    fail(sim)
    assert first.state == RUNNING
    sim.advance(1.0)
    assert (task.state, second.state) == (QUEUED, QUEUED)
    for _ in range(3):
        slot_of(sim).answer()
    assert sim.settled == [first, task, second]


def test_those_whose_delays_are_over_together_go_in_the_order_of_their_submission() -> None:
    sim = Simulation()
    tasks = [sim.submit(retry=Retry(attempts=2, delay=seconds, jitter=0.0)) for seconds in (3.0, 2.0, 1.0)]
    for _ in tasks:
        fail(sim)
    sim.jump(10.0)
    for _ in tasks:
        slot_of(sim).answer()
    assert sim.settled == tasks


# --- what may happen meanwhile


def waiting(sim: Simulation, **options: Any) -> Any:
    task = sim.submit(retry=Retry(attempts=2, delay=10.0, jitter=0.0), **options)
    fail(sim)
    assert task.state == QUEUED and not sim.state.queue
    return task


def test_cancelling_ends_the_delay_at_once() -> None:
    sim = Simulation()
    task = waiting(sim)
    assert task.cancel() and task.cancelled() and task.state == CANCELLED
    assert not sim.state.unfinished() and len(sim.state.queue) == 0
    sim.advance(100.0)
    assert not slot_of(sim).outstanding and sim.settled == [task]
    assert len(sim.state.queue) == 0, "it left no entry that was never there"


def test_closing_the_pool_ends_the_delay_at_once() -> None:
    sim = Simulation()
    task = waiting(sim)
    sim.close("enough")
    assert isinstance(task.exception(), PoolClosed) and not sim.state.unfinished()
    sim.hosts["local"].lose()
    sim.advance(100.0)
    assert sim.settled == [task]


def test_it_counts_as_queued_and_unfinished() -> None:
    from aioparallel._scheduler import overview

    sim = Simulation()
    waiting(sim)
    assert overview.queued(sim.state) == 1 and overview.busy(sim.state) == 0 and sim.state.unfinished() == 1


def test_no_delay_reaches_the_deadline() -> None:
    sim = Simulation()
    task = sim.submit(deadline=10.0, retry=Retry(attempts=5, delay=4.0, backoff=2.0, jitter=0.0))
    fail(sim)
    sim.advance(4.0)
    fail(sim, OSError("the second"))
    assert task.done() and "the second" in str(task.exception()), "8 s more would be too late: it ends as it did, and at once"
    assert delays(sim) == [4.0]


def test_a_deadline_that_was_passed_during_the_attempt_is_what_it_ends_with() -> None:
    sim = Simulation()
    task = sim.submit(deadline=1.0, retry=Retry(attempts=3, delay=0.1))
    slot_of(sim).begin()
    sim.advance(2.0)
    fail(sim)
    assert isinstance(task.exception(), TaskTimeout) and delays(sim) == []


def test_a_delay_and_a_deadline_that_a_blocked_loop_sees_at_once() -> None:
    sim = Simulation()
    task = sim.submit(deadline=11.0, retry=Retry(attempts=2, delay=10.0, jitter=0.0))
    fail(sim)
    sim.jump(20.0)
    assert isinstance(task.exception(), TaskTimeout) and len(sim.state.queue) == 0
    other = sim.submit()
    slot_of(sim).answer()
    assert other.done()


def test_a_delay_ends_when_no_host_is_left_that_it_may_use() -> None:
    sim = Simulation(0, far={"x": 1, "y": 1}, lost_grace=5.0)
    for host in sim.far.values():
        host.come_up()
    task = sim.submit(hosts=("x",), retry=Retry(attempts=2, delay=10.0, jitter=0.0))
    far_answer(sim, "x", RAISED)
    assert task.state == QUEUED
    sim.remove_host("x")
    sim.far["x"].lose()
    assert task.state == QUEUED, "another of that name may come until then"
    sim.advance(10.0)
    assert task.done() and "no host of this pool is allowed" in str(task.exception())


def test_a_delay_ends_when_no_host_is_up() -> None:
    sim = Simulation(0, far={"x": 1}, lost_grace=5.0)
    sim.far["x"].come_up()
    task = sim.submit(retry=Retry(attempts=2, delay=10.0, jitter=0.0))
    far_answer(sim, "x", RAISED)
    sim.advance(8.0)
    sim.far["x"].lose()
    sim.advance(2.0)
    assert task.state == QUEUED
    sim.advance(2.9)
    assert task.state == QUEUED
    sim.advance(0.2)
    assert isinstance(task.exception(), HostLost)


# --- where


def far_answer(sim: Simulation, name: str, status: int = OK) -> None:
    host = sim.far[name]
    host.leave()
    host.arrive()
    host.give(0, 1)
    slot = host.live[0]
    if not slot.pid:
        slot.up()
    slot.begin()
    slot.finish(status)
    host.pass_on()
    host.deliver()


@pytest.mark.parametrize(("avoid", "second"), [(True, "y"), (False, "x")])
def test_the_host_where_it_failed_is_avoided_unless_told_otherwise(avoid: bool, second: str) -> None:
    sim = Simulation(0, far={"x": 1, "y": 1})
    for host in sim.far.values():
        host.come_up()
    task = sim.submit(locality={"x": 1}, retry=Retry(attempts=3, delay=1.0, avoid_host=avoid))
    far_answer(sim, "x", RAISED)
    sim.advance(1.0)
    far_answer(sim, second, RAISED)
    sim.advance(2.0)
    assert task.state == RUNNING, "where it failed everywhere, it goes anywhere"
    assert [attempt.host for attempt in task.attempts[:2]] == ["x", second]


def test_the_host_where_it_failed_is_used_when_nothing_else_is_left() -> None:
    sim = Simulation(0, far={"x": 1, "y": 1})
    sim.far["x"].come_up()
    task = sim.submit(retry=Retry(attempts=2, delay=1.0))
    far_answer(sim, "x", RAISED)
    sim.advance(1.0)
    assert task.state == RUNNING and list(sim.far["x"].out)


# --- with copies


def raised(slot: ScriptedSlot, error: Exception) -> None:
    slot.answer(RAISED, payload=bytes(failure(error, RAISED)[1]))


def test_a_copy_that_runs_is_the_next_attempt_and_waits_for_no_delay() -> None:
    rule = Wishes()
    sim, task, first, second = race(rule, retry=Retry(attempts=3, on=OSError, delay=1.0, jitter=0.0))
    raised(first, OSError())
    assert task.state == RUNNING and not sim.state.retrying.waiting and delays(sim) == []
    raised(second, OSError())
    assert task.state == QUEUED and delays(sim) == [2.0], "the second failure's"
    sim.advance(2.0)
    assert task.state == RUNNING
    next(slot for slot in sim.slots() if slot.waiting).answer(payload=b"third")
    assert task.result() == b"third" and [record.number for record in task.attempts] == [1, 2, 3]
    assert sim.state.endings.retried == 1
    assert_over(sim)


def test_a_failure_that_is_not_tried_again_wins_over_a_copy_that_runs() -> None:
    sim, task, first, second = race(Wishes(), retry=Retry(attempts=3, on=OSError, delay=1.0))
    raised(first, KeyError("other"))
    assert isinstance(task.exception(), RemoteError)
    assert second.look_at_kill() == "killed"
    assert_over(sim)


def test_a_deadline_that_is_near_ends_no_copy_that_runs() -> None:
    _sim, task, first, second = race(Wishes(), deadline=10.0, retry=Retry(attempts=3, delay=60.0))
    raised(first, OSError())
    assert task.state == RUNNING, "its next attempt is under way, and needs no delay"
    raised(second, OSError("the last"))
    assert "the last" in str(task.exception())


def test_cancelling_after_a_race_ends_the_delay_at_once() -> None:
    sim, task, first, second = race(Wishes(), retry=Retry(attempts=3, delay=60.0))
    raised(first, OSError())
    raised(second, OSError())
    assert task.cancel() and task.cancelled()
    assert_over(sim)
    sim.advance(100.0)
    assert sim.settled == [task] and len(sim.state.queue) == 0
