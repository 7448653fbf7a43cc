"""`python -m aioparallel hosts check` as a user meets it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from aioparallel._cli import hosts
from aioparallel._cli.main import main
from aioparallel._hosts.checking import HostCheck
from aioparallel.testing import SSHServer
from tests.far.servers import _free_port

from .test_command_line import COMMAND, MARK, carrying, read_all, run, start_on_terminal

WELL = HostCheck(
    host="gpu1", well=True, reachable=True, verdict="ok", latency=0.0123, python="3.11.7", executable="/usr/bin/python3", cpus=8, slots=8,
    memory=16 << 30, memory_available=3 << 29, load=0.5, clock_ahead=-0.004, boot_id="x",
)  # fmt: skip
ILL = HostCheck(host="a-longer-name", well=False, reachable=False, verdict="the connection was refused: does sshd run there?\nmore of it")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield a home folder whose ssh configuration knows hosts that are well and ill."""
    home = tmp_path_factory.mktemp("home")
    (home / ".ssh").mkdir(mode=0o700)
    with SSHServer() as server:
        known = f"HostName 127.0.0.1\n Port {server.port}\n IdentityFile {server.folder}/key\n"
        (home / ".ssh" / "config").write_text(
            f"Host good better\n {known} UserKnownHostsFile {server.folder}/known_hosts\n"
            f"Host strange\n {known}"
            f"Host refused\n HostName 127.0.0.1\n Port {_free_port()}\n"
        )
        yield home


def at_home(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "HOME": str(home)}
    return subprocess.run([*COMMAND, *arguments], env=environ, capture_output=True, text=True, timeout=100, check=False)


def test_lines_stand_in_columns() -> None:
    heads, well, ill = hosts.as_lines([WELL, ILL])
    assert well.split("  ")[0] == "gpu1" and well.endswith("  ok")
    for cell in ("12.3 ms", "3.11.7 /usr/bin/python3", " 8 ", "1.5/16.0 GiB", "0.50", "-4 ms"):
        assert cell in well
    assert ill.endswith("  the connection was refused: does sshd run there?") and "\n" not in ill
    assert heads.index("verdict") == well.index("ok") == ill.index("the connection")


def test_a_clock_far_off_is_said_in_seconds() -> None:
    values = {name: getattr(WELL, name) for name in HostCheck._fields}
    (_, line) = hosts.as_lines([HostCheck(**{**values, "clock_ahead": 4000.4, "memory_available": None, "cpus": None})])
    assert "+4,000 s" in line and "?/16.0 GiB" in line


def test_hosts_that_are_well(home: Path) -> None:
    done = at_home(home, "hosts", "check", "--host", "good", "better")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["host", "good", "better"]
    assert all(line.endswith("  ok") and f" {sys.version.split()[0]} " in line for line in lines[1:])


def test_one_that_is_not_makes_the_status(home: Path) -> None:
    done = at_home(home, "hosts", "check", "--host", "refused", "--host", "good", "strange", "--json")
    assert (done.returncode, done.stderr) == (1, "")
    refused, good, strange = json.loads(done.stdout)
    assert [one["host"] for one in (refused, good, strange)] == ["refused", "good", "strange"]
    assert [one["well"] for one in (refused, good, strange)] == [False, True, False]
    assert "refused" in refused["verdict"] and "host key" in strange["verdict"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--host", "a:b"], "argument --host: SSH('a:b'): 'b' is no port"),
        (["--host"], "argument --host: expected at least one argument"),
        (["--host", "a", "a"], "names 'a' twice"),
        (["file", "--host", "a"], "not allowed with argument FILE"),
        (["--timeout", "0", "--host", "a"], "argument --timeout: give seconds above 0, not 0"),
        (["--timeout", "soon"], "argument --timeout: not a number: 'soon'"),
    ],
)
def test_wrong_arguments(arguments: list[str], reason: str) -> None:
    done = run("hosts", "check", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in done.stderr and "Traceback" not in done.stderr


def test_help() -> None:
    done = run("hosts", "check", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "1    a host is not well" in done.stdout and "--host NAME" in done.stdout
    assert run("hosts").returncode == 2


def test_hosts_of_a_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("aioparallel.toml", "some.toml"):
        (tmp_path / name).write_text(f"[[hosts]]\naddress = '127.0.0.1'\nport = {_free_port()}\nconfig = '{os.devnull}'\n")
        assert main(["hosts", "check", *(["some.toml"] if name == "some.toml" else [])]) == 1
        assert "was refused" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "some.toml: it cannot be read (No such file or directory)"),
        ("\n\nheartbeat = 'x'", 'some.toml, line 3: heartbeat = "x": give seconds above 0'),
        ("local = 2", "some.toml names no hosts: add some, or name them with --host"),
    ],
)
def test_a_file_that_is_of_no_use(
    text: str | None, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / "some.toml").write_text(text)
    assert main(["hosts", "check", "some.toml"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("aioparallel: error: ") and said in err


def test_hosts_of_the_variable(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("AIOPARALLEL_CONFIG", raising=False)
    assert main(["hosts", "check"]) == 2
    assert "no configuration file" in (said := capsys.readouterr().err) and "or name hosts with --host, or AIOPARALLEL_HOSTS" in said
    monkeypatch.setenv("AIOPARALLEL_HOSTS", f"127.0.0.1:{_free_port()}")
    assert main(["hosts", "check"]) == 1
    assert "was refused" in capsys.readouterr().out


def test_ctrl_c_leaves_nothing() -> None:
    mark = uuid.uuid4().hex
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        process, read = start_on_terminal([*COMMAND, "hosts", "check", "--host", address], **{MARK: mark})
        connection, _ = silent.accept()
        with connection:
            os.killpg(process.pid, signal.SIGINT)
            last = read_all(read)
            assert process.stdout is not None
            with process.stdout:
                assert process.stdout.read() == ""
            assert process.wait(60) == 130
    assert last.endswith("\r\x1b[Kaioparallel: interrupted\r\n") and "Traceback" not in last
    assert carrying(mark) == []
