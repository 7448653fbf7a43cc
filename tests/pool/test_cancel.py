"""Cancelling: the first `cancel()` decides the end, and the task is done only when its process tree is gone."""

# ruff: noqa: PT012 - a bound around the awaiting

from __future__ import annotations

import asyncio
import operator
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from aioparallel import Pool, Task
from aioparallel._scheduler import state
from aioparallel.events import CancelUnconfirmed, EventsLost

from .gate import FrozenAgent, Gate, gone, pass_gate, stay, until

BOUND = 4.0
"""Seconds, generous: what takes longer hangs, or waited for the five seconds of an unconfirmed death."""


async def cancelled(task: Any) -> tuple[Any, ...]:
    """Wait for the end of a task that must be cancelled; return the error's arguments."""
    with pytest.raises(asyncio.CancelledError) as caught:
        async with asyncio.timeout(BOUND):
            await asyncio.wait([task])
        await task
    return caught.value.args


def with_child(path: str) -> None:
    """Run in a tree of three: the slot, a child, and a daemon that left the session."""
    child = subprocess.Popen(["sleep", "1000"])
    daemon = subprocess.Popen(["setsid", "sleep", "1001"])
    with open(f"{path}.tree", "w") as file:
        file.write(f"{os.getpid()} {child.pid} {daemon.pid}")
    stay(path)


async def test_a_done_task_says_no() -> None:
    async with Pool(local=1) as pool:
        task = pool.submit(abs, -1)
        assert await task == 1
        assert task.cancel() is False
        assert not task.cancelled() and task.state == "succeeded"
        failed = pool.submit(operator.truediv, 1, 0)
        await asyncio.wait([failed])
        assert failed.cancel("too late") is False
        with pytest.raises(ZeroDivisionError):
            await failed


async def test_a_queued_task_is_cancelled_at_once(gate: Gate) -> None:
    async with Pool(local=1) as pool:
        blocker = pool.submit(pass_gate, gate.path)
        await gate.met()
        queued = pool.options(isolate=True).submit(abs, 1), pool.submit(abs, 1)
        for task in queued:
            assert task.cancel("not needed") is True
            assert task.cancelled() and task.state == "cancelled" and task.attempts == ()
            assert await cancelled(task) == ("not needed",)
            assert task.cancel() is False
        never_sent = pool.submit(abs, 1)
        assert never_sent.cancel() and never_sent.cancelled()
        gate.open()
        await blocker
        assert await pool.submit(abs, -2) == 2
        assert pool.status().cancelled == 3


async def test_a_task_that_was_sent_ahead_never_begins(gate: Gate) -> None:
    async with Pool(local=1) as pool:
        await asyncio.gather(*(pool.submit(pass_gate_quickly, gate.path, False) for _ in range(20)))  # now it counts as quick
        behind = [pool.submit(pass_gate_quickly, gate.path, stays) for stays in (True, False, False)]
        first, ahead, last = behind
        (pid,) = await gate.met()
        assert first.state == "running"
        assert ahead.cancel()
        await cancelled(ahead)
        assert ahead.attempts == (), "it was called back: it never was an attempt"
        assert last.state in ("queued", "running") and not gone(pid)
        gate.open()
        assert await asyncio.gather(first, last) == [None, None]
        assert first.attempts[0].pid == pid


def pass_gate_quickly(path: str, stays: bool) -> None:
    if stays:
        pass_gate(path)


def tree_in(path: str) -> list[int]:
    return [int(word) for word in Path(path).read_text().split()]


async def test_a_running_tree_is_gone_before_the_task_is_done(gate: Gate) -> None:
    async with Pool(local=1) as pool:
        task = pool.submit(with_child, gate.path)
        await gate.met()
        pids = tree_in(f"{gate.path}.tree")
        assert not any(gone(pid) for pid in pids)
        assert task.cancel("enough") is True
        assert not task.done() and task.state == "stopping"
        assert await cancelled(task) == ("enough",)
        assert all(gone(pid) for pid in pids)
        (attempt,) = task.attempts
        assert (attempt.outcome, attempt.stopped, attempt.confirmed_dead) == ("cancelled", "killed", True)
        assert attempt.pid == pids[0]
        assert await pool.submit(abs, -2) == 2


async def test_cancel_repeated_is_cheap_and_keeps_the_last_message(gate: Gate) -> None:
    async with Pool(local=1) as pool:
        task = pool.submit(stay, gate.path)
        await gate.met()
        events = pool.events()
        began = time.perf_counter()
        assert all(task.cancel(f"number {number}") for number in range(50_000))
        assert all(task.cancel() for _ in range(50_000))
        assert time.perf_counter() - began < BOUND
        assert not task.done()
        assert await cancelled(task) == ("number 49999",)
        events.close()
        assert len([event async for event in events]) == 0
        assert not pool._engine.state._timers or len(pool._engine.state._timers) < 5, "further calls leave nothing behind"


async def test_a_storm_over_a_full_queue(gate: Gate) -> None:
    async with Pool(local=2) as pool:
        running = [pool.submit(stay, gate.path) for _ in range(2)]
        await gate.met(2)
        pending = [pool.submit(abs, number) for number in range(100_000)]
        await asyncio.sleep(0)
        began = time.perf_counter()
        for task in pending:
            assert task.cancel()
        for task in running:
            task.cancel()
        assert time.perf_counter() - began < 10
        async with asyncio.timeout(20):
            await asyncio.wait([*pending, *running])
        assert all(task.cancelled() for task in pending + running)
        status = pool.status()
        assert (status.cancelled, status.queued, status.running) == (100_002, 0, 0)
        assert await pool.submit(abs, -2) == 2


