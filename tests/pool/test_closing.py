"""Opening, waiting and closing: who waits, who is killed, what the unfinished are told, and clear errors for the rest."""

# ruff: noqa: PT012 - the block of a pool is what raises

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from aioparallel import HostError, Pool, PoolClosed, SerializationError, UsageError
from aioparallel._scheduler import engine
from aioparallel._scheduler.stimuli import CancelAsked

from .gate import FrozenAgent, Gate, death, gone, pass_gate, run_script, stay, until

BOUND = 4.0


async def test_leaving_normally_waits(gate: Gate) -> None:
    async with Pool(local=1) as pool:
        first = pool.submit(pass_gate, gate.path, "finished")
        rest = [pool.submit(abs, -number) for number in range(50)]
        await gate.met()
        asyncio.get_running_loop().call_later(0.1, gate.open)
    assert first.result() == "finished" and [task.result() for task in rest] == list(range(50))
    assert repr(pool) == "<Pool 'pool' closed>" and pool.status().state == "closed"


async def test_leaving_waits_for_tasks_that_are_submitted_meanwhile(gate: Gate) -> None:
    more: list[Any] = []
    async with Pool(local=1) as pool:
        first = pool.submit(pass_gate, gate.path)
        first.add_done_callback(lambda _: more.append(pool.submit(abs, -5)))
        gate.open()
    assert more[0].result() == 5


async def test_leaving_normally_waits_also_where_the_pool_is_being_drained(gate: Gate) -> None:
    async with Pool(local=1) as pool:
        task = pool.submit(pass_gate, gate.path, "finished")
        await gate.met()
        draining = asyncio.ensure_future(pool.drain())
        asyncio.get_running_loop().call_later(0.1, gate.open)
        await asyncio.sleep(0)
    assert task.result() == "finished" and await draining


async def test_leaving_by_an_exception_kills_at_once(gate: Gate) -> None:
    with pytest.raises(KeyError):
        async with Pool(local=1) as pool:
            running, queued = pool.submit(stay, gate.path), pool.submit(abs, 1)
            (pid,) = await gate.met()
            began = time.monotonic()
            raise KeyError
    assert time.monotonic() - began < BOUND and gone(pid)
    for task in (running, queued):
        with pytest.raises(PoolClosed, match="the block of the pool was left by an exception"):
            await task
    assert running.attempts[0].outcome == "cancelled"


@pytest.mark.parametrize("where", ["inside", "leaving"])
async def test_leaving_by_cancellation_kills_at_once(gate: Gate, where: str) -> None:
    tasks: list[Any] = []

    async def use() -> None:
        async with Pool(local=1) as pool:
            tasks.extend([pool.submit(stay, gate.path), pool.submit(abs, 1)])
            if where == "inside":
                await asyncio.sleep(1000)

    user = asyncio.create_task(use())
    (pid,) = await gate.met()
    user.cancel("enough")
    async with asyncio.timeout(BOUND):
        await asyncio.wait([user])
    assert user.cancelled() and gone(pid)
    for task in tasks:
        assert isinstance(task.exception(), PoolClosed), "not cancelled: nobody cancelled the task itself"


async def test_aclose_kills_and_is_told_apart_from_cancel(gate: Gate) -> None:
    pool = await Pool(local=2).ready()
    running, cancelled = pool.submit(stay, gate.path), pool.submit(stay, gate.path)
    queued = [pool.submit(abs, 1) for _ in range(1000)]
    pids = await gate.met(2)
    cancelled.cancel("by the user")
    await asyncio.gather(pool.aclose(), pool.aclose())
    assert all(gone(pid) for pid in pids)
    assert cancelled.cancelled()
    assert isinstance(running.exception(), PoolClosed) and all(isinstance(task.exception(), PoolClosed) for task in queued)
    await pool.aclose()
    with pytest.raises(PoolClosed, match="closed and takes no more tasks"):
        pool.submit(abs, 1)
    with pytest.raises(PoolClosed):
        await pool.ready()
    with pytest.raises(UsageError, match="a pool is opened once; make a new one"):
        async with pool:
            pass
    assert await pool.drain() is False  # it tells what became of them, and they did not finish


