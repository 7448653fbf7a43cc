"""What the pool says of itself: snapshots that print well, and events, which nobody builds for nobody."""

from __future__ import annotations

import asyncio
import gc
import operator
import os
import time
from pathlib import Path
from typing import Any

import pytest

import aioparallel
from aioparallel import Pool, WorkerDied, events
from aioparallel._observe import subscription

from .gate import Gate, pass_gate, stay


async def until(stream: Any, kind: type[Any], **fields: Any) -> tuple[Any, list[Any]]:
    """Wait for an event; return it and all that came before."""
    before: list[Any] = []
    async with asyncio.timeout(10):
        async for event in stream:
            if type(event) is kind and all(getattr(event, name) == value for name, value in fields.items()):
                return event, before
            before.append(event)
    raise AssertionError(f"no {kind.__name__} came, but {before}")


async def test_status(gate: Gate) -> None:
    pool = Pool(local=2, name="mine")
    assert str(pool.status()).startswith("pool 'mine' new for 0.0 s: 0 of 2 slots busy, 0 queued, 0 running")
    async with pool:
        tasks = [pool.options(name=f"task {number}").submit(pass_gate, gate.path) for number in range(5)]
        pids = await gate.met(2)
        status = pool.status()
        assert (status.name, status.state, status.max_slots, status.queued, status.running) == ("mine", "open", 2, 3, 2)
        assert {slot.pid for slot in status.slots} == set(pids)
        assert [(slot.host, slot.index, slot.state, slot.task, slot.waiting) for slot in status.slots] == [
            ("local", 0, "busy", "1 task 0", 0),
            ("local", 1, "busy", "2 task 1", 0),
        ]
        assert repr(pool) == "<Pool 2/2 slots busy, 3 queued>"
        text = str(status).splitlines()
        assert "2 of 2 slots busy, 3 queued, 2 running, 0 succeeded, 0 failed, 0 cancelled" in text[0]
        assert all(f"(pid {pid})" in str(status) for pid in pids) and any(line.strip().startswith("1 task 0") for line in text)
        with pytest.raises(AttributeError):
            status.queued = 3  # type: ignore[misc]
        tasks[4].cancel()
        gate.open(4)
        await asyncio.wait(tasks)
        failed = [pool.submit(operator.truediv, 1, 0), pool.submit(os._exit, 1)]
        await asyncio.wait(failed)
        status = pool.status()
        assert (status.succeeded, status.failed, status.cancelled, status.retried) == (4, 2, 1, 0)
        assert status.queued == status.running == 0
        assert 0 < status.run_seconds < 60 and 0 < status.uptime_seconds < 60
        assert all(slot.tasks_done < 5 for slot in status.slots)
    assert pool.status().state == "closed" and pool.status().succeeded == 4


async def test_events_in_order(gate: Gate) -> None:
    async with Pool(local=1) as pool:
        stream = pool.events()
        task = pool.options(name="mine", retries=1).submit(report_then_fail_once, gate.path)
        ended, said = await until(stream, events.TaskEnded)
        assert await task == "done"
        said = [event for event in said if not isinstance(event, events.HostUp)]
        kinds = [type(event).__name__ for event in said]
        assert kinds == [
            "TaskSubmitted", "AttemptStarted", "SlotStarted", "TaskProgressed", "TaskProgressed", "AttemptEnded",
            "RetryPlanned", "AttemptStarted", "AttemptEnded",
        ]  # fmt: skip
        assert (said[0].task, said[0].name) == (1, "mine")
        assert [(event.attempt, event.host, event.slot) for event in said if isinstance(event, events.AttemptStarted)] == [
            (1, "local", 0),
            (2, "local", 0),
        ]
        assert [event.outcome for event in said if isinstance(event, events.AttemptEnded)] == ["failed", "succeeded"]
        assert [(event.done, event.total) for event in said if isinstance(event, events.TaskProgressed)] == [(0.0, None), (4.0, 4.0)]
        assert (ended.task, ended.name, ended.outcome) == (1, "mine", "succeeded")
        times = [event.at for event in said]
        assert times == sorted(times) and abs(times[0] - time.time()) < 60
        with pytest.raises(AttributeError):
            said[0].task = 3


def report_then_fail_once(path: str) -> str:
    if aioparallel.current_task().attempt == 1:
        aioparallel.report_progress(0)
        for number in range(1, 1000):
            aioparallel.report_progress(number / 1000, 4)  # too many: dropped, but for the last
        aioparallel.report_progress(4, 4)
        raise ValueError("once")
    return "done"


