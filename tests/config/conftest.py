"""A folder of its own for each test, with no variables and no user's file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aioparallel.config import environment


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, which is a project's root."""
    for variable in os.environ:
        if variable.startswith("AIOPARALLEL_"):
            monkeypatch.delenv(variable)
    monkeypatch.setattr(environment, "_warned", set())
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    folder = tmp_path / "project"
    (folder / ".git").mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder
