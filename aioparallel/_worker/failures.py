"""An exception, made fit to travel: as itself where it can, always as text.

Loaded at a slot's first failure only: `traceback` costs milliseconds to import.
"""

from __future__ import annotations

import os
import traceback

from .._wire.codec import dumps_in_band, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MAX_TEXT = 100_000
"""Characters of a message or traceback that travel: an exception that holds a whole data set in its text must not be copied about."""


def describe(error: BaseException, what: str) -> tuple[str, str, str, list[str], str]:
    """Return (type name, text, traceback, qualified names of the type's MRO, what failed), made of strings alone."""
    kind = type(error)
    return _safely(lambda: _type_name(kind)), _safely(lambda: str(error)), _safely(lambda: _trace(error)), type_names(kind), what


def type_name(kind: type) -> str:
    """Return the qualified name of a type, which says the same on both sides."""
    return f"{kind.__module__}.{kind.__qualname__}"


def type_names(kind: type) -> list[str]:
    """Return the qualified names of a type and all its bases."""
    return [type_name(base) for base in kind.__mro__]


def _type_name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"


def _safely(make: Callable[[], str]) -> str:
    """Return a text which code of the user's makes (`__str__`, `__repr__`), whatever that code does."""
    try:
        return _plain(make())
    except BaseException as error:  # noqa: BLE001 - a hook of the user's
        return _unprintable(error)


def _plain(text: str) -> str:
    return str.__getitem__(text, slice(MAX_TEXT))  # of a subclass, which marshal would refuse, this makes a `str`


def _unprintable(error: BaseException) -> str:
    return f"<unprintable: its text raised {type(error).__qualname__}>"


def in_words(error: BaseException) -> str:
    """Return "type: text" of an exception, for a message of ours; only KeyboardInterrupt passes."""
    try:
        text = _plain(str(error))
    except KeyboardInterrupt:
        raise
    except BaseException as raised:  # noqa: BLE001 - a hook of the user's
        text = _unprintable(raised)
    return f"{type(error).__name__}: {text}"


def _trace(error: BaseException) -> str:
    """Return the traceback as Python prints it, from the first line that is not ours on."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_OURS) and frames.tb_next is not None:
        frames = frames.tb_next
    lines = traceback.format_exception(type(error), error, frames)
    return "".join(lines).rstrip("\n")


_COMPARED = frozenset({type(None), bool, int, float, complex, str, bytes})


def _alike(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    """Return whether arguments are the same, as far as one can tell without running code of the user's."""
    if len(one) != len(other):
        return False
    for mine, theirs in zip(one, other):  # noqa: B905 - as long as each other
        if type(mine) is not type(theirs) or (type(mine) in _COMPARED and mine != theirs and mine == mine):
            return False
    return True


def travels(error: BaseException) -> bytes:
    """Return the exception's pickle if it can be pickled and rebuilt, else nothing."""
    try:
        data = dumps_in_band(error)
        rebuilt = loads(data)
        # Rebuilt as another type, or with other arguments (a lossy __reduce__): text tells more truth.
        if type(rebuilt) is not type(error) or not _alike(rebuilt.args, error.args):
            return b""
    except BaseException:  # noqa: BLE001 - hooks of the user's may raise anything
        return b""
    return data
