"""What a pool may be told besides its options: hosts, as plain values. See `Pool`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ._wire.records import Record

__all__ = ["SSH", "as_values", "check_arguments", "check_types"]

_IN_A_PATH = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+/~")


class SSH(Record):
    """A machine that `ssh` reaches, as `Pool(hosts=...)` takes it. What is not given comes from the user's ssh configuration."""

    address: str
    """A host name, or an alias of the ssh configuration; `user@name:port` too."""
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
        super().__init__(address=address, **values)
        self._check()

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

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.address

    def parts(self) -> tuple[str, str | None, int | None]:
        """Return (host, user, port) of the address and the fields. Raises ValueError for a port that is none."""
        user, at, host = self.address.rpartition("@")
        host, colon, port = host.rpartition(":") if ":" in host and not host.endswith("]") else (host, "", "")
        if colon and not port.isdigit():
            raise ValueError(f"SSH({self.address!r}): {port!r} is no port; give user@name:port")
        return host.strip("[]"), self.user or (user if at else None), self.port or (int(port) if colon else None)


def as_values(hosts: Iterable[Any]) -> tuple[Any, ...]:
    """Return hosts as values, each once. Raises TypeError and ValueError for what cannot be one."""
    if isinstance(hosts, str | SSH):
        raise TypeError(f"hosts={hosts!r}: give a list of hosts, as in hosts=[{hosts!r}]")
    values: list[Any] = []
    for host in hosts:
        value = SSH(host) if isinstance(host, str) else host
        if not isinstance(value, SSH) and not hasattr(value, "make"):
            raise TypeError(f"hosts= takes names (as for ssh) and SSH(...), not {type(host).__qualname__}")
        if any(value.name == other.name for other in values):
            raise ValueError(f"hosts= names {value.name!r} twice: one entry serves any number of slots (SSH({value.name!r}, slots=...))")
        values.append(value)
    return tuple(values)


def check_arguments(local: Any, max_tasks_per_slot: Any, hosts: Any) -> None:
    """Raise ValueError for numbers that cannot be."""
    if local == "serial" and hosts:
        raise ValueError('local="serial" runs everything in this process: give no hosts')
    if local is not None and local != "serial" and (type(local) is not int or local < (0 if hosts else 1)):
        raise ValueError(f'local={local!r}: give the number of slots (1 or more), None for one per usable CPU, or "serial"')
    if max_tasks_per_slot is not None and (type(max_tasks_per_slot) is not int or max_tasks_per_slot < 1):
        raise ValueError(f"max_tasks_per_slot={max_tasks_per_slot!r}: give a number of tasks (1 or more), or None for no limit")


def check_types(name: Any, seed: Any, preload: Any, python: Any) -> None:
    """Raise TypeError for what is of the wrong type."""
    if isinstance(preload, str):
        raise TypeError(f"preload={preload!r}: give a list of module names, as in preload=[{preload!r}]")
    if not all(isinstance(module, str) for module in preload):
        raise TypeError(f"preload={preload!r}: give the modules' names, as str")
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name={name!r}: give a str")
    if seed is not None and type(seed) is not int:
        raise TypeError(f"seed={seed!r}: give an int, or None to have one drawn")
    if python is not None and not isinstance(python, str):
        raise TypeError(f"python={python!r}: give the path of an interpreter, as a str")
