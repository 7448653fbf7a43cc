"""The line of every value of a TOML text."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from typing import Any

from hypothesis import given, strategies as st

from aioparallel.config.lines import Path, lines_of

EVERYTHING = '''# a comment with x = 1
a.b = 1 # and [one] behind
"q.r" = """
a = 3
\\""" ""
"""
x = [ 1.5, # ]
  [2, 3], { p = "}", q.z = [
    4 ] } ,
]
d = 1979-05-27 07:32:00

[t . 'u']
k = \'\'\'
[z]
\'\'\'\'\'
[[hosts]]
address = "a"
[hosts.env]
A = "#1"
[[hosts]]
address = "b"
env = { B = '2', "c]" = "3" }
[[hosts.sub]]
[[hosts.sub]]
v = "x\\\\"
w = ""'''


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the way to everything below a value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in pairs:
        yield (*path, key)
        yield from paths(below, (*path, key))


def test_every_kind_of_value_and_table_is_found_where_it_begins() -> None:
    lines = lines_of(EVERYTHING)
    assert set(lines) == set(paths(tomllib.loads(EVERYTHING)))
    expected = {
        ("a", "b"): 2, ("q.r",): 3, ("x",): 7, ("x", 0): 7, ("x", 1): 8, ("x", 1, 1): 8, ("x", 2, "q", "z"): 8, ("x", 2, "q", "z", 0): 9,
        ("d",): 11, ("t", "u"): 13, ("t", "u", "k"): 14, ("hosts",): 17, ("hosts", 0): 17, ("hosts", 0, "address"): 18,
        ("hosts", 0, "env"): 19, ("hosts", 0, "env", "A"): 20, ("hosts", 1): 21, ("hosts", 1, "env", "c]"): 23, ("hosts", 1, "sub", 0): 24,
        ("hosts", 1, "sub", 1): 25, ("hosts", 1, "sub", 1, "v"): 26, ("hosts", 1, "sub", 1, "w"): 27,
    }  # fmt: skip
    assert expected.items() <= lines.items()


def test_line_ends_of_windows_count_once() -> None:
    assert lines_of("a = 1\r\n\r\nb = [\r\n2]\r\n") == {("a",): 1, ("b",): 3, ("b", 0): 4}


_TEXTS = st.text("ab.#\"'[]{}=, \n\\", max_size=6)
_VALUES = st.recursive(
    st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | _TEXTS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(_TEXTS, below, max_size=3),
    max_leaves=8,
)


def as_toml(value: Any, between: str) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {as_toml(below, '')}" for key, below in value.items()) + "}"
    if isinstance(value, list):
        return f"[{between}" + "".join(f"{as_toml(below, between)},{between}" for below in value) + "]"
    return json.dumps(value)


@given(st.dictionaries(_TEXTS, _VALUES, max_size=4), st.sampled_from(["", "\n", ' # ] } "\n']))
def test_every_path_of_any_text_is_found(table: dict[str, Any], between: str) -> None:
    text, begun = "", {}
    for key, value in table.items():
        begun[key] = text.count("\n") + 1
        text += f"{json.dumps(key)} = {as_toml(value, between)}\n"
    assert tomllib.loads(text) == table
    lines = lines_of(text)
    assert set(lines) == set(paths(table))
    assert {key: lines[key,] for key in table} == begun
