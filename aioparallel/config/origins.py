"""Where a setting was given, so that an error can say it: a line of a file, or an environment variable."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .._wire.records import Record
from ..errors import ConfigError

__all__ = ["Found", "Origin", "explained"]

_NAMED = re.compile(r"\b(\w+)=")


class Origin(Record):
    """The place of one setting."""

    statement: str
    """What stands there: `local = 4`, or `AIOPARALLEL_LOCAL=4`."""
    path: str | None = None
    """None: an environment variable."""
    line: int | None = None

    @property
    def place(self) -> str:
        """What messages call it."""
        return self.statement if self.path is None else f"{self.path}, line {self.line}"

    def error(self, problem: str) -> ConfigError:
        """Return the error that says what is wrong with what stands here."""
        where = self.statement if self.path is None else f"{self.place}: {self.statement}"
        return ConfigError(f"{where}: {problem}", self.path, self.line)

    def refusal(self, text: str, head: str) -> ConfigError:
        """Return the error for what a value's own check said: its text, which begins with `head` where it is about this value alone."""
        if not text.startswith(f"{head}: "):
            return ConfigError(f"{self.place}: {text}", self.path, self.line)
        remedy = text.removeprefix(f"{head}: ")
        return self.error(remedy if self.path is None else remedy.replace("None", "leave it out"))


class Found(Record):
    """Settings that a file or the environment gives, and where."""

    values: Mapping[str, Any]
    origins: Mapping[str, Origin]


def explained(error: Exception, values: Mapping[str, Any], origins: Mapping[str, Origin]) -> Exception:
    """Return what to raise for an error of `Settings(**values)`: itself, where it is about arguments alone.

    The texts of its checks call each setting that they are about `name=`, the first one first.
    """
    text = str(error)
    named = list(dict.fromkeys(name for name in _NAMED.findall(text) if name in values or name in origins))
    given = [name for name in named if name in origins]
    if not given:
        return error
    first = given[0]
    refusal = origins[first].refusal(text, f"{first}={values[first]!r}")
    others = [f"{name}=: {origins[name].place if name in origins else 'an argument'}" for name in named if name != first]
    if others:
        return ConfigError(f"{refusal} ({'; '.join(others)})", refusal.path, refusal.line)
    return refusal
