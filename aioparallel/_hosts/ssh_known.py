"""What known_hosts files say of a host, line by line: an unknown host key is one thing, a changed one another.

asyncssh refuses both in the same words.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import NamedTuple

import asyncssh

from .ssh_config import shown

SSH_PORT = 22
SYSTEM_FILES = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2", "~/.ssh/known_hosts2")
"""ssh reads these too, where its configuration names no others; asyncssh does not."""


class Seen(NamedTuple):
    """A key that a host showed, and as whom."""

    host: str
    """Its name, or its HostKeyAlias."""
    address: str
    port: int
    key: asyncssh.SSHKey | None
    """None: it is not known which."""

    @property
    def names(self) -> list[str]:
        """What known_hosts files may call it."""
        plain = [name for name in dict.fromkeys((self.host, self.address)) if name]
        return plain if self.port == SSH_PORT else [f"[{name}]:{self.port}" for name in plain] + plain


class Entry(NamedTuple):
    """A line of a known_hosts file which is about a host."""

    path: str
    number: int
    name: str
    """Which of the host's names it is about."""
    kind: str
    """"key", "ca" or "revoked"."""
    key: asyncssh.SSHKey

    def __str__(self) -> str:
        return f"{shown(self.path)} line {self.number}"


def known_hosts_files(options: asyncssh.SSHClientConnectionOptions) -> list[str]:
    """Return the files that a connection with these options looks into."""
    known = options.known_hosts
    if isinstance(known, str):
        return [os.path.expanduser(known)]
    files = [os.path.expanduser(path) for path in known if isinstance(path, str)] if isinstance(known, list) else []
    return files or [os.path.expanduser("~/.ssh/known_hosts")]


def entries(files: Sequence[str], seen: Seen) -> list[Entry]:
    """Return the lines which are about a host: those for its port if there are any, else those for no port. Bad lines are passed over."""
    found: list[Entry] = []
    for path in files:
        try:
            with open(os.path.expanduser(path), errors="replace") as file:
                texts = file.read().splitlines()
        except OSError:
            continue
        for number, text in enumerate(texts, 1):
            found += _entries_of(text, os.path.expanduser(path), number, seen.names)
    exact = [entry for entry in found if entry.name.startswith("[")]
    return exact or found


def _entries_of(text: str, path: str, number: int, names: Sequence[str]) -> list[Entry]:
    try:
        known = asyncssh.import_known_hosts(text)
    except (ValueError, UnicodeError):
        return []
    for name in names:
        keys, authorities, revoked, *_ = known.match(name, "", None)
        found = [("key", key) for key in keys] + [("ca", key) for key in authorities] + [("revoked", key) for key in revoked]
        if found:
            return [Entry(path, number, name, kind, key) for kind, key in found]
    return []


def why_not(files: Sequence[str], seen: Seen, text: str) -> str:
    """Say why a host key was refused, and what to do. `text` is asyncssh's."""
    about = entries(files, seen)
    if "revoked" in text:
        where = _list([str(entry) for entry in about if entry.kind == "revoked"]) or "a known_hosts file"
        return f"its host key is revoked, as {where} says: nobody should log in before it has another; ask who runs it"
    others = [entry for entry in about if entry.kind == "key"]
    return _changed(others, seen) if others else _unknown(files, seen, text)


def _changed(others: list[Entry], seen: Seen) -> str:
    shows = f"it shows {_fingerprint(seen.key)}" if seen.key is not None else "it shows another"
    where, name = _list([str(entry) for entry in others]), shlex.quote(others[0].name)
    forget = "; ".join(f"ssh-keygen -R {name} -f {shlex.quote(path)}" for path in dict.fromkeys(entry.path for entry in others))
    return (
        f"its host key has changed: {where} {'has' if len(others) == 1 else 'have'} another key for {seen.host}, and {shows}. Somebody may "
        f"be in between, or the machine was installed anew: ask who runs it. Only if the new key is right, forget the old one with "
        f"`{forget}` and run `ssh` to it once"
    )


def _unknown(files: Sequence[str], seen: Seen, text: str) -> str:
    shows = f"it shows {_fingerprint(seen.key)}; " if seen.key is not None else ""
    target = seen.host if seen.port == SSH_PORT else f"-p {seen.port} {seen.host}"
    looked = _list([shown(file) for file in files])
    unread = [str(entry) for entry in entries(SYSTEM_FILES, seen) if entry.key == seen.key] if seen.key is not None else []
    if unread:
        looked += f"; {_list(unread)} has it, but such a file is read only if the ssh configuration names it in UserKnownHostsFile"
    return (
        f"its host key is not known ({text[:1].lower() + text[1:]}; {shows}looked for in {looked}): run `ssh {target}` once and compare "
        f"the fingerprint, or add what `ssh-keyscan {target}` prints when you know it to be right"
    )


def other_kind(files: Sequence[str], seen: Seen) -> str:
    """Say that a host has no key of a kind that is known of it; nothing if none is known of it."""
    about = [entry for entry in entries(files, seen) if entry.kind == "key"]
    if not about:
        return ""
    kinds = ", ".join(sorted({entry.key.get_algorithm() for entry in about}))
    return why_not(files, seen, "").replace("it shows another", f"it seems to have none of that kind ({kinds}) any more")


def _fingerprint(key: asyncssh.SSHKey) -> str:
    return f"{key.get_algorithm()} {key.get_fingerprint()}"


def _list(words: Sequence[str]) -> str:
    return " and ".join(words)


__all__ = ["Seen", "known_hosts_files", "other_kind", "why_not"]
