"""However the controller ends, nothing of its pool lives on; and Ctrl-C is what a Python user knows."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from ..far.servers import Server
from .conftest import pool_in_a_program
from .looks import assert_gone_within, controller, living

GONE_SECONDS = 10.0

PROGRAM = """
import asyncio, json, os, signal, sys, tempfile, time, psutil
from aioparallel import SSH, Pool
from tests.far.loopback import Loopback
from tests.journeys import deeds

async def main():
    folder = tempfile.mkdtemp()
    async with POOL as pool:
        tasks = [pool.submit(deeds.loop_behind_a_grandchild, f"{folder}/{n}") for n in range(2)]
        pids = []
        for n in range(2):
            while not os.path.exists(f"{folder}/{n}"):
                await asyncio.sleep(0.01)
            with open(f"{folder}/{n}") as file:
                pids += map(int, file.read().split())
            os.unlink(f"{folder}/{n}")
        os.rmdir(folder)
        agent = psutil.Process(psutil.Process(pool.status().slots[0].pid).ppid())
        print(json.dumps([pids, agent.pid, [child.pid for child in agent.children(recursive=True)]]), flush=True)
        BODY

asyncio.run(main(), debug=False)
"""


@contextlib.contextmanager
def running(
    server: Server | str, body: str = "await asyncio.gather(*tasks)", options: str = ""
) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """Give a controller under way, and the pids of everything that its pool began: agent, template, slots, and what their tasks started."""
    program = controller(PROGRAM.replace("POOL", pool_in_a_program(server, options=options)).replace("BODY", body))
    try:
        line = program.stdout.readline()
        assert line, program.communicate()[1]
        of_tasks, agent, below = json.loads(line)
        assert len(of_tasks) == 6 and set(of_tasks) < set(below), "the template is there as well"
        pids = [agent, *below]
        yield program, pids
        assert living(pids) == []
    finally:
        program.kill()
        program.communicate()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGABRT], ids=lambda number: number.name)
def test_killed(server, number):
    with running(server) as (program, pids):
        program.send_signal(number)
        assert_gone_within(GONE_SECONDS, pids)
        assert program.wait(10) == -number


def test_killed_while_its_loop_is_blocked(server):
    with running(server, "time.sleep(1000)") as (program, pids):
        program.kill()
        assert_gone_within(GONE_SECONDS, pids)


def test_killed_while_a_forked_child_of_its_own_holds_the_link(server):
    body = """import warnings; warnings.simplefilter("ignore")
        child = os.fork() or time.sleep(1000); print(child, flush=True); await asyncio.gather(*tasks)"""
    with running(server, body) as (program, pids):
        child = int(program.stdout.readline())
        program.kill()
        try:
            assert_gone_within(GONE_SECONDS, pids)
            assert living([child]) == [child], "it is not ours"
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("end", ["sys.exit(7)", "await pool.aclose()", "await tasks[0]"])
def test_a_forked_child_that_runs_on_harms_nothing(server, end):
    """What it holds is the parent's: its end, however it comes, closes no link, kills nothing, and hears no answer."""
    body = f"""import warnings; warnings.simplefilter("ignore")
        tasks[1].cancel()
        await asyncio.wait(tasks[1:])
        if not (child := os.fork()):
            __import__("ctypes").CDLL(None).prctl(1, 9)  # it goes with its parent
            {end}
        answers = [await pool.submit(deeds.double_slowly, 4, 0.5), await pool.submit(abs, -5)]
        print(child, *answers, len(tasks[0].attempts), tasks[0].state, flush=True)
        await asyncio.gather(*tasks)"""
    with running(server, body) as (program, pids):
        child, *said = program.stdout.readline().split()
        assert said == ["8", "5", "1", "running"]
        if end == "await tasks[0]":
            assert living([int(child)]), "it waits for what it cannot hear"
        program.kill()
        assert_gone_within(GONE_SECONDS, [*pids, int(child)])


def test_ctrl_c_reaches_the_whole_group_and_ends_in_keyboard_interrupt(server):
    with running(server) as (program, pids):
        os.killpg(program.pid, signal.SIGINT)
        assert_gone_within(GONE_SECONDS, pids)
        _, err = program.communicate(timeout=10)
        assert program.returncode == -signal.SIGINT
        assert err.startswith("Traceback (most recent call last)") and err.rstrip().endswith("KeyboardInterrupt")
        assert "never awaited" not in err and "Error in" not in err and "exception was never retrieved" not in err


