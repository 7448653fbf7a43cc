"""A process that the agent cannot bury: what ended over it is settled all the same, and its slot serves nobody until it is gone."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from aioparallel import TaskTimeout, WorkerDied

from . import deeds
from .looks import until, written

HOLD = """
import ctypes, sys
held = [ctypes.CDLL(None).ptrace(0x4206, ctypes.c_long(int(pid)), None, None) for pid in sys.argv[1:]]
print(*held, flush=True)
sys.stdin.read()
"""


@contextmanager
def held(pids: list[str]) -> Iterator[None]:
    """Keep processes from being reaped by their parents: whoever is traced stays, dead, until his tracer has seen it."""
    tracer = subprocess.Popen([sys.executable, "-c", HOLD, *pids], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        if set(tracer.stdout.readline().split()) != {"0"}:
            pytest.skip("ptrace is not permitted here")
        yield
    finally:
        tracer.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="PTRACE_SEIZE")
async def test_what_cannot_be_buried_keeps_no_task_waiting(open_pool, tmp_path):
    async with open_pool(3) as pool:
        crash = pool.submit(deeds.start_a_child_and_sleep, str(tmp_path / "crash"))
        late = pool.options(timeout=3).submit(deeds.start_a_child_and_sleep, str(tmp_path / "late"))
        children = [await written(tmp_path / name) for name in ("crash.began", "late.began")]
        with held(children):
            os.kill(psutil.Process(int(children[0])).ppid(), signal.SIGSEGV)
            with pytest.raises(WorkerDied):
                await crash
            with pytest.raises(TaskTimeout):
                await late
            assert [task.attempts[0].confirmed_dead for task in (crash, late)] == [False, False]
            assert sorted(slot.state for slot in pool.status().slots)[-2:] == ["unconfirmed", "unconfirmed"]
            assert await asyncio.gather(*(pool.submit(abs, -number) for number in range(10))) == list(range(10))
        await until(lambda: "unconfirmed" not in {slot.state for slot in pool.status().slots})
