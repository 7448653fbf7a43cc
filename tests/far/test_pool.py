"""A pool over far hosts: what it says of them, and what travels there."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from aioparallel import SSH, HostLost, Pool, UsageError
from aioparallel._hosts import far_host
from tests.far.loopback import Loopback, LoopbackHost
from tests.far.servers import Server, _free_port

from ..journeys.looks import until
from . import own_classes
from .visitors import environment, import_missing, import_nonsense, make_a_policy, note_and_print, open_pool_there, say, thing_of


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Server("asyncssh", tmp_path_factory.mktemp("server")) as running:
        yield running


async def test_modules_of_the_user_travel_and_keep_their_names() -> None:
    async with Pool(local=0, hosts=[Loopback(slots=2)]) as pool:
        thing = await pool.submit(thing_of, 7)
        assert type(thing) is own_classes.Thing and thing.number == 7
        assert [type(one) for one in await pool.map(thing_of, range(20))] == [own_classes.Thing] * 20


async def test_what_is_missing_there_is_named() -> None:
    async with Pool(local=0, hosts=[Loopback(slots=1)]) as pool:
        with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
            await pool.submit(import_missing)
        with pytest.raises(UsageError, match="cannot open a pool of its own"):
            await pool.submit(open_pool_there)
        with pytest.raises(UsageError, match=r"aioparallel\.policies\.RoundRobin is not available inside a task on a far host"):
            await pool.submit(make_a_policy)
        with pytest.raises(ModuleNotFoundError, match=r"aioparallel\.nonsense"):
            await pool.submit(import_nonsense)


async def test_output_comes_out_here_in_lines_that_name_the_host(capfd: pytest.CaptureFixture[str]) -> None:
    async with Pool(local=0, hosts=[Loopback("there", slots=1)]) as pool:
        await pool.submit(say, "one\ntwo\n", "three\n")
        await pool.submit(say, "no end of line", "")
    out, err = capfd.readouterr()
    assert out == "[there] one\n[there] two\n[there] no end of line\n" and err == "[there] three\n"


async def test_a_login_shell_that_prints_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LoopbackHost, "greeting", "echo Welcome to this machine; printf 'no newline '")
    async with Pool(local=0, hosts=[Loopback(slots=1)]) as pool:
        assert await pool.submit(abs, -3) == 3


@pytest.mark.parametrize(
    ("python", "why"),
    [("/nowhere/python", "was found there"), ("/bin/false", "no /bin/false that runs"), ("/bin/echo", "its pipe was closed")],
)  # fmt: skip
async def test_a_host_without_our_python_is_said_once_and_nothing_hangs(python: str, why: str, caplog: pytest.LogCaptureFixture) -> None:
    async with Pool(local=0, hosts=[Loopback(slots=1, python=python)], lost_grace=0.3) as pool:
        with pytest.raises(HostLost, match=f"no host was up for 0.3 s .*{why}"):
            await pool.submit(abs, -3)
    assert [record.levelname for record in caplog.records if record.name == "aioparallel"] == ["WARNING"]


async def test_a_shim_that_runs_no_python_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shim = tmp_path / "python{}.{}".format(*sys.version_info)
    shim.write_text("#!/bin/sh\ncat\necho 'no such version is installed' >&2\nexit 127\n")
    shim.chmod(0o755)
    (tmp_path / "python3").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    async with Pool(local=0, hosts=[Loopback(slots=1)], lost_grace=20) as pool:
        assert await pool.submit(abs, -3) == 3


async def test_a_silent_host_is_lost_after_three_heartbeats_and_its_tasks_run_elsewhere(tmp_path: Path) -> None:
    agents: list[int] = []
    async with Pool(local=0, hosts=[Loopback("one", slots=1), Loopback("two", slots=1)], heartbeat=0.2) as pool:
        await pool.ready(2)
        tasks = [pool.submit(note_and_print, str(tmp_path / str(number))) for number in range(2)]
        await until(lambda: all((tmp_path / str(number)).exists() for number in range(2)))
        agents = [int((tmp_path / "0").read_text().split()[1])]
        os.kill(agents[0], signal.SIGSTOP)
        try:
            (tmp_path / "go").touch()
            assert await asyncio.gather(*tasks) == ["done", "done"]
            assert [attempt.outcome for attempt in tasks[0].attempts] == ["lost", "succeeded"]
        finally:
            with suppress(ProcessLookupError):
                os.kill(agents[0], signal.SIGCONT)  # (its successor has killed it)


async def test_ready_waits_for_every_host_until_it_is_up_or_has_failed_once() -> None:
    async with Pool(local=0, hosts=[Loopback("well", slots=1), Loopback("ill", slots=1, python="/nowhere/python")]) as pool:
        await pool.ready(timeout=20)
        assert {name for name, host in pool._engine.state.hosts.items() if not host.down} == {"well"}
        assert "was found there" in pool._engine.state.hosts["ill"].reason
        assert await pool.submit(abs, -3) == 3
        running = pool.submit(note_and_print, "/nowhere/at/all")
        assert pool.status().running == 1 and "1/2 slots busy" in repr(pool)
        running.cancel()


async def test_slots_are_wanted_of_hosts_that_are_up_already() -> None:
    async with Pool(local=0, hosts=[Loopback("one", slots=1), Loopback("two", slots=1)]) as pool:
        await pool.ready(timeout=20)
        await pool.ready(2, timeout=20)


async def test_a_host_may_join_late_and_is_dialled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    dialled: list[str] = []

    async def dial(host: LoopbackHost, command: str, link: Any) -> None:
        dialled.append(host.name)
        await original(host, "exit 3" if len(dialled) < 3 else command, link)

    original = LoopbackHost.dial
    monkeypatch.setattr(LoopbackHost, "dial", dial)
    monkeypatch.setattr(far_host, "FIRST_PAUSE", 0.01)
    async with Pool(local=0, hosts=[Loopback(slots=1)]) as pool:
        assert [await pool.submit(abs, -number) for number in range(50)] == list(range(50))
        assert len(dialled) == 3


@pytest.mark.parametrize("count", [1, 5])
async def test_what_is_cancelled_as_it_is_submitted_never_runs(count: int, tmp_path: Path) -> None:
    """The word to stop goes by the quick lane, and may arrive before what it is about."""
    async with Pool(local=0, hosts=[Loopback(slots=1)]) as pool:
        await pool.submit(abs, -1)
        tasks = [pool.submit(note_and_print, str(tmp_path / str(number))) for number in range(count)]
        for task in tasks:
            task.cancel()
        async with asyncio.timeout(3):
            await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks) and await pool.submit(abs, -3) == 3
        assert os.listdir(tmp_path) == []


async def test_environment_and_folder(tmp_path: Path) -> None:
    host = Loopback(slots=1, environ={"FROM_THE_POOL": "x y"}, folder=str(tmp_path))
    async with Pool(local=0, hosts=[host]) as pool:
        assert await pool.submit(environment, "FROM_THE_POOL") == ("x y", str(tmp_path))


async def test_a_blocked_loop_loses_no_host() -> None:
    async with Pool(local=0, hosts=[Loopback(slots=1)], heartbeat=0.1) as pool:
        await pool.submit(abs, -1)
        time.sleep(1.0)  # noqa: ASYNC251 - that is what it is about
        task = pool.submit(abs, -3)
        assert await task == 3 and len(task.attempts) == 1 and not pool._engine._unreachable


# --- SSH


async def test_hosts_that_cannot_be_reached_are_named_and_the_others_carry_on(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    unknown = server.folder / "no_hosts"
    unknown.write_text("")
    hosts = {
        "its host key is not known": server.host(known_hosts=str(unknown), user="someone"),
        "connection was refused": SSH("localhost", port=_free_port(), config=str(server.folder / "config")),
    }
    async with Pool(local=1, hosts=[*hosts.values()]) as pool:
        assert await pool.submit(abs, -3) == 3
        await until(lambda: len(caplog.records) == len(hosts))
    for why in hosts:
        assert why in caplog.text


async def test_over_ssh(server: Server) -> None:
    async with Pool(local=0, hosts=[server.host(slots=2)]) as pool:
        await pool.ready(2)
        assert await asyncio.gather(*(pool.submit(abs, -number) for number in range(500))) == list(range(500))
        data = os.urandom(3 << 20)
        assert await pool.submit(bytes.upper, data) == data.upper()
        assert {slot.host for slot in pool.status().slots} == {"127.0.0.1"} and len(pool.status().slots) == 2


def test_wrong_hosts_are_refused_where_they_are_given() -> None:
    with pytest.raises(ValueError, match="names 'box' twice"):
        Pool(hosts=["box", SSH("box", slots=2)])
    with pytest.raises(TypeError, match=r"give a list of hosts, as in hosts=\['box'\]"):
        Pool(hosts="box")
    with pytest.raises(TypeError, match="not int"):
        Pool(hosts=[7])
    with pytest.raises(ValueError, match="give no hosts"):
        Pool(local="serial", hosts=["box"])
    with pytest.raises(ValueError, match="local=0"):
        Pool(local=0)
    for wrong in ({"slots": 0}, {"weight": 0}, {"port": 70000}, {"python": "a b"}, {"python": "x;y"}):
        with pytest.raises(ValueError, match="give a"):
            SSH("box", **wrong)  # type: ignore[arg-type]


def test_addresses() -> None:
    assert SSH("me@box:2222").parts() == ("box", "me", 2222)
    assert SSH("box").parts() == ("box", None, None)
    assert SSH("[::1]:22", user="you").parts() == ("::1", "you", 22)
    with pytest.raises(ValueError, match="'x' is no port"):
        SSH("box:x").parts()


async def test_an_exception_in_a_callback_of_ours_is_said_by_the_loop_and_costs_no_link(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context["exception"]))
    async with Pool(local=0, hosts=[Loopback(slots=1)]) as pool:
        assert await pool.submit(abs, -3) == 3
        host = pool._engine.hosts["far"]
        link = host._link  # type: ignore[attr-defined]
        monkeypatch.setattr(pool._engine, "far_answered", broken_once(pool._engine.far_answered, monkeypatch, pool._engine))
        broken = pool.submit(abs, -4)
        await until(lambda: said)
        assert await pool.submit(abs, -5) == 5
        assert host._link is link  # type: ignore[attr-defined]
        broken.cancel()
        await asyncio.wait([broken])
    assert [type(error) for error in said] == [ZeroDivisionError]


def broken_once(original: Any, monkeypatch: pytest.MonkeyPatch, engine: Any) -> Any:
    def broken(*args: Any) -> None:
        monkeypatch.setattr(engine, "far_answered", original)
        raise ZeroDivisionError

    return broken


async def test_a_host_whose_links_never_last_is_tried_after_growing_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def wait(host: Any, seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(far_host.FarHost, "_wait", wait)
    monkeypatch.setattr(far_host.random, "uniform", lambda low, high: 1.0)
    async with Pool(local=0, hosts=[Loopback(slots=1)]) as pool:
        await pool.ready(timeout=60)
        host = pool._engine.hosts["far"]
        for tries in range(1, 5):
            host._link.end("a test ended it")  # type: ignore[attr-defined]
            await until(lambda tries=tries: len(pauses) == tries and pool.hosts["far"].is_up)  # type: ignore[misc]
    assert pauses[:4] == [0.0, 0.5, 1.0, 2.0]