def test_ctrl_c_while_other_tasks_of_asyncio_wait_for_tasks_of_the_pool(server):
    body = """background = [asyncio.create_task(asyncio.wait([task])) for task in tasks]
        await asyncio.sleep(1000)"""
    with running(server, body) as (program, pids):
        os.killpg(program.pid, signal.SIGINT)
        assert_gone_within(GONE_SECONDS, pids)
        _, err = program.communicate(timeout=10)
        assert program.returncode == -signal.SIGINT and err.rstrip().endswith("KeyboardInterrupt")


def test_ctrl_c_may_be_handled(server):
    body = """try:
            await asyncio.gather(*tasks)
        except asyncio.CancelledError:
            await asyncio.wait(tasks)  # a cancelled gather returns when the first of them has ended
            print([task.cancelled() for task in tasks], flush=True)
            asyncio.current_task().uncancel()
        print(await pool.submit(abs, -5), flush=True)"""
    with running(server, body) as (program, _):
        os.killpg(program.pid, signal.SIGINT)
        out, _err = program.communicate(timeout=10)
        assert out.splitlines() == ["[True, True]", "5"]


def test_a_second_ctrl_c_is_harder(server):
    """The first is being obeyed by code that takes its time; the second ends the program all the same."""
    body = """try:
            await asyncio.gather(*tasks)
        finally:
            print("cleaning up", flush=True)
            time.sleep(1000)"""
    with running(server, body) as (program, pids):
        os.killpg(program.pid, signal.SIGINT)
        assert program.stdout.readline() == "cleaning up\n"
        began = time.monotonic()
        os.killpg(program.pid, signal.SIGINT)
        assert_gone_within(GONE_SECONDS, pids)
        _, err = program.communicate(timeout=10)
        assert time.monotonic() - began < 3
        assert program.returncode == -signal.SIGINT and err.rstrip().endswith("KeyboardInterrupt")


def test_a_second_ctrl_c_while_tasks_are_given_grace(server):
    body = """task = pool.options(grace=30).submit(deeds.say_when_asked_and_go_on, folder)
        while not os.path.exists(folder + ".began"):
            tasks[0].cancel(), tasks[1].cancel()
            await asyncio.sleep(0.01)
        os.unlink(folder + ".began")
        print("waits", flush=True)
        await task"""
    with running(server, body) as (program, _):
        assert program.stdout.readline() == "waits\n"
        os.killpg(program.pid, signal.SIGINT)
        assert program.stdout.readline().endswith("asked\n")
        os.killpg(program.pid, signal.SIGINT)
        _, err = program.communicate(timeout=10)
        assert program.returncode == -signal.SIGINT and "KeyboardInterrupt" in err


# --- programs that end without closing

FORGETFUL = """
import asyncio, os, sys, time
from aioparallel import SSH, Pool
from tests.far.loopback import Loopback
from tests.journeys import deeds

kept = []

async def main():
    pool = await POOL.ready(2)
    HOLD
    print(await pool.submit(deeds.start_sleeper), *[slot.pid for slot in pool.status().slots], flush=True)
    task = pool.submit(deeds.loop_in_c)
    await asyncio.sleep(0.1)

asyncio.run(main(), debug=False)
END
"""


def forgetful(server: Server | str, hold: str, end: str) -> str:
    return FORGETFUL.replace("POOL", pool_in_a_program(server)).replace("HOLD", hold).replace("END", end)


@pytest.mark.parametrize("hold", ["", "kept.append(pool)", "kept.append(pool); pool.itself = pool"])
@pytest.mark.parametrize("end", ["", "sys.exit(0)"])
def test_a_program_that_forgets_to_close_ends_promptly_and_is_told(server, hold, end):
    program = controller(forgetful(server, hold or "pass", end))
    line = program.stdout.readline()
    assert line, program.communicate()[1]
    began = time.monotonic()
    _, err = program.communicate(timeout=20)
    assert time.monotonic() - began < 3
    assert program.returncode == 0
    assert "ResourceWarning" in err and "was never closed" in err, err
    assert_gone_within(GONE_SECONDS, map(int, line.split()))


def test_a_program_that_leaves_by_os_exit(server):
    program = controller(forgetful(server, "pass", "").replace("asyncio.sleep(0.1)", "os._exit(4)"))
    line = program.stdout.readline()
    assert line, program.communicate()[1]
    assert program.wait(10) == 4
    program.communicate()
    assert_gone_within(GONE_SECONDS, map(int, line.split()))


def test_an_exception_in_the_block_kills_and_is_what_the_user_sees(server):
    with running(server, "raise ValueError('mine')") as (program, pids):
        _, err = program.communicate(timeout=10)
        assert program.returncode == 1 and err.rstrip().endswith("ValueError: mine")
        assert_gone_within(GONE_SECONDS, pids)
