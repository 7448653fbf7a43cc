"""One look at a far host: what it finds is what a pool would get, and nothing stays (every test's fixture sees to that)."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import pytest

from aioparallel import SSH
from aioparallel._hosts import far
from aioparallel._hosts.checking import check
from aioparallel._worker.facts import facts
from aioparallel._worker.machine import usable_cpus
from aioparallel.config import Settings
from aioparallel.testing import SSHServer
from tests.far.loopback import Loopback, LoopbackHost

from ..journeys.looks import until


async def test_a_host_that_is_well() -> None:
    boot_id = facts(1)["boot_id"]
    found = await check(Loopback("there"))
    assert (found.host, found.well, found.reachable, found.verdict) == ("there", True, True, "ok")
    assert found.cpus == found.slots == usable_cpus()
    assert found.python == sys.version.split()[0]
    assert found.latency is not None and 0 < found.latency < 5
    assert found.clock_ahead is not None and abs(found.clock_ahead) < 1
    assert found.boot_id == boot_id
    if boot_id:
        assert found.memory and found.memory_available and found.memory_available < found.memory
    assert (await check(Loopback(slots=5))).slots == 5


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"python": "/nowhere/python"}, "no /nowhere/python that runs was found there: name another with SSH"),
        ({"python": "/bin/true"}, "its pipe was closed"),
        ({"folder": "/nowhere/at/all"}, "its slots cannot begin: FileNotFoundError: .*name another folder with .*cwd=.*'/nowhere/at/all'"),
    ],
)
async def test_what_is_wrong_is_said(more: dict[str, str], why: str) -> None:
    found = await check(Loopback(**more))
    assert (found.well, found.reachable) == (False, True)
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(found.verdict)


async def test_what_a_shell_prints_without_end_is_shown_in_one_short_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LoopbackHost, "greeting", r"yes 'no \033shell' | head -c 100000")
    found = await check(Loopback())
    assert "its login shell prints without end" in found.verdict and "no shell" in found.verdict.replace("\\033", "")
    assert len(found.verdict) < 700 and found.verdict.isprintable()


async def test_it_is_the_pools_own_settings_that_are_tried() -> None:
    found = await check(Loopback(), settings=Settings(preload=["no_such_module_anywhere"]))
    assert not found.well and found.verdict.startswith("preload= failed: ModuleNotFoundError")


async def test_a_clock_that_is_off_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(far, "time", lambda: time.time() - 100)
    found = await check(Loopback())
    assert (found.well, found.verdict) == (False, "its clock is 100 s ahead: set it there or here (NTP)")
    monkeypatch.setattr(far, "time", lambda: time.time() + 3600)
    assert (await check(Loopback())).verdict == "its clock is 3600 s behind: set it there or here (NTP)"


async def test_a_host_that_says_nothing_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LoopbackHost, "greeting", "exec sleep 1000")
    found = await check(Loopback(), 0.3)
    assert (found.well, found.verdict) == (False, "no answer within 0.3 s")


async def test_cancelled_it_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    there = tmp_path / "there"
    monkeypatch.setattr(LoopbackHost, "greeting", f"touch {there}; exec sleep 1000")
    looking = asyncio.ensure_future(check(Loopback()))
    await until(there.exists)
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking


async def test_an_address_that_is_none_is_the_hosts_own_matter() -> None:
    try:
        host = SSH("box:port")
    except ValueError:
        return  # refused even before
    found = await check(host)
    assert not found.well and "'port' is no port" in found.verdict


async def test_over_ssh_and_with_the_wrong_key() -> None:
    with SSHServer("one") as one, SSHServer("two") as two:
        assert (await check(one.host())).verdict == "ok"
        found = await check(one.host(keys=two.host().keys))
        assert (found.well, found.reachable) == (False, False) and "it refused user" in found.verdict