@pytest.mark.parametrize("ending", ["result", "exception", "crash"])
async def test_what_arrives_meanwhile_is_dropped(gate: Gate, ending: str) -> None:
    async with Pool(local=1) as pool:
        task = pool.submit(end_as, gate.path, ending)
        neighbour = pool.options(isolate=True).submit(abs, -1)
        await gate.met()
        with FrozenAgent(pool) as agent:
            assert task.cancel()
            gate.open()  # it ends by itself now, while nobody can kill it
            if ending != "crash":
                await until(pool, lambda: pool._engine.state.endings.run_seconds > 0)
            assert not task.done() or task.cancelled()
            agent.thaw()
            await cancelled(task)
        assert task.attempts[0].outcome == "cancelled"
        assert await neighbour == 1
        assert pool.status().cancelled == 1


def end_as(path: str, ending: str) -> None:
    pass_gate(path)
    if ending == "exception":
        raise ValueError("late")
    if ending == "crash":
        os._exit(3)


async def test_not_done_until_confirmed(gate: Gate) -> None:
    async with Pool(local=1) as pool:
        task = pool.submit(stay, gate.path)
        (pid,) = await gate.met()
        loop = asyncio.get_running_loop()
        with FrozenAgent(pool) as agent:
            task.cancel("first")
            loop.call_later(1.0, agent.thaw)
            began = loop.time()
            await asyncio.wait([task], timeout=0.5)
            assert not task.done() and task.state == "stopping"
            task.cancel("second")
            assert await cancelled(task) == ("second",)
            assert loop.time() - began > 0.9
        assert gone(pid)


async def test_five_seconds_without_confirmation(gate: Gate) -> None:
    async with Pool(local=2) as pool:
        task = pool.submit(stay, gate.path)
        (pid,) = await gate.met()
        events = pool.events()
        loop = asyncio.get_running_loop()
        with FrozenAgent(pool):
            began = loop.time()
            task.cancel()
            await asyncio.wait([task], timeout=12)
            assert task.cancelled() and 4.5 < loop.time() - began < 11
            assert task.attempts[0].confirmed_dead is False
            assert not gone(pid), "it could not be confirmed, and nobody says that it was"
            (slot,) = [slot for slot in pool.status().slots if slot.pid == pid]
            assert slot.state == "busy", "it serves nobody until its death is confirmed"
        assert await asyncio.gather(*(pool.submit(abs, -number) for number in range(50))) == list(range(50))
        await pool.aclose()
        said = [event async for event in events]
        assert not any(isinstance(event, EventsLost) for event in said)
        assert [(event.task, event.host) for event in said if isinstance(event, CancelUnconfirmed)] == [(task.id, "local")]
        assert task.attempts[0].confirmed_dead is True
        assert gone(pid)


async def test_only_the_pool_settles() -> None:
    async with Pool(local=1) as pool:
        task = pool.submit(abs, -1)
        with pytest.raises(RuntimeError, match="settled by its pool alone"):
            task.set_result(3)
        with pytest.raises(RuntimeError, match="settled by its pool alone"):
            task.set_exception(ValueError())
        assert await task == 1


async def test_the_bound_of_an_unconfirmed_death_begins_after_the_grace(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "CONFIRM_SECONDS", 0.3)
    async with Pool(local=1) as pool:
        task = pool.options(grace=30.0).submit(linger, gate.path)
        await gate.met()
        events = pool.events()
        task.cancel()
        await asyncio.wait([task], timeout=0.6)
        assert not task.done(), "it was given 30 s"
        gate.open()
        await cancelled(task)
        assert task.attempts[0].stopped == "asked" and task.attempts[0].confirmed_dead
        events.close()


def linger(path: str) -> str:
    try:
        stay(path)
    except BaseException:
        fd = os.open(f"{path}.go", os.O_RDONLY)
        os.read(fd, 1)
        os.close(fd)
    return "whatever"


async def test_cancel_between_attempts(gate: Gate) -> None:
    async with Pool(local=1) as pool:
        other = pool.submit(pass_gate, gate.path)
        task = pool.options(retries=3).submit(operator.truediv, 1, 0)
        await gate.met()
        assert task.state == "queued"
        assert task.cancel() and task.cancelled()
        gate.open()
        await other


async def test_cancel_of_every_state_at_random(gate: Gate) -> None:
    """A slot that is being started, work sent to it already, and the turn in which it was submitted."""
    async with Pool(local=2) as pool:
        for turns in range(12):
            tasks = [pool.submit(time.sleep, 50) for _ in range(4)]
            for _ in range(turns):
                await asyncio.sleep(0)
            assert all(task.cancel() for task in tasks)
            async with asyncio.timeout(BOUND):
                await asyncio.wait(tasks)
            assert all(task.cancelled() for task in tasks)
        assert await pool.submit(abs, -2) == 2


async def test_a_result_being_rebuilt_in_a_thread_can_be_cancelled() -> None:
    async with Pool(local=1) as pool:
        task: Task[Any] = pool.submit(operator.mul, [1.5], 3_000_000)
        await until(pool, lambda: task.state == "succeeded")
        assert not task.done(), "27 MB of pickle are opened in a thread"
        assert task.cancel("late")
        assert await cancelled(task) == ("late",)
        assert task.state == "cancelled"
        assert await pool.submit(abs, -2) == 2
        assert pool.status().cancelled == 1 and pool.status().succeeded == 1
