"""Why a task is where it is."""

from __future__ import annotations

import asyncio
import operator
import os
from typing import Any

import pytest

from aioparallel import Pool
from aioparallel.testing import Simulation

from .gate import FrozenAgent, Gate, pass_gate


async def test_of_every_state(gate: Gate) -> None:
    async with Pool(local=1) as pool:
        first = pool.options(name="first").submit(pass_gate, gate.path)
        pid = (await gate.met())[0]
        waiting = [pool.submit(pass_gate, gate.path) for _ in range(3)]
        runs = pool.explain(first)
        assert (runs.task, runs.name, runs.state) == ("1", "first", "running")
        assert f"it runs on local/0 (pid {pid})" in runs.reason and runs.attempts[0].host == "local"
        assert "every slot that it may use is busy, and 2 tasks wait before it (local 1/1 busy)" in pool.explain(waiting[2]).reason
        waiting[2].cancel()
        await asyncio.wait([waiting[2]])
        assert pool.explain(waiting[2]).reason == "it was cancelled before it ran"
        with FrozenAgent(pool):
            first.cancel()
            stopping = pool.explain(first)
            assert stopping.state == "stopping" and "is not confirmed yet" in stopping.reason
        await asyncio.wait([first])
        assert "it was cancelled on local/0" in str(pool.explain(first))
        await gate.met(1)
        gate.open(2)
        await asyncio.gather(*waiting[:2])
        assert "it succeeded on local/0 in " in pool.explain(waiting[0]).reason
        failed = pool.options(retries=1).submit(operator.truediv, 1, 0)
        died = pool.submit(os._exit, 1)
        await asyncio.wait([failed, died])
        assert "it failed on local/0, attempt 2 in " in pool.explain(failed).reason
        assert "(ZeroDivisionError)" in pool.explain(failed).reason and str(pool.explain(failed)).count("\n") == 2
        assert "(WorkerDied)" in pool.explain(died).reason
        for task in (failed, died):
            task.exception()
    assert "succeeded" in pool.explain(waiting[0]).reason, "also when the pool is closed"


def test_sent_ahead() -> None:
    sim = Simulation(slots=1)
    learned = sim.submit()
    (slot,) = sim.slots()
    assert "it was sent to local/0 (pid -), which is being started" in explain(sim, learned).reason
    slot.up()
    slot.begin()
    slot.answer(seconds=1e-4)
    first, second = sim.submit(), sim.submit()
    slot.begin()
    assert first.state == second.state == "running"
    assert "waits there behind 1 others, of which task 2 'f' runs" in explain(sim, second).reason


def explain(sim: Simulation, task: Any) -> Any:
    from aioparallel._scheduler.explaining import explain

    return explain(sim.state, task, sim.clock.now)


def test_where_no_host_is_up() -> None:
    sim = Simulation(slots=0, far={"a": 1, "b": 1})
    task = sim.submit()
    assert "no host is up that it may use: a: not reached yet; b: not reached yet" in explain(sim, task).reason


def test_what_options_allow() -> None:
    sim = Simulation(slots=1, far={"a": 1})
    task = sim.submit(hosts=["a"])
    assert "options(hosts=['a']) allows a; no host is up that it may use: a: not reached yet" in explain(sim, task).reason


async def test_wrong_tasks() -> None:
    async with Pool(local=1) as pool, Pool(local=1) as other:
        with pytest.raises(TypeError, match="give a Task"):
            pool.explain("task 1")  # type: ignore[arg-type]
        task = pool.submit(abs, 1)
        with pytest.raises(ValueError, match="is not a task of"):
            other.explain(task)
        await task
        with pytest.raises(ValueError, match="is not a task of"):
            Pool(local=1).explain(task)
