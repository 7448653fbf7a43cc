"""What a pool is told of hosts: a list of them, or news of those that come and go."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from typing import Any

from .._wire.records import Record
from .ssh import SSH

__all__ = ["HostAdded", "HostRemoved", "as_value", "as_values"]


class HostAdded(Record):
    """A provider of hosts says that there is one more; see `Pool(hosts=)`."""

    host: str | SSH | Any


class HostRemoved(Record):
    """A provider of hosts says that one is to be used no more."""

    name: str
    drain: bool = True
    """Whether what runs there may finish; else it is stopped and runs elsewhere."""


def as_value(host: Any) -> Any:
    """Return a host as a value that has a name. Raises TypeError for what cannot be one."""
    value = SSH(host) if isinstance(host, str) else host
    if not isinstance(value, SSH) and not (hasattr(value, "make") and hasattr(value, "name")):
        raise TypeError(f"hosts= takes names (as for ssh) and SSH(...), not {type(host).__qualname__}")
    return value


def as_values(hosts: Any) -> Any:
    """Return hosts as values, each once; a provider as it is. Raises TypeError and ValueError for what cannot be one."""
    if isinstance(hosts, str | SSH):
        raise TypeError(f"hosts={hosts!r}: give a list of hosts, as in hosts=[{hosts!r}]")
    if isinstance(hosts, AsyncIterable):
        return hosts
    if not isinstance(hosts, Iterable):
        raise TypeError(f"hosts={hosts!r}: give a list of hosts, or an async iterator of HostAdded and HostRemoved")
    values: list[Any] = []
    for host in hosts:
        value = as_value(host)
        if any(value.name == other.name for other in values):
            raise ValueError(f"hosts= names {value.name!r} twice: one entry serves any number of slots (SSH({value.name!r}, slots=...))")
        values.append(value)
    return tuple(values)
