"""Why a host cannot be reached by SSH: each reason in plain words, with what to do."""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from aioparallel import SSH, Pool
from aioparallel._hosts import ssh
from tests.far.servers import SSHD, Server, _free_port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server("asyncssh", tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(
    scope="module", params=["asyncssh", pytest.param("sshd", marks=pytest.mark.skipif(SSHD is None, reason="there is no sshd"))]
)
def any_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(request.param, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(autouse=True)
def no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


async def why(host: SSH) -> str:
    """Return the reason why a host is not reached."""
    async with Pool(local=1, hosts=[host]) as pool:
        async with asyncio.timeout(30):
            await pool.ready()
        return pool._engine.state.hosts[host.name].reason


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def host_key(server: Server) -> str:
    """Return the server's public host key."""
    return (server.folder / "known_hosts").read_text().split(None, 1)[1]


def public(key: asyncssh.SSHKey) -> str:
    return key.export_public_key().decode().strip()


# --- host keys


async def test_an_unknown_host_key_says_how_to_make_it_known(any_server: Server, tmp_path: Path) -> None:
    (tmp_path / "known").write_text("elsewhere " + public(asyncssh.generate_private_key("ssh-ed25519")) + "\n")
    reason = await why(any_server.host(known_hosts=str(tmp_path / "known")))
    fingerprint = asyncssh.import_public_key(host_key(any_server)).get_fingerprint()
    assert "its host key is not known" in reason and fingerprint in reason and str(tmp_path / "known") in reason
    assert f"ssh-keyscan -p {any_server.port} 127.0.0.1" in reason and "changed" not in reason


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="there is no ssh-keygen here")
@pytest.mark.parametrize("hashed", [False, True])
async def test_a_changed_host_key_names_the_line_that_holds_another(any_server: Server, tmp_path: Path, hashed: bool) -> None:
    known = tmp_path / "known hosts"
    name = f"[127.0.0.1]:{any_server.port}"
    known.write_text(f"# first line\n{name} {public(asyncssh.generate_private_key('ssh-ed25519'))}\n")
    if hashed:
        run("ssh-keygen", "-H", "-f", str(known))
    reason = await why(any_server.host(known_hosts=str(known)))
    assert "its host key has changed" in reason and f"{known} line 2 has another key for 127.0.0.1" in reason
    assert "may be in between" in reason and asyncssh.import_public_key(host_key(any_server)).get_fingerprint() in reason
    (remedy,) = re.findall(r"`(ssh-keygen [^`]+)`", reason)
    assert shlex.split(remedy) == ["ssh-keygen", "-R", name, "-f", str(known)]
    run(*shlex.split(remedy))
    assert "its host key is not known" in await why(any_server.host(known_hosts=str(known)))


async def test_a_host_that_was_known_by_a_key_of_another_kind_has_changed(any_server: Server, tmp_path: Path) -> None:
    (tmp_path / "known").write_text(f"[127.0.0.1]:{any_server.port} {public(asyncssh.generate_private_key('ecdsa-sha2-nistp256'))}\n")
    reason = await why(any_server.host(known_hosts=str(tmp_path / "known")))
    assert (
        "its host key has changed" in reason
        and f"{tmp_path}/known line 1" in reason
        and "none of that kind (ecdsa-sha2-nistp256)" in reason
    )


async def test_a_revoked_host_key_is_called_that(any_server: Server, tmp_path: Path) -> None:
    line = (any_server.folder / "known_hosts").read_text()
    (tmp_path / "known").write_text(f"{line}@revoked {line}")
    reason = await why(any_server.host(known_hosts=str(tmp_path / "known")))
    assert f"its host key is revoked, as {tmp_path}/known line 2 says" in reason


async def test_files_that_are_named_and_cannot_be_read_are_named(server: Server) -> None:
    reason = await why(server.host(known_hosts="/nowhere/known_hosts"))
    assert reason == "/nowhere/known_hosts, which the ssh configuration or SSH(...) names, cannot be read (No such file or directory)"
    assert "/nowhere/key, which" in await why(server.host(keys=("/nowhere/key",)))


# --- the ssh configuration


async def test_a_keyword_that_is_not_supported_is_named_where_it_explains_the_failure(server: Server, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host other\n  KnownHostsCommand /bin/x\nHost 127.*\n  StrictHostKeyChecking no\n  ControlPath ~/x\n")
    (tmp_path / "known").write_text("")
    reason = await why(server.host(known_hosts=str(tmp_path / "known"), config=str(config), port=server.port))
    assert reason.endswith(f"({config} line 4: StrictHostKeyChecking is not supported here, host keys are always checked)")
    (tmp_path / "other").write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())
    reason = await why(server.host(keys=(str(tmp_path / "other"),), config=str(config), port=server.port))
    assert "it refused user" in reason and f"({config} line 5: ControlPath is not supported here" in reason


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Host *\n  Port x\n", "line 2: Invalid Port integer value: x"),
        ('User "me\n', "line 1: No closing quotation"),
        ("Host *\n\n  IdentityFile ~/%q\n", "line 3: Invalid token expansion: q"),
    ],
)
async def test_a_malformed_configuration_gives_file_line_and_reason(server: Server, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "config").write_text(text)
    assert f"the ssh configuration cannot be used: {tmp_path}/config {said}" in await why(server.host(config=str(tmp_path / "config")))


