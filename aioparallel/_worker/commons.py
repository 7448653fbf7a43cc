"""What all slots of a far host are to know: the names of the user's own modules, and the shared values that the host keeps.

Guarantees
    A slot is told of a value before any attempt that names it is given to it. A value for which there is no memory here costs the
    attempts that name it.
"""

from __future__ import annotations

from .._wire.frames import Frame, encode
from .._wire.messages import DROP, ROOTS, SHARE, pack, unpack
from .region import SMALL_BYTES, Region, offsets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._wire.memory import Buffer


class Commons:
    """Shared values by number, whole or still coming."""

    __slots__ = ("_coming", "_regions", "_roots", "_said", "_stale")

    def __init__(self) -> None:
        self._roots: list[Buffer] = []
        self._stale: dict[str, None] = {}
        """What was sent anew since the agent began: a slot may have been given it as it was then."""
        self._coming: dict[int, Region] = {}
        self._regions: dict[int, Region] = {}
        self._said: dict[int, list[Buffer]] = {}
        """What slots are told of each that is whole."""

    def own(self) -> list[int]:
        """Return our descriptors, which no other process may hold."""
        return [region.fd for region in (*self._coming.values(), *self._regions.values()) if region.fd >= 0]

    def known(self) -> list[Buffer]:
        """Return what a new slot is to be told."""
        return [*self._roots, *(piece for said in self._said.values() for piece in said)]

    def take(self, frame: Frame) -> list[Buffer]:
        """Take in a frame of the pool's; return what all slots are to be told now."""
        kind, _, number, body, buffers = frame
        if kind == ROOTS:
            roots, stale = unpack(body)
            self._stale.update(dict.fromkeys(stale))
            self._roots = [encode(ROOTS, 0, 0, pack(roots, tuple(self._stale)))]
            return [encode(ROOTS, 0, 0, body)]
        if kind == DROP:
            return self._drop(unpack(body), encode(DROP, 0, 0, body))
        try:
            return self._begin(number, body) if kind == SHARE else self._part(number, buffers[0])
        except (OSError, MemoryError) as error:
            name, sizes = self._named(number, body, kind)
            self._coming.pop(number, None)
            self._said[number] = [encode(SHARE, 0, number, pack(name, sizes, f"its host has no room for it: {error}", b""))]
            return self._said[number]

    def _named(self, number: int, body: bytes, kind: int) -> tuple[str, tuple[int, ...]]:
        if kind == SHARE:
            return unpack(body)[:2]
        return self._coming[number].name, self._coming[number].sizes

    def _begin(self, number: int, body: bytes) -> list[Buffer]:
        name, sizes, _, _ = unpack(body)
        if offsets(sizes)[-1] >= SMALL_BYTES:
            self._coming[number] = Region(name, sizes)
            return []
        self._said[number] = [encode(SHARE, 0, number, body)]
        return self._said[number]

    def _part(self, number: int, data: Buffer) -> list[Buffer]:
        region = self._coming.get(number)
        if region is None or not region.add(data):
            return []  # (None: there was no room for it)
        self._regions[number] = self._coming.pop(number)
        self._said[number] = region.said(number)
        return self._said[number]

    def _drop(self, numbers: tuple[int, ...], frame: bytes) -> list[Buffer]:
        for number in numbers:
            for known in (self._coming, self._regions, self._said):
                known.pop(number, None)
        return [frame]


__all__ = ["Commons"]
