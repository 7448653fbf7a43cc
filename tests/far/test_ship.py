"""What travels besides the user's own modules, what does not, and what is said where an import fails there."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from aioparallel import HostError, Pool, SerializationError, UsageError
from aioparallel._hosts import sources
from aioparallel._hosts.shelf import Shelf
from aioparallel._hosts.sources import Selection, find, needed_by

from .loopback import Loopback
from .visitors import import_from, import_missing, import_named


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make a project of the user's and a folder of installed packages."""
    packages, project = tmp_path / "packages", tmp_path / "project"
    for place, name in ((packages, "installed_pure"), (packages, "installed_mixed"), (project, "own_project")):
        (place / name / "below").mkdir(parents=True)
        (place / name / "__init__.py").write_text("class Thing:\n    pass\n")
        (place / name / "below" / "__init__.py").write_text("")
        (place / name / "below" / "deep.py").write_text("value = 1\n")
        (place / name / "data.py").write_text("value = 2\n")
    (packages / "installed_mixed" / "below" / f"fast{EXTENSION_SUFFIXES[0]}").write_bytes(b"")
    (project / f"own_fast{EXTENSION_SUFFIXES[0]}").write_bytes(b"")
    for place in (packages, project):
        monkeypatch.syspath_prepend(place)
    installed = sources._installed()
    monkeypatch.setattr(sources, "_installed", lambda: (*installed, f"{packages}/"))
    sources._is_installed.cache_clear()
    yield tmp_path
    sources._is_installed.cache_clear()
    for name in [name for name in sys.modules if name.startswith(("installed_", "own_project", "own_fast", "own_late"))]:
        del sys.modules[name]


def travels(ship: list[str], *names: str) -> list[bool]:
    selection = Selection(ship)
    return [selection.takes(find(name)) for name in names]


def test_the_longest_name_that_fits_decides(places: Path) -> None:
    assert travels([], "own_project", "installed_pure", "json") == [True, False, False]
    assert travels(["installed_pure"], "installed_pure", "installed_pure.below.deep", "installed_mixed") == [True, True, False]
    assert travels(["installed_pure.below"], "installed_pure", "installed_pure.below.deep") == [False, True]
    assert travels(["-own_project"], "own_project", "own_project.below.deep") == [False, False]
    assert travels(["-own_project", "own_project.below"], "own_project.data", "own_project.below.deep") == [False, True]
    assert travels(["-own_project.below"], "own_project.data", "own_project.below.deep") == [True, False]


def test_what_travels_is_asked_for_by_its_top_level_name(places: Path) -> None:
    importlib.import_module("own_project.data")
    selection = Selection(["installed_pure.below", "-own_project"])
    shelf = Shelf(selection)
    news = shelf.news()
    roots = news.roots if news is not None else ()
    assert "installed_pure" in roots and "own_project" not in roots
    assert shelf.answer("own_project.data") == [] and "ship= excludes it" in selection.why_not("own_project.data")
    answer = shelf.answer("installed_pure.below.deep")
    assert answer[0].text == b"value = 1\n" and not any(source.name.startswith("own_project") for source in answer)
    assert "own_project" in [source.name for source in Shelf().answer("own_project.data")]
    assert needed_by(["own_project.data"], Selection(["-own_project"])) == []


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("no_such_module_anywhere", "there is no such module here"),
        ("json", "it is a part of Python"),
        ("cloudpickle", "the pool sees to that itself"),
        ("installed_mixed", f"it has the extension module .*fast{EXTENSION_SUFFIXES[0]}; install it on the hosts"),
        ("own_fast", "it is no Python source but .*own_fast"),
    ],
)
async def test_what_cannot_travel_is_refused_as_the_pool_opens(places: Path, name: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        async with Pool(local=1, hosts=[Loopback(slots=1)], ship=[name]):
            pass


def test_wrong_names_are_refused_where_they_are_given() -> None:
    with pytest.raises(TypeError, match=r"as in ship=\['mine'\]"):
        Pool(ship="mine")
    with pytest.raises(TypeError, match=r"as in ship=\['mine'\]"):
        Pool(ship=7)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="as str"):
        Pool(ship=[7])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="'my-pkg'"):
        Pool(ship=["my-pkg"])
    with pytest.raises(ValueError, match="give one of them"):
        Pool(ship=["mine", "-mine"])


