"""Why a host could not be reached by SSH, in plain words, and what to do: asyncssh's errors, looked into.

How it works
    After a failure, and only then, the files that explain it are read once more (in a thread), and ssh-agent is asked what it has.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncssh

from .ssh_config import AUTH, CONNECTION, HOST_KEY, Line, excuses, lines_for, shown
from .ssh_known import SSH_PORT, Seen, known_hosts_files, other_kind, why_not

AGENT_SECONDS = 2.0
"""How long ssh-agent may take to say what it has."""
DEFAULT_KEYS = ("id_ed25519_sk", "id_ecdsa_sk", "id_ed448", "id_ed25519", "id_ecdsa", "id_rsa", "id_dsa")
"""What asyncssh tries in ~/.ssh where no key is named."""
OPEN_CONNECT_FAILED = 2
"""RFC 4254, 5.1; OpenSSH says it too where MaxSessions is reached."""
_ERRNO = re.compile(r"\[Errno (\d+)\]")
_HOST = re.compile(r"for host (\S+)(?: with alias (\S+))?")


@dataclass
class Dialled:
    """One try to connect: what it was made with, and how far it came."""

    address: str
    given: dict[str, Any]
    """What `asyncssh.connect` was given that concerns this host alone."""
    seconds: float
    """How long it might take."""
    options: asyncssh.SSHClientConnectionOptions | None = None
    connection: asyncssh.SSHClientConnection | None = None
    """Set as soon as there is one to the host itself."""
    seen: Seen | None = None
    """The key that the host showed, if that was not trusted."""
    offered: set[str] = field(default_factory=set)
    """The ways to log in that the host offered, of those that are called for by name here."""

    @property
    def jump(self) -> str | None:
        """What it goes through."""
        tunnel = self.options.tunnel if self.options is not None else None
        return tunnel if isinstance(tunnel, str) and tunnel else None

    @property
    def config_files(self) -> list[str]:
        """The ssh configuration in use."""
        return self.given.get("config") or ["~/.ssh/config"]

    def lines(self) -> list[Line]:
        """Return what the ssh configuration says of this host; reads files."""
        return lines_for(self.config_files, self.address, self.given.get("username"))


def closed_at_once(error: Exception, dialled: Dialled) -> bool:
    """Return whether a connection ended before anything was said, as it does where sshd has too many (MaxStartups)."""
    if dialled.connection is not None and dialled.connection.get_extra_info("server_version"):
        return False
    return _is_lost(error)


def _is_lost(error: Exception) -> bool:
    """Return whether the other side ended the connection."""
    if isinstance(error, asyncssh.ConnectionLost):
        return "timeout" not in str(error)
    return isinstance(error, ConnectionResetError | BrokenPipeError)


async def reason(error: Exception, dialled: Dialled) -> str:
    """Say why this try failed. If cancelled: nothing is left but a thread that reads files."""
    jump = dialled.jump
    if jump is None or dialled.connection is not None:
        return await _of_host(error, dialled)
    if isinstance(error, asyncssh.ChannelOpenError):
        return f"its jump host ({jump}) could not connect to it ({error.reason}): is it switched on, does its name mean anything there?"
    *_, last = jump.split(",")
    name, user, port = _parts(last)
    given: dict[str, Any] = {"config": dialled.given["config"]} if "config" in dialled.given else {}
    given |= {key: value for key, value in (("username", user), ("port", port)) if value is not None}
    there = Dialled(name, given, dialled.seconds)
    try:
        there.options = await asyncio.to_thread(asyncssh.SSHClientConnectionOptions, host=name, tunnel=None, **given)
    except (asyncssh.Error, OSError, ValueError):
        pass
    return f"its jump host ({jump}) cannot be reached: {await _of_host(error, there)}"


def _parts(hop: str) -> tuple[str, str | None, int | None]:
    """Return (host, user, port) of what `ssh -J` takes."""
    user, at, host = hop.rpartition("@")
    host, colon, port = host.partition(":")
    return host, user if at else None, int(port) if colon and port.isdigit() else None


async def _of_host(error: Exception, dialled: Dialled) -> str:
    if isinstance(error, asyncssh.PermissionDenied):
        return await _refused(error, dialled)
    return await asyncio.to_thread(_by_reading, error, dialled)


def _by_reading(error: Exception, dialled: Dialled) -> str:
    """Say why, with what files tell."""
    text = str(error) or type(error).__name__
    if isinstance(error, asyncssh.ConfigParseError):
        return f"the ssh configuration cannot be used: {_place(text, dialled)}: mend that line"
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return _untrusted(text, dialled) + excuses(dialled.lines(), HOST_KEY)
    if isinstance(error, asyncssh.KeyExchangeFailed) or _lost_in_key_exchange(error, dialled):
        known = other_kind(_files(dialled), _seen(text, dialled)) if "host key" in text or _is_lost(error) else ""
        return (known or f"no common way to begin ({text}): one of the two may be too old") + excuses(dialled.lines(), HOST_KEY)
    if isinstance(error, asyncssh.KeyImportError | asyncssh.KeyEncryptionError):
        return f"a private key cannot be read ({_bad_keys(dialled) or text})"
    if isinstance(error, asyncssh.DisconnectError) and "uthentication failures" in text:
        return f"it saw too many wrong keys ({text}): name the right one, with keys=[...] or IdentityFile and IdentitiesOnly of ssh_config"
    if isinstance(error, UnicodeDecodeError):
        return f"{_no_text(dialled) or 'the ssh configuration or a known_hosts file'} is not text ({text}): save it as UTF-8"
    if isinstance(error, OSError) and error.filename:
        return f"{shown(str(error.filename))}, which the ssh configuration or SSH(...) names, cannot be read ({error.strerror})"
    words = _no_connection(error, text, dialled)
    return words + excuses(dialled.lines(), CONNECTION) if words else text


def _no_connection(error: Exception, text: str, dialled: Dialled) -> str:
    """Say why there is no connection; nothing where that is not it."""
    if isinstance(error, asyncssh.ChannelOpenError):
        return f"it opens no session ({text}): is MaxSessions of its sshd 0, or are sessions forbidden?"
    if isinstance(error, socket.gaierror):
        return f"its name ({dialled.options.host if dialled.options else dialled.address}) could not be resolved ({error.strerror or text})"
    if closed_at_once(error, dialled):
        proxied = dialled.options is not None and dialled.options.proxy_command
        way = "the program of its ProxyCommand ended" if proxied else "it closed the connection at once"
        return f"{way} ({text}): it has too many connections that are not logged in yet (MaxStartups of its sshd), or wants none from here"
    if _is_lost(error) or isinstance(error, asyncssh.ConnectionLost):
        return f"the connection was lost before anybody was let in ({text})"
    return _by_number(error, text, dialled) if isinstance(error, OSError) else ""


def _by_number(error: OSError, text: str, dialled: Dialled) -> str:
    number, numbers = error.errno, {int(found) for found in _ERRNO.findall(text)}
    if number is None and len(numbers) == 1:
        (number,) = numbers  # "Multiple exceptions": of each of its addresses the same
    if isinstance(error, TimeoutError) and number is None:
        if dialled.connection is not None:
            return f"it took the connection, but let nobody in within {dialled.seconds:g} s: is its sshd overloaded, or is that no sshd?"
        return f"no answer within {dialled.seconds:g} s: is it switched on, and is the port open?"
    if number == errno.ECONNREFUSED:
        return "the connection was refused: does sshd run there, on this port?"
    return f"no connection to it ({os.strerror(number) if number else text}): is it switched on, and is this the right address?"


# --- host keys


def _lost_in_key_exchange(error: Exception, dialled: Dialled) -> bool:
    """Return whether a server hung up before it had shown a host key: OpenSSH does, where it has none of the kinds that are asked for."""
    connection = dialled.connection
    if connection is None or not _is_lost(error):
        return False
    return bool(connection.get_extra_info("server_version")) and connection.get_server_host_key() is None


def _files(dialled: Dialled) -> list[str]:
    return known_hosts_files(dialled.options) if dialled.options is not None else [os.path.expanduser("~/.ssh/known_hosts")]


def _seen(text: str, dialled: Dialled) -> Seen:
    """Return what is known of the key: all of it where the host itself was asked, else the name in asyncssh's text."""
    if dialled.seen is not None:
        return dialled.seen
    found = _HOST.search(text)
    options = dialled.options
    host = (found[2] or found[1]) if found else (options.host_key_alias or options.host) if options else dialled.address
    peer = dialled.connection.get_extra_info("peername") if dialled.connection is not None else None
    return Seen(host, str(peer[0]) if peer else "", options.port if options is not None else SSH_PORT, None)


