"""What is counted in one file, and that many files give the same census in any order."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from aioparallel._cli.census import TOP, UNPARSABLE, Census, FileCensus, Spot, measure, python_files, stdlib_folder

SOURCE = """\
import os.path, sys
from . import near
from collections import abc
from collections.abc import Mapping
if sys:
    import json

@decorated
def first(
    a,
):
    def inner(): return lambda: 1

class One:
    class Two: pass
    async def later(self):
        return [x for x in self]
"""


def measured(folder: Path, source: str | bytes, name: str = "file.py") -> FileCensus:
    path = folder / name
    path.write_bytes(source.encode() if isinstance(source, str) else source)
    return measure(str(path))


def test_counts(tmp_path: Path) -> None:
    found = measured(tmp_path, SOURCE)
    assert (found.lines, found.classes, found.functions, found.async_functions) == (17, 2, 2, 1)
    assert found.imports == ("collections", "json", "os", "sys")
    assert [(spot.name, spot.line, spot.size) for spot in found.longest] == [("first", 9, 4), ("later", 16, 2), ("inner", 12, 1)]
    assert found.seconds > 0
    assert found.cpu_seconds >= 0


@pytest.mark.parametrize(("source", "lines"), [("", 0), ("a", 1), ("a\n", 1), ("a\nb", 2), ("\n\n", 2)])
def test_lines(tmp_path: Path, source: str, lines: int) -> None:
    assert measured(tmp_path, source).lines == lines


@pytest.mark.parametrize(
    ("source", "depth", "line"),
    [
        ("a\n", 0, 1),
        ("if a:\n    b\n", 1, 2),
        ("if a:\n    b\nelif c:\n    d\nelif e:\n    f\nelse:\n    g\n", 1, 2),
        ("if a:\n    b\nelse:\n    if c:\n        d\n", 2, 5),
        ("for a in b:\n    pass\nelse:\n    while c:\n        pass\n", 2, 5),
        ("try:\n    a\nexcept E:\n    with b:\n        c\nfinally:\n    d\n", 2, 5),
        ("try:\n    a\nfinally:\n    if b:\n        c\n", 2, 5),
        ("try:\n    a\nexcept* E:\n    b\n", 1, 2),
        ("match a:\n    case 1:\n        b\n", 2, 3),
        ("class A:\n    def b(self):\n        c\n", 2, 3),
    ],
)
def test_deepest_nesting_is_what_the_eye_sees(tmp_path: Path, source: str, depth: int, line: int) -> None:
    deepest = measured(tmp_path, source).deepest
    assert (deepest.size, deepest.line) == (depth, line)


def test_a_very_deep_file_is_no_matter_of_recursion(tmp_path: Path) -> None:
    chain = "if a:\n    b\n" + "elif c:\n    d\n" * 500  # each elif is a level of the tree
    assert measured(tmp_path, chain).deepest.size == 1


@pytest.mark.parametrize(
    "source", [b"def (:\n", b"a = 1\0\n", b"# coding: nonsense\n", b"a = '\xff'\n", b"(" * 5_000 + b")" * 5_000], ids=range(5)
)
def test_what_does_not_parse_raises_what_is_counted(tmp_path: Path, source: bytes) -> None:
    with pytest.raises(UNPARSABLE) as raised:
        measured(tmp_path, source)
    census = Census()
    census.add("bad.py", raised.value)
    assert list(census.unparsed) == ["bad.py"]
    assert not census.failed
    assert census.files == 0


def test_a_broken_escape_warns_nobody(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    assert measured(tmp_path, "a = '\\d'\n").lines == 1
    assert not recwarn.list


def test_what_is_not_the_files_fault_is_kept_apart() -> None:
    census = Census()
    census.add("a.py", ConnectionAbortedError("gone"))
    census.add("b.py", ZeroDivisionError("ours"))
    assert census.unparsed == {"a.py": "ConnectionAbortedError: gone"}
    assert census.failed == {"b.py": "ZeroDivisionError: ours"}


def test_the_order_of_the_answers_does_not_show(tmp_path: Path) -> None:
    sources = {f"{name}.py": SOURCE * (times + 1) for times, name in enumerate("abcd")}
    sources["e.py"] = SOURCE  # equal to a.py: what ranks equal is told apart by its place
    outcomes = [measured(tmp_path, source, name) for name, source in sources.items()]
    wholes = []
    for order in itertools.permutations(outcomes):
        census = Census()
        for outcome in order:
            census.add(outcome.path, outcome)
        census.cpu_seconds = round(census.cpu_seconds, 9)
        wholes.append(census)
    assert all(whole == wholes[0] for whole in wholes)
    assert len(wholes[0].longest) == TOP
    assert wholes[0].most_imported() == [("collections", 5), ("json", 5), ("os", 5), ("sys", 5)]
    assert wholes[0].deepest == Spot(2, str(tmp_path / "a.py"), 12)


def test_files_of_a_folder_the_largest_first(tmp_path: Path) -> None:
    sizes = {"a.py": 1, "sub/b.py": 3, "sub/c.py": 2, "c.txt": 9, "site-packages/d.py": 9, "sub/__pycache__/e.py": 9}
    for name, size in sizes.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"#" * size)
    (tmp_path / "dangling.py").symlink_to(tmp_path / "nowhere")
    assert python_files(str(tmp_path)) == [str(tmp_path / name) for name in ("sub/b.py", "sub/c.py", "a.py")]


def test_the_standard_library_is_the_running_interpreters() -> None:
    assert ast_file() in python_files(stdlib_folder())


def ast_file() -> str:
    import ast

    return ast.__file__
