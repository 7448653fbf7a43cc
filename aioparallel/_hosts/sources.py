"""The user's own modules, as source, for hosts where they are not installed.

A module is the user's own if it is no part of Python and not installed in a folder of packages: a script's neighbours, a project on
`sys.path`, an editable install. What is installed here must be installed there, unless `ship=` names it.

How it works
    Nothing is imported here on behalf of a far host: specs are looked up, parent by parent, and files are read.
"""

from __future__ import annotations

import ast
import os
import site
import sys
import sysconfig
from collections.abc import Iterable
from functools import cache, lru_cache
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from types import ModuleType
from typing import NamedTuple

from ..errors import UsageError

MAX_SOURCE = 1 << 24
"""Bytes of one module; a larger one does not travel."""
_NEVER = frozenset({"__main__", "__mp_main__", "aioparallel", "cloudpickle", *sys.stdlib_module_names})


class Source(NamedTuple):
    """One module as it travels."""

    name: str
    path: str
    is_package: bool
    text: bytes


@cache
def _installed() -> tuple[str, ...]:
    """Return the folders of what is installed, each with a separator at its end."""
    folders = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    folders.update(site.getsitepackages())
    folders.add(site.getusersitepackages())
    return tuple(os.path.join(os.path.realpath(folder), "") for folder in folders if folder)


def is_own(spec: ModuleSpec | None) -> bool:
    """Return whether a module is the user's own and can travel as source."""
    return spec is not None and _may_travel(spec) and not any(map(_is_installed, _places(spec)))


def _places(spec: ModuleSpec) -> list[str]:
    """Return where a module is; a namespace package is in several folders."""
    if spec.origin is None or not spec.has_location:
        return list(spec.submodule_search_locations or ())
    return [spec.origin]


def _may_travel(spec: ModuleSpec) -> bool:
    """Return whether a module is source, and no part of Python or of ours."""
    if spec.name.partition(".")[0] in _NEVER:
        return False
    return spec.origin.endswith(".py") if spec.origin is not None and spec.has_location else bool(_places(spec))


@lru_cache(1 << 14)
def _is_installed(path: str) -> bool:
    return os.path.join(os.path.realpath(path), "").startswith(_installed())


def find(name: str) -> ModuleSpec | None:
    """Return a module's spec, without importing anything."""
    loaded = sys.modules.get(name)
    if isinstance(loaded, ModuleType) and loaded.__spec__ is not None:
        return loaded.__spec__
    parent = name.rpartition(".")[0]
    path = None
    if parent:
        above = find(parent)
        if above is None or above.submodule_search_locations is None:
            return None
        path = list(above.submodule_search_locations)
    for finder in sys.meta_path:
        search = getattr(finder, "find_spec", None)
        try:
            spec = search(name, path) if search is not None else None
        except KeyError:  # a namespace package below one that is not loaded, which Python cannot look up
            spec = _namespace(name, path or [])
        if spec is not None:
            return spec  # type: ignore[no-any-return]
    return None


def _namespace(name: str, path: list[str]) -> ModuleSpec | None:
    places = [place for folder in path if os.path.isdir(place := os.path.join(folder, name.rpartition(".")[2]))]
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = places
    return spec if places else None


def read(spec: ModuleSpec) -> Source | None:
    """Return a module as it travels; None where it cannot be read, or is too large."""
    is_package = spec.submodule_search_locations is not None
    if spec.origin is None or not spec.has_location:
        return Source(spec.name, "", is_package, b"")
    try:
        with open(spec.origin, "rb") as file:
            text = file.read(MAX_SOURCE + 1)
    except OSError:
        return None
    return Source(spec.name, spec.origin, is_package, text) if len(text) <= MAX_SOURCE else None


