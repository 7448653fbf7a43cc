"""What `Retry` says is done: after which failures, after how long, where, and how often; and what waits can be ended at any time."""

from __future__ import annotations

import builtins
import logging
from collections.abc import Callable
from typing import Any

import pytest

from aioparallel._wire.messages import BY_MEMORY, BY_TIMEOUT, EXITED, OK, OUT_OF_MEMORY, RAISED, UNSENDABLE
from aioparallel._worker.run import failure
from aioparallel.errors import (
    HostLost,
    MemoryLimitExceeded,
    PoolClosed,
    RemoteError,
    SerializationError,
    TaskError,
    TaskExited,
    TaskPoisoned,
    TaskTimeout,
    WorkerDied,
)
from aioparallel.events import RetryPlanned, RetryRefused
from aioparallel.options import Retry
from aioparallel.status import CANCELLED, QUEUED, RUNNING
from aioparallel.testing import ScriptedSlot, Simulation


class Mine(OSError):
    """A user's own."""


def slot_of(sim: Simulation) -> ScriptedSlot:
    (slot,) = sim.slots()
    if not slot.pid:
        slot.up()
    return slot


def fail(sim: Simulation, error: BaseException | None = None, status: int = RAISED) -> None:
    """Let the next attempt end as a slot says that it raised this (None: an OSError)."""
    slot_of(sim).answer(status, payload=bytes(failure(error or OSError(5), status)[1]))


def crash(sim: Simulation, **how: Any) -> None:
    slot_of(sim).begin()
    slot_of(sim).die(**how)


# --- how often


def test_attempts_count_the_tasks_own_failures_and_losses_count_apart() -> None:
    sim = Simulation()
    task = sim.submit(retry=Retry(attempts=2, infrastructure=2))
    for happens in ("lost", "failed", "lost"):
        if happens == "failed":
            fail(sim)
        else:
            slot_of(sim).begin()
            sim.hosts["local"].lose()
            sim.hosts["local"].come_up()
        assert task.state == RUNNING
    fail(sim, OSError("the last"))
    assert isinstance(task.exception(), RemoteError) and "the last" in str(task.exception())
    assert [attempt.outcome for attempt in task.attempts] == ["lost", "failed", "lost", "failed"]
    assert [attempt.number for attempt in task.attempts] == [1, 2, 3, 4]


def test_losses_beyond_what_is_made_good_are_the_end() -> None:
    sim = Simulation()
    task = sim.submit(retry=Retry(attempts=9, infrastructure=0))
    slot_of(sim).begin()
    sim.hosts["local"].lose()
    assert isinstance(task.exception(), HostLost) and "Retry(infrastructure=0) allows no other" in str(task.exception())


# --- after what


@pytest.mark.parametrize(
    ("on", "again"),
    [
        (None, True),
        (OSError, True),
        ((KeyError, Mine), True),
        (Exception, True),
        (ConnectionError, False),
        ((KeyError, TaskError), False),
        (lambda error: isinstance(error, RemoteError), True),
        (lambda error: "7" not in str(error), False),
    ],
)
def test_only_what_on_names_is_tried_again(on: Any, again: bool) -> None:
    sim = Simulation()
    task = sim.submit(retry=Retry(attempts=2, on=on))
    fail(sim, Mine(7))
    assert task.done() is not again
    assert sim.state.endings.retried == again


@pytest.mark.parametrize(
    ("happens", "types", "others"),
    [
        (lambda sim: fail(sim, SystemExit(3), EXITED), [SystemExit, TaskExited, TaskError], [SerializationError, OSError]),
        (lambda sim: fail(sim, TypeError("x"), UNSENDABLE), [SerializationError, TaskError], [TypeError, RemoteError]),
        (lambda sim: crash(sim, exit_code=3), [WorkerDied, TaskError, Exception], [OSError, TaskTimeout]),
        (lambda sim: crash(sim, signal=9, why=BY_TIMEOUT), [TaskTimeout, builtins.TimeoutError, OSError], [WorkerDied]),
        (lambda sim: crash(sim, signal=9, why=BY_MEMORY), [MemoryLimitExceeded], [TaskError, Exception, MemoryError]),
        (lambda sim: fail(sim, MemoryError(), OUT_OF_MEMORY), [MemoryLimitExceeded], [MemoryError, TaskError, BaseException]),
        (lambda sim: slot_of(sim).answer(RAISED, payload=b"garbage"), [], [Exception]),
    ],
)
def test_types_match_what_the_task_would_end_with(
    happens: Callable[[Simulation], None], types: list[type[BaseException]], others: list[type[BaseException]]
) -> None:
    for on in types + others:
        sim = Simulation()
        task = sim.submit(timeout=1.0, memory=1000, retry=Retry(attempts=2, on=on))
        happens(sim)
        assert task.done() == (on in others), on


def test_an_exception_that_cannot_travel_is_a_remote_error_too() -> None:
    class Local(LookupError):
        def __reduce__(self) -> Any:
            raise TypeError("not this one")

    for on, again in ((RemoteError, True), (LookupError, True), (Local, True), (OSError, False)):
        sim = Simulation()
        task = sim.submit(retry=Retry(attempts=2, on=on))
        fail(sim, Local())
        assert task.done() is not again


