"""From a call to a task: pickled at the caller's line, numbered, and handed to the engine.

Guarantees
    What cannot travel raises here, as SerializationError or TypeError, and nothing of it is left. Numbers are given in the order of the
    calls; a map's own tasks are counted apart, so that a seed never depends on how its items travelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from .._wire.codec import dumps_call
from .._wire.functions import Function, FunctionTable, qualified_name
from .._worker.chunk import before_payload
from .._worker.failures import in_words
from ..errors import SerializationError
from ..options import Options
from ..status import QUEUED
from .shared import HANDLES, Met, Named, Owner as SharesOwner, Shares, naming
from .task import FIRST_MAP_ID, Owner, Task

if TYPE_CHECKING:
    from .._wire.memory import Buffers

_NEVER = float("inf")


class Taker(Owner, SharesOwner, Protocol):
    """Who takes new tasks: the engine."""

    def submit(self, task: Task[Any]) -> None:
        """Take a new task."""


class Maker:
    """Makes the tasks of one pool."""

    __slots__ = ("_functions", "_last_id", "_last_map_id", "loop", "owner", "shares")

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: Taker) -> None:
        self.loop = loop
        self.owner = owner
        self.shares = Shares(loop, owner)
        self._functions = FunctionTable()
        self._last_id = 0
        self._last_map_id = FIRST_MAP_ID - 1

    def next_id(self) -> int:
        """Return the number of a task or map."""
        self._last_id += 1
        return self._last_id

    def make(
        self, options: Options, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any],
        payload: tuple[Any, Buffers] | None = None, sink: Any = None, seed_path: tuple[Any, ...] | None = None,
    ) -> Task[Any]:  # fmt: skip
        """Return the task of a call, submitted. `payload`, `sink` and `seed_path` are a map's."""
        met = self.shares.begin() if HANDLES else None
        try:
            function = self._functions.entry(fn) or name_of(fn)
            if payload is None:
                payload = dumps_call(args if type(function) is not str else (fn, *args), kwargs, options.copy)
            else:
                function, payload = _of_chunk(fn, function, payload, sink, met)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise _unpicklable(fn, error) from error
        finally:
            if met is not None:
                self.shares.end()
        if met:
            payload = naming(payload[0], met.values()), payload[1]
        now = monotonic()
        task: Task[Any] = Task(loop=self.loop)
        if seed_path is None:
            self._last_id = task._id = self._last_id + 1
            task._extras = options.extras
        else:
            self._last_map_id = task._id = self._last_map_id + 1
            task._extras = options.extras_with(seed_path)
        task._function = function
        task._payload, task._buffers = payload
        task._options, task._state = options, QUEUED
        task._attempt = task._place = None
        task._failures = task._losses = 0
        task._asked, task._message = False, None
        task._queued, task._deadline = now, _NEVER if options.deadline is None else now + options.deadline
        task._sink, task._engine = sink, self.owner
        self.owner.submit(task)
        return task


def _of_chunk(
    fn: Any, function: Function | str, payload: tuple[Any, Buffers], sink: Any, met: Met | None
) -> tuple[Function | str, tuple[Any, Buffers]]:
    """Return function and payload of a chunk; of one that is sent again, the function as it was sent before, which may name values."""
    if sink.function is None:
        before = before_payload(fn) if type(function) is str else b""
        sink.function = function, before, tuple(met.values()) if met else ()
    function, before, named = sink.function
    data, buffers = payload
    if named or (type(data) is Named and before):
        return function, (naming(before + data, (*named, *getattr(data, "shared", ()))), buffers)
    return function, (before + data, buffers) if before else payload


def name_of(fn: Any) -> str:
    """Return the name of a callable that travels with its arguments. Raises TypeError for what cannot be called."""
    if not callable(fn):
        hint = "; pass the function and its arguments apart: submit(f, x), not submit(f(x))" if asyncio.iscoroutine(fn) else ""
        raise TypeError(f"submit() takes a function, not {type(fn).__qualname__}{hint}")
    return qualified_name(getattr(fn, "func", fn))


def _unpicklable(fn: Any, error: BaseException) -> Exception:
    if isinstance(error, TypeError) and not callable(fn):
        if asyncio.iscoroutine(fn):
            fn.close()
        return error
    name = getattr(fn, "__qualname__", type(fn).__qualname__)
    return SerializationError(f"the call of {name} could not be pickled: {in_words(error)}")
