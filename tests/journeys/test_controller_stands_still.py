"""A controller that is stopped, blocked, or gone without a word: hosts wait for it as long as they said, and no longer."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ..far.servers import Server
from .conftest import pool_in_a_program
from .looks import assert_gone_within, controller, living

HEARTBEAT = 0.2
STILL_SECONDS = 8 * HEARTBEAT
"""More than three heartbeats, and well below `ORPHAN_AFTER` where that is not to pass."""

PROGRAM = """
import asyncio, os, psutil, sys, time
from aioparallel import SSH, Pool
from tests.far.loopback import Loopback
from tests.journeys import deeds

folder = sys.argv[-1]

async def wake(task):
    try:
        await task
    finally:
        print("woken", flush=True)

def below(pool):
    agent = psutil.Process(psutil.Process(next(slot.pid for slot in pool.slots)).ppid())
    return [agent.pid, *(child.pid for child in agent.children(recursive=True))]

async def main():
    pool = await POOL.ready(2)
    moving = pool.submit(deeds.once_then, f"{folder}/count", deeds.loop_behind_a_grandchild, f"{folder}/pids")
    while not os.path.exists(f"{folder}/pids"):
        await asyncio.sleep(0.01)
    BODY

asyncio.run(main(), debug=False)
END
"""

TELL = """print(*below(pool), flush=True)
    sys.stdin.readline()
    quick = await pool.submit(abs, -5)
    print(quick, len(moving.attempts), moving.state, flush=True)
    await pool.aclose()"""


@contextmanager
def running(server: Server | str, folder: Path, body: str, end: str = "", **options: float) -> Iterator[subprocess.Popen[str]]:
    """Give a program that has a pool whose first task never ends in its first attempt."""
    made = pool_in_a_program(server, options=", ".join(f"{name}={value}" for name, value in {"heartbeat": HEARTBEAT, **options}.items()))
    text = PROGRAM.replace("POOL", made).replace("BODY", body).replace("END", end)
    program = controller(f"import sys; sys.argv = ['', {str(folder)!r}]\n{text}", stdin=subprocess.PIPE)
    try:
        yield program
    finally:
        program.kill()
        program.communicate()


def pids_of(program: subprocess.Popen[str]) -> list[int]:
    line = program.stdout.readline()
    assert line, program.communicate()[1]
    return list(map(int, line.split()))


def ended_well(program: subprocess.Popen[str], said: str) -> None:
    """Let the program go on; nothing was lost, and nothing was said of any host."""
    out, err = program.communicate("\n", timeout=30)
    assert (out.strip(), err, program.returncode) == (said, "", 0)


def test_stopped_for_a_while_and_continued(server, tmp_path):
    """Ctrl-Z, then `fg`."""
    with running(server, tmp_path, TELL) as program:
        pids = pids_of(program)
        program.send_signal(signal.SIGSTOP)
        time.sleep(STILL_SECONDS)
        program.send_signal(signal.SIGCONT)
        assert living(pids) == pids
        ended_well(program, "5 1 running")


def test_blocked_for_a_while(server, tmp_path):
    with running(server, tmp_path, TELL.replace("sys.stdin", f"time.sleep({STILL_SECONDS}); sys.stdin", 1)) as program:
        pids_of(program)
        ended_well(program, "5 1 running")


def test_blocked_again_and_again(server, tmp_path):
    """Each turn of the loop is too short for a heartbeat: the host is judged by those in which it could be heard."""
    blocking = f"""for _ in range(6):
        time.sleep({2 * HEARTBEAT})
        await asyncio.sleep(0)"""
    with running(server, tmp_path, TELL.replace("sys.stdin", f"{blocking}\n    sys.stdin", 1)) as program:
        pids_of(program)
        ended_well(program, "5 1 running")


@pytest.mark.far
@pytest.mark.parametrize("how", ["stopped", "blocked"])
def test_still_for_longer_than_its_hosts_wait(server, tmp_path, how):
    """They end their work; when it goes on it finds out, and runs that again."""
    body = """print(*below(pool), flush=True)
    STILL
    print(await moving, [attempt.outcome for attempt in moving.attempts], flush=True)
    await pool.aclose()"""
    still = "sys.stdin.readline()" if how == "blocked" else "await asyncio.sleep(0)"
    with running(server, tmp_path, body.replace("STILL", still), orphan_after=1.0) as program:
        pids = pids_of(program)
        if how == "stopped":
            program.send_signal(signal.SIGSTOP)
        assert_gone_within(5.0, pids)
        program.send_signal(signal.SIGCONT)
        out, err = program.communicate("\n", timeout=30)
        assert out.strip() == "2 ['lost', 'succeeded']", err
        assert "Traceback" not in err and "never retrieved" not in err, err


@pytest.mark.far
def test_killed_while_a_process_that_python_did_not_fork_holds_the_connection(server, tmp_path):
    """No end of the connection reaches the far side: it gives up when it has heard nothing for `orphan_after`."""
    body = """import ctypes
    if not (child := ctypes.CDLL(None).fork()):
        time.sleep(1000)
    print(child, *below(pool), flush=True)
    await moving"""
    with running(server, tmp_path, body, orphan_after=1.0) as program:
        child, *pids = pids_of(program)
        try:
            program.kill()
            assert_gone_within(5.0, pids)
            assert living([child]) == [child], "it is not ours"
        finally:
            os.kill(child, signal.SIGKILL)


# --- asyncio.run ends before the pool was closed

FORGETS = """waiters = [asyncio.create_task(wake(task)) for task in [moving, *(pool.submit(time.sleep, 100) for _ in range(3))]]
    globals().update(kept=(pool, waiters))
    await asyncio.sleep(0.1)
    print(*below(pool), flush=True)
    sys.stdin.readline()
    SILENCE
    globals()["began"] = time.monotonic()"""
"""The line that it waits for keeps apart what is read by line and what is read to the end."""


def test_asyncio_run_ends_with_tasks_in_flight(server, tmp_path):
    with running(server, tmp_path, FORGETS.replace("SILENCE", ""), "print(time.monotonic() - began)") as program:
        parts_well(program, pids_of(program))


@pytest.mark.far
def test_asyncio_run_ends_with_tasks_in_flight_where_a_host_does_not_answer(server, tmp_path):
    body = FORGETS.replace("SILENCE", "sys.argv.insert(-1, below(pool)[0]); os.kill(sys.argv[-2], 19)")
    with running(server, tmp_path, body, "print(time.monotonic() - began); os.kill(int(sys.argv[-2]), 18)") as program:
        parts_well(program, pids_of(program))


def parts_well(program: subprocess.Popen[str], pids: list[int]) -> None:
    """See that each of four coroutines woke, and that a program ended in time with a warning and nothing else."""
    out, err = program.communicate("\n", timeout=30)
    *woken, seconds = out.split()
    assert woken == ["woken"] * 4 and float(seconds) < 2.0
    assert "was never closed" in err and "Event loop is closed" not in err and "was lost" not in err, err
    assert_gone_within(2.0, pids)