async def test_unawaited_tasks_of_a_closed_pool_are_no_noise(gate: Gate) -> None:
    heard: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    pool = await Pool(local=1).ready()
    pool.submit(stay, gate.path)
    pool.submit(abs, 1)
    await gate.met()
    await pool.aclose()
    del pool
    gc.collect()
    assert heard == []


async def test_a_cancelled_aclose_finishes_first(gate: Gate) -> None:
    pool = await Pool(local=1).ready()
    task = pool.submit(stay, gate.path)
    (pid,) = await gate.met()
    closing = asyncio.create_task(pool.aclose())
    with FrozenAgent(pool) as agent:
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.sleep(0)
        closing.cancel()
        assert (await asyncio.wait([closing], timeout=0.05))[1] == {closing}
        agent.thaw()
        await asyncio.wait([closing])
    assert closing.cancelled() and gone(pid) and isinstance(task.exception(), PoolClosed)
    assert pool.status().state == "closed"


async def test_drain(gate: Gate) -> None:
    pool = await Pool(local=1).ready()
    task = pool.submit(pass_gate, gate.path, 3)
    await gate.met()
    draining = asyncio.create_task(pool.drain())
    await asyncio.sleep(0)
    with pytest.raises(PoolClosed, match="draining and takes no more tasks"):
        pool.submit(abs, 1)
    assert pool.status().state == "draining"
    gate.open()
    assert await draining is True
    assert task.result() == 3 and pool.status().state == "closed"


async def test_drain_has_a_limit(gate: Gate) -> None:
    async with Pool(local=1) as pool:
        task, queued = pool.submit(stay, gate.path), pool.submit(abs, 1)
        (pid,) = await gate.met()
        assert await pool.drain(timeout=0.05) is False
        assert gone(pid)
        for each in (task, queued):
            with pytest.raises(PoolClosed, match="its time limit passed"):
                await each


async def test_a_cancelled_drain_kills_the_rest(gate: Gate) -> None:
    pool = await Pool(local=1).ready()
    task = pool.submit(stay, gate.path)
    (pid,) = await gate.met()
    draining = asyncio.create_task(pool.drain())
    await asyncio.sleep(0)
    draining.cancel()
    await asyncio.wait([draining])
    assert draining.cancelled() and gone(pid) and isinstance(task.exception(), PoolClosed)


async def test_ready(gate: Gate) -> None:
    pool = Pool(local=2)
    assert await pool.ready(slots=2, timeout=30) is pool
    assert len(pool.status().slots) == 2 and all(slot.pid and slot.state == "idle" for slot in pool.status().slots)
    assert await pool.ready(2, timeout=0.5) is pool
    for wrong in (3, -1, 1.5, True):
        with pytest.raises(ValueError, match="slots"):
            await pool.ready(wrong)  # type: ignore[arg-type]
    assert await pool.submit(abs, -1) == 1
    await pool.aclose()


async def test_ready_has_a_limit_and_leaves_the_pool_as_it_is() -> None:
    async with Pool(local=1) as pool:
        await pool.ready()
        with FrozenAgent(pool):
            with pytest.raises(TimeoutError):
                await pool.ready(slots=1, timeout=0.05)
        assert await pool.submit(abs, -1) == 1


async def test_what_will_never_be_ready_says_so() -> None:
    async with Pool(local=1, preload=["no_such_module_at_all"]) as pool:
        with pytest.raises(HostError, match="no_such_module_at_all"):
            await pool.ready(slots=1, timeout=20)
        with pytest.raises(HostError, match="no_such_module_at_all"):
            await pool.submit(abs, 1)
    with pytest.raises(HostError, match=r"could not be started: .*; set Pool\(python=\.\.\.\)"):
        async with Pool(local=1, python="/no/such/python"):
            pass


