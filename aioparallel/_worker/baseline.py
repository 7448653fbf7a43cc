"""What a task may change in its slot's process, and how it is put back before the next task.

Guarantees
    After `restore()` returned True, the working folder, environment, `sys.path`, umask, recursion limit, Python signal handlers, blocked
    signals, interval timers, soft resource limits, descriptors 0-2 and `sys.std*` are as they were when the Baseline was made. It returns
    False where that cannot be done (a hard limit, a uid, a deleted folder): then the slot must not serve again.

How it works
    What Python announces through audit events (working folder, environment, resource limits, new processes) is looked at only after such
    an event. Handlers, umask, user ids and descriptors 0-2 are announced by nobody, and a look at them costs system calls, so the
    functions that change them are wrapped. The rest is compared directly. A change made behind Python's back (by C code that calls
    chdir, setenv or close itself) may be missed.
"""

from __future__ import annotations

import _signal
import os
import sys
from _signal import NSIG, getsignal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_FOLDER_EVENTS = {"os.chdir", "os.fchdir"}
_ENVIRON_EVENTS = {"os.putenv", "os.unsetenv"}
_LIMIT_EVENTS = {"resource.setrlimit", "resource.prlimit"}
_START_EVENTS = {"os.fork", "os.forkpty", "os.posix_spawn", "subprocess.Popen"}
"""What may leave a child process. (Before 3.12 no event tells of a new thread; threads can be counted.)"""
_ID_SETTERS = "setuid", "setgid", "seteuid", "setegid", "setreuid", "setregid", "setresuid", "setresgid"
_SIGNALS = [n for n in range(1, NSIG) if n not in (9, 19, 32, 33)]


def _signals() -> list[object]:
    # `_signal.getsignal`, not `signal.getsignal`, which wraps each answer in an enum: 35 us for all of them instead of 1.6.
    return list(map(getsignal, _SIGNALS))


def _standard() -> tuple[object, ...] | None:
    try:
        return sys.stdin, sys.stdout, sys.stderr, sys.displayhook, sys.excepthook
    except AttributeError:
        return None  # a task deleted one


def _is_closed(stream: Any) -> Any:
    return stream is not None and stream.closed


