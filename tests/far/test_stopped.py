"""An agent that stands still: what it holds is killed by its successor, while the pool lives and as it closes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from aioparallel import Pool
from aioparallel._hosts import far_host

from ..journeys.looks import assert_gone_within, living, until
from .loopback import Loopback, LoopbackHost
from .servers import Server
from .visitors import stay_with_a_child


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server("asyncssh", tmp_path_factory.mktemp("server")) as running:
        yield running


def pids_in(path: Path) -> list[int]:
    return list(map(int, path.read_text().split()))


async def stopped(path: Path) -> list[int]:
    """Stop the agent of who wrote there; return it and what it holds."""
    await until(path.exists)
    pids = pids_in(path)
    os.kill(pids[0], signal.SIGSTOP)
    return pids


async def test_the_successor_of_a_stopped_agent_is_dialled_at_once_and_kills_what_it_holds(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(far_host, "FIRST_PAUSE", 3600.0)  # nothing may wait for it
    async with Pool(local=0, hosts=[server.host(slots=1)], heartbeat=0.2) as pool:
        task = pool.submit(stay_with_a_child, str(tmp_path / "pids"), 3600.0)
        pids = await stopped(tmp_path / "pids")
        assert await task == "again" and [attempt.outcome for attempt in task.attempts] == ["lost", "succeeded"]
        assert living(pids) == []


async def test_a_pool_that_closes_has_a_stopped_agent_killed_by_its_successor(server: Server, tmp_path: Path) -> None:
    async with Pool(local=0, hosts=[server.host(slots=1)]) as pool:
        task = pool.submit(stay_with_a_child, str(tmp_path / "pids"), 3600.0)
        pids = await stopped(tmp_path / "pids")
        async with asyncio.timeout(20):
            await pool.aclose()
        assert living(pids) == [] and task.done()


async def test_a_pool_that_closes_while_a_host_is_lost_still_buries_it_though_others_are_down(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host is lost before the pool closes, and reached again only after: it must be waited for, whatever the other hosts say."""
    monkeypatch.setattr(far_host, "FIRST_PAUSE", 1.0)
    monkeypatch.setattr(far_host.random, "uniform", lambda low, high: 3600.0)  # nothing may wait for its next try
    refuse = False
    original = LoopbackHost.dial

    async def dial(host: LoopbackHost, command: str, link: object) -> None:
        if host.name == "lost" and refuse and not closing.is_set():
            command = "exit 3"
        await original(host, command, link)  # type: ignore[arg-type]

    closing = asyncio.Event()
    monkeypatch.setattr(LoopbackHost, "dial", dial)
    async with Pool(local=1, hosts=[Loopback("lost", slots=1), Loopback("well", slots=1)]) as pool:
        await pool.ready(3)
        for number in range(3):
            pool.submit(stay_with_a_child, str(tmp_path / str(number)), 3600.0)
        await until(lambda: all((tmp_path / str(number)).exists() for number in range(3)))
        pids = [pids_in(tmp_path / str(number)) for number in range(3)]
        (slot,) = [slot.pid for slot in pool.status().slots if slot.host == "lost"]
        (lost,) = [found for found in pids if found[1] == slot]
        refuse = True
        os.kill(lost[0], signal.SIGKILL)
        await until(lambda: "lost" in pool._engine._unreachable)
        assert living([lost[2]])
        closing.set()
        async with asyncio.timeout(20):
            await pool.aclose()
        assert_gone_within(1.0, [pid for found in pids for pid in found])


async def test_a_stopped_agent_of_a_host_that_cannot_be_reached_again_does_not_hold_up_the_closing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialled = 0
    original = LoopbackHost.dial

    async def dial(host: LoopbackHost, command: str, link: object) -> None:
        nonlocal dialled
        dialled += 1
        await original(host, command if dialled == 1 else "exit 3", link)  # type: ignore[arg-type]

    monkeypatch.setattr(LoopbackHost, "dial", dial)
    monkeypatch.setattr(far_host, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(far_host, "OBEY_SECONDS", 0.1)
    monkeypatch.setattr(far_host, "BURY_SECONDS", 0.3)
    async with Pool(local=0, hosts=[Loopback(slots=1)]) as pool:
        pool.submit(stay_with_a_child, str(tmp_path / "pids"), 3600.0)
        pids = await stopped(tmp_path / "pids")
        async with asyncio.timeout(20):
            await pool.aclose()
        assert dialled > 1
    for pid in living(pids):
        os.kill(pid, signal.SIGKILL)
