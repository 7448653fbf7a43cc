"""What a slot answered, opened: a value or an exception.

Guarantees
    `opened` returns; only KeyboardInterrupt passes. What cannot be rebuilt becomes SerializationError or RemoteError with the text.
    A user's exception keeps its type and arguments, and carries the far traceback as a note.
"""

from __future__ import annotations

from marshal import loads as unmarshal
from struct import error as StructError
from typing import Any

from .._wire.codec import loads
from .._wire.memory import Buffer, Buffers
from .._wire.messages import EXITED, LENGTH, OK, OUT_OF_MEMORY, RAISED, STATUS
from .._worker.failures import in_words, type_names
from ..errors import MemoryLimitExceeded, RemoteError, SerializationError, TaskExited
from .task import Attempt, Task


def opened(task: Task[Any], attempt: Attempt | None, flags: int, payload: Buffer, buffers: Buffers) -> tuple[Any, Exception | None]:
    """Return (value, None) or (None, exception) for what a slot answered."""
    if flags & STATUS == OK:
        try:
            return loads(payload, buffers, keep_classes=True), None
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - hooks of the user's may raise anything
            failed = SerializationError(f"the result of {task.name!r} could not be rebuilt: {in_words(error)}")
            failed.__cause__ = error if isinstance(error, Exception) else None
            return None, failed
    assert attempt is not None
    return None, exception_of(task, attempt, flags & STATUS, payload)


def exception_of(task: Task[Any], attempt: Attempt, status: int, payload: Buffer) -> Exception:
    """Return the exception that a failure's payload describes, with a note that says where it happened.

    Where a hook of the exception's own raises, that passes.
    """
    (length,) = LENGTH.unpack_from(payload)
    start = LENGTH.size
    type_name, text, trace, _, what = unmarshal(payload[start : start + length])
    error: Exception
    if status == OUT_OF_MEMORY:
        error = MemoryLimitExceeded(task._options.memory or 0, attempt.peak or 0)
    elif status == RAISED:
        cause = _rebuild(bytes(payload[start + length :]))
        error = cause if isinstance(cause, Exception) else RemoteError(type_name, text)
        if isinstance(error, StopIteration):
            # A future refuses it (it would end the coroutine that awaits), as a generator does.
            error = RuntimeError("the task raised StopIteration")
            error.__cause__ = cause
    elif status == EXITED:
        cause = _rebuild(bytes(payload[start + length :]))
        error = TaskExited(cause, f"{type_name}({text})" if cause is None else "")
    else:
        error = SerializationError(f"{what}: {type_name}: {text}")
    slot = attempt.slot
    where = f"task {task.label} {task.name!r}, attempt {attempt.number}, on {slot.host}/{slot.index} (pid {slot.pid})"
    note(error, f"in {where}:\n{trace}")
    return error


def failure_of(task: Task[Any], attempt: Attempt) -> Exception:
    """Return the exception that a failed attempt's answer describes; see `exception_of`."""
    return exception_of(task, attempt, attempt.flags & STATUS, attempt.payload)


def names_of(status: int, payload: Buffer) -> list[str]:
    """Return the qualified names of the types that a failure's exception is of, without opening anything of the user's.

    Of what cannot be read: none.
    """
    if status == OUT_OF_MEMORY:
        return type_names(MemoryLimitExceeded)
    if status not in (RAISED, EXITED):
        return type_names(SerializationError)
    try:
        (length,) = LENGTH.unpack_from(payload)
        end = LENGTH.size + length
        names: list[str] = unmarshal(payload[LENGTH.size : end])[3]
    except (ValueError, EOFError, TypeError, IndexError, StructError):
        return []
    if status == EXITED:
        return names + type_names(TaskExited)
    return names if len(payload) > end else names + type_names(RemoteError)


def note(error: BaseException, text: str) -> None:
    """Add a note to an exception of the user's, unless it has it. Where it can take none at all, it goes without."""
    try:
        if text not in getattr(error, "__notes__", ()):
            error.add_note(text)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a hook of the user's, or notes that are no list
        try:
            error.__dict__["__notes__"] = [*getattr(error, "__notes__", ()), text]  # a frozen dataclass refuses only `setattr`
        except Exception:  # noqa: BLE001 - as above
            pass


def _rebuild(pickled: bytes) -> BaseException | None:
    if not pickled:
        return None
    try:
        rebuilt = loads(pickled, keep_classes=True)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - hooks of the user's may raise anything; the text is there
        return None
    return rebuilt if isinstance(rebuilt, BaseException) else None
