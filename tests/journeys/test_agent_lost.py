"""The agent or the template is killed: its tasks run again elsewhere, nothing of it survives, and nobody is blamed."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
import socket
import sys

import psutil
import pytest

from aioparallel import HostError, HostLost, PoolClosed, WorkerDied

from . import deeds
from .looks import assert_gone_within, is_dead, until, written


async def processes_of(pool) -> tuple[int, int]:
    """Return (pid of the agent, pid of the template)."""
    await pool.ready(1)
    slots = {slot.pid for slot in pool.status().slots}
    agent = psutil.Process(next(pid for pid in slots if pid)).ppid()
    # Slots have sessions of their own, all but at the moment of their birth; a template that was killed may still be there, dead.
    found: list[int] = []

    def look() -> bool:
        found[:] = [child.pid for child in psutil.Process(agent).children() if not is_dead(child.pid) and os.getsid(child.pid) == agent]
        return len(found) == 1

    await until(look)
    (template,) = found
    return agent, template


async def test_agent_killed_under_a_c_loop_with_a_grandchild(open_pool, tmp_path):
    async with open_pool() as pool:
        agent, template = await processes_of(pool)
        task = pool.submit(deeds.once_then, str(tmp_path / "count"), deeds.loop_behind_a_grandchild, str(tmp_path / "pids"))
        pids = list(map(int, (await written(tmp_path / "pids")).split()))
        os.kill(agent, signal.SIGKILL)
        assert await task == 2
        assert_gone_within(1.0, [agent, template, *pids])
        assert [attempt.outcome for attempt in task.attempts] == ["lost", "succeeded"]
        assert {slot.pid for slot in pool.status().slots}.isdisjoint(pids)


async def test_a_task_that_may_not_run_twice_is_host_lost(open_pool, tmp_path):
    async with open_pool() as pool:
        agent, _ = await processes_of(pool)
        running = pool.options(idempotent=False).submit(
            deeds.once_then, str(tmp_path / "count"), deeds.loop_behind_a_grandchild, str(tmp_path / "a")
        )
        pids = list(map(int, (await written(tmp_path / "a")).split()))
        other = pool.submit(deeds.sleep_until_asked, str(tmp_path / "b"))
        await written(tmp_path / "b.began")
        queued = [pool.options(idempotent=False).submit(deeds.append, str(tmp_path / "queued"), "x") for _ in range(20)]
        os.kill(agent, signal.SIGKILL)
        with pytest.raises(HostLost, match="idempotent=False"):
            await running
        await asyncio.gather(*queued)
        assert (tmp_path / "queued").read_text() == "x" * 20 and (tmp_path / "count").read_text() == "x"
        other.cancel()
        with pytest.raises(asyncio.CancelledError):
            await other
        assert_gone_within(1.0, pids)


async def test_a_task_whose_cancelling_met_the_agents_death_ends_cancelled(open_pool, tmp_path):
    async with open_pool() as pool:
        agent, _ = await processes_of(pool)
        task = pool.submit(deeds.loop_behind_a_grandchild, str(tmp_path / "pids"))
        pids = list(map(int, (await written(tmp_path / "pids")).split()))
        os.kill(agent, signal.SIGSTOP)  # so that it will not obey
        task.cancel()
        await asyncio.sleep(0)
        os.kill(agent, signal.SIGKILL)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [is_dead(pid) for pid in pids] == [True] * len(pids), "cancelled means dead"


@pytest.mark.near
async def test_results_given_before_the_agents_death_are_kept(open_pool, tmp_path):
    async with open_pool() as pool:
        agent, _ = await processes_of(pool)
        tasks = [pool.options(idempotent=False).submit(deeds.append, str(tmp_path / "a"), "x") for _ in range(300)]
        await tasks[100]
        os.kill(agent, signal.SIGKILL)
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        lost = [error for error in ended if error is not None]
        assert all(isinstance(error, HostLost) for error in lost) and len(lost) <= 2
        assert 300 - len(lost) <= len((tmp_path / "a").read_text()) <= 300, "none ran twice"


async def test_an_agent_that_dies_with_its_pool_idle(open_pool):
    async with open_pool() as pool:
        for _ in range(3):
            agent, template = await processes_of(pool)
            os.kill(agent, signal.SIGKILL)
            assert_gone_within(1.0, [agent, template])
            assert await pool.submit(abs, -3) == 3


async def test_closing_while_the_agent_is_dead_or_does_not_answer(open_pool):
    for number in (signal.SIGKILL, signal.SIGSTOP):
        async with open_pool(bystanders=False) as pool:
            agent, template = await processes_of(pool)
            sleeper = await pool.submit(deeds.start_sleeper)
            os.kill(agent, number)
            if number == signal.SIGKILL:
                assert_gone_within(1.0, [agent, template])
        assert_gone_within(1.0, [agent, template, sleeper])


# --- shortages

SHORTAGES = [OSError(errno.EMFILE, "Too many open files"), OSError(errno.ENOMEM, "No memory"), RuntimeError("can't start new thread")]


def short(monkeypatch, module, name: str, error: Exception, times: int) -> list[str]:
    """Have a function raise an error so many times; return the list that it notes them in."""
    real = getattr(module, name)
    raised: list[str] = []

    def function(*args, **options):
        if len(raised) == times:
            return real(*args, **options)
        raised.append(name)
        raise error

    monkeypatch.setattr(module, name, function)
    return raised


@pytest.mark.near
@pytest.mark.parametrize("error", SHORTAGES, ids=str)
@pytest.mark.parametrize(("module", "name"), [(asyncio, "create_subprocess_exec"), (socket, "socketpair")], ids=["process", "socket"])
async def test_a_shortage_while_an_agent_is_replaced_passes(open_pool, monkeypatch, module, name, error):
    async with open_pool() as pool:
        agent, _ = await processes_of(pool)
        raised = short(monkeypatch, module, name, error, 2)
        os.kill(agent, signal.SIGKILL)
        await until(lambda: len(raised) == 2)
        assert await pool.submit(abs, -3) == 3


@pytest.mark.near
async def test_a_shortage_that_lasts_is_named(open_pool, monkeypatch):
    short(monkeypatch, asyncio, "create_subprocess_exec", SHORTAGES[0], 1000)
    with pytest.raises(HostError, match=r"cannot start its agent just now: .*Too many open files"):
        async with open_pool(bystanders=False):
            raise AssertionError
    monkeypatch.undo()
    async with open_pool(bystanders=False) as pool:
        agent, _ = await processes_of(pool)
        short(monkeypatch, asyncio, "create_subprocess_exec", SHORTAGES[0], 1000)
        task = pool.submit(deeds.loop_in_c)
        os.kill(agent, signal.SIGKILL)
        with pytest.raises(HostError, match="Too many open files"):
            await task


@pytest.mark.near
async def test_what_ends_the_engine_is_named(open_pool, monkeypatch):
    async with open_pool(bystanders=False) as pool:
        agent, _ = await processes_of(pool)
        short(monkeypatch, asyncio, "create_subprocess_exec", ValueError("of ours"), 1000)
        task = pool.submit(deeds.loop_in_c)
        os.kill(agent, signal.SIGKILL)
        with pytest.raises(PoolClosed, match=r"engine failed: ValueError\('of ours'\)"):
            await task


@pytest.mark.near
async def test_closing_with_no_descriptor_left(open_pool, caplog):
    _, hard = limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        async with open_pool(bystanders=False) as pool:
            pids = [*await processes_of(pool), await pool.submit(os.getpid)]
            os.kill(pids[0], signal.SIGKILL)
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert_gone_within(1.0, pids)
    assert [record.levelname for record in caplog.records] == ["WARNING"] and "could not be removed" in caplog.text


# --- the template


async def test_template_killed(open_pool):
    async with open_pool() as pool:
        for _ in range(3):
            _, template = await processes_of(pool)
            os.kill(template, signal.SIGKILL)
            with pytest.raises(WorkerDied):
                await pool.submit(os._exit, 3)
            assert await asyncio.gather(*(pool.submit(abs, -number) for number in range(50))) == list(range(50))
            await until(lambda template=template: is_dead(template))


async def test_template_killed_while_slots_are_asked_for(open_pool):
    """A slot that was forked is announced, one that was not is asked for again; none of them twice."""
    async with open_pool(4) as pool:
        for delay in range(6):
            _, template = await processes_of(pool)
            crashes = [pool.submit(os._exit, 3) for _ in range(4)]
            await asyncio.sleep(0.002 * delay)
            os.kill(template, signal.SIGKILL)
            assert {type(error) for error in await asyncio.gather(*crashes, return_exceptions=True)} == {WorkerDied}
            assert await asyncio.gather(*(pool.submit(abs, -number) for number in range(50))) == list(range(50))
            await pool.ready(4, timeout=20)
            pids = [slot.pid for slot in pool.status().slots]
            assert len(set(pids)) == 4 and all(pids)


async def test_template_killed_and_a_scratch_folder_to_be_removed(open_pool):
    async with open_pool(1) as pool:
        _, template = await processes_of(pool)
        os.kill(template, signal.SIGSTOP)
        task = pool.submit(deeds.make_scratch_and_die)
        await asyncio.sleep(0)
        os.kill(template, signal.SIGKILL)
        with pytest.raises(WorkerDied):
            await task
        assert await pool.submit(abs, -1) == 1


# --- what is preloaded


@pytest.fixture
def preloadable(tmp_path, monkeypatch):
    """Return a function that makes a module; it has the name `preloaded_<name>`."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name: str, text: str) -> str:
        (tmp_path / f"preloaded_{name}.py").write_text(text)
        return f"preloaded_{name}"

    return make


