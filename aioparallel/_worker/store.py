"""The functions a slot knows, by number: each arrives once and is rebuilt when first needed.

Guarantees
    A number always means the same bytes. A function that carries mutable state is rebuilt for each attempt.
"""

from __future__ import annotations

from .._wire.codec import loads
from .._wire.memory import Buffer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Store:
    """Functions by number."""

    __slots__ = ("_fresh", "_loaded", "_names", "_pickles")

    def __init__(self) -> None:
        self._pickles: dict[int, Buffer] = {}
        self._names: dict[int, str] = {}
        self._loaded: dict[int, Callable[..., Any]] = {}
        self._fresh: set[int] = set()

    def define(self, number: int, name: str, data: Buffer, fresh: bool) -> None:
        """Keep a function's pickle. It is opened only when an attempt needs it, so that what that does is the attempt's doing."""
        self._pickles[number] = data
        self._names[number] = name
        if fresh:
            self._fresh.add(number)

    def forget(self, number: int) -> None:
        """Drop a function that the pool will not name again."""
        for known in (self._pickles, self._names, self._loaded):
            known.pop(number, None)
        self._fresh.discard(number)

    def name(self, number: int) -> str:
        """Return the function's name for messages."""
        return self._names.get(number, "?")

    def function(self, number: int) -> Callable[..., Any]:
        """Return the function, rebuilding it where that is due. Raises whatever its rebuilding raises."""
        function = self._loaded.get(number)
        if function is None:
            function = loads(self._pickles[number])
            if number not in self._fresh:
                self._loaded[number] = function
        return function
