"""A configuration file: where it is looked for, and what it gives, with the line of everything.

How it works
    `tomllib` reads the values and `lines` finds where they stand; the fields of `Settings` and `SSH` say what may be given, and their own
    checks what is right. A path in the file is relative to the file's folder.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterable
from typing import Any

from ..errors import ConfigError
from .environment import CONFIG
from .lines import Path, lines_of
from .origins import Found, Origin
from .settings import Settings
from .ssh import SSH

__all__ = ["find", "read"]

NAME = "aioparallel.toml"
ROOT_MARKS = (".git", "pyproject.toml")
"""What makes a folder the root of a project: above it nothing is looked for."""
LOCAL_FILES = ("keys", "known_hosts", "config")
"""The fields of SSH which are files of this machine."""
SHOWN_LENGTH = 60
_SYNTAX = re.compile(r"(?P<problem>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)", re.DOTALL)
_REMEDIES = (
    (r"overwrite|twice|[Dd]uplicate|redefine|mutate", "each name stands once: leave one of them out"),
    (r"Unescaped|Invalid hex|escape", "write text with backslashes in single quotes, as in 'a\\b'"),
    (r"Unterminated|Illegal character", "end a text with the quote that it began with, on the same line"),
    (r"Unclosed array|'\]'", "close every [ with a ]"),
    (r"Unclosed inline table", "close every { with a }, on the same line"),
    (
        r"Invalid initial|after a key",
        "write name = value, a name of letters, digits, _ and -; an inline table { ... } is one line",
    ),
    (r"Invalid value", 'write text in quotes, as in name = "census", numbers without, and true and false in small letters'),
    (r"", 'write one name = value on each line, text in quotes: name = "census"'),
)
"""For what tomllib says: the first that fits."""


def read(path: str | os.PathLike[str] | None) -> Found:
    """Return what a file gives; None: the one that is found. Raises ConfigError with the place and the remedy for all that is wrong."""
    file = find(path)
    return _File(file, _text(file, "" if path is not None or not os.environ.get(CONFIG) else f"{CONFIG} names it: ")).found()


def find(path: str | os.PathLike[str] | None) -> str:
    """Return the path of the file to read.

    None: AIOPARALLEL_CONFIG, else the nearest `aioparallel.toml` from the working folder up to the project's root, else
    `aioparallel/config.toml` in the user's configuration folder (XDG Base Directory Specification). Raises ConfigError for none.
    """
    if path is not None or os.environ.get(CONFIG):
        return os.path.expanduser(os.fsdecode(os.environ[CONFIG] if path is None else path))
    places = [os.path.join(folder, NAME) for folder in _project_folders()]
    for place in places:
        if os.path.lexists(place):
            _check_owner(place)
            return os.path.relpath(place) if place == places[0] else place
    of_user = os.path.join(_user_folder(), "aioparallel", "config.toml")
    if os.path.lexists(of_user):
        return of_user
    raise ConfigError(
        f"no configuration file; looked for {', '.join([*places, of_user])}: write one, or name one with from_config(path) or {CONFIG}"
    )


def _project_folders() -> list[str]:
    try:
        folder = os.getcwd()
    except FileNotFoundError:  # it was removed under us
        return []
    folders = [folder]
    while not any(os.path.lexists(os.path.join(folder, mark)) for mark in ROOT_MARKS) and folder != (above := os.path.dirname(folder)):
        folder = above
        folders.append(folder)
    return folders


def _user_folder() -> str:
    named = os.environ.get("XDG_CONFIG_HOME", "")
    return named if os.path.isabs(named) else os.path.expanduser("~/.config")  # the specification: a relative path is ignored


def _check_owner(place: str) -> None:
    """Refuse what another user may have left above the working folder, in /tmp say: a file names programs that are run."""
    owner = os.lstat(place).st_uid
    if owner not in (0, os.geteuid()):
        raise ConfigError(
            f"{place} belongs to another user (uid {owner}): if you trust it, name it with from_config(path) or {CONFIG}", place
        )


def _text(path: str, named: str) -> str:
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):  # a pipe, say, from which nothing ever comes
        raise ConfigError(f"{path}: {named}it is no file: give the path of a TOML file, or None to look for {NAME}", path)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        problem = f"{path}: {named}it cannot be read ({error.strerror}): give the path of a TOML file, or None to look for {NAME}"
        raise ConfigError(problem, path) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: byte {data[error.start]:#x} is not UTF-8: save the file as UTF-8", path, line) from None


class _File:
    def __init__(self, path: str, text: str) -> None:
        self._path = path
        self._folder = os.path.dirname(os.path.abspath(path))
        try:
            self._table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise self._syntax(str(error), text.split("\n")) from None
        self._lines = lines_of(text)

    def _syntax(self, text: str, lines: list[str]) -> ConfigError:
        match = _SYNTAX.fullmatch(text)
        problem = match["problem"] if match else text
        line = int(match["line"]) if match and match["line"] else max([1, *(n for n, text in enumerate(lines, 1) if text.strip())])
        there = lines[line - 1].strip()
        remedy = next(remedy for pattern, remedy in _REMEDIES if re.search(pattern, problem))
        if re.match(r"\[+\s*hosts\b|hosts\s*=", there) and "initial" not in problem and re.search(_REMEDIES[0][0], problem):
            remedy = 'hosts is one list: either hosts = ["gpu1", { address = "gpu2", slots = 4 }], or a [[hosts]] table for every host'
        column = f", column {match['column']}" if match and match["column"] else ""
        return ConfigError(f"{self._path}, line {line}{column}: {there}: {problem}: {remedy}", self._path, line)

    def _origin(self, path: Path, value: Any) -> Origin:
        """Return the place of a value, and what stands there, where that is short."""
        name, text = path[-1], _as_toml(value)
        if isinstance(name, str):
            statement = f"{name} = {text}" if text else f"[{name}]" if isinstance(value, dict) else name
            return Origin(statement=statement, path=self._path, line=self._lines.get(path, 1))
        return Origin(statement=text or f"host {name + 1} of {path[0]}", path=self._path, line=self._lines.get(path, 1))

    def found(self) -> Found:
        """Return what the file gives. Raises ConfigError for names that are none, and for hosts that cannot be."""
        values: dict[str, Any] = {}
        origins: dict[str, Origin] = {}
        for name, value in self._table.items():
            origin = origins[name] = self._origin((name,), value)
            if name not in Settings._fields:
                raise origin.error(self._unknown_setting(name, value))
            value = tuple(value) if isinstance(value, list) and name != "hosts" else value
            values[name] = self._hosts(value, origin) if name == "hosts" else value
        python = values.get("python")
        if isinstance(python, str) and "/" in python:
            values["python"] = self._here(python)
        return Found(values=values, origins=origins)

    def _unknown_setting(self, name: str, value: Any) -> str:
        if name in SSH._fields:
            of_this = "; for slots on this machine write local = ..." if name == "slots" else ""
            return f'no setting of the pool, but of a host: write it in a [[hosts]] table, below its address = "..."{of_this}'
        top = "; settings stand at the top of the file, outside tables" if isinstance(value, dict) else ""
        return f"no such setting; {_nearest(name, Settings._fields)}{top}"

    def _hosts(self, entries: Any, origin: Origin) -> tuple[SSH, ...]:
        if not isinstance(entries, list):
            raise origin.error('give a list, as in hosts = ["gpu1", "me@box:2222"], or [[hosts]] tables, each with an address')
        hosts: list[SSH] = []
        first: dict[str, int | None] = {}
        for index, entry in enumerate(entries):
            here = self._origin(("hosts", index), entry)
            host = self._host(entry, here, ("hosts", index))
            if host.name in first:
                there = f"{host.name!r} is on line {first[host.name]} already"
                raise here.error(f"{there}: one entry serves any number of slots (slots = ...); leave one of the two out")
            first[host.name] = here.line
            hosts.append(host)
        return tuple(hosts)

    def _host(self, entry: Any, here: Origin, path: Path) -> SSH:
        if isinstance(entry, str):
            entry, path = {"address": entry}, ()
        if not isinstance(entry, dict):
            raise here.error('give a name, as in "me@box:2222", or a table, as in { address = "gpu2", slots = 4 }')
        for name, value in entry.items():
            self._check_field(name, value, self._origin((*path, name), value), path)
        if "address" not in entry:
            raise here.error('give its address = "...": a name, user@name:port, or an alias of your ssh configuration')
        if isinstance(entry.get("keys"), list):
            entry = {**entry, "keys": tuple(entry["keys"])}  # as SSH shows it
        try:
            host = SSH(**entry)
        except (TypeError, ValueError) as error:
            raise self._refusal(str(error), entry, here, path) from None
        return host if not path else SSH(**{**entry, **self._local_files(host)})

    def _check_field(self, name: str, value: Any, origin: Origin, path: Path) -> None:
        if name not in SSH._fields:
            if name == "name":
                raise origin.error("a host is called by its address: write address = ...")
            if name in Settings._fields:
                raise origin.error("a setting of the pool, not of a host: write it above the first [[hosts]]")
            raise origin.error(f"no such field of a host; {_nearest(name, SSH._fields)}")
        if str(SSH.__annotations__[name]) == "Mapping[str, str]":
            if not isinstance(value, dict):
                raise origin.error(f'give a table, as in {name} = {{ some_name = "some text" }}')
            for key, text in value.items():
                if not isinstance(text, str):
                    shown = _as_toml(text)
                    example = f', as in {key} = "{shown}"' if isinstance(text, int | float) else ""
                    raise self._origin((*path, name, key), text).error(f"give text, in quotes{example}")

    def _refusal(self, text: str, entry: dict[str, Any], here: Origin, path: Path) -> ConfigError:
        """Return the error for what a check of SSH said, at the line of the field that it is about."""
        address = entry["address"]
        for name, value in entry.items():
            head = f"SSH({address!r})" if name == "address" else f"SSH({address!r}, {name}={value!r})"
            if text.startswith(f"{head}: "):
                return (self._origin((*path, name), value) if path else here).refusal(text, head)
        return here.error(text)

    def _local_files(self, host: SSH) -> dict[str, Any]:
        files: dict[str, Any] = {}
        for name in LOCAL_FILES:
            value = getattr(host, name)
            if value:
                files[name] = self._here(value) if isinstance(value, str) else tuple([self._here(each) for each in value])
        return files

    def _here(self, path: str) -> str:
        return path if path.startswith("~") else os.path.join(self._folder, path)


def _nearest(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name.lower().replace("-", "_"), known, 1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"


def _as_toml(value: Any) -> str | None:
    """Return a value as it stands in a file; None for what is too long to be shown, and for tables."""
    if isinstance(value, list | tuple):
        parts = [_as_toml(part) for part in value]
        text = None if None in parts else f"[{', '.join(map(str, parts))}]"
    elif isinstance(value, dict):
        text = None
    elif isinstance(value, str | bool):
        text = json.dumps(value, ensure_ascii=False)
    else:
        text = str(value)
    return text if text is not None and len(text) <= SHOWN_LENGTH else None
