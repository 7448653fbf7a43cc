"""What far slots are asked to do."""

from __future__ import annotations

import os
import sys
import time

from aioparallel import current_task

from . import own_classes


def thing_of(number: int) -> own_classes.Thing:
    return own_classes.Thing(number)


def import_missing() -> None:
    import no_such_module_anywhere  # type: ignore[import-not-found] # noqa: F401


def open_pool_there() -> None:
    from aioparallel import Pool

    Pool(local=1)


def say(out: str, err: str) -> None:
    sys.stdout.write(out)
    sys.stdout.flush()
    os.write(2, err.encode())


def note_and_print(path: str) -> str:
    """Say who we are and who our agent is, then wait to be let go."""
    with open(path + ".new", "w") as file:
        file.write(f"{os.getpid()} {os.getppid()}")
    os.rename(path + ".new", path)
    go = os.path.join(os.path.dirname(path), "go")
    while not os.path.exists(go):
        time.sleep(0.01)
    return "done"


def where() -> str:
    task = current_task()
    assert task is not None
    return task.host


def fail_on(host: str) -> str:
    if where() == host:
        raise RuntimeError(f"not on {host}")
    return where()


def hold(go: str) -> str:
    """Wait to be let go."""
    while not os.path.exists(go):
        time.sleep(0.01)
    return where()


def environment(name: str) -> tuple[str, str]:
    return os.environ[name], os.getcwd()
