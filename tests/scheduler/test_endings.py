"""What the end of an attempt means for its task: settled, tried again, or run elsewhere."""

from __future__ import annotations

import pytest

from aioparallel._scheduler.stimuli import Submitted
from aioparallel._wire.messages import BY_DEADLINE, BY_MEMORY, BY_TIMEOUT, OUT_OF_MEMORY, RAISED
from aioparallel.errors import MemoryLimitExceeded, RemoteError, TaskTimeout, WorkerDied
from aioparallel.events import AttemptEnded, AttemptStarted, TaskEnded
from aioparallel.status import QUEUED, RUNNING
from aioparallel.testing import ScriptedSlot, Simulation


def slot_of(sim: Simulation) -> ScriptedSlot:
    (slot,) = sim.slots()
    if not slot.pid:
        slot.up()
    return slot


# --- retries


def test_a_failure_is_the_end_unless_retries_were_asked_for() -> None:
    sim = Simulation()
    task = sim.submit()
    slot_of(sim).answer(RAISED)
    assert isinstance(task.exception(), RemoteError)


def test_retries_are_tried_and_the_last_answer_counts() -> None:
    sim = Simulation()
    task = sim.submit(retries=2)
    slot_of(sim).answer(RAISED)
    slot_of(sim).begin()
    slot_of(sim).die(signal=11)
    assert not task.done()
    slot_of(sim).answer(payload=b"at last")
    assert task.result() == b"at last"
    assert [(record.number, record.outcome) for record in task.attempts] == [(1, "failed"), (2, "died"), (3, "succeeded")]
    assert sim.state.endings.retried == 2


def test_after_the_last_retry_the_task_ends_as_that_did() -> None:
    sim = Simulation()
    task = sim.submit(retries=1)
    slot_of(sim).answer(RAISED, payload=b"first")
    slot_of(sim).answer(RAISED, payload=b"second")
    assert "second" in str(task.exception()) and len(task.attempts) == 2


def test_a_retry_goes_to_the_front() -> None:
    sim = Simulation()
    first, second = sim.task(retries=1), sim.task()
    sim.feed(Submitted([first, second]))
    slot_of(sim).answer(RAISED)
    assert first.state == RUNNING and second.state == QUEUED
    slot_of(sim).answer()
    slot_of(sim).answer()
    assert sim.settled == [first, second]


# --- limits


@pytest.mark.parametrize(("why", "limit"), [(BY_TIMEOUT, "timeout"), (BY_DEADLINE, "deadline")])
def test_a_kill_for_a_limit_says_which(why: int, limit: str) -> None:
    sim = Simulation()
    task = sim.submit(timeout=1.0, deadline=2.0)
    slot_of(sim).begin()
    slot_of(sim).die(signal=9, why=why)
    error = task.exception()
    assert isinstance(error, TaskTimeout) and isinstance(error, TimeoutError) and error.limit == limit


def test_a_timeout_is_tried_again_and_a_deadline_is_not() -> None:
    sim = Simulation()
    task = sim.submit(timeout=1.0, deadline=20.0, retries=5)
    slot_of(sim).begin()
    slot_of(sim).die(signal=9, why=BY_TIMEOUT)
    assert task.state == RUNNING
    slot_of(sim).begin()
    slot_of(sim).die(signal=9, why=BY_DEADLINE)
    assert isinstance(task.exception(), TaskTimeout) and len(task.attempts) == 2


@pytest.mark.parametrize("how", ["killed", "ceiling"])
def test_memory(how: str) -> None:
    sim = Simulation()
    task = sim.submit(memory=1000)
    slot = slot_of(sim)
    slot.begin()
    if how == "killed":
        slot.die(signal=9, why=BY_MEMORY)
        assert isinstance(task.exception(), MemoryLimitExceeded)
    else:
        slot.answer(OUT_OF_MEMORY)
    assert task.attempts[0].outcome == "out of memory"


def test_a_deadline_passes_in_the_queue() -> None:
    sim = Simulation()
    sim.submit()
    task = sim.submit(deadline=2.0)
    assert task.state == QUEUED
    sim.advance(1.999)
    assert not task.done()
    sim.advance(0.001)
    error = task.exception()
    assert isinstance(error, TaskTimeout) and error.limit == "deadline" and error.seconds == 2.0
    assert not sim.state.queue


def test_a_deadline_passes_where_the_task_was_sent_ahead() -> None:
    sim = Simulation()
    sim.submit()
    slot_of(sim).answer(seconds=0.0001)
    long, late = sim.submit_many(2, deadline=0.003)
    slot_of(sim).begin()
    sim.advance(0.003)
    assert isinstance(late.exception(), TaskTimeout) and late.attempts == ()
    assert long.state == RUNNING, "its agent keeps its deadline"


def test_a_deadline_passes_in_a_slot_that_does_not_come_up() -> None:
    sim = Simulation()
    task = sim.submit(deadline=1.0)
    sim.advance(1.0)
    assert isinstance(task.exception(), TaskTimeout)
    slot = slot_of(sim)
    assert not slot.waiting
    other = sim.submit()
    slot.answer()
    assert other.done()


def test_a_deadline_that_passed_during_an_attempt_forbids_the_next() -> None:
    sim = Simulation()
    task = sim.submit(deadline=1.0, retries=3)
    slot_of(sim).begin()
    sim.advance(2.0)
    slot_of(sim).answer(RAISED)
    assert isinstance(task.exception(), TaskTimeout) and len(task.attempts) == 1


def test_a_task_that_finished_in_time_is_never_called_late() -> None:
    """The loop was blocked over the deadline; the answer is read after the clock was looked at."""
    sim = Simulation()
    task = sim.submit(deadline=1.0)
    slot = slot_of(sim)
    slot.begin()
    slot.finish(payload=b"in time")
    sim.jump(30.0)
    slot.deliver()
    assert task.result() == b"in time"


# --- events and counts


def test_the_events_of_a_task() -> None:
    sim = Simulation()
    task = sim.submit(retries=1)
    slot_of(sim).answer(RAISED)
    slot_of(sim).answer()
    assert [event.attempt for event in sim.recorder.of(AttemptStarted, task=task.id)] == [1, 2]
    assert [event.outcome for event in sim.recorder.of(AttemptEnded, task=task.id)] == ["failed", "succeeded"]
    assert [event.outcome for event in sim.recorder.of(TaskEnded, task=task.id)] == ["succeeded"]


def test_without_subscribers_no_event_is_built() -> None:
    sim = Simulation(watched=False)
    sim.submit(retries=1)
    slot_of(sim).answer(RAISED)
    slot_of(sim).begin()
    slot_of(sim).die(signal=9)
    assert sim.recorder.events == []


def test_the_counts() -> None:
    sim = Simulation()
    tasks = sim.submit_many(3)
    slot_of(sim).answer(seconds=1.0)
    slot_of(sim).answer(RAISED, seconds=2.0)
    tasks[2].cancel()
    slot_of(sim)
    endings = sim.state.endings
    assert (endings.succeeded, endings.failed_count, endings.cancelled_count, endings.run_seconds) == (1, 1, 1, 3.0)
    assert sim.state.unfinished() == 0


def test_a_death_with_leftovers_says_so() -> None:
    sim = Simulation()
    task = sim.submit()
    slot_of(sim).begin()
    slot_of(sim).die(exit_code=81)
    assert isinstance(task.exception(), WorkerDied) and "closed the slot's own descriptors" in str(task.exception())
