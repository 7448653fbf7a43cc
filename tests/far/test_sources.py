"""Which modules travel, and with what."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from aioparallel._hosts.shelf import Shelf
from aioparallel._hosts.sources import find, is_own, needed_by
from aioparallel._worker.shelf import zipped


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_package" / "below").mkdir(parents=True)
    (tmp_path / "own_package" / "__init__.py").write_text("")
    (tmp_path / "own_package" / "first.py").write_text("import json, own_single\nfrom .below import second\n")
    (tmp_path / "own_package" / "below" / "second.py").write_text("raise RuntimeError('nobody may run this here')\n")
    (tmp_path / "own_single.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_own_is_what_is_neither_pythons_nor_installed(project: Path) -> None:
    assert is_own(find("own_package")) and is_own(find("own_single")) and is_own(find(__name__))
    for module in (json, os, sys, np, pytest):
        assert not is_own(find(module.__name__))
    assert not is_own(find("aioparallel")) and not is_own(find("no_such_module_anywhere")) and not is_own(None)


def test_what_is_looked_up_is_not_run(project: Path) -> None:
    assert is_own(find("own_package.below.second")) and "own_package" not in sys.modules
    assert [source.name for source in needed_by(["own_package.first"])].count("own_package.below.second") == 1
    assert {source.name for source in needed_by(["own_package.first", "json"])} == {
        "own_package", "own_package.first", "own_package.below", "own_package.below.second", "own_single",
    }  # fmt: skip


def test_who_asks_for_one_gets_its_loaded_company_once(project: Path) -> None:
    importlib.import_module("own_single")
    try:
        shelf = Shelf()
        news = shelf.news()
        assert news is not None and "own_single" in news.roots
        assert shelf.news() is None
        answer = shelf.answer("own_package.first")
        assert answer[0].name == "own_package.first" and "own_single" in [source.name for source in answer]
        assert [source.name for source in shelf.answer("own_single")] == ["own_single"]
        assert shelf.answer("json") == [] and shelf.answer("no_such_module_anywhere") == []
    finally:
        del sys.modules["own_single"]


def test_the_zip_is_one(tmp_path: Path) -> None:
    files = [("pack/__init__.py", b""), ("pack/m\u00fcll.py", b"x = 1\n" * 1000)]
    (tmp_path / "it.zip").write_bytes(zipped(files))
    with zipfile.ZipFile(tmp_path / "it.zip") as archive:
        assert archive.testzip() is None and [(name, archive.read(name)) for name in archive.namelist()] == files
    program = "import sys; sys.path.insert(0, sys.argv[1]); from pack import m\u00fcll; print(m\u00fcll.x)"
    assert (
        subprocess.run([sys.executable, "-c", program, str(tmp_path / "it.zip")], capture_output=True, text=True, check=True).stdout
        == "1\n"
    )
