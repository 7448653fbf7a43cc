"""Which lines of an ssh configuration apply to a host, and which of them are worth naming."""

from __future__ import annotations

import getpass
from pathlib import Path

import asyncssh
import asyncssh.config
import pytest

from aioparallel._hosts.ssh_config import AUTH, CONNECTION, HOST_KEY, IGNORED, excuses, lines_for


def words(path: Path, host: str, user: str | None = None) -> list[tuple[int, str, str]]:
    return [(line.number, line.keyword, line.value) for line in lines_for([str(path)], host, user)]


def test_lines_apply_as_in_ssh_config(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        "# all\nCompression=yes\nHost box* !box2\n\tProxyUseFdpass   yes\nHost other\nPort 1\n"
        f'Match host box1 user "me"\n  ControlPath = "~/.ssh/x"\nMatch exec true\n  Port 2\nMatch localuser {getpass.getuser()}\n  Port 3\n'
        "Match !originalhost box1\n  Port 4\nMatch all\n  Port 5\n"
    )  # fmt: skip
    everywhere = [(2, "compression", "yes")]
    at_end = [(12, "port", "3")]
    assert words(config, "box1") == [*everywhere, (4, "proxyusefdpass", "yes"), *at_end, (16, "port", "5")]
    assert words(config, "box1", "me") == [
        *everywhere, (4, "proxyusefdpass", "yes"), (8, "controlpath", "~/.ssh/x"), *at_end, (16, "port", "5"),
    ]  # fmt: skip
    assert words(config, "box2") == [*everywhere, *at_end, (14, "port", "4"), (16, "port", "5")]
    assert words(tmp_path / "none", "box1") == []


def test_files_that_are_included_are_read_where_they_apply(tmp_path: Path) -> None:
    (tmp_path / "more.1").write_text("BindInterface eth0\nHost x\nPort 9\n")
    (tmp_path / "config").write_text(f"Host box\nInclude {tmp_path}/more.*\nUser me\nHost other\nInclude {tmp_path}/config\n")
    assert words(tmp_path / "config", "box") == [(1, "bindinterface", "eth0"), (3, "user", "me")]
    (tmp_path / "round").write_text(f"Port 7\nInclude {tmp_path}/round\n")
    assert len(words(tmp_path / "round", "box")) < 100


def test_only_what_may_explain_the_failure_is_named(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("StrictHostKeyChecking yes\nKnownHostsCommand /bin/x %H\nProxyUseFdpass no\nBindInterface eth1\nUseKeychain yes\n")
    lines = lines_for([str(config)], "box")
    assert excuses(lines, HOST_KEY) == f" ({config} line 2: KnownHostsCommand is not supported here)"
    assert excuses(lines, CONNECTION) == f" ({config} line 4: BindInterface is not supported here)"
    assert excuses(lines, AUTH) == f" ({config} line 5: UseKeychain is not supported here, run ssh-add yourself)"
    assert excuses(lines[:1], HOST_KEY) == ""


@pytest.mark.parametrize("keyword", sorted(IGNORED))
def test_what_is_said_not_to_be_supported_is_not(keyword: str) -> None:
    known = keyword in asyncssh.config.SSHClientConfig._handlers
    assert known == IGNORED[keyword][3].startswith("install the package") and IGNORED[keyword][0].lower() == keyword