def _untrusted(text: str, dialled: Dialled) -> str:
    if "certificate" in text.lower() or ("CA key" in text and "revoked" not in text):
        return f"its host certificate is not trusted ({text}): add its CA's key to known_hosts, behind @cert-authority"
    return why_not(_files(dialled), _seen(text, dialled), text)


# --- keys of ours


async def _refused(error: Exception, dialled: Dialled) -> str:
    """Say whom a host refused, and with which keys."""
    options = dialled.options
    agent = await _agent_keys(options)
    tried, not_tried = await asyncio.to_thread(_files_with_keys, dialled, [key.public_data for key in agent])
    if agent:
        names = ", ".join(key.get_comment() or key.get_algorithm() for key in agent[:5]) + (", ..." if len(agent) > 5 else "")
        tried.append(f"{len(agent)} of ssh-agent ({names})")
    user = options.username if options is not None else "?"
    said = f"it refused user {user!r} ({error})"
    remedy = (
        "is the public one in authorized_keys of that user?"
        if tried
        else "name a key with keys=[...], or load one into ssh-agent (ssh-add)"
    )
    if dialled.offered and "publickey" not in dialled.offered and options is not None and options.public_key_auth:
        tried = []
        remedy = f"it lets nobody in by key, only by {' or '.join(sorted(dialled.offered))}, and nobody is asked for a password here"
    keys = f"; tried: {', '.join(tried)}" if tried else "; no key was tried"
    missing = f"; not tried: {', '.join(not_tried)}" if not_tried else ""
    return f"{said}{keys}{missing}: {remedy}" + excuses(await asyncio.to_thread(dialled.lines), AUTH)


