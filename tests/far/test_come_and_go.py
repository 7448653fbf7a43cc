"""Hosts that come to a pool and leave it while work runs."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from aioparallel import HostError, HostLost, Pool, PoolClosed, UsageError
from aioparallel._scheduler import engine
from aioparallel._worker.machine import usable_cpus
from aioparallel.config import HostAdded, HostRemoved
from aioparallel.events import CancelUnconfirmed
from tests.far.loopback import Loopback

from ..journeys.deeds import start_setsid_daemon
from ..journeys.looks import is_dead, until
from .visitors import hold, note_and_print, where


def alive(path: Path) -> list[int]:
    return [pid for pid in map(int, path.read_text().split()) if Path(f"/proc/{pid}").exists()]


async def test_a_host_is_added_and_removed_while_work_runs(tmp_path: Path) -> None:
    async with Pool(local=1) as pool:
        assert list(pool.hosts) == ["local"] and pool.hosts["local"].is_local and len(pool.hosts) == 1
        view = await pool.add_host(Loopback("a", slots=2, weight=2.0, labels={"gpu": "yes"}))
        assert view is pool.hosts["a"] and view.is_up and (view.slots, view.weight, view.labels) == (2, 2.0, {"gpu": "yes"})
        there = pool.options(hosts=["a"])
        assert await there.submit(where) == "a"
        with pytest.raises(UsageError, match="the pool has a host 'a' already"):
            await pool.add_host(Loopback("a", slots=1))
        running = [there.submit(note_and_print, str(tmp_path / name)) for name in "xy"]
        waiting = [pool.submit(where) for _ in range(20)]
        await until(lambda: all((tmp_path / name).exists() for name in "xy"))
        removing = asyncio.create_task(pool.remove_host("a"))
        assert set(await asyncio.gather(*waiting)) <= {"a", "local"}
        await until(lambda: pool.hosts["a"].busy == 2 and not pool.hosts["a"].is_up)
        assert pool.hosts["a"].reason == "it is being removed" and not removing.done()
        with pytest.raises(UsageError, match="no host of this pool is allowed"):
            pool.options(labels={"gpu": "yes"})
        (tmp_path / "go").touch()
        await removing
        assert [task.result() for task in running] == ["done", "done"]
        assert list(pool.hosts) == ["local"] and {slot.host for slot in pool.slots} == {"local"}
        with pytest.raises(UsageError, match="no host of this pool is allowed"):
            await there.submit(where)
        assert (await pool.add_host(Loopback("a", slots=1))).slots == 1
        assert await there.submit(where) == "a"


async def test_a_host_that_comes_back_under_its_name_is_not_the_one_that_was_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "CLOSE_SECONDS", 0.5)
    async with Pool(local=0, hosts=[Loopback("a", slots=1)]) as pool:
        await pool.submit(abs, -1)
        await pool.remove_host("a")
        await pool.add_host(Loopback("a", slots=1))
        task = pool.submit(where)
        await asyncio.sleep(engine.CLOSE_SECONDS)  # begun after that of the removal, it ends after it
        assert await task == "a" and pool.hosts["a"].is_up and len(task.attempts) == 1


async def test_a_pool_that_is_closed_just_after_a_host_was_lost_sees_to_what_that_left_behind() -> None:
    """The other hosts are gone sooner; that ends nothing."""
    async with Pool(local=1, hosts=[Loopback("a", slots=1)]) as pool:
        daemon = await pool.options(hosts=["a"]).submit(start_setsid_daemon)
        (slot,) = (slot.pid for slot in pool.slots if slot.host == "a")
        assert slot is not None and not is_dead(daemon)
        os.kill(psutil.Process(slot).ppid(), signal.SIGKILL)
        await until(lambda: not pool.hosts["a"].is_up)
        await pool.aclose()
        assert is_dead(daemon)


async def test_a_task_is_not_said_to_be_dead_where_nobody_knows(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(engine, "CLOSE_SECONDS", 0.5)
    async with Pool(local=1, hosts=[Loopback("a", slots=2)]) as pool:
        there = pool.options(hosts=["a"])
        cancelled, running = (there.submit(time.sleep, 1000) for _ in range(2))
        await until(lambda: len([slot for slot in pool.slots if slot.host == "a" and slot.state == "busy"]) == 2)
        agent = psutil.Process(next(slot.pid for slot in pool.slots if slot.host == "a")).ppid()
        os.kill(agent, signal.SIGSTOP)
        try:
            told = pool.events()
            cancelled.cancel()
            await pool.aclose()
            assert cancelled.cancelled() and isinstance(running.exception(), PoolClosed)
            assert [task.attempts[0].confirmed_dead for task in (cancelled, running)] == [False, False]
            assert [event.host async for event in told if isinstance(event, CancelUnconfirmed)] == ["a"]
            assert [record.message.split(" in ")[0] for record in caplog.records] == ["host a did not confirm"], "it says so of no other"
        finally:
            with suppress(ProcessLookupError):  # its successor may have come in time, and buried it
                os.kill(agent, signal.SIGCONT)


async def test_what_runs_on_a_host_that_is_removed_at_once_runs_elsewhere(tmp_path: Path) -> None:
    async with Pool(local=1, hosts=[Loopback("a", slots=2)]) as pool:
        await pool.ready(hosts=2, timeout=60)
        moving = pool.options(locality={"a": 1}).submit(note_and_print, str(tmp_path / "pids"))
        staying = pool.options(hosts=["a"], idempotent=False).submit(note_and_print, str(tmp_path / "others"))
        await until(lambda: (tmp_path / "pids").exists() and (tmp_path / "others").exists())
        assert len(alive(before := (tmp_path / "pids"))) == 2
        await pool.remove_host(pool.hosts["a"], drain=False)
        assert not alive(before)
        with pytest.raises(HostLost, match="it may not be run again"):
            await staying
        (tmp_path / "go").touch()
        assert await moving == "done"
        assert [(attempt.host, attempt.outcome) for attempt in moving.attempts] == [("a", "lost"), ("local", "succeeded")]


async def test_a_host_that_cannot_be_reached_can_be_added_and_removed() -> None:
    async with Pool(local=1) as pool:
        view = await pool.add_host(Loopback("ill", slots=1, python="/nowhere/python"))
        assert not view.is_up and "was found there" in view.reason and "down: " in repr(view)
        await pool.remove_host("ill")
        assert "ill" not in pool.hosts
        for name, why in (("ill", "the pool has no host 'ill'; it has local"), ("local", "host 'local' is this machine")):
            with pytest.raises(UsageError, match=why):
                await pool.remove_host(name)
        with pytest.raises(TypeError, match="not int"):
            await pool.add_host(3)


async def test_removing_goes_on_when_nobody_waits_for_it_any_more(tmp_path: Path) -> None:
    async with Pool(local=0, hosts=[Loopback("a", slots=1)]) as pool:
        task = pool.submit(note_and_print, str(tmp_path / "pids"))
        await until((tmp_path / "pids").exists)
        removing = asyncio.create_task(pool.remove_host("a"))
        await asyncio.sleep(0)
        removing.cancel()
        (tmp_path / "go").touch()
        assert await task == "done"
        await until(lambda: not pool.hosts)


async def test_a_task_that_is_lost_with_its_host_while_that_leaves_is_told_so(tmp_path: Path) -> None:
    async with Pool(local=1, hosts=[Loopback("a", slots=1)]) as pool:
        await pool.ready(hosts=2, timeout=60)
        task = pool.options(hosts=["a"]).submit(note_and_print, str(tmp_path / "pids"))
        await until((tmp_path / "pids").exists)
        removing = asyncio.create_task(pool.remove_host("a"))
        await asyncio.sleep(0)
        os.kill(int((tmp_path / "pids").read_text().split()[1]), signal.SIGKILL)
        with pytest.raises(HostLost, match="was lost while it ran the task, and no host of this pool is allowed by options"):
            await task
        await removing
        assert list(pool.hosts) == ["local"] and await pool.submit(where) == "local"


async def test_a_pool_is_closed_while_a_host_leaves(tmp_path: Path) -> None:
    async with Pool(local=1, hosts=[Loopback("a", slots=1)]) as pool:
        await pool.ready(hosts=2, timeout=60)
        task = pool.options(hosts=["a"]).submit(hold, str(tmp_path / "go"))
        await until(lambda: pool.hosts["a"].busy == 1)
        removing = asyncio.create_task(pool.remove_host("a"))
        await asyncio.sleep(0)
        await pool.aclose()
        await removing
        assert task.done()


async def test_more_than_there_will_be_is_refused() -> None:
    pool = Pool(local=1, hosts=[Loopback("a", slots=1)])
    with pytest.raises(ValueError, match="hosts=3: this pool has 2; more come with"):
        await pool.ready(hosts=3)
    async with pool:
        with pytest.raises(ValueError, match="hosts=3: this pool has 2"):
            await pool.ready(hosts=3)
        await pool.add_host(Loopback("b", slots=1))
        await pool.ready(3, hosts=3, timeout=60)
    async with Pool(local=1) as near:
        await near.add_host(Loopback("b", slots=2))
        await near.ready(3, timeout=60)


@pytest.mark.filterwarnings("ignore:Pool.local=")
async def test_a_serial_pool_takes_no_hosts() -> None:
    async with Pool(local="serial") as pool:
        with pytest.raises(UsageError, match="runs everything in this process"):
            await pool.add_host(Loopback("b"))


async def test_entries_on_one_machine_share_its_cpus(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "aioparallel")
    cpus = usable_cpus()
    async with Pool(hosts=[Loopback("given", slots=3), Loopback("rest")], reserve=1) as pool:
        await pool.ready(hosts=3, timeout=60)
        assert {name: host.slots for name, host in pool.hosts.items()} == {"local": max(1, cpus - 1), "given": 3, "rest": 1}
        rest = pool.options(hosts=["rest"])
        assert await asyncio.gather(*(rest.submit(where) for _ in range(20))) == ["rest"] * 20
        assert sum(slot.host == "rest" for slot in pool.slots) == 1
    if cpus > 1:
        (said,) = [record.message for record in caplog.records if "same machine" in record.message]
        assert f"it gets 1 of its {cpus} CPUs" in said


class Provider:
    """An async iterator of what a test says."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.closed = False

    async def changes(self) -> AsyncIterator[HostAdded | HostRemoved]:
        try:
            while (change := await self.queue.get()) is not None:
                if isinstance(change, Exception):
                    raise change
                yield change
        finally:
            self.closed = True


