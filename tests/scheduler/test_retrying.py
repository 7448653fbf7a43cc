"""What `Retry` says is done: how often, and after which failures; and what several crashes come to."""

from __future__ import annotations

import builtins
import logging
from collections.abc import Callable
from typing import Any

import pytest

from aioparallel._wire.messages import BY_MEMORY, BY_TIMEOUT, EXITED, OUT_OF_MEMORY, RAISED, UNSENDABLE
from aioparallel._worker.run import failure
from aioparallel.errors import (
    HostLost,
    MemoryLimitExceeded,
    RemoteError,
    SerializationError,
    TaskError,
    TaskExited,
    TaskPoisoned,
    TaskTimeout,
    WorkerDied,
)
from aioparallel.events import RetryRefused
from aioparallel.options import Retry
from aioparallel.status import RUNNING
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
