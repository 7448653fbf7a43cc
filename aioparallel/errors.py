"""Every error that aioparallel raises, in one tree; all of them pickle.

    AioparallelError
    ├── UsageError            (also RuntimeError) the library was asked for something that cannot be: the text says what to do
    ├── ConfigError           (also ValueError) a configuration file or an AIOPARALLEL_ variable says what cannot be; `.path`, `.line`
    ├── PoolClosed            the pool was closed, or its loop ended, before the task did
    ├── HostError             a host cannot offer slots, with the reason
    └── TaskError             what a task ends with when it is not the task's own exception
        ├── WorkerDied            its process exited or was killed by a signal while the task ran
        │   └── TaskPoisoned          ... and so it went on every one of several attempts; `.attempts`
        ├── TaskTimeout           (also TimeoutError) `timeout=` or `deadline=` passed; `.limit` says which
        ├── MemoryLimitExceeded   its process tree outgrew `memory=`
        ├── HostLost              the host was lost, and the task may not or can no longer be run again
        ├── SerializationError    a function, argument or result could not be pickled or rebuilt
        ├── RemoteError           the task raised an exception which cannot travel: its text
        └── TaskExited            the task raised SystemExit, KeyboardInterrupt or another non-Exception: `.cause`

    TaskCancelled (a BaseException) is raised *inside* a task that is asked to stop (`grace=`), never in the controller.

An exception of the user's own is none of these: it arrives with its type and arguments, and with notes that say where it happened.
"""

from __future__ import annotations

__all__ = [
    "AioparallelError",
    "ConfigError",
    "HostError",
    "HostLost",
    "MemoryLimitExceeded",
    "PoolClosed",
    "RemoteError",
    "SerializationError",
    "TaskCancelled",
    "TaskError",
    "TaskExited",
    "TaskPoisoned",
    "TaskTimeout",
    "UsageError",
    "WorkerDied",
]


MAX_TOLD = 12
"""So many attempts are told of in an error's text."""


def _rebuild(kind: type[AioparallelError], args: tuple[object, ...], fields: dict[str, object]) -> AioparallelError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(fields)
    return error


class AioparallelError(Exception):
    """The root of every error of this library."""

    def __reduce__(self) -> tuple[object, ...]:
        # Subclasses take other arguments than their message, so the default way (calling the class with `args`) would fail.
        return _rebuild, (type(self), self.args, self.__dict__)


class UsageError(AioparallelError, RuntimeError):
    """The library was used in a way that cannot work; the text says what to do instead."""


class ConfigError(AioparallelError, ValueError):
    """A configuration file or an `AIOPARALLEL_*` variable says what cannot be. `path` and `line` say where; None: not in a file."""

    def __init__(self, text: str, path: str | None = None, line: int | None = None) -> None:
        super().__init__(text)
        self.path = path
        self.line = line


class PoolClosed(AioparallelError):
    """The pool was closed before the task ended, or is closed and takes no more tasks."""


class HostError(AioparallelError):
    """A host cannot offer slots."""

    def __init__(self, host: str, reason: str) -> None:
        super().__init__(f"host {host!r} offers no slots: {reason}")
        self.host = host
        self.reason = reason


class TaskError(AioparallelError):
    """A task ended in something else than a result or its own exception."""


class WorkerDied(TaskError):
    """The process that ran the task ended under it."""

    def __init__(self, exit_code: int | None = None, signal: int | None = None, detail: str = "") -> None:
        how = f"was killed by signal {signal} ({_signal_name(signal)})" if signal is not None else f"exited with code {exit_code}"
        super().__init__(f"the slot's process {how} while it ran the task" + (f"; {detail}" if detail else ""))
        self.exit_code = exit_code
        self.signal = signal


class TaskPoisoned(WorkerDied):
    """The task took down its slot on each of its attempts, of which there were several.

    attempts: of each (host, slot, exit, seconds). exit: the exit code, or minus the number of the signal, as in `subprocess`; seconds:
    how long it ran, None where nobody could say.
    """

    def __init__(self, attempts: tuple[tuple[str, int, int, float | None], ...], detail: str = "") -> None:
        last = attempts[-1][2]
        super().__init__(last if last >= 0 else None, -last if last < 0 else None)
        told = [_crash(number, *attempt) for number, attempt in enumerate(attempts, 1)]
        if len(told) > MAX_TOLD:
            told[1 : 1 - MAX_TOLD] = ["..."]
        text = f"the task took its slot's process down on each of {len(attempts)} attempts: {'; '.join(told)}"
        self.args = (text + (f"; {detail}" if detail else ""),)
        self.attempts = attempts


class TaskTimeout(TaskError, TimeoutError):
    """A limit of time passed, and the task's process tree was killed (or the task never began)."""

    def __init__(self, limit: str, seconds: float) -> None:
        what = "one attempt ran longer than" if limit == "timeout" else "queue, attempts and retries together took longer than"
        super().__init__(f"{what} {limit}={seconds:g} s")
        self.limit = limit
        self.seconds = seconds


class MemoryLimitExceeded(TaskError):
    """The attempt's process tree outgrew its limit. Both figures are bytes."""

    def __init__(self, limit: int, peak: int) -> None:
        text = f"the task's processes held {peak:,} bytes, over memory={limit:,}"
        if peak <= limit:
            text = f"one allocation would have taken the task (at {peak:,} bytes) far over memory={limit:,}"
        super().__init__(text)
        self.limit = limit
        self.peak = peak


class HostLost(TaskError):
    """The host was lost with the task on it, and the task may not, or can no longer, be run again."""


class SerializationError(TaskError):
    """A function, an argument or a result could not be pickled, or not be rebuilt on the other side."""


class RemoteError(TaskError):
    """The task raised an exception that cannot travel; its type, text and traceback came as text."""

    def __init__(self, type_name: str, text: str) -> None:
        super().__init__(f"{type_name}: {text}" if text else type_name)
        self.type_name = type_name
        self.text = text


class TaskExited(TaskError):
    """The task raised `cause`, which is not an Exception (SystemExit, KeyboardInterrupt, ...)."""

    def __init__(self, cause: BaseException | None, text: str = "") -> None:
        super().__init__(f"the task raised {text or repr(cause)}")
        self.cause = cause


class TaskCancelled(BaseException):
    """Raised inside a task that is asked to stop; what the task does with it, it is dead when the grace ends."""


def _signal_name(number: int) -> str:
    import signal

    try:
        return signal.Signals(number).name
    except ValueError:
        return "a real-time signal"


def _crash(number: int, host: str, slot: int, code: int, seconds: float | None) -> str:
    how = f"was killed by signal {-code} ({_signal_name(-code)})" if code < 0 else f"exited with code {code}"
    return f"attempt {number} on {host}/{slot} {how}" + (f" after {seconds:.3g} s" if seconds is not None else "")
