"""A machine that `ssh` reaches, as a plain value."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike, fspath
from typing import Any

from .._wire.records import Record

__all__ = ["SSH"]

_IN_A_PATH = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+/~")


class SSH(Record):
    """A machine that `ssh` reaches, as `Pool(hosts=...)` takes it. What is not given comes from the user's ssh configuration."""

    address: str
    """A host name, or an alias of the ssh configuration; `user@name:port` too. An IPv6 address with a port: `[address]:port`."""
    slots: int | None = None
    """How many; None: one for each CPU it may use."""
    weight: float = 1.0
    """How fast one of its slots is, against one of weight 1."""
    labels: Mapping[str, str] = {}
    """Anything that `pool.options(labels=...)` may ask for."""
    python: str | None = None
    """The interpreter there; None: `pythonX.Y` of the controller's version, else python3."""
    env: Mapping[str, str] = {}
    """Environment variables for its slots."""
    cwd: str | None = None
    """The working folder of its slots; None: the home folder."""
    user: str | None = None
    port: int | None = None
    keys: tuple[str, ...] = ()
    """Files with private keys."""
    known_hosts: str | None = None
    """A file with the keys of known hosts; None: as the ssh configuration says."""
    jump: str | None = None
    """A host to go through, as `ssh -J` takes it."""
    config: str | None = None
    """An ssh_config file instead of the user's."""

    def __init__(self, address: str, **values: Any) -> None:
        for name in ("known_hosts", "config"):
            if isinstance(path := values.get(name), PathLike):
                values[name] = fspath(path)
        if isinstance(keys := values.get("keys"), list | tuple):
            values["keys"] = tuple([fspath(key) if isinstance(key, PathLike) else key for key in keys])
        super().__init__(address=address, **values)
        self._check_shapes()
        self._check()
        self._check_way()

    def _check_shapes(self) -> None:
        if not isinstance(self.address, str):
            raise TypeError(f"SSH({self.address!r}): give the name of a host, as a str")
        shown = f"SSH({self.address!r}, "
        for name in ("python", "cwd", "user", "known_hosts", "jump", "config"):
            value: Any = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise TypeError(f"{shown}{name}={value!r}): give a str, or None")
        keys: Any = self.keys
        if not isinstance(keys, tuple) or not all(isinstance(key, str) for key in keys):
            raise TypeError(f'{shown}keys={keys!r}): give a list of files, as in keys=["~/.ssh/id_ed25519"]')
        for name, example in (("labels", {"gpu": "yes"}), ("env", {"OMP_NUM_THREADS": "1"})):
            pairs: Any = getattr(self, name)
            if not isinstance(pairs, Mapping) or not all(isinstance(text, str) for pair in pairs.items() for text in pair):
                raise TypeError(f"{shown}{name}={pairs!r}): give names and values, both str, as in {name}={example}")

    def _check(self) -> None:
        if not self.address or self.address.startswith("-"):
            raise ValueError(f"SSH({self.address!r}): give the name of a host, or user@name:port")
        if self.slots is not None and (type(self.slots) is not int or self.slots < 1):
            raise ValueError(f"SSH({self.address!r}, slots={self.slots!r}): give a number of slots (1 or more), or None")
        weight: Any = self.weight
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
            raise ValueError(f"SSH({self.address!r}, weight={self.weight!r}): give a number above 0")
        if self.port is not None and (type(self.port) is not int or not 0 < self.port < 65536):
            raise ValueError(f"SSH({self.address!r}, port={self.port!r}): give a port (1 to 65535), or None")
        if self.python is not None and not (self.python and set(self.python) <= _IN_A_PATH):
            raise ValueError(
                f"SSH({self.address!r}, python={self.python!r}): give a path of letters, digits and . _ - + / ~ (it meets a shell)"
            )

    def _check_way(self) -> None:
        host, user, _ = self.parts()
        if not host or user == "" or any(sign.isspace() or not sign.isprintable() for sign in self.address):
            raise ValueError(f"SSH({self.address!r}): give the name of a host, or user@name:port")
        for hop in [] if self.jump is None else self.jump.split(","):
            host, colon, port = hop.rpartition("@")[2].partition(":")
            if not host or any(map(str.isspace, hop)) or (colon and _port(port) is None and "[" not in hop):
                raise ValueError(f"SSH({self.address!r}, jump={self.jump!r}): give user@name:port, several with commas, or None")
        for name, text in self.env.items():
            if not name or "=" in name or "\0" in name + text:
                raise ValueError(f"SSH({self.address!r}, env={dict(self.env)!r}): {name!r} cannot be a variable: leave it out")

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.address

    def parts(self) -> tuple[str, str | None, int | None]:
        """Return (host, user, port) of the address and the fields. Raises ValueError for a port that is none."""
        user, at, host = self.address.rpartition("@")
        name, colon, port = host.rpartition(":") if host.count(":") == 1 or "]:" in host else (host, "", "")
        if colon and _port(port) is None:
            raise ValueError(f"SSH({self.address!r}): {port!r} is no port; give user@name:port")
        return name.strip("[]"), self.user or (user if at else None), self.port or (_port(port) if colon else None)


def _port(text: str) -> int | None:
    """Return the port that a text is; None where it is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 6 and 0 < int(text) < 65536 else None