class Baseline:
    """A slot's surroundings as they were, and the way back to them."""

    def __init__(self, high: int) -> None:
        """Remember everything. `high`: keep own descriptors at or above this number, out of the way of tasks that close the low ones."""
        import fcntl
        import resource

        self._resource = resource
        self._folder = fcntl.fcntl(os.open(".", os.O_RDONLY | os.O_DIRECTORY), fcntl.F_DUPFD_CLOEXEC, high)
        self._standard_fds = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, high) for fd in (0, 1, 2)]
        self._environ_itself = os.environ
        self._environ = dict(os.environ)
        self.path = list(sys.path)
        self._umask = _umask()
        self._recursion = sys.getrecursionlimit()
        self._signals = _signals()
        self._blocked = _signal.pthread_sigmask(_signal.SIG_BLOCK, ())
        self._effective = os.geteuid(), os.getegid()
        self._limit_names = sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})
        self._limits = self._read_limits()
        self._standard = _standard()
        self._names_put: set[bytes] = set()
        self.folder_touched = self.environ_touched = self.limits_touched = self.started_something = False
        self.signals_touched = self.descriptors_touched = self.umask_touched = self.ids_touched = False
        sys.addaudithook(self._notice)
        self._watch_functions()

    def _watch_functions(self) -> None:
        """Asking for all 60 handlers, the mask and the timers after each task would cost 4 us; for the others, 2 us."""
        import posix

        signals = "signal", "pthread_sigmask", "setitimer", "alarm"
        self._set_signal, self._set_blocked, self._set_timer, _ = (
            self._watch(_signal, "signal", name, "signals_touched") for name in signals
        )
        self._dup2, _, _ = (self._watch(posix, "os", name, "descriptors_touched", below=3) for name in ("dup2", "close", "closerange"))
        self._set_umask = self._watch(posix, "os", "umask", "umask_touched")
        for name in _ID_SETTERS:
            if hasattr(posix, name):
                self._watch(posix, "os", name, "ids_touched")

    def _notice(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _START_EVENTS:
            self.started_something = True
        elif event in _FOLDER_EVENTS:
            self.folder_touched = True
        elif event in _ENVIRON_EVENTS:
            self.environ_touched = True
            self._names_put.add(arguments[0])
        elif event in _LIMIT_EVENTS:
            self.limits_touched = True
        elif event == "open" and type(arguments[0]) is int and arguments[0] < 3:
            self.descriptors_touched = True  # a file over descriptor 0-2: it closes that when it is closed

    def _watch(self, module: Any, public: str, name: str, flag: str, below: int | None = None) -> Callable[..., Any]:
        """Wrap a function of a C module and of the public one above it, so that its use sets a flag; return the function itself.

        `below`: only a use with an argument that is a smaller number.
        """
        function: Callable[..., Any] = getattr(module, name)

        def watched(*arguments: Any, **keywords: Any) -> Any:
            if below is None or any(type(value) is int and value < below for value in (*arguments, *keywords.values())):
                setattr(self, flag, True)
            return function(*arguments, **keywords)

        watched.__name__ = watched.__qualname__ = name  # so that it can travel by reference as the function can
        watched.__module__, watched.__doc__ = module.__name__, function.__doc__
        above = sys.modules.get(public)
        if getattr(above, name, None) is function:
            setattr(above, name, watched)
        setattr(module, name, watched)
        return function

    def restore(self) -> bool:
        """Put everything back; return False where that is impossible."""
        try:
            return self._restore()
        except Exception:  # noqa: BLE001 - whatever a task broke so that this fails: the slot is replaced
            return False

    def _restore(self) -> bool:
        if self.descriptors_touched:
            # From then on after each task: a file object that was opened over one of them may close it at any time.
            self._restore_descriptors()
        if _standard() != self._standard or _is_closed(sys.stdin) or _is_closed(sys.stdout) or _is_closed(sys.stderr):
            self._restore_descriptors()
            self._restore_standard()
        if sys.path != self.path:
            sys.path[:] = self.path
        if sys.getrecursionlimit() != self._recursion:
            sys.setrecursionlimit(self._recursion)
        if self.umask_touched:
            self._set_umask(self._umask)
            self.umask_touched = False
        if self.signals_touched:
            self._restore_signals()
        if self.environ_touched or os.environ is not self._environ_itself:
            self._restore_environ()
        if self.folder_touched:
            os.fchdir(self._folder)
            os.getcwd()  # raises where the folder was deleted
            self.folder_touched = False
        if self.limits_touched and not self._restore_limits():
            return False
        return not self.ids_touched or (os.geteuid(), os.getegid()) == self._effective

    def _restore_descriptors(self) -> None:
        for number, saved in enumerate(self._standard_fds):
            self._dup2(saved, number)

    def _restore_standard(self) -> None:
        names = ("stdin", "stdout", "stderr", "displayhook", "excepthook")
        assert self._standard is not None
        for name, kept in zip(names, self._standard, strict=True):
            setattr(sys, name, kept)
        for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
            if _is_closed(getattr(sys, name)):
                stream = open(number, mode, buffering=1, closefd=False, errors="backslashreplace")  # noqa: SIM115 - it stays open
                setattr(sys, name, stream)
                setattr(sys, f"__{name}__", stream)
        self._standard = _standard()

    def _restore_signals(self) -> None:
        for timer in (_signal.ITIMER_REAL, _signal.ITIMER_VIRTUAL, _signal.ITIMER_PROF):
            self._set_timer(timer, 0)
        for number, kept in zip(_SIGNALS, self._signals, strict=True):
            if getsignal(number) != kept and kept is not None:
                self._set_signal(number, kept)
        self._set_blocked(_signal.SIG_SETMASK, self._blocked)
        self.signals_touched = False

    def _restore_environ(self) -> None:
        os.environ = self._environ_itself  # noqa: B003 - the very object, which a task has replaced
        os.environ.clear()
        os.environ.update(self._environ)
        # `os.putenv` and `os.unsetenv` change what child processes get, and `os.environ` does not know.
        for name in self._names_put - {os.fsencode(name) for name in self._environ}:
            os.unsetenv(name)
        self._names_put.clear()
        self.environ_touched = False

    def _read_limits(self) -> dict[int, tuple[int, int]]:
        limits = {}
        for name in self._limit_names:
            try:
                limits[name] = self._resource.getrlimit(name)
            except (ValueError, OSError):
                continue
        return limits

    def _restore_limits(self) -> bool:
        for name, pair in self._limits.items():
            if self._resource.getrlimit(name) != pair:
                self._resource.setrlimit(name, pair)
        self.limits_touched = False
        return self._read_limits() == self._limits


def _umask() -> int:
    # There is no way to read the mask without setting it.
    mask = os.umask(0o77)
    os.umask(mask)
    return mask