async def _agent_keys(options: asyncssh.SSHClientConnectionOptions | None) -> Sequence[asyncssh.SSHKeyPair]:
    """Return what ssh-agent was asked to sign with."""
    if options is None or not options.agent_path:
        return ()
    keys: Sequence[asyncssh.SSHKeyPair] = ()
    try:
        async with asyncio.timeout(AGENT_SECONDS), await asyncssh.connect_agent(options.agent_path) as agent:
            keys = await agent.get_keys(options.agent_identities)
    except (OSError, ValueError, asyncssh.Error):
        pass
    return keys


def _key_files(dialled: Dialled) -> list[str]:
    """Return the files that private keys are looked for in."""
    named = dialled.given.get("client_keys")
    if not named and dialled.options is not None:
        named = dialled.options.config.get("IdentityFile")
    if isinstance(named, list) and named:
        return [os.path.expanduser(str(path)) for path in named]
    here = [os.path.expanduser(f"~/.ssh/{name}") for name in DEFAULT_KEYS]
    return [path for path in here if os.path.exists(path)]


def _files_with_keys(dialled: Dialled, held: Sequence[bytes]) -> tuple[list[str], list[str]]:
    """Return (what was tried, what was not and why). `held`: the public halves of what ssh-agent has."""
    tried: list[str] = []
    not_tried: list[str] = []
    for path in _key_files(dialled):
        wrong, public = _read_key(path)
        if not wrong:
            tried.append(shown(path))
        elif public is None or public.public_data not in held:
            not_tried.append(f"{shown(path)} ({wrong})")
    return tried, not_tried


def _read_key(path: str) -> tuple[str, asyncssh.SSHKey | None]:
    """Return why a private key cannot be used, if so, and its public half where that lies beside it."""
    try:
        asyncssh.read_private_key(path)
    except OSError as error:
        return error.strerror or str(error), None
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        try:
            public = asyncssh.read_public_key(f"{path}.pub")
        except (OSError, ValueError):
            public = None
        if "assphrase" in str(error) or isinstance(error, asyncssh.KeyEncryptionError):
            return f"it is encrypted, and nobody is asked for its passphrase: load it into ssh-agent with `ssh-add {shown(path)}`", public
        return str(error), public
    return "", None


def _bad_keys(dialled: Dialled) -> str:
    return "; ".join(f"{shown(path)}: {wrong}" for path in _key_files(dialled) if (wrong := _read_key(path)[0]))


# --- the configuration


def _no_text(dialled: Dialled) -> str:
    """Return the line on which one of the files is not UTF-8."""
    for path in dict.fromkeys([*dialled.config_files, *(line.path for line in dialled.lines()), *_files(dialled)]):
        try:
            with open(os.path.expanduser(path), "rb") as file:
                data = file.read()
            data.decode()
        except UnicodeDecodeError as error:
            return f"{shown(path)} line {data.count(10, 0, error.start) + 1}"
        except OSError:
            pass
    return ""


def _place(text: str, dialled: Dialled) -> str:
    """Return asyncssh's words on a bad configuration, with file and line where it left them out: a value that it cannot expand."""
    expansion = re.search(r"expansion: (\S+)", text)
    if " line " in text or expansion is None:
        return text
    for line in dialled.lines():
        if f"%{expansion[1]}" in line.value or f"${{{expansion[1]}}}" in line.value:
            return f"{line}: {text}"
    return text


__all__ = ["OPEN_CONNECT_FAILED", "Dialled", "closed_at_once", "reason"]