async def test_a_provider_of_hosts(caplog: pytest.LogCaptureFixture) -> None:
    provider = Provider()
    async with Pool(local=0, hosts=provider.changes()) as pool:
        later = pool.options(hosts=["a"]).submit(where)  # it may come
        provider.queue.put_nowait(HostAdded(host=Loopback("a", slots=1)))
        assert await later == "a"
        provider.queue.put_nowait(HostAdded(host=Loopback("b", slots=1)))
        await pool.ready(hosts=2, timeout=60)
        provider.queue.put_nowait(HostRemoved(name="a"))
        await until(lambda: list(pool.hosts) == ["b"])
        for wrong in ("c", HostAdded(host=3), HostRemoved(name="nowhere"), HostAdded(host=Loopback("b"))):
            provider.queue.put_nowait(wrong)
        provider.queue.put_nowait(OSError("the registry is gone"))
        await until(lambda: provider.closed)
        assert await pool.submit(where) == "b"
        assert "the provider of hosts failed (OSError): the hosts that it gave stay" in pool.status().notes
        with pytest.raises(UsageError, match=r"hosts=\['a'\]"):
            pool.options(hosts=["a"])
    said = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert [text.partition(":")[0] for text in said] == [
        "the provider of hosts gave str", "the provider of hosts gave HostAdded", "the provider of hosts gave HostRemoved",
        "the provider of hosts gave HostAdded", "the provider of hosts failed",
    ]  # fmt: skip