class Selection:
    """Which modules travel: the user's own, and as `ship=` says."""

    def __init__(self, ship: Iterable[str] = ()) -> None:
        """ship: names of modules; "-name" excludes one and everything below it. The longest name that fits decides."""
        self._added = frozenset(name for name in ship if not name.startswith("-"))
        self._excluded = frozenset(name[1:] for name in ship if name.startswith("-"))

    def check(self) -> None:
        """Raise UsageError for a name that `ship=` adds and that cannot travel."""
        for name in sorted(self._added):
            spec = find(name)
            if spec is None:
                raise UsageError(f"ship= names {name!r}, and there is no such module here")
            wrong = _why_it_cannot(spec) or _extension_below(spec)
            if wrong:
                raise UsageError(f"ship= names {name!r}, which cannot travel as source: {wrong}; install it on the hosts instead")

    def takes(self, spec: ModuleSpec | None) -> bool:
        """Return whether a module travels."""
        if spec is None:
            return False
        said = self._said(spec.name)
        return is_own(spec) if said is None else said and _may_travel(spec)

    def _said(self, name: str) -> bool | None:
        """Return what `ship=` says of a module."""
        while name:
            if name in self._added:
                return True
            if name in self._excluded:
                return False
            name = name.rpartition(".")[0]
        return None

    def roots(self) -> frozenset[str]:
        """Return the top-level names of modules that travel: those that are loaded, and those that `ship=` adds."""
        loaded = (name for name, module in list(sys.modules.items()) if "." not in name and self.takes(getattr(module, "__spec__", None)))
        return frozenset(loaded) | {name.partition(".")[0] for name in self._added}

    def why_not(self, name: str) -> str:
        """Say why a module does not travel that is the user's, or that is not here either, and what to do; nothing for any other."""
        kept = "and yours does not travel"
        if self._said(name) is False:
            return f"{kept}: ship= excludes it: install it there, or name it in ship= without the minus"
        spec = find(name)
        if spec is None and name in sys.modules:
            return f"{kept}: it was made while the program ran, from no file: put it into one"
        if spec is None:
            return (
                "nor is there one at the controller: is its name right? If so, install it there, or name another interpreter with python="
            )
        if name.partition(".")[0] in _NEVER or any(map(_is_installed, _places(spec))):
            return ""
        wrong = _why_it_cannot(spec)
        return wrong and f"{kept}: {wrong}: install it there"


def _why_it_cannot(spec: ModuleSpec) -> str:
    """Return why a module cannot travel; nothing if it can."""
    if spec.name.partition(".")[0] in _NEVER:
        return "it is a part of Python" if spec.name.partition(".")[0] in sys.stdlib_module_names else "the pool sees to that itself"
    if not _may_travel(spec):
        return f"it is no Python source but {spec.origin or 'made by a loader of its own'}"
    if spec.origin is None or not spec.has_location or read(spec) is not None:
        return ""
    try:
        return f"its source has {os.path.getsize(spec.origin):,} bytes, more than {MAX_SOURCE:,}"
    except OSError as error:
        return f"its source cannot be read ({error})"


def _extension_below(spec: ModuleSpec) -> str:
    """Return which extension module a package has, if any."""
    for place in spec.submodule_search_locations or ():
        for folder, _, files in os.walk(place):
            for file in sorted(files):
                if file.endswith(tuple(EXTENSION_SUFFIXES)):
                    return f"it has the extension module {os.path.join(folder, file)}"
    return ""


def needed_by(names: list[str], selection: Selection | None = None) -> list[Source]:
    """Return those of these modules that travel, and whatever travels of what they name in import statements."""
    selection = selection or Selection()
    found: dict[str, Source] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        parent = name.rpartition(".")[0]
        if parent:
            waiting.append(parent)
        spec = find(name) if name not in found else None
        source = read(spec) if spec is not None and selection.takes(spec) else None
        if source is not None:
            found[name] = source
            waiting += _imported(source)
    return list(found.values())


def _imported(source: Source) -> list[str]:
    """Return the names that a module's import statements may mean."""
    try:
        tree = ast.parse(source.text)
    except (SyntaxError, ValueError):
        return []  # its import will say so
    package = source.name if source.is_package else source.name.rpartition(".")[0]
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - (node.level - 1)] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return [name for name in names if name]


__all__ = ["Selection", "Source", "find", "is_own", "needed_by", "read"]
