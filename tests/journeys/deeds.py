"""What the tasks of these journeys do.

Apart from the tests, so that a slot which imports it does not import pytest; and it imports little itself, since most slots here live
for one task.
"""

from __future__ import annotations

import itertools
import os
import signal
import stat
import sys
import time
from typing import Any, NoReturn


class OwnBaseException(BaseException):
    """Not an Exception, and nobody's but the user's."""


def raise_it(kind: type[BaseException], *args: object) -> NoReturn:
    raise kind(*args)


class OwnError(ValueError):
    """A user's own, of a module that far hosts get as source."""


def raise_before(number: int, kind: type[BaseException], *args: object) -> int:
    """Raise in each attempt before that number, which is put before `args`; else return the attempt's number."""
    from aioparallel import current_task

    attempt = current_task().attempt
    if attempt < number:
        raise kind(attempt, *args)
    return attempt


def exit_before(number: int, code: int) -> int:
    """Exit in each attempt before that number; else return the attempt's number."""
    from aioparallel import current_task

    attempt = current_task().attempt
    if attempt < number:
        os._exit(code)
    return attempt


async def raise_in_a_coroutine(kind: type[BaseException]) -> NoReturn:
    import asyncio

    await asyncio.sleep(0)
    raise kind("from a coroutine")


def own_pid() -> int:
    return os.getpid()


def die_by(number: int) -> NoReturn:
    os.kill(os.getpid(), number)
    time.sleep(1000)
    raise AssertionError


def read_address_zero() -> NoReturn:
    import ctypes
    import faulthandler

    faulthandler.disable()
    ctypes.string_at(0)
    raise AssertionError


def once_then(path: str, first: Any, *args: object) -> int:
    """Call `first` in the first attempt; return the number of the attempt in a later one."""
    from aioparallel import current_task

    with open(path, "a") as file:
        file.write("x")
    if os.path.getsize(path) == 1:
        first(*args)
    return current_task().attempt


# --- what never ends


def loop_in_python() -> NoReturn:
    while True:
        pass


def loop_in_c() -> int:
    return sum(itertools.repeat(0))


def loop_in_a_regex() -> object:
    import re

    return re.match(r"(a|aa)+$", "a" * 100 + "b")


def loop_in_a_power() -> int:
    return 3 ** (10**10)


def loop_behind_a_grandchild(path: str) -> int:
    """Never end, holding the GIL, with a child that has a child of its own; their pids are written to a file first."""
    children = [start_sleeper(), start_setsid_daemon()]
    write_line(path, " ".join(map(str, [os.getpid(), *children])))
    return loop_in_c()


def catch_everything() -> NoReturn:
    while True:
        try:
            time.sleep(1000)
        except BaseException:
            continue


def write_line(path: str, text: str) -> None:
    """Make a file appear whole."""
    with open(path + ".new", "w") as file:
        file.write(text + "\n")
    os.rename(path + ".new", path)


# --- processes and threads


started: list[Any] = []
"""Kept, since Popen complains when it is dropped while its process lives."""


def start_sleeper() -> int:
    import subprocess

    started.append(subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL))
    return started[-1].pid


def start_setsid_daemon(environ: dict[str, str] | None = None) -> int:
    """Start a process as daemons are started: forked twice, with a session of its own; with another environment if one is given."""
    read, write = os.pipe()
    if not os.fork():
        os.setsid()
        pid = os.fork()
        if pid:
            os.write(write, str(pid).encode())
            os._exit(0)
        os.execvpe("sleep", ["sleep", "1000"], os.environ if environ is None else environ)
    os.wait()
    pid = int(os.read(read, 20))
    os.close(read)
    os.close(write)
    return pid


def leave_dead_children(count: int) -> int:
    """Leave children that have ended, and wait for none of them."""
    for _ in range(count):
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return os.getpid()


def late_at_first(folder: str, late: int = 1) -> int:
    """Run for ever, with a child, in the first attempts; else return the attempt's number. Each says in a file who it is."""
    from aioparallel import current_task

    number = current_task().attempt
    child = start_sleeper() if number <= late else 0
    with open(f"{folder}/{number}.part", "w") as file:
        file.write(f"{os.getpid()} {child}\n")
    os.replace(f"{folder}/{number}.part", f"{folder}/{number}")
    while number <= late:
        time.sleep(1000)
    return number


def stop_at_first(number: int, whose: int) -> int:
    """Work for a while; one call stops its own process in its first attempt."""
    from aioparallel import current_task

    if number == whose and current_task().attempt == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(0.03)
    return number


def late_at_last(folder: str) -> int:
    """Return in the first attempt, once a later one has said in a file who it is; that one runs for ever."""
    from aioparallel import current_task

    number = current_task().attempt
    if number > 1:
        return late_at_first(folder, number)
    while not os.path.exists(f"{folder}/2"):
        time.sleep(0.005)
    return number