async def test_a_provider_is_closed_with_the_pool() -> None:
    provider = Provider()
    async with Pool(local=0, hosts=provider.changes(), lost_grace=0.2) as pool:
        with pytest.raises(HostLost, match=r"no host was up for 0.2 s \(there is none yet\)"):
            await pool.submit(abs, -3)
    await until(lambda: provider.closed)


async def test_a_host_that_is_added_again_is_not_taken_for_the_one_that_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "CLOSE_SECONDS", 0.5)
    async with Pool(local=1) as pool:
        await pool.add_host(Loopback("a", slots=1))
        await pool.remove_host("a")
        again = await pool.add_host(Loopback("a", slots=1))
        task = pool.options(hosts=["a"]).submit(time.sleep, 1.0)
        await task
        assert [attempt.outcome for attempt in task.attempts] == ["succeeded"]
        assert again.is_up and again is pool.hosts["a"]


async def test_a_host_that_is_removed_while_it_is_added() -> None:
    async with Pool(local=1) as pool:
        adding = asyncio.create_task(pool.add_host(Loopback("a", slots=1)))
        await asyncio.sleep(0)
        await pool.remove_host("a")
        with pytest.raises(HostError, match="host 'a' offers no slots: it was removed before it was up"):
            await adding
        assert list(pool.hosts) == ["local"]


async def test_no_host_is_added_to_a_pool_that_ends() -> None:
    provider = Provider()
    async with Pool(local=1, hosts=provider.changes()) as pool:
        provider.queue.put_nowait(HostAdded(host=Loopback("a", slots=1)))
        await pool.ready(hosts=2, timeout=60)
        closing = asyncio.create_task(pool.aclose())
        await asyncio.sleep(0)
        provider.queue.put_nowait(HostAdded(host=Loopback("b", slots=1)))
        with pytest.raises(PoolClosed, match=r"the pool was closed by aclose\(\)"):
            await pool.add_host(Loopback("c", slots=1))
        async with asyncio.timeout(30):
            await closing
    assert set(pool.hosts) == {"local", "a"}


async def test_no_host_is_called_as_this_machine() -> None:
    with pytest.raises(UsageError, match="hosts= has one of the name 'local', as this machine is called"):
        await Pool(local=1, hosts=[Loopback("a"), Loopback("local")]).ready()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("aioparallel")]
    async with Pool(local=0, hosts=[Loopback("local", slots=1)]) as pool:
        assert await pool.submit(where) == "local"
