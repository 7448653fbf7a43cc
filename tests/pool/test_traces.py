"""Events that go to a function, to a file of JSON lines, and to a file that Perfetto opens."""

from __future__ import annotations

import asyncio
import gc
import json
import operator
import os
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from aioparallel import Pool, PoolClosed, UsageError, events
from aioparallel.events import to_jsonl

from .gate import Gate, pass_gate, stay

ROOT = Path(__file__).parents[2]


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    async with Pool(local=1) as pool:
        pool.events(to_jsonl(path))
        gc.collect()
        assert await pool.options(name="mine").submit(abs, -3) == 3
        assert pool._engine.state.watched
    said = lines_of(path)
    kinds = [line["event"] for line in said]
    assert {"TaskSubmitted", "AttemptStarted", "AttemptEnded", "TaskEnded", "HostDown"} <= set(kinds)
    ended = said[kinds.index("AttemptEnded")]
    assert (ended["task"], ended["host"], ended["outcome"]) == (1, "local", "succeeded")
    assert 0 <= ended["seconds"] < 60 and abs(ended["started_at"] - ended["at"]) < 60
    assert said[kinds.index("TaskSubmitted")]["name"] == "mine"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("aioparallel writes")]


async def test_jsonl_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with to_jsonl(str(path)) as write:
        write(events.HostUp(at=1.0, host="a"))
        assert repr(write) == f"<events to {path}>"
    write(events.HostUp(at=2.0, host="b"))
    write.close()
    assert lines_of(path) == [{"event": "HostUp", "at": 1.0, "host": "a"}]


async def test_lines_that_were_dropped_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = to_jsonl(tmp_path / "run.jsonl")
    monkeypatch.setattr(events, "WAITING_LINES", 0)
    write(events.HostUp(at=1.0, host="a"))
    write(events.HostUp(at=2.0, host="b"))
    monkeypatch.undo()
    write(events.HostUp(at=3.0, host="c"))
    write.close()
    assert lines_of(tmp_path / "run.jsonl") == [
        {"event": "EventsLost", "at": 3.0, "count": 2},
        {"event": "HostUp", "at": 3.0, "host": "c"},
    ]


@pytest.mark.parametrize("where", ["there/is/no/such/folder.json", "."])
async def test_a_path_that_cannot_be_written(tmp_path: Path, where: str) -> None:
    with pytest.raises(OSError, match=r"folder|directory"):
        to_jsonl(tmp_path / where)
    async with Pool(local=1) as pool:
        with pytest.raises(OSError, match=r"folder|directory"):
            pool.trace(tmp_path / where)
        assert not pool._engine.state.watched, "nothing is left of it"
        assert await pool.submit(abs, -1) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
async def test_a_disk_that_is_full_costs_the_file_alone(caplog: pytest.LogCaptureFixture) -> None:
    async with Pool(local=1) as pool:
        pool.events(to_jsonl("/dev/full"))
        await asyncio.gather(*(pool.submit(abs, number) for number in range(1000)))
    assert any("/dev/full" in record.getMessage() for record in caplog.records)


async def test_events_to_a_function() -> None:
    seen: list[Any] = []
    async with Pool(local=1) as pool:
        reading = pool.events(seen.append)
        await pool.submit(abs, 1)
        assert any(isinstance(event, events.TaskEnded) for event in seen)
        reading.close()
        assert not pool._engine.state.watched
        count = len(seen)
        await pool.submit(abs, 1)
        assert len(seen) == count
        with pool.events(seen.append):
            await pool.submit(abs, 1)
        assert not pool._engine.state.watched and len(seen) > count


async def test_a_function_that_raises_is_called_no_more(caplog: pytest.LogCaptureFixture) -> None:
    called = []

    def bad(event: Any) -> None:
        called.append(event)
        raise ValueError("no")

    async with Pool(local=1) as pool:
        pool.events(bad)
        assert await pool.submit(abs, -1) == 1
        assert len(called) == 1 and not pool._engine.state.watched
    assert "it is called no more" in caplog.text


