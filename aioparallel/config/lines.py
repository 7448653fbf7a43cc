"""On which line of a TOML text a value stands: the standard library's reader does not say.

How it works
    The text has been read by `tomllib` before, so that it is TOML: here it is only cut into strings, comments, words and punctuation
    (TOML 1.0), which is enough to follow keys, tables, arrays of tables, arrays and inline tables to the line where each begins.
"""

from __future__ import annotations

import re
import tomllib
from typing import TypeAlias

__all__ = ["Path", "lines_of"]

Path: TypeAlias = tuple[str | int, ...]
"""How to get to a value: keys, and indexes in arrays."""

_TOKEN = re.compile(
    r"""
    (?P<comment> \#[^\n]* )
    | (?P<text> \"{3} (?:[^\\]|\\.)*? \"{3} \"{0,2} | '{3} .*? '{3} '{0,2} | "(?:[^"\\\n]|\\.)*" | '[^'\n]*' )
    | (?P<sign> [][{}=,.\n] )
    | (?P<word> [^][{}=,.\s\#"']+ )
    """,
    re.VERBOSE | re.DOTALL,
)


def lines_of(text: str) -> dict[Path, int]:
    """Return the line, from 1, on which each value, table and element of an array begins, of a text that is TOML."""
    return _Lines(text.replace("\r\n", "\n")).found


class _Lines:
    def __init__(self, text: str) -> None:
        self.found: dict[Path, int] = {}
        self._tokens: list[tuple[str, int]] = []
        line, end = 1, 0
        for match in _TOKEN.finditer(text):
            line += text.count("\n", end, match.start())
            end = match.start()
            if match.lastgroup != "comment":
                self._tokens.append((match.group(), line))
        self._tokens.append(("", line))
        self._at = 0
        self._tables: dict[Path, int] = {}
        """How many tables each array of tables has so far."""
        self._document()

    def _peek(self) -> str:
        return self._tokens[self._at][0]

    def _next(self) -> str:
        token = self._tokens[self._at][0]
        self._at += 1
        return token

    def _skip(self, signs: str) -> None:
        while self._peek() and self._peek() in signs:
            self._at += 1

    def _note(self, path: Path, line: int) -> None:
        """Note where a value begins, and with it the tables around it that have no header of their own."""
        for length in range(1, len(path) + 1):
            self.found.setdefault(path[:length], line)

    def _document(self) -> None:
        table: Path = ()
        self._skip("\n")
        while self._peek():
            if self._peek() == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip("\n")

    def _header(self) -> Path:
        line = self._tokens[self._at][1]
        self._at += 1
        of_array = self._peek() == "["
        self._skip("[")
        *above, last = self._key()
        self._skip("]")
        table: Path = ()
        for part in above:
            table = self._latest((*table, part))
        table = (*table, last)
        if of_array:
            self._tables[table] = self._tables.get(table, 0) + 1
        table = self._latest(table)
        self._note(table, line)
        return table

    def _latest(self, table: Path) -> Path:
        count = self._tables.get(table)
        return table if count is None else (*table, count - 1)

    def _key(self) -> list[str]:
        parts = [_plain(self._next())]
        while self._peek() == ".":
            self._at += 1
            parts.append(_plain(self._next()))
        return parts

    def _pair(self, table: Path) -> None:
        line = self._tokens[self._at][1]
        path = (*table, *self._key())
        self._at += 1
        self._note(path, line)
        self._value(path)

    def _value(self, path: Path) -> None:
        if self._peek() == "[":
            self._array(path)
        elif self._peek() == "{":
            self._at += 1
            self._skip("\n")
            while self._peek() not in ("}", ""):
                self._pair(path)
                self._skip(",\n")
            self._at += 1
        else:  # a string, or a number or a date: words and dots
            while self._peek() not in ("", "\n", ",", "]", "}"):
                self._at += 1

    def _array(self, path: Path) -> None:
        self._at += 1
        self._skip("\n")
        index = 0
        while self._peek() not in ("]", ""):
            self._note((*path, index), self._tokens[self._at][1])
            self._value((*path, index))
            self._skip(",\n")
            index += 1
        self._at += 1


def _plain(key: str) -> str:
    return str(next(iter(tomllib.loads(f"{key}=0")))) if key[0] in "\"'" else key
