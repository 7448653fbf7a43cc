"""`Backup`: when a task that runs late is given a second copy elsewhere. The first answer wins, the other copies are killed."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar, cast

from .._wire.records import Record

if TYPE_CHECKING:
    from .racing import Rule

__all__ = ["Backup"]

MOST_COPIES = 16
"""More copies of one task than that are a mistake."""


class Backup(Record):
    """Races originals against backups: `Pool(backup=Backup())`.

    The default rule has nothing to tune: it learns how long calls take and how fast hosts are, and starts a backup as soon as it is
    worth its slot. `Backup.hedge()` and the others are rules that are known from elsewhere, to compare with on one's own work.
    Raises ValueError for what is out of range.
    """

    max_copies: int = 3
    """Copies of one task that run at the same time, the original included."""
    max_extra_work: float = 0.1
    """Slot-seconds that losing backups may take, as a share of the useful ones."""

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        copies: Any = self.max_copies
        if type(copies) is not int or not 2 <= copies <= MOST_COPIES:
            raise ValueError(f"Backup(max_copies={copies!r}): give an int from 2 to {MOST_COPIES}, the original included")
        _check_share("Backup", "max_extra_work", self.max_extra_work, 1.0)

    def rule(self) -> Rule:
        """Return a new rule, which has seen nothing yet."""
        make = self.__dict__.get("make")
        if make is not None:
            return cast("Rule", make())
        from .rule import Racing  # what is not asked for costs no time

        return Racing(max_copies=self.max_copies, max_extra_work=self.max_extra_work)

    @classmethod
    def hedge(cls, quantile: float = 0.95, max_extra_work: float = 0.05) -> Backup:
        """Return: one backup for a copy that is older than a quantile of its function's calls (Dean and Barroso, CACM 2013)."""
        _check_share("Backup.hedge", "quantile", quantile, 1.0)
        _check_share("Backup.hedge", "max_extra_work", max_extra_work, 1.0)
        given = f"hedge(quantile={quantile!r}, max_extra_work={max_extra_work!r})"
        return _Preset.of(given, _maker("Hedge", quantile, max_extra_work), 2, max_extra_work)

    @classmethod
    def spark(cls, quantile: float = 0.75, multiplier: float = 1.5) -> Backup:
        """Return: with most of a batch done, one backup for what runs for longer than a multiple of the median (Apache Spark)."""
        _check_share("Backup.spark", "quantile", quantile, 1.0)
        if not _is_number(multiplier) or multiplier < 1.0:
            raise ValueError(f"Backup.spark(multiplier={multiplier!r}): give a number of medians, 1.0 or more")
        return _Preset.of(f"spark(quantile={quantile!r}, multiplier={multiplier!r})", _maker("Spark", quantile, multiplier), 2, 1.0)

    @classmethod
    def mapreduce(cls, remaining: float = 0.05) -> Backup:
        """Return: with little left and nothing waiting, one backup for everything that still runs (Dean and Ghemawat, OSDI 2004)."""
        _check_share("Backup.mapreduce", "remaining", remaining, 1.0)
        return _Preset.of(f"mapreduce(remaining={remaining!r})", _maker("MapReduce", remaining), 2, 1.0)

    @classmethod
    def reference(cls) -> Backup:
        """Return: every 5 s at most one backup, for the running task with the highest score by weight and age; then none for 9 s."""
        return _Preset.of("reference()", _maker("Reference"), 4, 1.0)


class _Preset(Backup):
    """A Backup that makes another rule."""

    kind: ClassVar[str] = ""

    @classmethod
    def of(cls, kind: str, make: Callable[[], Rule], copies: int, extra: float) -> Backup:
        preset = cls(max_copies=copies, max_extra_work=extra)
        preset.__dict__.update(kind=kind, make=make)
        return preset

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Preset) and self.kind == other.kind

    def __hash__(self) -> int:
        return hash(self.kind)

    def __repr__(self) -> str:
        return f"Backup.{self.kind}"


def _maker(name: str, *values: float) -> Callable[[], Rule]:
    """Return what makes a preset's rule."""

    def make() -> Rule:
        from . import presets

        return cast("Rule", getattr(presets, name)(*values))

    return make


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)


def _check_share(where: str, name: str, value: Any, most: float) -> None:
    if not _is_number(value) or not 0.0 < value <= most:
        raise ValueError(f"{where}({name}={value!r}): give a share above 0.0, at most {most}")
