"""The program of a throw-away SSH server: `python -m aioparallel.testing.ssh_server FOLDER ADDRESS`. See `servers.SSHServer`.

Guarantees
    It listens on a loopback address only, lets in whoever has the one key that it made for the occasion, and ends when its standard
    input does: then the folder with that key is gone, and so is every process that it started and what is below those.

How it works
    asyncssh's own way to join a process's pipes to a channel (`redirect`) reads twice at a time under back-pressure and breaks, so
    the bytes are moved here. The server's own private key never leaves its memory.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from typing import Any

import asyncssh

from .._worker import procs

GRACE_SECONDS = 3.0
"""How long what was started may take to end by itself, once its input has ended."""
PIECE = 1 << 16
OURS = ("PYTHON", "SSH_", "VIRTUAL_ENV")
"""Variables that begin so are the starter's, and not those of a login there."""


class Server:
    """One server and what it has started."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._home = os.path.expanduser("~")
        self._children: set[asyncio.subprocess.Process] = set()
        self._environ = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}

    async def listen(self, address: str) -> int:
        """Make the keys, listen, and return the port."""
        if not ipaddress.ip_address(address).is_loopback:
            raise ValueError(f"{address} is no loopback address: this server is for this machine alone")
        host_key, key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
        acceptor = await asyncssh.listen(
            address, 0, server_host_keys=[host_key], authorized_client_keys=asyncssh.import_authorized_keys(_text(key)),
            process_factory=self._serve, encoding=None, password_auth=False, kbdint_auth=False, allow_scp=False, sftp_factory=None,
            agent_forwarding=False, x11_forwarding=False,
        )  # fmt: skip
        port = int(acceptor.get_port())
        self._write("key", key.export_private_key().decode())
        self._write("known_hosts", f"[{address}]:{port} {_text(host_key)}")
        return port

    def _write(self, name: str, text: str) -> None:
        with open(os.open(f"{self._folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)

    async def _serve(self, process: Any) -> None:
        """Run the command of one session."""
        child = await asyncio.create_subprocess_shell(
            process.command or "exec /bin/sh", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True, env=self._environ, cwd=self._home,
        )  # fmt: skip
        self._children.add(child)
        outwards = asyncio.gather(_pump(child.stdout, process.stdout), _pump(child.stderr, process.stderr))
        inwards = asyncio.ensure_future(_feed(process.stdin, child.stdin))
        try:
            await outwards
            process.exit(await child.wait())
            self._children.discard(child)
        finally:
            inwards.cancel()

    async def end(self) -> None:
        """End what runs: by the end of its input, and after a while by force."""
        for child in self._children:
            if child.stdin is not None:
                child.stdin.close()
        if self._children:
            await asyncio.wait([asyncio.ensure_future(child.wait()) for child in self._children], timeout=GRACE_SECONDS)
        for child in self._children:
            if child.returncode is None:
                procs.kill_all([*procs.freeze_tree(child.pid), child.pid])
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)


def _text(key: asyncssh.SSHKey) -> str:
    return key.export_public_key().decode().strip() + "\n"


async def _pump(reader: Any, writer: Any) -> None:
    with suppress(OSError, asyncssh.Error):
        while data := await reader.read(PIECE):
            writer.write(data)
            await writer.drain()


async def _feed(reader: Any, writer: Any) -> None:
    await _pump(reader, writer)
    writer.close()


async def _input_ended() -> None:
    """Wait until our standard input has ended: so has whoever started us, or wants us no more."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


def _say(line: str) -> None:
    with suppress(BrokenPipeError):  # who started us may be gone: our input will say so
        os.write(1, f"{line}\n".encode())


async def main(folder: str, address: str) -> None:
    """Serve until the input ends; the first line of the output is the port, or why there is none."""
    server = Server(folder)
    ended = asyncio.ensure_future(_input_ended())
    try:
        _say(str(await server.listen(address)))
        await ended
    except (OSError, ValueError) as error:
        _say(str(error).partition("\n")[0])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        await server.end()


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a Ctrl-C is for who started us
    asyncio.run(main(*sys.argv[1:]))
