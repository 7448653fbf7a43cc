"""What a ward does with a slot that it may not signal, as one becomes which runs a setuid program or changes its user."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from aioparallel._wire.messages import BY_CANCEL, BY_TIMEOUT
from aioparallel._worker.page import FOREVER, Page, make_memory, map_memory
from aioparallel._worker.ward import Check, Ward


@pytest.fixture
def ward(monkeypatch) -> Iterator[Ward]:
    """Return the ward of a process that is not ours to signal."""
    sleeper = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    memory = make_memory(1)
    pages = map_memory(memory)
    os.close(memory)
    ward = Ward(0, 1, Page(pages, 0))
    ward.adopted(sleeper.pid)

    def refuse(pid: int, number: int) -> None:
        raise PermissionError(f"{number} to {pid}")

    with monkeypatch.context() as patched:
        patched.setattr(os, "kill", refuse)
        yield ward
    sleeper.communicate()
    ward.page.items.release()
    pages.close()


@pytest.mark.parametrize("grace", [0.0, 10.0])
@pytest.mark.parametrize("why", [BY_CANCEL, BY_TIMEOUT])
def test_it_is_looked_at_as_it_runs(ward, grace, why):
    ward.page.begin(65537, 0.0, 0.0, 0, 0)
    assert ward.stop_for(Check(65537, why, grace)), "no report of stopping will come"
    assert ward.look() == ("asked" if grace else "killed")
    assert ward.why == (why if not grace else 0)


def test_another_attempt_goes_on(ward):
    ward.page.begin(131073, 0.0, FOREVER, 0, 0)
    assert ward.stop_for(Check(65537, BY_CANCEL, 0.0))
    assert ward.look() == "missed" and ward.killed_for is None
