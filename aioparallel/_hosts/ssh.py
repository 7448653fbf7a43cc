"""Hosts reached by SSH: one connection and one channel each, whatever the number of slots. The only room that imports asyncssh.

How it works
    asyncssh reads the user's `~/.ssh/config`, agents and known hosts. We ask for no terminal, no compression, and the ciphers that cost
    least. No password is ever asked for. Its errors are translated (`ssh_reasons`) into what happened and what to do. In a forked child,
    which shares the parent's selector too, the connection's descriptors are made those of a socket on which nothing is ever said: to
    close them would set their numbers free.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any

import asyncssh

from ..errors import HostError
from .far import Channel, FarLink
from .far_host import FarHost
from .ssh_known import Seen
from .ssh_reasons import OPEN_CONNECT_FAILED, Dialled, closed_at_once, reason
from .turns import turn

log = logging.getLogger("aioparallel")

CIPHERS = (
    "aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr",
)  # fmt: skip
"""asyncssh's own first choice, chacha20-poly1305, costs three times the CPU of the first of these."""
CONNECT_SECONDS = 10.0
LOGIN_SECONDS = 20.0
AGAIN_SECONDS = (0.2, 0.4, 0.8)
"""After so long, more or less, a connection that was closed at once is tried again: sshd refuses some at random (MaxStartups)."""
SESSION_SECONDS = 1.0
"""How long a refused session is tried again: sshd gives a session's place free only after its client has seen the end."""
SESSION_PAUSE = 0.1
WINDOW_BYTES = 1 << 24
KEPT_ERRORS = 2000
"""Bytes of what the far program wrote to its standard error that are kept, for when it ends."""
_FIXED: dict[str, Any] = {
    "encryption_algs": CIPHERS, "compression_algs": None, "connect_timeout": CONNECT_SECONDS, "login_timeout": LOGIN_SECONDS,
    "request_pty": False, "encoding": None, "ignore_encrypted": True,
}  # fmt: skip
"""What is the same for every host. An encrypted key is passed over: ssh-agent may have it, and nobody is asked."""


class _Client(asyncssh.SSHClient):
    """The connection: when it is lost, nothing is left."""

    def __init__(self, dialled: Dialled) -> None:
        self._dialled = dialled
        self.link: FarLink | None = None
        """Whom it carries, once the host has let us in."""
        self.reason = ""

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        self._dialled.connection = conn

    def ends(self) -> list[Any]:
        """Return what the connection goes over: a socket (that to the first of the hosts that are gone through), or a proxy's pipes."""
        connection = self._dialled.connection
        if connection is None:
            return []
        proxy = connection.get_extra_info("subprocess")
        ends = [connection.get_extra_info("socket")] if proxy is None else [proxy.stdin, proxy.stdout]
        return [end for end in ends if end is not None and not getattr(end, "closed", False) and end.fileno() >= 0]

    def cut(self) -> None:
        """End the connection without a loop."""
        for end in self.ends():
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR) if hasattr(end, "shutdown") else end.close()

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Take note of a key that known_hosts does not have; it is not trusted."""
        self._dialled.seen = Seen(host, addr, port, key)
        return False

    def public_key_auth_requested(self) -> None:
        """Say that there is no other key."""
        self._dialled.offered.add("publickey")

    def password_auth_requested(self) -> None:
        """Say that there is no password: nobody is asked for one."""
        self._dialled.offered.add("password")

    def kbdint_auth_requested(self) -> None:
        """Say that there is nobody to ask."""
        self._dialled.offered.add("keyboard-interactive")

    def connection_lost(self, exc: Exception | None) -> None:
        if self.link is not None:
            self.link.lost(self.reason or f"the connection was lost ({exc or 'closed'})")


class _Session(asyncssh.SSHClientSession[bytes], Channel):
    """The channel's client side: what it hears goes to a link."""

    def __init__(self, link: FarLink, connection: asyncssh.SSHClientConnection, client: _Client) -> None:
        self._link = link
        self._connection = connection
        self._client = client
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._errors = bytearray()
        self._loop = asyncio.get_running_loop()
        self._end = ""
        """How the command ended, if that was said."""

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._channel = chan

    def session_started(self) -> None:
        self._link.begin(self)

    def data_received(self, data: bytes, datatype: int | None) -> None:
        if datatype is None:
            self._link.received(data)
        else:
            self._errors += data
            del self._errors[:-KEPT_ERRORS]

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._link.pause()

    def resume_writing(self) -> None:
        self._link.resume()

    def exit_status_received(self, status: int) -> None:
        self._end = f"exit status {status}"

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        self._end = f"SIG{signal}"

    def connection_lost(self, exc: Exception | None) -> None:
        said = self._errors.decode(errors="replace").strip()
        if self._end and not self._link.began:
            reason = f"no Python of ours began there ({self._end}): does its login shell run commands, and is python= a Python?"
        elif self._end:
            reason = f"our program there was ended ({self._end})"
        else:
            reason = "the connection was lost" if exc is None else f"the connection was lost ({exc})"
        self._client.reason = f"{reason}; it said: {said}" if said else reason
        self._connection.abort()

    def write(self, data: bytes) -> None:
        if self._channel is not None:
            try:
                self._channel.write(data)
            except OSError:
                pass  # it is closing: `connection_lost` follows

    def close(self) -> None:
        if self._loop.is_closed():
            self._client.cut()
        else:
            self._connection.abort()


