"""Modules that are edited, come and go while a host has them."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aioparallel import Pool
from aioparallel._hosts.shelf import LOOK_SHARE, Shelf
from aioparallel._hosts.sources import Selection
from tests.far.loopback import Loopback

from .visitors import import_named, reload_named, source_of, value_and_source, value_of


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "own_edited.py").write_text("value = 1\n")
    (tmp_path / "own_still.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


class Clock:
    """Stands still but for what it is told; each reading takes a second if `slow`."""

    def __init__(self) -> None:
        self.now, self.slow = 0.0, False

    def __call__(self) -> float:
        self.now += self.slow
        return self.now


@pytest.fixture
def shelf(project: Path) -> Shelf:
    shelf = Shelf(Selection(["-tests"]), clock=Clock())
    shelf.news()
    assert [source.text for name in ("own_edited", "own_still") for source in shelf.answer(name)] == [b"value = 1\n"] * 2
    assert shelf.news() is None
    return shelf


def test_an_edited_module_is_sent_again_and_once(shelf: Shelf, project: Path) -> None:
    for text in ("value = 2\n", "value = 3\n", "other = 1234\n"):  # (two of one size, written within one tick of the file system's clock)
        (project / "own_edited.py").write_text(text)
        news = shelf.news()
        assert news is not None and news.stale == ("own_edited",) and [source.text for source in news.sources] == [text.encode()]
        assert shelf.news() is None


def test_what_came_with_the_agent_is_looked_at_too(project: Path) -> None:
    shelf = Shelf(sent={"own_edited": (str(project / "own_edited.py"), False, b"value = 0\n")}, clock=Clock())
    news = shelf.news()
    assert news is not None and news.stale == ("own_edited",)


def test_a_file_that_is_only_touched_is_no_news(shelf: Shelf, project: Path) -> None:
    os.utime(project / "own_edited.py", (1, 1))
    assert shelf.news() is None
    os.replace(project / "own_edited.py", project / "away")
    (project / "own_edited.py").write_text("value = 1\n")
    assert shelf.news() is None


def test_a_module_that_is_gone_does_not_travel_any_more(shelf: Shelf, project: Path) -> None:
    (project / "own_edited.py").unlink()
    importlib.invalidate_caches()
    news = shelf.news()
    assert news is not None and news.stale == ("own_edited",) and news.sources == []
    assert shelf.news() is None and shelf.answer("own_edited") == []


def test_what_was_refused_is_told_when_it_is_there(shelf: Shelf, project: Path) -> None:
    assert shelf.answer("own_late") == [] and shelf.answer("own_later") == [] and shelf.news() is None
    (project / "own_late.py").write_text("")
    importlib.invalidate_caches()
    news = shelf.news()
    assert news is not None and not news.stale and shelf.news() is None
    assert [source.name for source in shelf.answer("own_late")] == ["own_late"]


def test_looking_takes_a_small_share_of_the_time(project: Path) -> None:
    clock = Clock()
    shelf = Shelf(clock=clock)
    shelf.answer("own_edited")
    clock.slow = True
    shelf.news()
    clock.slow = False
    (project / "own_edited.py").write_text("value = 2\n")
    clock.now += LOOK_SHARE - 1
    assert shelf.news() is None
    clock.now += 2
    assert shelf.news() is not None


async def test_slots_that_begin_after_an_edit_have_the_new_text(project: Path) -> None:
    async with Pool(local=0, hosts=[Loopback("box", slots=2)], preload=["own_still"]) as pool:
        fresh = pool.options(isolate=True)
        assert await pool.submit(value_of, "own_edited") == 1 and await fresh.submit(value_of, "own_edited") == 1
        (project / "own_edited.py").write_text("value = 2\n")
        async with asyncio.timeout(30):
            while await fresh.submit(value_of, "own_edited") != 2:
                pass
        assert await fresh.submit(value_of, "own_still") == 1


async def test_a_slot_that_has_imported_a_module_keeps_it_until_it_reloads(project: Path) -> None:
    async with Pool(local=0, hosts=[Loopback("box", slots=1)]) as pool:
        assert await pool.submit(value_of, "own_edited") == 1
        (project / "own_edited.py").write_text("value = 2\n")
        async with asyncio.timeout(30):
            while await pool.submit(reload_named, "own_still", "own_edited") != 2:
                assert await pool.submit(source_of, "own_edited") in ("value = 1\n", "value = 2\n")
        assert await pool.submit(source_of, "own_edited") == "value = 2\n"


async def test_the_source_of_what_was_imported_is_what_runs(project: Path) -> None:
    async with Pool(local=0, hosts=[Loopback("box", slots=2)]) as pool:
        slot = pool.options(hosts=["box"])
        assert await slot.submit(source_of, "own_edited") == "value = 1\n"
        (project / "own_edited.py").write_text("value = 2\n")
        async with asyncio.timeout(30):
            while await pool.options(isolate=True).submit(value_of, "own_edited") != 2:
                pass
        seen = [await pool.submit(value_and_source, "own_edited") for _ in range(20)]
        assert set(seen) <= {(1, "value = 1\n"), (2, "value = 2\n")}


async def test_a_module_that_comes_below_a_package_that_is_known(project: Path) -> None:
    (project / "own_pack").mkdir()
    (project / "own_pack" / "__init__.py").write_text("")
    importlib.import_module("own_pack")
    async with Pool(local=0, hosts=[Loopback("box", slots=1)]) as pool:
        with pytest.raises(ModuleNotFoundError):
            await pool.submit(import_named, "own_pack.late")
        (project / "own_pack" / "late.py").write_text("")
        importlib.invalidate_caches()
        importlib.import_module("own_pack.late")
        assert await pool.submit(import_named, "own_pack.late") == "own_pack.late"
