"""What holds in the end: arguments, then environment variables, then the file (where one was asked for), then what is built in.

Guarantees
    Each setting is taken whole from the first of these that gives it: hosts are not added up. An error in what a file or a variable
    gives says where it stands.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .environment import from_environment
from .origins import Found, explained
from .settings import Settings

__all__ = ["read_config", "settled", "with_file"]


def settled(arguments: Mapping[str, Any], file: Found | None = None) -> Settings:
    """Return the settings of a pool that was given these arguments.

    Raises what `Settings` raises for the arguments, and ConfigError for what a variable or the file says.
    """
    found = from_environment()
    layers = (file, found) if file is not None else (found,)
    values = {name: value for layer in layers for name, value in layer.values.items()}
    origins = {name: origin for layer in layers for name, origin in layer.origins.items() if name not in arguments}
    values.update(arguments)
    return _made(values, origins)


def with_file(path: str | os.PathLike[str] | None, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments for `Pool`, with what the variables and the file give besides. Raises ConfigError; see `read_config`."""
    from .reading import read  # not needed by who has no file

    file = read(path)
    known = {name: value for name, value in arguments.items() if name in Settings._fields}
    settings = settled(known, file)
    return {**arguments, **{name: getattr(settings, name) for name in Settings._fields if name in vars(settings)}}


def read_config(path: str | os.PathLike[str] | None = None) -> Settings:
    """Return the settings that a configuration file gives by itself, with neither arguments nor variables.

    path: None: the file that `Pool.from_config()` finds. Raises ConfigError for a file that is not there, or cannot be used.
    """
    from .reading import read

    file = read(path)
    return _made(file.values, file.origins)


def _made(values: Mapping[str, Any], origins: Mapping[str, Any]) -> Settings:
    try:
        return Settings(**values)
    except (TypeError, ValueError) as error:
        better = explained(error, values, origins)
        if better is error:
            raise
        raise better from None
