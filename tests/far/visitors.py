"""What far slots are asked to do."""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys
import time
from typing import Any

from aioparallel import current_task

from . import own_classes


def thing_of(number: int) -> own_classes.Thing:
    return own_classes.Thing(number)


def import_missing() -> None:
    import no_such_module_anywhere  # type: ignore[import-not-found] # noqa: F401


def import_named(name: str) -> str:
    return str(importlib.import_module(name).__name__)


def value_of(name: str) -> int:
    return int(importlib.import_module(name).value)


def source_of(name: str) -> str:
    return inspect.getsource(importlib.import_module(name))


def value_and_source(name: str) -> tuple[int, str]:
    return value_of(name), source_of(name)


def reload_named(*names: str) -> int:
    return [int(importlib.reload(importlib.import_module(name)).value) for name in names][-1]


def import_from(module: str, name: str) -> None:
    exec(f"from {module} import {name}", {})


def open_pool_there() -> None:
    from aioparallel import Pool

    Pool(local=1)


def make_a_policy() -> None:
    own_classes.Policy()


def import_nonsense() -> None:
    import aioparallel.nonsense  # type: ignore[import-not-found] # noqa: F401


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


def look(value: Any, small: Any, _: Any = None) -> tuple[int, int, int]:
    return os.getpid(), len(value), small["small"]


def kept(value: Any, small: Any) -> tuple[int, int, int, int, int]:
    """Return who we and our agent are, how many memories we have mapped and it keeps, and how many values we know."""
    from aioparallel._worker.shared import current

    with open("/proc/self/maps") as file:
        mapped = len({line.split()[4] for line in file if "aioparallel-shared" in line})
    folder = f"/proc/{os.getppid()}/fd"
    fds = sum("aioparallel-shared" in os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder))
    return os.getpid(), os.getppid(), mapped, fds, len(current)


def crash_once(value: Any, path: str) -> int:
    if os.path.exists(path):
        return len(value)
    open(path, "w").close()
    os._exit(9)


def look_and_stay(value: Any, gate: str) -> int:
    fd = os.open(f"{gate}.here", os.O_WRONLY)
    os.write(fd, os.getpid().to_bytes(4, "little"))
    os.close(fd)
    fd = os.open(f"{gate}.go", os.O_RDONLY)
    os.read(fd, 1)
    os.close(fd)
    return len(value)


def stay_with_a_child(path: str, seconds: float) -> str:
    """Start a process in a session of its own, say who all of us are, and stay; at a second visit come back at once."""
    if os.path.exists(path):
        return "again"
    child = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({seconds})"], start_new_session=True)
    with open(path + ".new", "w") as file:
        file.write(f"{os.getppid()} {os.getpid()} {child.pid}")
    os.rename(path + ".new", path)
    time.sleep(seconds)
    return "first"