async def test_events_of_other_ends(gate: Gate) -> None:
    async with Pool(local=1) as pool:
        stream = pool.events()
        with pytest.raises(WorkerDied):
            await pool.submit(os._exit, 3)
        ended, before = await until(stream, events.TaskEnded, outcome="failed")
        assert [event.outcome for event in before if isinstance(event, events.AttemptEnded)] == ["died"]
        died = [event for event in before if isinstance(event, events.SlotEnded)]
        assert [(event.exit_code, event.signal) for event in died] == [(3, None)]
        task = pool.submit(stay, gate.path)
        queued = pool.submit(abs, 1)
        await gate.met()
        queued.cancel()
        ended, _ = await until(stream, events.TaskEnded, task=queued.id)
        assert ended.outcome == "cancelled"
        task.cancel()
        ended, before = await until(stream, events.TaskEnded, task=task.id)
        assert ended.outcome == "cancelled"
        assert [event.outcome for event in before if isinstance(event, events.AttemptEnded)] == ["cancelled"]
    left = [event async for event in stream]
    assert any(isinstance(event, events.HostDown) for event in left), "it ends when the pool does, and not before all is said"


async def test_a_slow_reader_loses_the_oldest_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Pool(local=1) as pool:
        slow = pool.events()
        slow._size = 10
        tasks = [pool.submit(abs, number) for number in range(100)]
        await asyncio.gather(*tasks)
        first = await anext(slow)
        assert isinstance(first, events.EventsLost) and first.count >= 290
        rest = []
        while len(rest) < 10:
            rest.append(await anext(slow))
        assert not any(isinstance(event, events.EventsLost) for event in rest)
        assert isinstance(rest[-1], events.TaskEnded) and rest[-1].task == 100
        slow.close()
        assert [event async for event in slow] == []
    assert subscription.MAX_EVENTS == 10_000


async def test_nothing_is_built_for_nobody(monkeypatch: pytest.MonkeyPatch, gate: Gate) -> None:
    built: list[str] = []
    for name in set(events.__all__) - {"JsonLines", "to_jsonl"}:
        monkeypatch.setattr(getattr(events, name), "__init__", lambda self, **_: built.append(type(self).__name__))
    async with Pool(local=1) as pool:
        await asyncio.gather(*(pool.submit(abs, number) for number in range(100)), pool.submit(reporting))
        task = pool.submit(stay, gate.path)
        await gate.met()
        task.cancel()
        await asyncio.wait([task])
        assert built == []
        stream = pool.events()
        await pool.submit(abs, 1)
        assert "TaskSubmitted" in built and "TaskEnded" in built
        stream.close()
        built.clear()
        await pool.submit(abs, 1)
        assert built == []
        reader = pool.events()
        waiting = asyncio.ensure_future(anext(reader))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        del reader, waiting
        gc.collect()
        built.clear()
        await pool.submit(abs, 1)
        assert built == [], "a reader that was dropped has gone"


def reporting() -> None:
    aioparallel.report_progress(1, 1)


def report_without_end(path: str) -> None:
    """Report more than the pool's end of the link holds."""
    for _ in range(20_000):
        aioparallel.report_progress(1, 1)
    Path(path).touch()


def block_until(path: Path) -> None:
    end = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < end, "the task waits for the loop"
        time.sleep(0.005)


async def test_progress_does_not_wait_for_a_blocked_loop(tmp_path: Path) -> None:
    async with Pool(local=1) as pool:
        await pool.ready(1)
        task = pool.options(timeout=30).submit(report_without_end, str(tmp_path / "done"))
        await asyncio.sleep(0)
        block_until(tmp_path / "done")
        await task


async def test_several_readers_each_see_all() -> None:
    async with Pool(local=1) as pool:
        streams = [pool.events() for _ in range(3)]
        await pool.submit(abs, 1)
    seen = [[event async for event in stream] for stream in streams]
    assert seen[0] == seen[1] == seen[2] and any(isinstance(event, events.TaskEnded) for event in seen[0])


async def test_nothing_shows_arguments_or_results() -> None:
    secret = "a secret that nobody may read"
    async with Pool(local=1) as pool:
        stream = pool.events()
        view = pool.options(data=secret)
        tasks = [view.submit(str.upper, secret), pool.submit(operator.getitem, {}, secret)]
        await asyncio.wait(tasks)
        shown = [repr(task) for task in tasks] + [repr(task.attempts) for task in tasks] + [repr(pool), repr(view), str(pool.status())]
        shown.append(repr(pool.map(str.upper, [secret])))
        assert isinstance(tasks[1].exception(), KeyError)
    shown += [repr(event) async for event in stream]
    assert not any("secret" in text.lower() for text in shown)
