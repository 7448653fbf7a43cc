"""The settings of a pool: one frozen value, checked where it is given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any

from .._wire.records import Record
from .._worker.machine import usable_cpus
from .hosts import as_values

__all__ = ["Settings", "given", "unset"]


SELECTIONS = ("least-loaded", "round-robin", "weighted-random")
"""The names of the policies that need none of the program's own code."""


class Settings(Record):
    """Everything that `Pool(...)` takes, with what it is where nothing is said."""

    local: Any = None
    hosts: Any = ()
    """Values that have a name, each once; or an async iterable of HostAdded and HostRemoved."""
    name: str = "pool"
    seed: int | None = None
    preload: tuple[str, ...] = ()
    max_tasks_per_slot: int | None = None
    python: str | None = None
    reserve: int | None = None
    selection: Any = None
    backup: bool | Any = None
    heartbeat: float = 5.0
    orphan_after: float = 60.0
    lost_grace: float = 60.0
    ship: tuple[str, ...] = ()

    def __init__(self, **values: Any) -> None:
        if "hosts" in values:
            values["hosts"] = as_values(values["hosts"])
        if "preload" in values and isinstance(values["preload"], Iterable) and not isinstance(values["preload"], str):
            values["preload"] = tuple(values["preload"])
        if "ship" in values and isinstance(values["ship"], Iterable) and not isinstance(values["ship"], str):
            values["ship"] = tuple(values["ship"])
        if "name" in values and values["name"] is None:
            del values["name"]
        super().__init__(**values)
        self._check_types()
        self._check_ship()
        self._check_numbers()

    def _check_types(self) -> None:
        preload: Any = self.preload
        if not isinstance(preload, tuple):
            example = preload if isinstance(preload, str) else "numpy"
            raise TypeError(f"preload={preload!r}: give a list of module names, as in preload=[{example!r}]")
        if not all(isinstance(module, str) for module in preload):
            raise TypeError(f"preload={preload!r}: give the modules' names, as str")
        if not isinstance(self.name, str):
            raise TypeError(f"name={self.name!r}: give a str")
        if self.seed is not None and type(self.seed) is not int:
            raise TypeError(f"seed={self.seed!r}: give an int, or None to have one drawn")
        check_selection(self.selection)
        check_backup(self.backup)
        if self.python is not None and not isinstance(self.python, str):
            raise TypeError(f"python={self.python!r}: give the path of an interpreter, as a str")

    def _check_ship(self) -> None:
        ship: Any = self.ship
        if not isinstance(ship, tuple):
            raise TypeError(f"ship={ship!r}: give a list of module names, as in ship=[{ship if isinstance(ship, str) else 'mine'!r}]")
        if not all(isinstance(name, str) for name in ship):
            raise TypeError(f"ship={ship!r}: give the modules' names, as str")
        for name in ship:
            if not all(part.isidentifier() for part in name.removeprefix("-").split(".")):
                raise ValueError(f"ship= has {name!r}: give the name of a module (as in an import), with a minus before it to exclude it")
            if f"-{name}" in ship:
                raise ValueError(f"ship= has {name!r} and '-{name}': give one of them")

    def _check_numbers(self) -> None:
        local, most = self.local, self.max_tasks_per_slot
        if local == "serial" and self.hosts:
            raise ValueError('local="serial" runs everything in this process: give no hosts=')
        if local is not None and local != "serial" and (type(local) is not int or local < (0 if self.hosts else 1)):
            raise ValueError(
                f'local={local!r}: give the number of slots (1 or more), None for one per usable CPU, or "serial" (0 needs hosts=)'
            )
        if most is not None and (type(most) is not int or most < 1):
            raise ValueError(f"max_tasks_per_slot={most!r}: give a number of tasks (1 or more), or None for no limit")
        if self.reserve is not None and (type(self.reserve) is not int or self.reserve < 0):
            raise ValueError(f"reserve={self.reserve!r}: give a number of CPUs (0 or more), or None for 1 where there are hosts")
        for name in ("heartbeat", "orphan_after", "lost_grace"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value <= 0:
                raise ValueError(f"{name}={value!r}: give seconds above 0")
        if self.orphan_after < 2 * self.heartbeat:
            raise ValueError(
                f"orphan_after={self.orphan_after:g} with heartbeat={self.heartbeat:g}: a host that misses a word or two would end its "
                "work; give at least two heartbeats"
            )

    @property
    def serial(self) -> bool:
        """Whether tasks run in this process."""
        return bool(self.local == "serial")

    @property
    def local_slots(self) -> int:
        """How many slots there are on this machine."""
        if self.local is not None:
            return 1 if self.serial else int(self.local)
        reserve = self.reserve if self.reserve is not None else 1 if self.hosts else 0
        return max(1, usable_cpus() - reserve)


def check_selection(selection: object) -> None:
    """Raise TypeError or ValueError for what is no selection policy, nor the name of one."""
    if isinstance(selection, str) and selection not in SELECTIONS:
        raise ValueError(f"selection={selection!r}: give {', '.join(map(repr, SELECTIONS))}, or a policy")
    if not isinstance(selection, str) and selection is not None and not callable(selection):
        raise TypeError(f"selection={selection!r}: give a policy, as in selection='round-robin' or selection=policies.RoundRobin()")


def check_backup(backup: object) -> None:
    """Raise TypeError for what is no rule for backups."""
    if backup is None or isinstance(backup, bool) or callable(getattr(backup, "rule", None)) or callable(getattr(backup, "look", None)):
        return
    raise TypeError(f"backup={backup!r}: give True, a Backup(...), a rule of your own (an object with look(scene)), or None for no backups")


class Unset:
    """What stands in a signature for "not given": it prints as what holds then."""

    __slots__ = ("default",)

    def __init__(self, default: object) -> None:
        self.default = default

    def __repr__(self) -> str:
        return repr(self.default)


def unset(name: str) -> Any:
    """Return what stands for a setting that is not given."""
    return Unset(getattr(Settings, name))


def given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return those arguments that were given."""
    return {name: value for name, value in arguments.items() if not isinstance(value, Unset)}
