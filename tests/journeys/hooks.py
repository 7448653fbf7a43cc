"""Objects whose pickling or unpickling does something: raises, exits, crashes, or never comes back.

A hook asks where it is by the environment: every process of a pool carries AIOPARALLEL_NONCE, the controller does not.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn


def in_slot() -> bool:
    return "AIOPARALLEL_NONCE" in os.environ


class RaisesOnReduce:
    """Its `__reduce__` raises what it was made with."""

    def __init__(self, *error: Any) -> None:
        self.error = error

    def __reduce__(self) -> NoReturn:
        kind, *args = self.error
        raise kind(*args)


class Rebuilt:
    """Pickles well; its rebuilding calls `fn(*args)`, where `side` says: "slot", "controller" or both."""

    def __init__(self, side: str, fn: Callable[..., Any], *args: Any) -> None:
        self.how = side, fn, *args

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, self.how


def rebuild(side: str, fn: Callable[..., Any], *args: Any) -> object:
    if side == "both" or (side == "slot") == in_slot():
        fn(*args)
    return Rebuilt(side, fn, *args)


def make_rebuilt(side: str, fn: Callable[..., Any], *args: Any) -> Rebuilt:
    return Rebuilt(side, fn, *args)


def make_raises_on_reduce(*error: Any) -> RaisesOnReduce:
    return RaisesOnReduce(*error)


def make_unpicklable() -> object:
    import threading

    return threading.Lock()


def make_generator() -> object:
    return (number for number in range(3))


def raise_it(kind: type[BaseException], *args: Any) -> NoReturn:
    raise kind(*args)


def exit_in_slot(code: int) -> None:
    if in_slot():
        os._exit(code)


# --- exceptions


class TwoArguments(Exception):
    """An ordinary exception with an ordinary mistake: pickle calls it with its message alone."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class WellMade(Exception):
    """Several arguments and an attribute: arrives whole."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.extra = [code]


class HoldsALock(Exception):
    """Cannot be pickled."""

    def __init__(self) -> None:
        super().__init__(make_unpicklable())


class ReducesBadly(Exception):
    """Its `__reduce__` exits."""

    def __reduce__(self) -> NoReturn:
        sys.exit("while pickling")


class BreaksInController(Exception):
    """Can be rebuilt in the slot, not in the controller."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_exception, (self.args,)


def _rebuild_exception(args: tuple[Any, ...]) -> BreaksInController:
    if not in_slot():
        raise ZeroDivisionError("no controller for me")
    return BreaksInController(*args)


class ExitsInController(Exception):
    """Exits where it is rebuilt, but for the slot."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _exit_in_controller, (self.args,)


def _exit_in_controller(args: tuple[Any, ...]) -> ExitsInController:
    if not in_slot():
        sys.exit("rebuilt in the controller")
    return ExitsInController(*args)


class NoText(Exception):
    """Its text raises."""

    def __str__(self) -> str:
        raise ValueError("no text")

    def __reduce__(self) -> NoReturn:
        raise ValueError("no pickle either")


def raise_local_class() -> NoReturn:
    class Local(Exception):
        pass

    raise Local("from inside a function")
