"""What the benchmarks of far hosts stand on: real sshds on loopback, each perhaps behind a slow link; and raw SSH to them.

A bed is made in the sample's own process, below which its sshds and proxies run. Login shells find an empty home: what they do there by
themselves is another's business, and can take longer than all that is measured.
"""

from __future__ import annotations

import asyncio
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from aioparallel import SSH
from tests.far.servers import PYTHON, SSHD, OpenSSH

ROOT = Path(__file__).resolve().parents[2]
ONE_WAY_MS = 10.0
"""A round trip of 20 ms."""


def no_sshd() -> str:
    """Return why nothing of this can be measured here, or nothing."""
    return "" if SSHD is not None else "there is no sshd on this machine (Debian: apt install openssh-server)"


class FarMachine(OpenSSH):
    """One sshd, and perhaps a slow link in front of it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        super().__init__(folder)
        (folder / "home").mkdir()
        self.more = f"SetEnv HOME={folder}/home\nSubsystem sftp internal-sftp\n"
        self.door = self.port
        """Where it is reached: its own port, or the link's."""

    @contextmanager
    def behind(self, delay_ms: float, kbit_per_s: float | None = None) -> Iterator[None]:
        """Be reached through a slow link."""
        rate = [] if kbit_per_s is None else [str(kbit_per_s)]
        command = [sys.executable, "-m", "tests.benchmarks.proxy", str(self.port), str(delay_ms), *rate]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as proxy:
            assert proxy.stdin is not None and proxy.stdout is not None
            self.door = int(proxy.stdout.readline())
            known = self.folder / "known_hosts"
            known.write_text(known.read_text() + known.read_text().replace(f":{self.port} ", f":{self.door} "))
            try:
                yield
            finally:
                proxy.stdin.close()

    def entry(self, slots: int) -> SSH:
        """Return the value for `Pool(hosts=[...])`."""
        folder = str(self.folder)
        return SSH(
            f"127.0.0.1:{self.door}", slots=slots, python=PYTHON,
            keys=(f"{folder}/key",), known_hosts=f"{folder}/known_hosts", config=f"{folder}/config",
        )  # fmt: skip

    def options(self) -> dict[str, Any]:
        """Return what `asyncssh.connect` needs to get there just as our own hosts do."""
        from aioparallel._hosts.ssh import CIPHERS

        folder = str(self.folder)
        return {
            "host": "127.0.0.1", "port": self.door, "client_keys": [f"{folder}/key"], "known_hosts": f"{folder}/known_hosts",
            "config": [f"{folder}/config"], "encryption_algs": CIPHERS, "compression_algs": None,
        }  # fmt: skip

    def client(self) -> list[str]:
        """Return the options that OpenSSH's own `ssh` and `scp` need to get there."""
        folder = str(self.folder)
        words = {"Port": self.door, "IdentityFile": f"{folder}/key", "UserKnownHostsFile": f"{folder}/known_hosts", "BatchMode": "yes"}
        return ["-F", "none", *(word for name, value in words.items() for word in ("-o", f"{name}={value}"))]


@contextmanager
def bed(machines: int = 1, delay_ms: float = 0.0, kbit_per_s: float | None = None) -> Iterator[list[FarMachine]]:
    """Have so many machines, each behind a link of its own if that is to be slow."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        made = [stack.enter_context(FarMachine(folder / f"machine{number}")) for number in range(machines)]
        if delay_ms or kbit_per_s:
            for machine in made:
                stack.enter_context(machine.behind(delay_ms, kbit_per_s))
        yield made


class RawChannel:
    """One asyncssh channel to a Python program, and nothing between: how fast asyncssh itself lets two programs talk."""

    def __init__(self, machine: FarMachine, program: str, **options: Any) -> None:
        self._machine, self._program, self._options = machine, program, options
        self.pieces: list[bytes] = []
        self.size = 0
        self._wanted = 0
        self.lost = False
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    async def __aenter__(self) -> Self:
        import asyncssh

        outer = self

        class Session(asyncssh.SSHClientSession[bytes]):
            def data_received(self, data: bytes, datatype: int | None) -> None:
                outer.pieces.append(data)
                outer.size += len(data)
                if outer.size >= outer._wanted:
                    outer._arrived.set()

            def connection_lost(self, exc: Exception | None) -> None:
                outer.lost = True
                outer._arrived.set()
                outer._room.set()

            def pause_writing(self) -> None:
                outer._room.clear()

            def resume_writing(self) -> None:
                outer._room.set()

        self._connection = await asyncssh.connect(**self._machine.options())
        command = f"exec {PYTHON} -S -E -c {shlex.quote(self._program)}"
        self.channel, _ = await self._connection.create_session(Session, command, encoding=None, **self._options)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._connection.abort()
        await self._connection.wait_closed()

    async def room(self) -> None:
        """Wait until the channel takes more."""
        await self._room.wait()
        assert not self.lost

    async def answer(self, size: int) -> list[bytes]:
        """Wait until so many bytes have come, and take all that have."""
        self._wanted = size
        if self.size < size:
            self._arrived.clear()
            await self._arrived.wait()
            assert not self.lost
        pieces, self.pieces, self.size = self.pieces, [], 0
        return pieces