async def test_a_file_that_is_no_text_is_named_with_its_line(server: Server, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_bytes(b"# text\n# M\xfcller\n")
    assert f"{wrong} line 2 is not text" in await why(server.host(known_hosts=str(wrong)))
    assert f"{wrong} line 2 is not text" in await why(server.host(config=str(wrong)))
    (tmp_path / "config").write_text(f"User me\nInclude {wrong}\n")
    wrong.write_bytes(b"Port 22\n# M\xfcller\n")
    assert f"{wrong} line 2 is not text" in await why(server.host(config=str(tmp_path / "config")))


# --- who we are


async def test_who_is_refused_is_told_as_whom_and_with_which_keys(any_server: Server, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())
    (tmp_path / "locked").write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key("pkcs8-pem", passphrase="word"))
    reason = await why(any_server.host(keys=(str(tmp_path / "other"), str(tmp_path / "locked")), user="somebody"))
    assert "it refused user 'somebody'" in reason and f"tried: {tmp_path}/other;" in reason
    assert f"not tried: {tmp_path}/locked (it is encrypted" in reason and f"`ssh-add {tmp_path}/locked`" in reason


@pytest.mark.skipif(shutil.which("ssh-agent") is None, reason="there is no ssh-agent here")
async def test_an_encrypted_key_is_used_through_the_agent(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = asyncssh.read_private_key(server.folder / "key")
    (tmp_path / "locked").write_bytes(key.export_private_key("pkcs8-pem", passphrase="word"))
    (tmp_path / "locked.pub").write_bytes(key.export_public_key())
    agent = await asyncio.create_subprocess_exec("ssh-agent", "-D", "-a", str(tmp_path / "agent"), stdout=subprocess.PIPE)
    try:
        assert agent.stdout is not None
        assert await agent.stdout.readline()  # it says where it listens
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        other = asyncssh.generate_private_key("ssh-ed25519", comment="wrong one")
        async with asyncssh.connect_agent() as client:
            await client.add_keys([other])
        assert "tried: 1 of ssh-agent (wrong one)" in await why(server.host(keys=(str(tmp_path / "locked"),)))
        async with asyncssh.connect_agent() as client:
            await client.add_keys([key])
        async with Pool(local=0, hosts=[server.host(keys=(str(tmp_path / "locked"),), slots=1)]) as pool:
            assert await pool.submit(abs, -3) == 3
    finally:
        agent.terminate()
        await agent.communicate()


class _PasswordsOnly(asyncssh.SSHServer):
    asked: list[str] = []

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return False

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        self.asked.append(username)
        return False

    def kbdint_auth_supported(self) -> bool:
        return True

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
        self.asked.append(username)
        return False


OUR_HOST_KEY = asyncssh.generate_private_key("ssh-ed25519")


@asynccontextmanager
async def in_this_process(factory: Any) -> AsyncIterator[int]:
    """Run an SSH server in this very loop; the port is what is given."""
    listening = await asyncssh.listen("127.0.0.1", 0, server_factory=factory, server_host_keys=[OUR_HOST_KEY])
    try:
        yield listening.get_port()
    finally:
        listening.close()
        await listening.wait_closed()


async def test_nobody_is_asked_for_a_password(server: Server, tmp_path: Path) -> None:
    async with in_this_process(_PasswordsOnly) as port:
        (tmp_path / "known").write_text(f"[127.0.0.1]:{port} {public(OUR_HOST_KEY)}")
        reason = await why(server.host(known_hosts=str(tmp_path / "known"), port=port))
    assert "it lets nobody in by key, only by" in reason and "password" in reason and not _PasswordsOnly.asked


# --- the way there


async def test_a_name_that_means_nothing(server: Server) -> None:
    reason = await why(SSH("no-such-host.invalid", config=str(server.folder / "config")))
    assert reason.startswith("its name (no-such-host.invalid) could not be resolved")


@pytest.mark.parametrize(
    ("python", "said"),
    [
        ("/bin/true", "no Python of ours began there (exit status 0): does its login shell run commands, and is python= a Python?"),
        ("/nowhere/python", "no /nowhere/python that runs was found there: name another with SSH(..., python=...)"),
        ("/bin/ls", "no /bin/ls that runs was found there"),
    ],
)
async def test_a_program_that_is_no_python_is_not_called_a_lost_connection(any_server: Server, python: str, said: str) -> None:
    assert said in await why(any_server.host(python=python))


async def test_who_takes_the_connection_and_says_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ssh._FIXED, "connect_timeout", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "it took the connection, but let nobody in" in await why(server.host(port=silent.getsockname()[1]))


async def test_a_jump_host_that_fails_is_named(server: Server, tmp_path: Path) -> None:
    port = _free_port()
    reason = await why(server.host(jump=f"me@127.0.0.1:{port}"))
    assert f"its jump host (me@127.0.0.1:{port}) cannot be reached: the connection was refused" in reason
    known = server.folder / "known_hosts"
    (tmp_path / "config").write_text(f"Host gate\n  Hostname 127.0.0.1\n  Port {server.port}\n  UserKnownHostsFile {known}\n")
    assert "its jump host (gate) cannot be reached: it refused user" in await why(server.host(jump="gate", config=str(tmp_path / "config")))
    (tmp_path / "config").write_text((tmp_path / "config").read_text() + f"  IdentityFile {server.folder}/key\n")
    assert "its jump host (gate) could not connect to it" in await why(server.host(jump="gate", config=str(tmp_path / "config")))
    (tmp_path / "known").write_text(f"[127.0.0.1]:{server.port} {public(asyncssh.generate_private_key('ssh-ed25519'))}\n")
    (tmp_path / "config").write_text(f"Host gate\n  Hostname 127.0.0.1\n  Port {server.port}\n  UserKnownHostsFile {tmp_path}/known\n")
    reason = await why(server.host(jump="gate", config=str(tmp_path / "config")))
    assert "its jump host (gate) cannot be reached: its host key has changed" in reason and f"{tmp_path}/known line 1" in reason


class _Door:
    """A TCP port before a server, that turns the first ones away."""

    def __init__(self, server: Server, turned_away: int) -> None:
        self.server = server
        self.turned_away = turned_away
        self.came = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.came += 1
        if self.came > self.turned_away:
            there, to_there = await asyncio.open_connection("127.0.0.1", self.server.port)
            await asyncio.gather(_pump(reader, to_there), _pump(there, writer))
        writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()


@pytest.mark.parametrize("turned_away", [2, 1000])
async def test_a_server_that_closes_at_once_is_tried_again_before_it_is_said(server: Server, tmp_path: Path, turned_away: int) -> None:
    door = _Door(server, turned_away)
    listening = await asyncio.start_server(door, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        (tmp_path / "known").write_text(f"[127.0.0.1]:{port} {host_key(server)}")
        reason = await why(server.host(port=port, known_hosts=str(tmp_path / "known"), slots=1))
    if turned_away == 2:
        assert reason == "" and door.came == 3
    else:
        assert "it closed the connection at once" in reason and "MaxStartups" in reason and door.came > 3


class _Reluctant(asyncssh.SSHServer):
    refusals = 0

    def begin_auth(self, username: str) -> bool:
        return False

    def session_requested(self) -> Any:
        type(self).refusals -= 1
        return self.refusals < 0 and (lambda stdin, stdout, stderr: stdout.channel.exit(0))


async def test_a_refused_session_is_asked_for_again_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "SESSION_PAUSE", 0.01)
    async with in_this_process(_Reluctant) as port:
        async with asyncssh.connect("127.0.0.1", port, known_hosts=None, config=None) as connection:
            _Reluctant.refusals = 3
            await ssh._open(connection, asyncssh.SSHClientSession, "true")  # type: ignore[arg-type]
            assert _Reluctant.refusals == -1
            _Reluctant.refusals = 1000
            monkeypatch.setattr(ssh, "SESSION_SECONDS", 0.05)
            with pytest.raises(asyncssh.ChannelOpenError):
                await ssh._open(connection, asyncssh.SSHClientSession, "true")  # type: ignore[arg-type]


# --- turns


async def test_four_at_a_time_dial_one_address(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten names of one machine: while nobody is answered, four connections are open and no more."""
    waiting: list[asyncio.StreamWriter] = []
    peak = came = 0
    four, all_came = asyncio.Event(), asyncio.Event()

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal peak, came
        waiting.append(writer)
        came += 1
        peak = max(peak, len(waiting))
        if len(waiting) == 4:
            four.set()
        if came == 10:
            all_came.set()

    monkeypatch.setattr(ssh, "AGAIN_SECONDS", ())
    listening = await asyncio.start_server(accept, "127.0.0.1", 0)
    (tmp_path / "config").write_text(f"Host box*\n  Hostname 127.0.0.1\n  Port {listening.sockets[0].getsockname()[1]}\n")
    async with listening, Pool(local=1, hosts=[SSH(f"box{number}", config=str(tmp_path / "config")) for number in range(10)]):
        async with asyncio.timeout(30):
            await four.wait()
            while not all_came.is_set():
                if waiting:
                    waiting.pop(0).close()
                await asyncio.sleep(0.01)
        assert peak == 4
        for writer in waiting:
            writer.close()
