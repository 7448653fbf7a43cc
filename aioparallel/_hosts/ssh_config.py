"""Lines of the user's ssh configuration that ssh obeys and asyncssh does not know: where one explains a failure, the error names it.

How it works
    The files are read as ssh_config(5) says, as far as one can tell without running anything: a block under a `Match` with a condition
    other than all, host, originalhost, user and localuser is passed over, so that nothing innocent is named.
"""

from __future__ import annotations

import getpass
import glob
import os
import shlex
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from importlib.util import find_spec
from typing import NamedTuple

MAX_DEPTH = 16
"""Of files that include each other, as in OpenSSH (READCONF_MAX_DEPTH)."""

AUTH, HOST_KEY, CONNECTION = "auth", "host key", "connection"
"""Kinds of failures."""


def _always(value: str) -> bool:
    return bool(value)


def _set(value: str) -> bool:
    return value.lower() not in ("", "no", "none", "false", "off")


def _loose(value: str) -> bool:
    return value.lower() in ("no", "off", "accept-new")


def _without(package: str) -> Callable[[str], bool]:
    return lambda value: _set(value) and find_spec(package) is None


IGNORED: dict[str, tuple[str, tuple[str, ...], Callable[[str], bool], str]] = {
    "knownhostscommand": ("KnownHostsCommand", (HOST_KEY,), _set, ""),
    "stricthostkeychecking": ("StrictHostKeyChecking", (HOST_KEY,), _loose, "host keys are always checked"),
    "verifyhostkeydns": ("VerifyHostKeyDNS", (HOST_KEY,), _set, ""),
    "nohostauthenticationforlocalhost": ("NoHostAuthenticationForLocalhost", (HOST_KEY,), _set, ""),
    "controlpath": ("ControlPath", (AUTH, CONNECTION), _set, "a connection that ssh keeps open is not used"),
    "securitykeyprovider": ("SecurityKeyProvider", (AUTH,), _set, ""),
    "addkeystoagent": ("AddKeysToAgent", (AUTH,), _set, "run ssh-add yourself"),
    "usekeychain": ("UseKeychain", (AUTH,), _set, "run ssh-add yourself"),
    "pubkeyacceptedalgorithms": ("PubkeyAcceptedAlgorithms", (AUTH,), _always, ""),
    "pubkeyacceptedkeytypes": ("PubkeyAcceptedKeyTypes", (AUTH,), _always, ""),
    "pkcs11provider": ("PKCS11Provider", (AUTH,), _without("pkcs11"), "install the package python-pkcs11"),
    "gssapiauthentication": ("GSSAPIAuthentication", (AUTH,), _without("gssapi"), "install the package gssapi"),
    "gssapikeyexchange": ("GSSAPIKeyExchange", (AUTH, HOST_KEY), _without("gssapi"), "install the package gssapi"),
    "proxyusefdpass": ("ProxyUseFdpass", (CONNECTION,), _set, ""),
    "bindinterface": ("BindInterface", (CONNECTION,), _set, ""),
    "connectionattempts": ("ConnectionAttempts", (CONNECTION,), lambda value: value != "1", ""),
}  # fmt: skip
"""By keyword: how it is spelled, the kinds of failures it may explain, with which values, and what to do.

Keywords of ssh_config(5) that `asyncssh.config.SSHClientConfig` does not have, or has but cannot keep without another package.
"""


class Line(NamedTuple):
    """A line that applies to a host."""

    path: str
    number: int
    keyword: str
    """In small letters."""
    value: str

    def __str__(self) -> str:
        return f"{shown(self.path)} line {self.number}"


def shown(path: str) -> str:
    """Return a path as people write it."""
    home = os.path.expanduser("~") + os.sep
    return f"~/{path[len(home) :]}" if path.startswith(home) else path


def lines_for(files: Sequence[str], host: str, user: str | None = None) -> list[Line]:
    """Return the lines of ssh configuration files that apply to a host, named as the user names it. Files that cannot be read: none."""
    reader = _Reader(host, user)
    for file in files:
        reader.read(os.path.expanduser(file), 0)
    return reader.lines


def excuses(lines: Sequence[Line], kind: str) -> str:
    """Return, in brackets, which lines ssh would have obeyed and what may be missing therefore; nothing if there are none."""
    found: list[str] = []
    for line in lines:
        name, kinds, matters, remedy = IGNORED.get(line.keyword, ("", (), _always, ""))
        if kind in kinds and matters(line.value):
            found.append(f"{line}: {name} is not supported here{remedy and f', {remedy}'}")
    return f" ({'; '.join(found)})" if found else ""


class _Reader:
    def __init__(self, host: str, user: str | None) -> None:
        self._host = host
        self._user = user
        self.lines: list[Line] = []

    def read(self, path: str, depth: int) -> None:
        try:
            with open(path, errors="replace") as file:
                texts = file.readlines()
        except OSError:
            return
        applies = True
        for number, text in enumerate(texts, 1):
            keyword, value = _split(text)
            if keyword == "host":
                applies = _matches(self._host, value.split())
            elif keyword == "match":
                applies = self._match(value)
            elif applies and keyword == "include":
                for pattern in _words(value):
                    place = os.path.join(os.path.expanduser("~/.ssh"), os.path.expanduser(pattern))
                    for included in sorted(glob.glob(place)) if depth < MAX_DEPTH else ():
                        self.read(included, depth + 1)
            elif applies and keyword:
                self._add(Line(path, number, keyword, value))

    def _add(self, line: Line) -> None:
        self.lines.append(line)
        if line.keyword == "user" and self._user is None:
            self._user = line.value

    def _match(self, condition: str) -> bool:
        words = _words(condition)
        while words:
            word = words.pop(0).lower()
            negated, word = word.startswith("!"), word.removeprefix("!")
            if word == "all":
                result = True
            elif word in ("host", "originalhost", "user", "localuser") and words:
                result = _matches(self._value(word), words.pop(0).split(","))
            else:
                return False
            if result == negated:
                return False
        return True

    def _value(self, word: str) -> str:
        if word == "user":
            return self._user or getpass.getuser()
        if word == "localuser":
            return getpass.getuser()
        if word == "host":
            return next((line.value for line in self.lines if line.keyword == "hostname"), self._host)
        return self._host


def _split(text: str) -> tuple[str, str]:
    """Return the keyword, in small letters, and what it is given; nothing and nothing for a comment."""
    text = text.strip()
    if not text or text.startswith("#"):
        return "", ""
    keyword, *rest = text.replace("=", " ", 1).split(None, 1) if "=" in text.split(None, 1)[0] else text.split(None, 1)
    value = rest[0].removeprefix("=").strip() if rest else ""
    return keyword.lower(), value[1:-1] if value.count('"') == 2 and value[0] == value[-1] == '"' else value


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """Return whether a list of patterns, some negated, means a name."""
    if any(pattern.startswith("!") and fnmatchcase(name, pattern[1:]) for pattern in patterns):
        return False
    return any(fnmatchcase(name, pattern) for pattern in patterns if not pattern.startswith("!"))


__all__ = ["AUTH", "CONNECTION", "HOST_KEY", "IGNORED", "Line", "excuses", "lines_for", "shown"]
