"""One public surface: what the package exports, what its modules say in `__all__`, and what the reference pages describe."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import aioparallel

PACKAGE = Path(aioparallel.__file__).parent
ROOT = PACKAGE.parent
MODULES = sorted(path.stem for path in PACKAGE.glob("[a-z]*") if path.name != "py.typed" and path.suffix in {"", ".py"})
"""The public modules: one more than users need is `pool`, whose one public name is exported."""
DESCRIBED = re.compile(r"^\.\. auto(?:class|exception|function|data|module):: aioparallel\.([\w.]+)$", re.MULTILINE)


def exported() -> set[str]:
    """Return the names that `__init__` imports as `X as X`."""
    names = set()
    for node in ast.parse((PACKAGE / "__init__.py").read_text()).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)) and getattr(node, "module", "") != "__future__":
            for alias in node.names:
                assert alias.asname == alias.name, f"write `{alias.name} as {alias.name}`: that is what re-exports it for type checkers"
                names.add(alias.name)
    return names


def described(page: str) -> set[str]:
    return set(DESCRIBED.findall((ROOT / "docs" / "reference" / page).read_text()))


def test_what_is_there_is_what_is_exported():
    there = {name for name, value in vars(aioparallel).items() if not name.startswith("_") and not isinstance(value, ModuleType)}
    assert there - {"annotations"} == {name for name in exported() if not isinstance(getattr(aioparallel, name), ModuleType)}
    modules = {name for name, value in vars(aioparallel).items() if isinstance(value, ModuleType) and not name.startswith("_")}
    assert modules <= set(MODULES)


def test_the_reference_describes_what_is_exported():
    names = {name for name in exported() if not isinstance(getattr(aioparallel, name), ModuleType)}
    errors = set(aioparallel.errors.__all__)
    assert names - errors <= described("api.md")
    assert {f"errors.{name}" for name in errors} == described("errors.md")
    assert errors <= names


def test_everything_described_exists():
    for name in described("api.md") | described("errors.md"):
        value = aioparallel
        *modules, last = name.split(".")
        for module in modules:
            value = getattr(value, module, None) or importlib.import_module(f"{value.__name__}.{module}")
        assert hasattr(value, last), name


@pytest.mark.parametrize("name", MODULES)
def test_all_names_what_a_module_makes(name: str):
    module = importlib.import_module(f"aioparallel.{name}")
    assert module.__all__ == sorted(module.__all__, key=lambda name: (not name.isupper(), name)), "in the order that ruff knows"
    made = {key for key, value in vars(module).items() if not key.startswith("_") and getattr(value, "__module__", None) == module.__name__}
    assert set(module.__all__) <= set(vars(module))
    missing = {key for key in made - set(module.__all__) if isinstance(vars(module)[key], type)}
    assert missing <= {"Submitter", "PoolView"}, f"classes of {name} that __all__ does not name"


def test_versions_agree():
    assert aioparallel.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").is_file()
