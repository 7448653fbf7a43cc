"""The SSH server that `aioparallel.testing` gives: private, on loopback alone, and gone with all that it started."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import asyncssh
import psutil
import pytest

from aioparallel.errors import HostError
from aioparallel.testing import SSHServer

from ..journeys.looks import assert_gone_within, controller

STARTER = """
import sys
from aioparallel.testing import SSHServer
with SSHServer() as server:
    print(server.folder, server._process.pid, flush=True)
    sys.stdin.read()
"""


async def connect(server: SSHServer) -> asyncssh.SSHClientConnection:
    folder = str(server.folder)
    return await asyncssh.connect(
        server.address, server.port, username="any", client_keys=[f"{folder}/key"], known_hosts=f"{folder}/known_hosts", config=None
    )


def test_its_files_are_private_and_go() -> None:
    with SSHServer() as server:
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in server.folder.iterdir()}
        assert modes == {"key": 0o600, "known_hosts": 0o600, "config": 0o600}
        assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700
    assert not server.folder.exists()


def test_it_listens_on_loopback_alone() -> None:
    with SSHServer() as server:
        assert server._process is not None
        sockets = psutil.Process(server._process.pid).net_connections("inet")
        assert [(one.laddr.ip, one.laddr.port) for one in sockets] == [("127.0.0.1", server.port)]
    for address in ("0.0.0.0", "8.8.8.8", "nowhere"):
        with pytest.raises(HostError, match="did not start"), SSHServer(address=address):
            pass


async def test_a_command_runs_as_it_would_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    with SSHServer() as server:
        async with await connect(server) as connection:
            done = await connection.run("cat; echo $PYTHONPATH- >&2; exit 3", input="in and out\n" * 50_000)
            assert (done.stdout, done.stderr, done.exit_status) == ("in and out\n" * 50_000, "-\n", 3)


async def test_who_has_not_the_key_stays_out() -> None:
    with SSHServer("one") as one, SSHServer("two") as two:
        for given in ({"client_keys": [str(two.folder / "key")]}, {"client_keys": None, "password": "password"}):
            with pytest.raises(asyncssh.PermissionDenied):
                await asyncssh.connect("127.0.0.1", one.port, known_hosts=None, config=None, username="any", agent_path=None, **given)


async def test_what_it_started_ends_with_it(tmp_path: Path) -> None:
    with SSHServer() as server:
        async with await connect(server) as connection:
            stubborn = "trap '' TERM HUP; sleep 1000 & echo $! $$; exec sleep 1000"
            process = await connection.create_process(stubborn)
            pids = [int(word) for word in (await process.stdout.readline()).split()]
            assert len(pids) == 2
    assert_gone_within(5, pids)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_who_started_it(number: signal.Signals) -> None:
    starter = controller(STARTER, stdin=subprocess.PIPE)
    try:
        assert starter.stdout is not None
        folder, pid = starter.stdout.readline().split()
        assert os.path.exists(folder)
        os.killpg(starter.pid, number)
        starter.communicate(timeout=20)
        assert_gone_within(10, [int(pid)])
        assert not os.path.exists(folder)
    finally:
        starter.kill()
        starter.communicate()


def test_nothing_of_ssh_is_loaded_for_it_here() -> None:
    program = (
        "import sys\nfrom aioparallel.testing import SSHServer\n"
        "with SSHServer() as server: server.host()\nassert 'asyncssh' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


async def test_two_servers_are_two_hosts() -> None:
    from aioparallel import Pool

    with SSHServer("one") as one, SSHServer("two") as two:
        async with Pool(local=0, hosts=[one.host(slots=1), two.host(slots=1)]) as pool:
            await pool.ready(2)
            assert await asyncio.gather(*(pool.submit(abs, -number) for number in range(50))) == list(range(50))
            assert {slot.host for slot in pool.status().slots} == {"one", "two"}