async def test_an_unopened_pool() -> None:
    pool = Pool(local=1)
    for use in (lambda: pool.submit(abs, 1), pool.events, lambda: pool.options(timeout=1).submit(abs, 1)):
        with pytest.raises(UsageError, match=r"the pool is not open: use `async with Pool\(...\) as pool`, or `await pool.ready\(\)`"):
            use()
    with pytest.raises(UsageError, match="not open"):
        await pool.drain()
    with pytest.raises(UsageError, match="not open"):
        await pool.map(abs, [1])
    assert pool.status().state == "new" and repr(pool) == "<Pool 'pool' new>"
    await pool.aclose()
    with pytest.raises(PoolClosed):
        pool.submit(abs, 1)


async def test_another_loop_and_another_thread(gate: Gate) -> None:
    async with Pool(local=1) as pool:
        task = pool.submit(pass_gate, gate.path)
        await gate.met()
        found: list[BaseException] = []

        async def elsewhere() -> None:
            for use in (lambda: pool.submit(abs, 1), lambda: pool.map(abs, [1])):
                try:
                    use()
                except BaseException as error:
                    found.append(error)
            for closing in (pool.aclose, pool.drain, pool.ready):
                try:
                    await closing()
                except BaseException as error:
                    found.append(error)

        def thread() -> None:
            try:
                pool.submit(abs, 1)
            except BaseException as error:
                found.append(error)
            asyncio.run(elsewhere())

        await asyncio.to_thread(thread)
        assert [type(error) for error in found] == [UsageError] * 6, found
        assert "without a running event loop" in str(found[0]) and "from another event loop" in str(found[1])
        assert all("run_coroutine_threadsafe" in str(error) for error in found)
        handed = asyncio.run_coroutine_threadsafe(_submit(pool), asyncio.get_running_loop())
        gate.open()
        await task
        assert await asyncio.wrap_future(handed) == 1
        assert threading.active_count() < 10


async def _submit(pool: Pool) -> int:
    return await pool.submit(abs, -1)


