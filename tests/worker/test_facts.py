"""What an agent says of its machine, against folders that look like /proc."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from aioparallel._wire.messages import pack, unpack
from aioparallel._worker.facts import facts


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_what_proc_says(tmp_path: Path) -> None:
    write(tmp_path, "proc/sys/kernel/random/boot_id", "92a9e5ae-4420-4922-9d70-2e91aafada31\n")
    write(tmp_path, "proc/meminfo", "MemTotal:       16000 kB\nMemFree:   1 kB\nMemAvailable:    4000 kB\nHugePages_Total:       0\n")
    said = facts(3, str(tmp_path))
    assert (said["boot_id"], said["cpus"]) == ("92a9e5ae-4420-4922-9d70-2e91aafada31", 3)
    assert (said["memory"], said["memory_available"]) == (16000 * 1024, 4000 * 1024)
    assert (said["python"], said["executable"]) == (sys.version.split()[0], sys.executable)
    assert said["load"] is None or said["load"] >= 0
    assert unpack(pack(said)) == (said,)


@pytest.mark.parametrize("meminfo", ["", "MemTotal: lots kB\n", "nonsense"])
def test_what_is_not_known_is_none(meminfo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> int:
        raise OSError

    monkeypatch.setattr(os, "sysconf", unknown)
    monkeypatch.setattr(os, "getloadavg", unknown)
    monkeypatch.setattr(sys, "executable", "")
    write(tmp_path, "proc/meminfo", meminfo)
    said = facts(1, str(tmp_path))
    assert {name for name, value in said.items() if value is None} == {"boot_id", "memory", "memory_available", "load", "executable"}


def test_an_old_kernel_tells_no_available_memory(tmp_path: Path) -> None:
    write(tmp_path, "proc/meminfo", "MemTotal:       16000 kB\n")
    said = facts(1, str(tmp_path))
    assert (said["memory"], said["memory_available"]) == (16000 * 1024, None)
