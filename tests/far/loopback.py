"""A far host without SSH: the command runs in a shell on this machine, and its pipes are the channel."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from typing import Any, cast

from aioparallel._hosts.far import Channel, FarLink
from aioparallel._hosts.far_host import FarHost


class Loopback:
    """What `Pool(hosts=[...])` takes for it."""

    def __init__(self, name: str = "far", slots: int | None = None, **more: Any) -> None:
        self.name = name
        self.more = {"slots": slots, **more}

    def make(self, far: dict[str, Any]) -> LoopbackHost:
        return LoopbackHost(self.name, **{**far, **self.more})


class LoopbackHost(FarHost):
    """Slots at the other end of two pipes."""

    shell = "/bin/sh"
    greeting = ""
    """What the login shell does before the command."""

    async def dial(self, command: str, link: FarLink) -> None:
        begun = asyncio.ensure_future(self._begin(command, link))
        try:
            await asyncio.shield(begun)
        except asyncio.CancelledError:
            await begun
            raise

    async def _begin(self, command: str, link: FarLink) -> None:
        loop = asyncio.get_running_loop()
        await loop.subprocess_exec(
            lambda: _Pipes(link), self.shell, "-c", f"{self.greeting}\n{command}" if self.greeting else command, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip


class _Pipes(asyncio.SubprocessProtocol, Channel):
    def __init__(self, link: FarLink) -> None:
        self.link = link
        self.errors = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.SubprocessTransport", transport)
        self.stdin = cast("asyncio.WriteTransport", self.transport.get_pipe_transport(0))
        self.link.begin(self)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1:
            self.link.received(data)
        else:
            self.errors += data

    def pause_writing(self) -> None:
        self.link.pause()

    def resume_writing(self) -> None:
        self.link.resume()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == 1:
            self.stdin.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport.close()
        self.link.lost(f"its pipe was closed {self.errors.decode()}".strip())

    def write(self, data: bytes) -> None:
        self.stdin.write(data)

    def close(self) -> None:
        self.transport.close()

    def kill(self) -> None:
        """As a machine that loses its power."""
        os.kill(cast("int", self.transport.get_pid()), signal.SIGKILL)


__all__ = ["Loopback", "LoopbackHost"]