async def test_an_installed_package_travels_if_it_is_named(places: Path) -> None:
    async with Pool(local=0, hosts=[Loopback("box", slots=1)]) as pool:
        with pytest.raises(ModuleNotFoundError) as missing:
            await pool.submit(import_named, "installed_pure.below.deep")
        (advice,) = [note for note in missing.value.__notes__ if note.startswith("on host")]
        assert "on host 'box' (python /" in advice and "there is no module 'installed_pure': install it there (/" in advice
        assert "-m pip install installed_pure)" in advice and "SSH(..., python=)" in advice
    async with Pool(local=0, hosts=[Loopback("box", slots=1)], ship=["installed_pure"]) as pool:
        assert await pool.submit(import_named, "installed_pure.below.deep") == "installed_pure.below.deep"
        thing: Any = importlib.import_module("installed_pure").Thing()
        assert type(await pool.submit(max, [thing])) is type(thing)


async def test_a_call_that_cannot_be_rebuilt_for_want_of_a_package_says_so(places: Path) -> None:
    thing: Any = importlib.import_module("installed_pure").Thing()
    async with Pool(local=0, hosts=[Loopback("box", slots=1)]) as pool:
        with pytest.raises(SerializationError, match=r"No module named 'installed_pure'; on host 'box' .* install it there"):
            await pool.submit(max, [thing])
        with pytest.raises(SerializationError, match=r"on host 'box' .* install it there"):
            await pool.map(max, [[thing], [thing]])


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (
            "own_project.below.deep",
            "there is no module 'own_project.below', and yours does not travel: ship= excludes it: install it there",
        ),
        ("own_fast", "yours does not travel: it is no Python source but"),
        ("own_project.data", "yours does not travel: its source has 60,000 bytes, more than 50,000: install it there"),
        ("own_misspelt", "there is no module 'own_misspelt', nor is there one at the controller: is its name right?"),
        ("own_project.misspelt", "there is no module 'own_project.misspelt', nor is there one at the controller"),
        ("made_at_run_time", "yours does not travel: it was made while the program ran"),
        ("aioparallel._hosts", "only as much of aioparallel as tasks use"),
    ],
)
async def test_a_module_of_ones_own_that_does_not_travel_says_why(
    places: Path, monkeypatch: pytest.MonkeyPatch, name: str, why: str
) -> None:
    (places / "project" / "own_project" / "data.py").write_text("#" * 60_000)
    monkeypatch.setattr(sources, "MAX_SOURCE", 50_000)
    monkeypatch.setitem(sys.modules, "made_at_run_time", ModuleType("made_at_run_time"))
    async with Pool(local=0, hosts=[Loopback("box", slots=1)], ship=["-own_project.below"]) as pool:
        with pytest.raises(ImportError) as failed:
            await pool.submit(import_named, name)
    assert why in "\n".join(note for note in failed.value.__notes__ if note.startswith("on host 'box'"))


async def test_a_module_that_was_missing_is_found_when_it_is_there(places: Path) -> None:
    async with Pool(local=0, hosts=[Loopback("box", slots=1)]) as pool:
        with pytest.raises(ModuleNotFoundError):
            await pool.submit(import_named, "own_late")
        (places / "project" / "own_late.py").write_text("")
        importlib.invalidate_caches()
        importlib.import_module("own_late")
        assert await pool.submit(import_named, "own_late") == "own_late"


async def test_another_version_there_is_suspected_only_of_what_is_installed(places: Path) -> None:
    async with Pool(local=0, hosts=[Loopback("box", slots=1)]) as pool:
        for module, words in (("json", "'json' on host 'box'"), ("own_project", "")):
            with pytest.raises(ImportError) as failed:
                await pool.submit(import_from, module, "no_such_name")
            advice = [note for note in failed.value.__notes__ if "install the same one there" in note and not note.startswith("in task")]
            assert bool(words) == bool(advice) and words in "".join(advice)


async def test_near_nothing_is_said_of_hosts() -> None:
    async with Pool(local=1) as pool:
        with pytest.raises(ModuleNotFoundError) as missing:
            await pool.submit(import_missing)
        assert "install it" not in "\n".join(missing.value.__notes__)


async def test_what_preload_misses_there_is_said_with_the_remedy(places: Path) -> None:
    async with Pool(local=0, hosts=[Loopback("box", slots=1)], preload=["installed_pure"]) as pool:
        with pytest.raises(HostError, match=r"preload= failed: ModuleNotFoundError: .*: on host 'box' .* install it there"):
            await pool.ready(1, timeout=20)
    async with Pool(local=0, hosts=[Loopback("box", slots=1)], preload=["installed_pure"], ship=["installed_pure"]) as pool:
        await pool.ready(1, timeout=20)
