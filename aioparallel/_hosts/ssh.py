"""Hosts reached by SSH: one connection and one channel each, whatever the number of slots. The only room that imports asyncssh.

How it works
    asyncssh reads the user's `~/.ssh/config`, agents and known hosts. We ask for no terminal, no compression, and the ciphers that cost
    least. Its errors are translated here, into what happened and what to do.
"""

from __future__ import annotations

import logging
import socket
from typing import Any

import asyncssh

from ..errors import HostError
from .far import Channel, FarLink
from .far_host import FarHost

log = logging.getLogger("aioparallel")

CIPHERS = (
    "aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr",
)  # fmt: skip
"""asyncssh's own first choice, chacha20-poly1305, costs three times the CPU of the first of these."""
CONNECT_SECONDS = 10.0
LOGIN_SECONDS = 20.0
WINDOW_BYTES = 1 << 24
KEPT_ERRORS = 2000
"""Bytes of what the far program wrote to its standard error that are kept, for when it ends."""


class _Client(asyncssh.SSHClient):
    """The connection: when it is lost, nothing is left."""

    def __init__(self, link: FarLink) -> None:
        self._link = link
        self.reason = ""

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.lost(self.reason or f"the connection was lost ({exc or 'closed'})")


class _Session(asyncssh.SSHClientSession[bytes], Channel):
    """The channel's client side: what it hears goes to a link."""

    def __init__(self, link: FarLink, connection: asyncssh.SSHClientConnection, client: _Client) -> None:
        self._link = link
        self._connection = connection
        self._client = client
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._errors = bytearray()

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

    def connection_lost(self, exc: Exception | None) -> None:
        said = self._errors.decode(errors="replace").strip()
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
        self._connection.abort()


class SSHHost(FarHost):
    """Slots on a machine that `ssh` reaches. `options` go to `asyncssh.connect`."""

    def __init__(self, name: str, address: str, options: dict[str, Any], **more: Any) -> None:
        super().__init__(name, **more)
        self._address = address
        self._options = options

    async def dial(self, command: str, link: FarLink) -> None:
        """See `FarHost.dial`."""
        client = _Client(link)
        try:
            connection = await asyncssh.connect(
                self._address, client_factory=lambda: client,
                encryption_algs=CIPHERS, compression_algs=None, connect_timeout=CONNECT_SECONDS, login_timeout=LOGIN_SECONDS,
                request_pty=False, encoding=None, **self._options,
            )  # fmt: skip
        except (asyncssh.Error, OSError, ValueError) as error:
            raise HostError(self.name, _reason(error)) from error
        try:
            await connection.create_session(lambda: _Session(link, connection, client), command, encoding=None, window=WINDOW_BYTES)
        except (asyncssh.Error, OSError) as error:
            connection.abort()
            raise HostError(self.name, _reason(error)) from error
        except BaseException:
            connection.abort()
            raise


def _reason(error: Exception) -> str:
    """Say in plain words why a host could not be reached, and what to do."""
    text = str(error) or type(error).__name__
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return f"its host key is not known, or has changed ({text}): check it, then run `ssh` to it once or add it to known_hosts"
    if isinstance(error, asyncssh.PermissionDenied):
        return f"it refused our keys ({text}): is the public key in its authorized_keys, and the private one in the agent or in keys=?"
    if isinstance(error, socket.gaierror):
        return f"its name could not be resolved ({error.strerror or text})"
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_SECONDS:g} s: is it switched on, and is the port open?"
    if isinstance(error, ConnectionRefusedError):
        return "the connection was refused: does sshd run there, on this port?"
    if isinstance(error, OSError):
        return f"no connection to it ({error.strerror or text}): is it switched on, and is this the right address?"
    return text


__all__ = ["SSHHost"]
