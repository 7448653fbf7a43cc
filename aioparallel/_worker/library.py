"""The user's modules on a far host: which slot asked for which, and what the pool sent.

Guarantees
    The pool is asked for a module once, however many slots need it; every slot that asked is answered. What is handed out is what the
    pool said last.
"""

from __future__ import annotations

from .._wire.link import framed
from .._wire.messages import MODULES, NEED, pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .imports import Answer
    from .shelf import Shelf
    from .slot_end import SlotEnd


class Library:
    """What a feeder hands out of the shelf."""

    def __init__(self, shelf: Shelf, tell: Callable[..., None], say: Callable[..., None]) -> None:
        """`tell` speaks to the pool, `say` to a slot."""
        self._shelf = shelf
        self._tell, self._say = tell, say
        self._needs: dict[str, list[SlotEnd]] = {}
        """Who waits for which module."""

    def modules_came(self, asked: str, modules: dict[str, Answer], why: str) -> None:
        """The pool answers, with modules or why there are none: hand it to who waits for it."""
        if modules:
            self._shelf.add(modules)
        for end in self._needs.pop(asked, ()):
            if not end.closed:
                self._hand_out(end, asked, modules, why)

    def withdraw(self, names: tuple[str, ...]) -> None:
        """Modules are not as the pool sent them; those that travel it sends anew."""
        if names:
            self._shelf.drop(names)

    def need(self, end: SlotEnd, name: str) -> None:
        """A slot asks for a module."""
        known = self._shelf.modules.get(name)
        if known is not None:
            self._hand_out(end, name, {name: known}, "")
            return
        needs = self._needs.setdefault(name, [])
        needs.append(end)
        if len(needs) == 1:
            self._tell(NEED, 0, name)

    def _hand_out(self, end: SlotEnd, asked: str, modules: dict[str, Answer], why: str) -> None:
        head, buffers = framed(MODULES, 0, 0, b"", pack(asked, modules, why))
        self._say(end, head, *buffers)


__all__ = ["Library"]
