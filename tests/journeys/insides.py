"""Tasks that look at, or use, what they have inside a slot."""

from __future__ import annotations

import os
import stat
import sys
import time
from typing import Any, NoReturn


def about_itself() -> dict[str, Any]:
    from aioparallel import current_task

    task = current_task()
    names = ("id", "attempt", "name", "host", "deadline", "data", "seed")
    return {name: getattr(task, name) for name in names} | {"now": time.monotonic(), "pid": os.getpid()}


def seed() -> int:
    from aioparallel import current_task

    return current_task().seed


def change_the_data_it_was_given() -> tuple[object, object]:
    from aioparallel import current_task

    current_task().data.append("changed")
    return current_task().data, current_task().data is current_task().data


def fail_at_first(path: str) -> int:
    """Return the seed, in the second attempt; the first writes it down and fails."""
    from aioparallel import current_task

    if current_task().attempt == 1:
        with open(path, "w") as file:
            file.write(str(current_task().seed))
        raise ValueError("the first attempt")
    return current_task().seed


def use_scratch(path: str) -> tuple[str, int, int, bool]:
    """Fill the scratch folder; return where it is, its and its parent's mode, and whether it stays the same while the task runs."""
    from aioparallel import current_task

    folder = current_task().scratch
    os.makedirs(f"{folder}/deep/er")
    for name in ("a", "deep/b", "deep/er/c"):
        with open(f"{folder}/{name}", "w") as file:
            file.write("x")
    with open(path, "w") as file:
        file.write(folder + "\n")
    modes = [stat.S_IMODE(os.stat(where).st_mode) for where in (folder, os.path.dirname(folder))]
    return folder, *modes, folder == current_task().scratch


def use_scratch_and(path: str, then: Any, *args: Any) -> NoReturn:
    use_scratch(path)
    then(*args)
    raise AssertionError


def randomness() -> tuple[float, float, str, str]:
    import random
    import uuid

    import numpy as np

    return random.random(), float(np.random.random()), uuid.uuid4().hex, uuid.uuid1().hex  # noqa: NPY002 - the legacy state is the point


def thread_variables() -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


def read_stdin() -> str:
    return sys.stdin.read()


# --- pools in tasks


def open_a_pool() -> NoReturn:
    from aioparallel import Pool

    Pool(local=1)
    raise AssertionError


async def open_a_pool_in_a_coroutine() -> NoReturn:
    from aioparallel import Pool

    async with Pool(local=1):
        raise AssertionError


# --- other ways to run things


def square(number: int) -> int:
    return number * number


def use_multiprocessing(method: str) -> list[int]:
    import multiprocessing

    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(square, range(10))


def use_a_multiprocessing_process(method: str) -> tuple[int, int | None]:
    import multiprocessing

    context = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    process = context.Process(target=put_pid, args=(queue,))
    process.start()
    pid = queue.get()
    process.join()
    queue.close()
    return pid, process.exitcode


def put_pid(queue: Any) -> None:
    queue.put(os.getpid())


def use_an_executor(kind: str) -> list[int]:
    import concurrent.futures

    with getattr(concurrent.futures, kind)(2) as executor:
        return list(executor.map(square, range(10)))


def use_subprocess() -> tuple[str, int]:
    import subprocess

    said = subprocess.run([sys.executable, "-c", "print(input()); exit(3)"], input="hello", stdout=subprocess.PIPE, text=True)
    return said.stdout, said.returncode


def use_subprocess_with_a_timeout() -> str:
    import subprocess

    try:
        subprocess.run(["sleep", "1000"], timeout=0.2)
    except subprocess.TimeoutExpired:
        return "timed out"
    return "?"


async def use_asyncio_subprocess() -> bytes:
    import asyncio

    process = await asyncio.create_subprocess_exec("echo", "hello", stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    return out


# --- the end of a slot


def register_at_exit(path: str) -> int:
    """Have the end of the slot's process leave a mark, in two ways."""
    import atexit
    from multiprocessing import util

    atexit.register(mark, path, "atexit\n")
    util.Finalize(None, mark, args=(path, "finalizer\n"), exitpriority=1)
    return os.getpid()


def register_a_slow_end(seconds: float) -> int:
    import atexit

    atexit.register(time.sleep, seconds)
    return os.getpid()


def mark(path: str, text: str) -> None:
    with open(path, "a") as file:
        file.write(text)