async def test_preload_is_there_in_each_slot(open_pool, preloadable):
    name = preloadable("well", "import os\npid = os.getpid()\n")
    async with open_pool(preload=[name]) as pool:
        template = await pool.submit(deeds.get_attribute, name, "pid")
        assert template not in (None, await pool.submit(os.getpid))
        assert pool.status().notes == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise ValueError('no such luck')", "ValueError: no such luck"),
        ("import sys; sys.exit(7)", "SystemExit: 7"),
        ("import no_such_module_anywhere", "no_such_module_anywhere"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("syntax error", "invalid syntax"),
        ("import os; os._exit(9)", "dies as it starts"),
        ("import os; os.kill(os.getpid(), 11)", "dies as it starts"),
    ],
)
async def test_a_preload_that_fails_is_one_clear_error(open_pool, preloadable, text, said):
    name = preloadable("badly", text)
    async with open_pool(preload=[name], bystanders=False) as pool:
        tasks = [pool.submit(abs, -number) for number in range(3)]
        for task in tasks:
            with pytest.raises(HostError, match="(?s)preload=.*" if "dies" not in said else said) as caught:
                await task
            assert said in str(caught.value)
        with pytest.raises(HostError):
            await pool.ready(1)
        with pytest.raises(HostError):
            await pool.submit(abs, -1)
        assert any(said in note for note in pool.status().notes)