async def test_wrong_arguments_and_pools(tmp_path: Path) -> None:
    pool = Pool(local=1)
    with pytest.raises(UsageError, match="not open"):
        pool.trace(tmp_path / "nowhere.json")
    async with pool:
        with pytest.raises(TypeError, match="a function that is called"):
            pool.events("run.jsonl")  # type: ignore[arg-type]
    with pytest.raises(PoolClosed):
        pool.trace(tmp_path / "nowhere.json")
    assert not os.listdir(tmp_path)


async def test_trace(tmp_path: Path, gate: Gate) -> None:
    path = tmp_path / "run.json"
    async with Pool(local=2, name="mine") as pool:
        pool.trace(path)
        tasks = [pool.options(name=f"task {number}").submit(pass_gate, gate.path) for number in range(4)]
        await gate.met(2)
        gate.open(4)
        await asyncio.gather(*tasks)
        await asyncio.wait([pool.submit(operator.truediv, 1, 0), pool.submit(os._exit, 1)])
        stopped = pool.options(name="stopped").submit(stay, gate.path)
        await gate.met(3)
        stopped.cancel()
        await asyncio.wait([stopped])
    told = json.loads(path.read_text())
    rows = {(row["pid"], row["tid"]): row["args"]["name"] for row in told if row["ph"] == "M"}
    assert sorted(rows.values()) == ["mine: local", "slot 0", "slot 1"]
    bars = [event for event in told if event["ph"] == "X"]
    assert {(bar["pid"], bar["tid"]) for bar in bars} <= set(rows)
    by_outcome = {bar["args"]["outcome"] for bar in bars}
    assert by_outcome == {"succeeded", "failed", "died", "cancelled"}
    for bar in bars:
        assert bar["dur"] >= 0 and bar["args"]["waited_ms"] >= 0
        assert ("cname" in bar) == (bar["args"]["outcome"] != "succeeded")
    assert {bar["name"] for bar in bars if bar["cat"] == "succeeded"} == {f"task {number}" for number in range(4)}
    assert [bar["name"] for bar in bars if bar["cat"] == "cancelled"] == ["stopped (cancelled)"]
    for place in {(bar["pid"], bar["tid"]) for bar in bars}:
        row = sorted((bar["ts"], bar["ts"] + bar["dur"]) for bar in bars if (bar["pid"], bar["tid"]) == place)
        assert all(before[1] <= after[0] + 1 for before, after in pairwise(row)), "bars of one slot do not overlap"


async def test_a_trace_of_a_part(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    async with Pool(local=1) as pool:
        await pool.submit(abs, 1)
        with pool.trace(str(path)):
            await pool.submit(abs, 2)
        told = json.loads(path.read_text())
        await pool.submit(abs, 3)
        assert [event["args"]["task"] for event in told if event["ph"] == "X"] == [2]
        with pool.trace(path):
            pass
        assert json.loads(path.read_text()) == []


async def test_succeeded_attempts_say_so_in_events() -> None:
    async with Pool(local=1) as pool:
        stream = pool.events()
        await pool.submit(abs, 1)
        stream.end()
        ended = [event async for event in stream if isinstance(event, events.AttemptEnded)]
        assert [event.outcome for event in ended] == ["succeeded"] and ended[0].seconds is not None


FORGETS = """
import asyncio, sys, aioparallel
from aioparallel.events import to_jsonl

async def main():
    pool = await aioparallel.Pool(local=1).ready(1)
    pool.events(to_jsonl(sys.argv[1]))
    pool.trace(sys.argv[2])
    print(await pool.submit(abs, -1))
    return pool

pool = asyncio.run(main())
"""


def test_files_are_whole_after_a_pool_that_nobody_closed(tmp_path: Path) -> None:
    lines, trace = tmp_path / "run.jsonl", tmp_path / "run.json"
    done = subprocess.run(
        [sys.executable, "-c", FORGETS, lines, trace], cwd=ROOT, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )
    assert done.stdout == "1\n", done.stderr
    assert "TaskEnded" in [line["event"] for line in lines_of(lines)]
    assert [event["args"]["task"] for event in json.loads(trace.read_text()) if event["ph"] == "X"] == [1]
