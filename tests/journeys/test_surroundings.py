"""What is unusual about the controller's own process (masks, descriptors, names of files) is no reason for a pool to work less well."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator

import pytest

from aioparallel import WorkerDied
from aioparallel._hosts.local import LocalHost
from aioparallel._worker.procs import carriers

from . import deeds
from .looks import controller, living, until, written

# --- signals that the controller has blocked


@pytest.fixture
def blocked() -> Iterator[None]:
    """Block what pools use themselves."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGURG, signal.SIGTERM})
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@pytest.mark.near
async def test_blocked_signals_hide_neither_deaths_nor_requests_to_stop(blocked, open_pool, tmp_path):
    async with open_pool(1) as pool:
        with pytest.raises(WorkerDied):
            await pool.submit(os._exit, 3)
        task = pool.options(grace=10).submit(deeds.sleep_until_asked, str(tmp_path / "a"))
        await written(tmp_path / "a.began")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.attempts[-1].stopped == "asked"
        assert await pool.submit(signal.pthread_sigmask, signal.SIG_BLOCK, ()) == set()


# --- what its folder and its `sys.path` hold


@pytest.mark.parametrize("preload", [(), ("threaded",)], ids=["forked", "exec'ed"])
async def test_files_called_like_modules_of_pythons(open_pool, monkeypatch, tmp_path, preload):
    for name in ("fcntl", "mmap", "resource"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('not the one that was meant')\n")
    (tmp_path / "threaded.py").write_text("import threading, time\nthreading.Thread(target=time.sleep, args=(99,), daemon=True).start()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    async with open_pool(1, preload=preload) as pool:
        assert await pool.options(memory=1 << 30).submit(abs, -1) == 1


class Entry(str):
    """As path libraries have them."""

    __slots__ = ()


async def test_strings_of_other_classes(open_pool, monkeypatch, tmp_path):
    (tmp_path / "well_named.py").write_text("")
    monkeypatch.syspath_prepend(Entry(tmp_path))
    async with open_pool(1, preload=[Entry("well_named")]) as pool:
        assert await pool.submit(deeds.get_attribute, "well_named", "__name__") == "well_named"


# --- standard descriptors


CLOSED = """
import asyncio, os, sys
from aioparallel import Pool

async def main(path):
    async with Pool(local=1) as pool:
        pids = {await pool.submit(os.getpid) for _ in range(3)}
        await pool.submit(print, "to nobody")
        write_line(path, str(len(pids)))

from tests.journeys.deeds import write_line
BEFORE
os.closerange(0, 3)
asyncio.run(main(PATH), debug=False)
"""


@pytest.mark.parametrize("before", ["", "sys.stdout = sys.stderr = None"])
def test_standard_descriptors_that_the_controller_has_closed(tmp_path, before):
    program = controller(CLOSED.replace("BEFORE", before).replace("PATH", repr(str(tmp_path / "said"))))
    program.communicate(timeout=60)
    assert (tmp_path / "said").read_text() == "1\n", "one slot for all tasks"


# --- what the controller is to its agent


SUBREAPER = """
import asyncio, psutil
from aioparallel import Pool
from aioparallel._worker.kernel import become_subreaper

async def main():
    async with Pool(local=1) as pool:
        await pool.submit(abs, 1)
        assert len(psutil.Process().children()) == 1, "the agent is its child"

become_subreaper()
asyncio.run(main(), debug=False)
print(psutil.Process().children())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="sub-reapers")
def test_a_controller_that_is_a_subreaper_is_left_no_zombie():
    assert controller(SUBREAPER).communicate(timeout=60) == ("[]\n", "")


@pytest.mark.near
@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
async def test_the_launcher_is_out_of_the_reach_of_ctrl_c(open_pool, tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncut -d" " -f1,6 /proc/$$/stat > {tmp_path}/ids\nexec {sys.executable} "$@"\n')
    python.chmod(0o700)
    async with open_pool(1, python=str(python)):
        pid, session = (tmp_path / "ids").read_text().split()
    assert pid == session


@pytest.mark.near
async def test_an_agent_that_is_stopped_before_it_has_said_anything(open_pool, monkeypatch):
    monkeypatch.setattr(LocalHost, "_tell", lambda *_, **__: None)
    async with open_pool(1, bystanders=False) as pool:
        (host,) = pool._engine.hosts.values()
        await until(lambda: len(carriers(host._nonce)) == 2)
        pids = carriers(host._nonce)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
    assert living(pids) == []