@pytest.mark.parametrize("retry", [Retry(attempts=3), Retry(attempts=3, on=lambda _: False)])
def test_a_task_that_outgrew_its_memory_is_not_tried_again_unless_that_is_named(retry: Retry) -> None:
    for happens in (lambda sim: crash(sim, signal=9, why=BY_MEMORY), lambda sim: fail(sim, MemoryError(), OUT_OF_MEMORY)):
        sim = Simulation()
        task = sim.submit(memory=1000, retry=retry)
        happens(sim)
        assert task.done() and len(task.attempts) == 1


def test_a_predicate_that_says_so_tries_again_what_outgrew_its_memory() -> None:
    sim = Simulation()
    task = sim.submit(memory=1000, retry=Retry(attempts=2, on=lambda error: isinstance(error, MemoryLimitExceeded)))
    crash(sim, signal=9, why=BY_MEMORY)
    assert task.state == RUNNING


def wrong(error: Exception) -> bool:
    raise LookupError("in the predicate")


async def later(error: Exception, verdict: bool) -> bool:
    return verdict


@pytest.mark.parametrize(
    ("on", "text"), [(wrong, "LookupError: in the predicate"), (lambda error: later(error, True), "TypeError: it is async")]
)
def test_a_predicate_that_raises_means_no_retry_and_is_said(on: Any, text: str, caplog: pytest.LogCaptureFixture) -> None:
    sim = Simulation()
    task = sim.submit(retry=Retry(attempts=5, on=on))
    with caplog.at_level(logging.ERROR, "aioparallel"):
        fail(sim, OSError("its own"))
    assert "its own" in str(task.exception()), "it ends as it would without"
    (event,) = sim.recorder.of(RetryRefused)
    assert (event.task, event.attempt) == (task.id, 1) and f"the function in Retry(on=) raised {text}" in event.reason
    assert len(caplog.records) == 1 and "Retry(on=)" in caplog.text
    other = sim.submit()
    slot_of(sim).answer()
    assert other.done()


def test_a_keyboard_interrupt_in_a_predicate_is_kept_for_the_loop() -> None:
    def interrupted(error: Exception) -> bool:
        raise KeyboardInterrupt

    sim = Simulation()
    task = sim.submit(retry=Retry(attempts=5, on=interrupted))
    fail(sim)
    assert task.done() and isinstance(sim.state.interrupt, KeyboardInterrupt)


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


# --- what it comes to


def test_a_task_that_took_down_its_slot_each_time_is_poisoned() -> None:
    sim = Simulation()
    task = sim.submit(retry=Retry(attempts=3))
    for seconds, how in ((2.0, {"exit_code": 3}), (0.5, {"signal": 11}), (0.25, {"exit_code": 4})):
        slot_of(sim).begin()
        sim.advance(seconds)
        slot_of(sim).die(**how)
    error = task.exception()
    assert isinstance(error, TaskPoisoned) and isinstance(error, WorkerDied)
    assert error.attempts == (("local", 0, 3, 2.0), ("local", 0, -11, 0.5), ("local", 0, 4, 0.25))
    assert (error.exit_code, error.signal) == (4, None)
    assert str(error) == (
        "the task took its slot's process down on each of 3 attempts: attempt 1 on local/0 exited with code 3 after 2 s; "
        "attempt 2 on local/0 was killed by signal 11 (SIGSEGV) after 0.5 s; attempt 3 on local/0 exited with code 4 after 0.25 s"
    )


def test_hosts_that_were_lost_under_it_do_not_make_it_less_poisoned() -> None:
    sim = Simulation()
    task = sim.submit(retries=1)
    crash(sim, exit_code=3)
    slot_of(sim).begin()
    sim.hosts["local"].lose()
    sim.hosts["local"].come_up()
    crash(sim, exit_code=3)
    error = task.exception()
    assert isinstance(error, TaskPoisoned) and len(error.attempts) == 2


@pytest.mark.parametrize("first", ["raised", "died"])
def test_a_crash_that_was_not_the_only_end_is_no_poison(first: str) -> None:
    sim = Simulation()
    task = sim.submit(retries=1)
    if first == "raised":
        fail(sim)
        crash(sim, signal=9)
        assert type(task.exception()) is WorkerDied
    else:
        crash(sim, signal=9)
        fail(sim)
        assert isinstance(task.exception(), RemoteError)


def test_one_crash_is_no_poison() -> None:
    sim = Simulation()
    task = sim.submit()
    crash(sim, signal=9)
    assert type(task.exception()) is WorkerDied


def test_a_far_task_that_took_down_its_slot_each_time_is_poisoned() -> None:
    sim = Simulation(0, far={"x": 1})
    host = sim.far["x"]
    host.come_up()
    task = sim.submit(retries=1)
    for _ in range(2):
        host.leave()
        host.arrive()
        host.give(0, 1)
        slot = host.live[0]
        slot.up()
        slot.begin()
        host.pass_on()
        host.deliver()
        sim.advance(1.5)
        slot.die(signal=6)
        host.pass_on()
        host.deliver()
    error = task.exception()
    assert isinstance(error, TaskPoisoned)
    assert error.attempts == (("x", 0, -6, 1.5), ("x", 0, -6, 1.5))


def test_a_long_row_of_crashes_is_told_in_short() -> None:
    error = TaskPoisoned(tuple(("box", 1, 1, None) for _ in range(1000)))
    assert "on each of 1000 attempts: attempt 1 on box/1 exited with code 1; ...; attempt 990 on" in str(error)
    assert len(str(error)) < 1000 and len(error.attempts) == 1000