class SSHHost(FarHost):
    """Slots on a machine that `ssh` reaches. `options` go to `asyncssh.connect`."""

    def __init__(self, name: str, address: str, options: dict[str, Any], **more: Any) -> None:
        super().__init__(name, **more)
        self._address = address
        self._options = options
        self._client: _Client | None = None

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """See `FarHost.turn`: a few at a time connect to one address and port."""
        dialled = Dialled(self._address, self._options, CONNECT_SECONDS)
        await self._prepare(dialled)
        assert dialled.options is not None
        self._prepared = dialled.options
        async with turn(dialled.jump or (dialled.options.host, dialled.options.port)):
            yield

    async def _prepare(self, dialled: Dialled) -> None:
        """Read what the user's files say of this host."""
        try:
            dialled.options = await asyncio.to_thread(asyncssh.SSHClientConnectionOptions, host=self._address, **_FIXED, **self._options)
        except (asyncssh.Error, OSError, ValueError) as error:
            raise HostError(self.name, await reason(error, dialled)) from error

    async def dial(self, command: str, link: FarLink) -> None:
        """See `FarHost.dial`."""
        for pause in (*AGAIN_SECONDS, None):
            dialled = Dialled(self._address, self._options, CONNECT_SECONDS, options=self._prepared)
            client = self._client = _Client(dialled)
            try:
                connection = await asyncssh.connect(self._address, client_factory=lambda client=client: client, **_FIXED, **self._options)
                break
            except (asyncssh.Error, OSError, ValueError) as error:
                if pause is None or not closed_at_once(error, dialled):
                    raise HostError(self.name, await reason(error, dialled)) from error
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - those that were refused together must not come back together
        client.link = link
        try:
            await _open(connection, lambda: _Session(link, connection, client), command)
        except (asyncssh.Error, OSError) as error:
            connection.abort()
            raise HostError(self.name, await reason(error, dialled)) from error
        except BaseException:
            connection.abort()
            raise

    def forked(self) -> None:
        """See `FarHost.forked`."""
        super().forked()
        ends = [] if self._client is None else self._client.ends()
        if ends:
            mute, other = socket.socketpair()
            _others.append(other)
            mute.setblocking(False)
            for end in ends:
                os.dup2(mute.fileno(), end.fileno(), inheritable=False)
            mute.close()


_others: list[socket.socket] = []
"""Kept open, so that no end is read from the first ones."""


async def _open(connection: asyncssh.SSHClientConnection, factory: Callable[[], _Session], command: str) -> None:
    """Begin the command. A server that just ended another session may refuse one for a moment (MaxSessions)."""
    end = monotonic() + SESSION_SECONDS
    while True:
        try:
            await connection.create_session(factory, command, encoding=None, window=WINDOW_BYTES)
        except asyncssh.ChannelOpenError as error:
            if error.code != OPEN_CONNECT_FAILED or monotonic() >= end or connection.is_closed():
                raise
            await asyncio.sleep(SESSION_PAUSE)
        else:
            return


__all__ = ["SSHHost"]