FORK = """
import asyncio, os, sys, time
import aioparallel

async def main():
    async with aioparallel.Pool(local=1) as pool:
        await pool.submit(abs, 1)
        running = pool.submit(time.sleep, 0.3)
        await asyncio.sleep(0)
        child = os.fork()
        if not child:
            try:
                pool.submit(abs, 1)
            except aioparallel.UsageError as error:
                assert "forked child" in str(error)
            else:
                os._exit(7)
            running.cancel()
            how = sys.argv[1]
            if how == "unwind":
                sys.exit(0)
            if how == "collect":
                import gc
                pool.__del__()
                gc.collect()
            os._exit(0)
        _, status = os.waitpid(child, 0)  # not in a thread: the child's end of asyncio.run has silenced the selector's wake-up for both
        assert status == 0, status
        assert await running is None
        assert await asyncio.gather(*(pool.submit(abs, -n) for n in range(100))) == list(range(100))
        assert pool._engine._restarts == 0 and len(running.attempts) == 1 and running.attempts[0].outcome == "succeeded"
    print("done")

asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["exit", "collect", "unwind"])
async def test_a_forked_childs_copy_is_inert(tmp_path: Path, how: str) -> None:
    code, out, err = await run_script(FORK, tmp_path, how)
    assert (code, out) == (0, "done\n"), err


async def test_a_forgotten_pool_warns_and_is_dead(gate: Gate) -> None:
    pool = await Pool(local=1, name="lost").ready()
    task = pool.submit(stay, gate.path)
    (pid,) = await gate.met()
    task.cancel()
    await asyncio.wait([task])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await pool.aclose()
        del pool, task
        gc.collect()
    assert not [warning for warning in caught if issubclass(warning.category, ResourceWarning)]
    assert gone(pid)


async def test_a_lost_agent_and_closing_at_once(gate: Gate) -> None:
    for closing in ("aclose", "drain"):
        pool = await Pool(local=1).ready()
        task = pool.submit(pass_gate, gate.path, "again")
        (pid,) = await gate.met()
        agent = next(iter(pool._engine.hosts.values()))._agent_pid  # type: ignore[attr-defined]
        os.kill(agent, 9)
        if closing == "drain":
            draining = asyncio.create_task(pool.drain(timeout=20))
            await gate.met()
            gate.open()
            assert await draining is True
            assert await task == "again" and [attempt.outcome for attempt in task.attempts] == ["lost", "succeeded"]
        else:
            await until(pool, lambda engine=pool._engine: engine.state.hosts["local"].down)
            began = time.monotonic()
            await pool.aclose()
            assert time.monotonic() - began < BOUND
            assert isinstance(task.exception(), PoolClosed)
        assert gone(pid)


async def test_an_agent_that_does_not_answer(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "CLOSE_SECONDS", 0.3)
    pool = await Pool(local=1).ready()
    tasks = [pool.submit(stay, gate.path) for _ in range(2)]
    (pid,) = await gate.met()
    tasks[0].cancel()
    with FrozenAgent(pool) as agent:
        async with asyncio.timeout(BOUND):
            await pool.aclose()
        assert tasks[0].cancelled() and isinstance(tasks[1].exception(), PoolClosed)
        await death(agent.pid, pid)


async def test_pools_side_by_side(gate: Gate) -> None:
    async with Pool(local=1, name="one") as one, Pool(local=1, name="two") as two:
        held = one.submit(pass_gate, gate.path, 1)
        await gate.met()
        assert await two.submit(abs, -2) == 2
        with pytest.raises(SerializationError):
            two.submit(len, [held])
        await two.aclose()
        gate.open()
        assert await held == 1
        assert repr(one).startswith("<Pool ") and one.status().name == "one"


async def test_who_waits_when_somebody_else_closes(gate: Gate) -> None:
    pool = await Pool(local=2).ready()
    task = pool.submit(stay, gate.path)
    await gate.met()
    with FrozenAgent(pool) as agent:
        waiting = asyncio.ensure_future(pool.ready(slots=2))
        draining = asyncio.ensure_future(pool.drain())
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(pool.aclose())
        await asyncio.sleep(0)
        agent.thaw()
        async with asyncio.timeout(BOUND):
            await closing
            assert await draining is False, "what it waited for was killed"
            with pytest.raises(PoolClosed, match="closed by aclose"):
                await waiting
    assert isinstance(task.exception(), PoolClosed)


async def test_while_it_is_being_opened() -> None:
    pool = Pool(local=1)
    opening = asyncio.ensure_future(pool.ready())
    await asyncio.sleep(0)
    for use in (pool.ready, pool.drain, pool.aclose):
        with pytest.raises(UsageError, match="still being opened"):
            await use()
    with pytest.raises(UsageError, match="still being opened"):
        pool.submit(abs, 1)
    assert await opening is pool
    await pool.aclose()
    pool = Pool(local=1)
    opening = asyncio.ensure_future(pool.ready())
    await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait([opening])
    assert opening.cancelled() and pool.status().state == "closed"


async def test_a_bug_in_the_state_machine_ends_the_pool_and_not_in_silence(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(stimulus: Any, now: float, actions: Any) -> None:
        raise ZeroDivisionError

    async with Pool(local=1) as pool:
        assert await pool.submit(abs, -1) == 1
        running, waiting = pool.submit(time.sleep, 60), pool.submit(time.sleep, 60)
        monkeypatch.setitem(pool._engine.state._handlers, CancelAsked, broken)
        waiting.cancel()
        with pytest.raises(PoolClosed, match=r"the pool's engine failed: ZeroDivisionError\(\)"):
            await running
        await asyncio.wait([waiting])
        with pytest.raises(PoolClosed):
            await pool.submit(abs, -1)
    assert [record.message for record in caplog.records] == ["the engine failed"]