def start_endless_thread() -> int:
    import threading

    threading.Thread(target=time.sleep, args=(1000,), name="never ending", daemon=False).start()
    return threading.active_count()


def fork_and_let_both_return() -> tuple[str, int]:
    """The child comes back into the library's code with a result of its own."""
    parent = os.getpid()
    pid = os.fork()
    return ("parent", pid) if os.getpid() == parent else ("child", parent)


def fork_and_let_both_raise() -> NoReturn:
    parent = os.getpid()
    os.fork()
    raise ValueError("parent" if os.getpid() == parent else "child")


def fork_and_let_the_child_exit_python() -> int:
    pid = os.fork()
    if not pid:
        sys.exit(7)
    return pid


def fork_without_end(depth: int, path: str) -> NoReturn:
    """Processes that start others again and again, for as long as they live."""
    write_line(f"{path}.{os.getpid()}", str(os.getpid()))
    while True:
        if not os.fork():
            if depth:
                fork_without_end(depth - 1, path)
            time.sleep(0.001)
            os._exit(0)
        os.waitpid(-1, os.WNOHANG)
        time.sleep(0.001)


def close_fds(first: int, last: int) -> str:
    os.closerange(first, last + 1)
    return "closed"


def close_own(kind: str) -> str:
    """Close what the slot keeps above the low descriptors, of one kind ("socket" or "pipe")."""
    for number in range(100, 4096):
        try:
            mode = os.fstat(number).st_mode
        except OSError:
            continue
        if stat.S_ISSOCK(mode) if kind == "socket" else stat.S_ISFIFO(mode):
            os.close(number)
    return "closed"


def flood(size: int) -> int:
    """Write to stdout and stderr, through Python and past it."""
    line = "x" * 999 + "\n"
    for _ in range(size // len(line)):
        print(line, end="")
        print(line, end="", file=sys.stderr)
    return size // len(line)


# --- grace


def sleep_until_asked(path: str) -> NoReturn:
    """End well when asked."""
    from aioparallel import TaskCancelled

    write_line(path + ".began", str(os.getpid()))
    try:
        time.sleep(1000)
    except TaskCancelled:
        write_line(path, "cleaned up")
        raise
    raise AssertionError


def start_a_child_and_sleep(path: str) -> NoReturn:
    """End well when asked, but for a child that is left behind."""
    child = start_sleeper()
    write_line(path + ".began", str(child))
    time.sleep(1000)
    raise AssertionError


async def wait_until_asked(path: str) -> None:
    import asyncio

    write_line(path + ".began", str(os.getpid()))
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        write_line(path, "cleaned up")
        raise


def answer_when_asked(path: str) -> str:
    """End with a result when asked, as if nothing had been."""
    from aioparallel import TaskCancelled

    write_line(path + ".began", str(os.getpid()))
    try:
        time.sleep(1000)
    except TaskCancelled:
        pass
    return "a result that nobody may get"


def ignore_being_asked(path: str) -> NoReturn:
    write_line(path + ".began", str(os.getpid()))
    catch_everything()


async def ignore_being_cancelled(path: str) -> NoReturn:
    import asyncio

    write_line(path + ".began", str(os.getpid()))
    while True:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            continue


def loop_in_c_when_asked(path: str) -> int:
    write_line(path + ".began", str(os.getpid()))
    return loop_in_c()


def signal_itself(number: int) -> None:
    signal.raise_signal(number)


def flood_stdout(size: int) -> None:
    while size > 0:
        size -= os.write(1, b"x" * 65536)


def fork_and_double(number: int) -> int:
    """Twice the number, in the parent; the child returns something else."""
    return 2 * number if os.fork() else -1


def ignore_sigchld_and_loop(path: str) -> int:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    pids = [start_sleeper() for _ in range(5)]
    write_line(path, " ".join(map(str, pids)))
    return loop_in_c()


# --- the slot's own state


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def change_to_and_remove(folder: str) -> int:
    os.chdir("/")
    os.rmdir(folder)
    return os.getpid()


def set_attribute(module: str, name: str, value: object) -> None:
    setattr(sys.modules[module], name, value)


def get_attribute(module: str, name: str) -> object:
    return getattr(sys.modules[module], name, None)


def say_when_asked_and_go_on(path: str) -> NoReturn:
    write_line(path + ".began", str(os.getpid()))
    try:
        time.sleep(1000)
    except BaseException:
        print("asked", flush=True)
    catch_everything()


def append(path: str, text: str) -> None:
    with open(path, "a") as file:
        file.write(text)


def make_scratch_and_die() -> NoReturn:
    from aioparallel import current_task

    write_line(f"{current_task().scratch}/a", "a")
    os._exit(3)


def double_slowly(number: int, seconds: float = 0.001) -> int:
    time.sleep(seconds)
    return 2 * number


def is_gone(pid: int) -> bool:
    """Return whether a process is dead (this runs where there is nothing but Python)."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True
