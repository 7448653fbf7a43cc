"""One attempt: rebuild the call, run it, and turn whatever comes of it into an outcome.

Guarantees
    `perform` returns an outcome for everything that Python lets it catch: results and exceptions that cannot travel, hooks that raise
    or exit, SystemExit, a stop by `grace=`. It raises nothing.
"""

from __future__ import annotations

from _pickle import loads as _load
from marshal import dumps as marshal
from sys import getrecursionlimit, gettrace, setrecursionlimit, settrace

from .._wire.codec import dumps_result, loads_call
from .._wire.link import unframed
from .._wire.memory import Buffers
from .._wire.messages import (
    CALL,
    CHUNK,
    EXITED,
    EXTRAS,
    LENGTH,
    MEASURE,
    OK,
    OUT_OF_MEMORY,
    RAISED,
    RUN_HEAD,
    UNREADABLE,
    UNSENDABLE,
)
from ..errors import SerializationError, TaskCancelled
from . import context
from .store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_HEAD_SIZE = RUN_HEAD.size
_FOREVER = float("inf")
UNTOLD = "what came of it could not be told"
Outcome = tuple[int, bytes, Buffers]
"""status, payload, out-of-band buffers"""


class Call:
    """One RUN frame, opened as far as needs no user code."""

    __slots__ = (
        "attempt", "buffers", "deadline", "extras", "function", "grace", "ident", "measure", "memory", "mode", "payload", "timeout",
    )  # fmt: skip

    def __init__(self, ident: int, body: bytes, buffers: Buffers) -> None:
        self.ident = ident
        self.function, self.attempt, mode, self.deadline, self.timeout, self.grace, self.memory = RUN_HEAD.unpack_from(body)
        if buffers:
            self.payload, self.buffers = unframed(body, _HEAD_SIZE, buffers)
        else:
            self.payload, self.buffers = body[_HEAD_SIZE:], ()
        self.extras = None
        if mode & EXTRAS:
            (length,) = LENGTH.unpack_from(self.payload)
            self.extras = self.payload[4 : 4 + length]
            self.payload = self.payload[4 + length :]
        self.mode = mode & CHUNK
        self.measure = mode & MEASURE


def begin(call: Call, name: str) -> None:
    """Make `current_task()` speak of this attempt."""
    data, seed_path = None, ()
    if call.extras is not None:
        given, data, seed_path = _load(call.extras)
        name = given or name
    context.begin((call.ident >> 16, call.attempt, name, None if call.deadline == _FOREVER else call.deadline, data, seed_path))


def perform(call: Call, store: Store, run_coroutine: Callable[[Any], Any], arm: Callable[[bool], None] | None = None) -> Outcome:
    """Run a call and return its outcome; `arm` is told when a request to stop may be raised, which is while the function itself runs."""
    try:
        try:
            function = store.function(call.function) if call.function else None
            args, kwargs = loads_call(call.payload, call.buffers)
            if function is None:
                function, *args = args
        except BaseException as error:  # noqa: BLE001 - hooks of the user's may raise anything
            return failure(error, UNREADABLE if isinstance(error, Exception) else EXITED, "its function or arguments could not be rebuilt")
        call.payload, call.buffers = b"", ()
        limit, trace = getrecursionlimit(), gettrace()
        try:
            if arm is not None:
                arm(True)
            try:
                result = function(*args, **kwargs)
                if type(result) is CoroutineType:
                    result = run_coroutine(result)
            finally:
                if gettrace() is not trace:
                    settrace(trace)  # it would be called, and might raise, in code of ours
                if getrecursionlimit() < limit:
                    setrecursionlimit(limit)  # (a higher one may be what the result's pickling needs)
                if arm is not None:
                    arm(False)
        except Exception as error:  # noqa: BLE001 - it is the outcome
            ceiling = call.memory and isinstance(error, MemoryError)
            return failure(error, OUT_OF_MEMORY if ceiling else RAISED)
        except BaseException as error:  # noqa: BLE001 - as above
            return failure(error, EXITED)
        return success(result)
    except BaseException as error:  # noqa: BLE001 - as above
        # TaskCancelled: the request to stop came between the task's end and here, and what is returned is dropped by the pool anyway.
        return failure(error, EXITED if isinstance(error, TaskCancelled) else UNSENDABLE, UNTOLD)


def refuse(why: str) -> None:
    """Stand for a call that could not be sent."""
    raise SerializationError(f"the call could not be sent: {why}")


def success(result: object) -> Outcome:
    """Return the outcome of a call that gave `result`, which may prove to be unsendable."""
    try:
        payload, buffers = dumps_result(result)
    except BaseException as error:  # noqa: BLE001 - hooks of the user's may raise anything
        return unsendable(result, error)
    return OK, payload, buffers


def unsendable(result: object, error: BaseException) -> Outcome:
    """Return the outcome of a call whose result raised `error` where it was pickled."""
    return failure(error, UNSENDABLE, f"its result, a {type(result).__qualname__}, could not be pickled")


def failure(error: BaseException, status: int, what: str = "") -> Outcome:
    """Return the outcome of a call that ended in `error`: a description in plain text, and the pickled exception if it can travel."""
    try:
        return _told(error, status, what)
    except Exception as raised:  # noqa: BLE001 - a hook of the user's, that of a metaclass perhaps
        return _told(raised, UNSENDABLE, UNTOLD)


def _told(error: BaseException, status: int, what: str) -> Outcome:
    from .failures import describe, travels

    name, text, trace, names, what = describe(error, what)
    advice = _advice(error)
    if advice and status == UNREADABLE:
        text = f"{text}; {advice}"
    elif advice:
        error.add_note(advice)
    description = marshal((name, text, trace, names, what), 2)
    return status, LENGTH.pack(len(description)) + description + travels(error), ()


def _advice(error: BaseException) -> str:
    """Return what to do about an import that failed for want of something on a far host."""
    surrounding = context.surrounding
    if surrounding is None or surrounding.remedy is None or not isinstance(error, ImportError):
        return ""
    return surrounding.remedy(error)


def _no_coroutine() -> type:
    async def nothing() -> None: ...

    coroutine = nothing()
    coroutine.close()
    return type(coroutine)


CoroutineType = _no_coroutine()

__all__ = ["CALL", "CHUNK", "OK", "Call", "CoroutineType", "Outcome", "begin", "failure", "perform", "refuse", "success", "unsendable"]
