"""Tasks that change the process they run in, and `looks_of_the_process`, by which the next task would see it."""

from __future__ import annotations

import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def looks_of_the_process() -> dict[str, Any]:
    """Return all that the next task must find as it was."""
    mask = os.umask(0)
    os.umask(mask)
    names = ("RLIMIT_NOFILE", "RLIMIT_CORE", "RLIMIT_DATA", "RLIMIT_STACK", "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_AS")
    numbers = [number for number in range(1, signal.NSIG) if number not in (9, 19, 32, 33)]
    return {
        "pid": os.getpid(),
        "cwd": os.getcwd(),
        "environ": dict(os.environ),
        "path": list(sys.path),
        "umask": mask,
        "recursion": sys.getrecursionlimit(),
        "signals": [repr(signal.getsignal(number)).split(" at ")[0] for number in numbers],
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in names},
        "fds": [os.readlink(f"/proc/self/fd/{number}") for number in (0, 1, 2)],
        "streams": [(stream.fileno(), stream.closed, stream.writable()) for stream in (sys.stdout, sys.stderr)],
        "hooks": [hook is kept for hook, kept in ((sys.excepthook, sys.__excepthook__), (sys.displayhook, sys.__displayhook__))],
        "ids": os.getresuid() + os.getresgid(),
    }


def change_folder() -> None:
    os.chdir("/")


def change_folder_by_descriptor() -> None:
    fd = os.open("/", os.O_RDONLY)
    os.fchdir(fd)
    os.close(fd)


def change_environment() -> None:
    os.environ["AIOPARALLEL_TEST_NEW"] = "new"
    os.environ["PATH"] = "/nowhere"
    del os.environ["HOME"]


def change_environment_by_putenv() -> None:
    """`os.putenv` changes what children see, and `os.environ` knows nothing of it."""
    os.putenv("AIOPARALLEL_TEST_PUT", "new")
    os.putenv("PATH", "/nowhere")


def environment_of_a_child() -> dict[str, str]:
    import subprocess

    said = subprocess.run(["/usr/bin/env"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return dict(line.partition("=")[::2] for line in said.splitlines())


def change_path() -> None:
    sys.path.insert(0, "/nowhere")
    sys.path.append("/elsewhere")


def replace_path() -> None:
    sys.path = ["/nowhere"]


def change_umask() -> None:
    os.umask(0o123)


def change_recursion_limit() -> None:
    sys.setrecursionlimit(12345)


def leave_no_room() -> None:
    """Lower the recursion limit as far as Python allows it here."""
    for limit in range(1, 1000):
        try:
            sys.setrecursionlimit(limit)
        except RecursionError:
            continue
        return


def trace_and_raise() -> None:
    """Have every further call of a Python function raise."""
    sys.settrace(_no_call)


def _no_call(*_: object) -> None:
    raise LookupError("no call")


def after(change: Callable[[], None], number: int) -> Path:
    """Return what takes calls to pickle; fail with 3."""
    result = Path(str(number))
    change()
    if number == 3:
        raise ValueError(number)
    return result


def change_signal_handlers() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGURG, signal.SIGUSR1, signal.SIGPIPE):
        signal.signal(number, lambda *_: None)


def ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def set_an_alarm() -> None:
    """A clock that rings after the task is over."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 0.3)


def block_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGURG, signal.SIGINT})


def blocked_signals() -> list[int]:
    return sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def change_soft_limits() -> None:
    for name, value in ((resource.RLIMIT_NOFILE, 100), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 1 << 30)):
        _, hard = resource.getrlimit(name)
        resource.setrlimit(name, (value, hard))
    resource.prlimit(0, resource.RLIMIT_STACK, (1 << 20, resource.getrlimit(resource.RLIMIT_STACK)[1]))


def close_standard_streams() -> None:
    sys.stdout.close()
    os.close(0)
    os.close(2)


def replace_standard_streams() -> None:
    import io

    sys.stdout = io.StringIO()
    sys.stderr = None
    sys.excepthook = sys.displayhook = print


def redirect_standard_descriptors() -> None:
    fd = os.open(os.devnull, os.O_WRONLY)
    for number in (0, 1, 2):
        os.dup2(fd, number)
    os.close(fd)


def delete_from_standard_streams() -> None:
    del sys.stdout


# --- what cannot be put back


def lower_hard_limit() -> int:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (1000, 1000))
    return os.getpid()


def change_user() -> int:
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    return os.getpid()


def stand_in_a_deleted_folder() -> int:
    """The slot's own folder stays; this one goes: it can be left again."""
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    os.rmdir(folder)
    return os.getpid()
