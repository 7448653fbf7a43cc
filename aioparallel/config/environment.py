"""The settings that environment variables give: AIOPARALLEL_ and the setting's name in capitals.

Guarantees
    Every field of `Settings` has its variable, read as the field's annotation says. A text that does not read so goes to the setting's
    own check, which refuses it with the remedy. An empty variable counts as not set. A variable that is no setting is warned of once.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from .hosts import as_value
from .origins import Found, Origin
from .settings import Settings

__all__ = ["CONFIG", "from_environment"]

log = logging.getLogger("aioparallel")

PREFIX = "AIOPARALLEL_"
CONFIG = f"{PREFIX}CONFIG"
"""Names the file of `Pool.from_config()`; see `reading`."""
_INTERNAL = frozenset({f"{PREFIX}NONCE", CONFIG})
"""Not settings. The first one marks the processes of a pool."""
_warned: set[str] = set()


def from_environment() -> Found:
    """Return what the variables give. Raises ConfigError for hosts that cannot be."""
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    for variable, text in os.environ.items():
        if not variable.startswith(PREFIX) or variable in _INTERNAL:
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name not in Settings._fields or not variable.isupper():
            _warn(variable)
        elif text.strip():
            origins[name] = Origin(statement=f"{variable}={text}")
            values[name] = _read(name, text.strip(), origins[name])
    return Found(values=values, origins=origins)


def _read(name: str, text: str, origin: Origin) -> Any:
    default = getattr(Settings, name)
    if text.lower() == "none" and (default is None or default == ()):
        return default
    if name == "hosts":
        return _hosts(text, origin)
    kind = str(Settings.__annotations__[name]).removesuffix(" | None")
    return _READERS.get(kind, str)(text)


def _whole(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        return text


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _truth(text: str) -> Any:
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(text.lower(), text)


def _parts(text: str) -> tuple[str, ...]:
    return tuple([part for entry in text.split(",") if (part := entry.strip())])


_READERS: dict[str, Callable[[str], Any]] = {
    "Any": _whole, "bool | Any": _truth, "int": _whole, "float": _number, "tuple[str, ...]": _parts,
}  # fmt: skip


def _hosts(text: str, origin: Origin) -> tuple[Any, ...]:
    try:
        return tuple([as_value(address) for address in _parts(text)])
    except ValueError as error:
        raise origin.error(str(error)) from None


def _warn(variable: str) -> None:
    if variable in _warned:
        return
    _warned.add(variable)
    from difflib import get_close_matches

    known = [CONFIG.removeprefix(PREFIX), *map(str.upper, Settings._fields)]
    near = get_close_matches(variable.removeprefix(PREFIX).upper(), known, 1)
    advice = f"did you mean {PREFIX}{near[0]}?" if near else f"unset it; what may follow {PREFIX} is {', '.join(known)}"
    log.warning("the environment variable %s is no setting of aioparallel, and does nothing: %s", variable, advice)
