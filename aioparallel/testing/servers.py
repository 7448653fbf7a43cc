"""A throw-away SSH server on this machine, to try and to test what is meant for others.

Guarantees
    It listens on a loopback address, on a port that the kernel chose, lets in nobody who has not the key made for it, and runs in a
    process of its own. The key lies in a private folder (mode 0700). When the block is left, or this process ends however it ends,
    the server, all that it started and that folder are gone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..config import SSH
from ..errors import HostError

__all__ = ["SSHServer"]

END_SECONDS = 10.0
"""How long the server may take to end what it started."""
_ROOT = str(Path(__file__).parents[2])
_PROGRAM = "aioparallel.testing.ssh_server"


class SSHServer:
    """An SSH server of the occasion: a context manager, which takes half a second to enter.

    ::

        with SSHServer("one") as one, SSHServer("two") as two:
            async with Pool(local=1, hosts=[one.host(slots=2), two.host(slots=2)]) as pool:
                ...

    name: what messages call the host. address: a loopback address; all of 127.x.y.z serve on Linux.
    """

    def __init__(self, name: str = "demo", *, address: str = "127.0.0.1") -> None:
        self.name = name
        self.address = address
        self.port = 0
        self.folder = Path()
        """Where the key, `known_hosts` and an ssh `config` are while the block lasts."""
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Start it. Raises HostError where it does not start."""
        self.folder = Path(tempfile.mkdtemp(prefix="aioparallel-ssh-"))
        try:
            self._start()
            config = self.folder / "config"
            config.touch(0o600)
            config.write_text(f"Host {self.name}\n  HostName {self.address}\n  Port {self.port}\n")
        except BaseException:
            self._stop()
            raise
        return self

    def _start(self) -> None:
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH")]))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", _PROGRAM, str(self.folder), self.address],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        said = self._process.stdout.readline().strip()
        if not said.isdigit():
            raise HostError(self.name, f"its server did not start: {said or 'what it wrote to standard error says why'}")
        self.port = int(said)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    def _stop(self) -> None:
        process, self._process = self._process, None
        try:
            if process is not None:
                with process:
                    assert process.stdin is not None
                    process.stdin.close()
                    try:
                        process.wait(END_SECONDS)
                    finally:
                        process.kill()  # (of one that has ended, it does nothing)
        except subprocess.TimeoutExpired:
            pass  # it was killed
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def host(self, **options: Any) -> SSH:
        """Return the value for `Pool(hosts=[...])`; `options` are those of `SSH`.

        Where `python` is not given it is this interpreter's, without what is installed in a virtual environment: like a machine on
        which nothing is installed.
        """
        folder = str(self.folder)
        given = {"keys": (f"{folder}/key",), "known_hosts": f"{folder}/known_hosts", "config": f"{folder}/config", **options}
        if "python" in given:
            return SSH(self.name, **given)
        try:
            return SSH(self.name, **given, python=getattr(sys, "_base_executable", sys.executable))
        except ValueError:  # its path is one that a shell could mistake
            return SSH(self.name, **given)
