"""The house: a file imports only rooms on floors below its own; rooms on one floor do not know each other.

An import inside a function or for type checkers only counts as any other: it says who knows whom.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import aioparallel

PACKAGE = Path(aioparallel.__file__).parent
ROOT = PACKAGE.parent
FLOORS = (
    ("errors",),
    ("_wire",),
    ("_worker",),
    ("options", "config", "events", "status"),
    ("_jobs",),
    ("policies", "_hosts", "_observe"),
    ("_scheduler",),
    ("pool",),
    ("decorators", "sync", "testing"),
    ("__init__",),
    ("_cli",),
    ("__main__",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
LONGEST = 450
CORE = {"anyio", "asyncssh", "cloudpickle", "psutil"}
TRAVELS = {"errors", "_wire", "_worker"}
"""What runs in the other process: the standard library and cloudpickle, nothing else."""
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(PACKAGE)) for path in FILES]


def room_of(parts: tuple[str, ...]) -> str:
    """Return the room which a dotted path below the package leads to; a public name lives in `__init__`."""
    name = parts[0] if parts else "__init__"
    return name if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file() else "__init__"


def imported(path: Path) -> Iterator[tuple[str, ...]]:
    """Yield the absolute dotted path of everything that a file imports."""
    package = ("aioparallel", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            module = (*base, *(node.module or "").split(".")) if node.module else base
            yield from ((*module, alias.name) for alias in node.names)


def rooms_imported(path: Path) -> set[str]:
    return {room_of(parts[1:]) for parts in imported(path) if parts[0] == "aioparallel"}


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_imports_only_from_floors_below(path: Path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert own in FLOOR, f"{own} is on no floor"
    wrong = {room for room in rooms_imported(path) - {own} if FLOOR[room] >= FLOOR[own]}
    assert not wrong, f"{own} is on floor {FLOOR[own]} and imports {wrong}, which is not below it"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_is_not_too_long(path: Path):
    assert path.read_text().count("\n") <= LONGEST


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_opens_with_a_promise(path: Path):
    text = path.read_text()
    if path.name == "__init__.py" and path.parent.name.startswith("_"):  # rooms; the public packages are no rooms to walk through
        assert text == ""
    else:
        assert ast.get_docstring(ast.parse(text))


def test_only_ssh_hosts_and_fakes_know_asyncssh():
    knowing = [name for name, path in zip(NAMES, FILES, strict=True) if "asyncssh" in {parts[0] for parts in imported(path)}]
    assert all(name.startswith(("_hosts/ssh", "testing")) for name in knowing), knowing


def test_what_travels_needs_only_the_standard_library():
    for name, path in zip(NAMES, FILES, strict=True):
        if name.split("/")[0].removesuffix(".py") in TRAVELS:
            foreign = {parts[0] for parts in imported(path)} - sys.stdlib_module_names - {"aioparallel", "cloudpickle"}
            assert not foreign, f"{name} imports {foreign}"


def test_core_dependencies_are_four():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {re.split(r"[^\w-]", requirement)[0] for requirement in project["dependencies"]} == CORE
    assert all(">=" in requirement and "," not in requirement for requirement in project["dependencies"])


def test_the_rule_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    (tmp_path / "_wire").mkdir()
    (tmp_path / "pool.py").touch()
    path = tmp_path / "_wire" / "codec.py"
    path.write_text("def f():\n    from ..pool import Pool\n    from .. import Task, pool\n    import aioparallel.pool\n")
    assert rooms_imported(path) == {"pool", "__init__"}
    with pytest.raises(AssertionError, match="imports"):
        test_imports_only_from_floors_below(path)
