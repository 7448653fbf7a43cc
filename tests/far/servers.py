"""SSH servers for the tests, on loopback and with keys made for the occasion: OpenSSH's, and asyncssh's in a process of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncssh

from aioparallel import SSH
from aioparallel.testing import SSHServer

PYTHON = getattr(sys, "_base_executable", sys.executable)
"""The interpreter at the far end: ours, but without what is installed beside the project."""
SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")

_SSHD_CONFIG = """
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/key.pub
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PermitRootLogin prohibit-password
"""


class Server:
    """One SSH server; `kind` is "sshd" or "asyncssh"."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self._server: SSHServer | OpenSSH = OpenSSH(folder) if kind == "sshd" else SSHServer("127.0.0.1")

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.__exit__(kind, error, trace)

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def folder(self) -> Path:
        """Where its keys, `known_hosts` and an ssh `config` are."""
        return self._server.folder

    def host(self, **options: Any) -> SSH:
        """Return the value for `Pool(hosts=[...])`."""
        return self._server.host(**options)


class OpenSSH:
    """A real sshd."""

    more = ""
    """More lines of its configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free_port()
        host_key, key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
        for name, private in (("host_key", host_key), ("key", key)):
            path = folder / name
            path.touch(mode=0o600)
            private.write_private_key(str(path))
            private.write_public_key(f"{path}.pub")
        public = host_key.export_public_key().decode().strip()
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {public}\n")
        (folder / "config").write_text("")

    def __enter__(self) -> Self:
        assert SSHD is not None
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
        (self.folder / "sshd_config").write_text(_SSHD_CONFIG.format(port=self.port, folder=self.folder) + self.more)
        arguments = [SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")]
        self._log = open(self.folder / "log", "wb")
        self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)
        end = time.monotonic() + 20
        while True:
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", self.port)):
                    return self
            assert self.process.poll() is None and time.monotonic() < end, (self.folder / "log").read_text()
            time.sleep(0.01)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.terminate()
        self.process.wait()
        self._log.close()

    def host(self, **options: Any) -> SSH:
        folder = str(self.folder)
        given: dict[str, Any] = {
            "keys": (f"{folder}/key",), "known_hosts": f"{folder}/known_hosts", "config": f"{folder}/config", "python": PYTHON,
            "port": self.port,
        }  # fmt: skip
        return SSH("127.0.0.1", **{**given, **options})


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