async def test_a_preload_that_is_missing(open_pool):
    async with open_pool(preload=["no_such_module_anywhere"], bystanders=False) as pool:
        with pytest.raises(HostError, match="no_such_module_anywhere"):
            await pool.submit(abs, -1)


THREADED = "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"


async def test_a_preload_that_starts_a_thread_makes_slots_exec(open_pool, preloadable):
    name = preloadable("threaded", THREADED)
    async with open_pool(preload=[name]) as pool:
        for _ in range(2):
            pid = await pool.submit(os.getpid)
            assert any("exec_main" in word for word in psutil.Process(pid).cmdline()), "forked, with locks that a thread may have held"
            assert any("exec'ed" in note and "1 threads" in note for note in pool.status().notes)
            with pytest.raises(WorkerDied):
                await pool.submit(os._exit, 3)


async def test_an_execed_slot_takes_a_configuration_of_any_size(open_pool, preloadable, monkeypatch):
    name = preloadable("threaded", THREADED)
    monkeypatch.setattr(sys, "path", [*sys.path, *(f"/nonexistent/{number:0200}" for number in range(2000))])
    async with open_pool(preload=[name]) as pool:
        assert await pool.submit(abs, -1) == 1


async def test_slots_that_die_as_they_start_back_off_and_give_a_host_error(open_pool, preloadable):
    name = preloadable(
        "sabotage",
        "import os\nos.register_at_fork(after_in_child=lambda: os.getppid() == TEMPLATE or os._exit(9))\nTEMPLATE = os.getpid()\n",
    )
    async with open_pool(preload=[name], bystanders=False) as pool:
        with pytest.raises(HostError, match="slots in a row died as they started, the last with code 9"):
            await pool.submit(abs, -1)
        assert any("died as they started" in note for note in pool.status().notes)


# --- forks that the kernel refuses

REFUSE = """
import errno, os
refused, fork, template = 0, os.fork, os.getpid()

def refuse():
    global refused
    if (os.getpid() == template) == IN_TEMPLATE and refused < TIMES:
        refused += 1
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return fork()

os.fork = refuse
"""


async def test_a_fork_is_tried_again(open_pool, preloadable):
    name = preloadable("refusing", REFUSE.replace("IN_TEMPLATE", "True").replace("TIMES", "2"))
    async with open_pool(1, preload=[name]) as pool:
        assert await pool.submit(abs, -1) == 1
        (note,) = pool.status().notes
        assert "a slot could not be forked" in note and os.strerror(errno.EAGAIN) in note


@pytest.mark.parametrize("in_template", [True, False])
async def test_forks_that_always_fail_are_a_host_error(open_pool, preloadable, in_template):
    name = preloadable("refusing", REFUSE.replace("IN_TEMPLATE", str(in_template)).replace("TIMES", "1000"))
    async with open_pool(preload=[name], bystanders=False) as pool:
        with pytest.raises(HostError, match="slots in a row died as they started"):
            await pool.submit(abs, -1)
        assert any(os.strerror(errno.EAGAIN) in note for note in pool.status().notes)
