"""What one far host has of the user's modules, and what has changed of it here.

Guarantees
    A module travels to a host once for each text that it has. An edited one is told apart by the digest of its text, not by its time.
    A slot that begins later imports it as it is here; a slot that has imported it keeps what it has, as one of this machine does.

How it works
    Before work leaves, the files of modules that travelled are looked at (`stat`), and of names that were refused whether there is such
    a module now; a pause after each look keeps that to a thousandth of the time.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from hashlib import blake2b
from importlib.machinery import ModuleSpec
from time import monotonic, time
from typing import NamedTuple

from .._wire.frames import encode
from .._wire.link import framed
from .._wire.memory import Buffer
from .._wire.messages import MODULES, ROOTS, pack
from .sources import Selection, Source, find, read

MAX_COMPANY = 1 << 22
"""Bytes of other modules that travel along with one that was asked for."""
LOOK_SHARE = 1000
"""A look is not repeated before this many times as long as it took."""
MAX_REFUSED = 64
"""So many refused names are looked up in one look; the others have their turn in the next ones."""
FRESH_SECONDS = 0.1
"""A file that was written so shortly before it was read may be written again without showing a new time."""


class _Sent(NamedTuple):
    """A module as it travelled."""

    path: str
    mark: tuple[int, int, int] | None
    """Its file's time, size and number; None: look at its text."""
    digest: bytes


class News(NamedTuple):
    """What a host is to be told before it is given more work."""

    roots: frozenset[str]
    """The top-level names of the user's modules."""
    stale: tuple[str, ...]
    """Modules that are not as they were sent."""
    sources: list[Source]
    """What they are now, as far as they still travel."""

    def frames(self) -> list[Buffer]:
        """Return it as it is said to the host."""
        said: list[Buffer] = [encode(ROOTS, 0, 0, pack(tuple(self.roots), self.stale))]
        return [*said, *_modules("", self.sources, "")] if self.sources else said


class Shelf:
    """What one far host has of the user's modules."""

    def __init__(
        self,
        selection: Selection | None = None,
        sent: Mapping[str, tuple[str, bool, bytes]] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`sent` is what it has from the start: path, is it a package, source."""
        self._selection = selection or Selection()
        self._sent: dict[str, _Sent] = {}
        self._refused: dict[str, None] = {}
        self._roots: frozenset[str] = frozenset()
        self._seen = 0
        self._clock = clock
        self._look_at = 0.0
        for name, values in (sent or {}).items():
            self._sends(Source(name, *values))

    def news(self) -> News | None:
        """Return what has changed since the last call, or nothing."""
        grown, looking = len(sys.modules) != self._seen, self._clock() >= self._look_at
        if not grown and not looking:
            return None
        self._seen = len(sys.modules)
        come = any(self._has_come(name) for name in list(self._refused) if name in sys.modules)
        stale: list[str] = []
        if looking:
            stale, found = self._look()
            come = come or found
        roots = self._selection.roots() if grown else self._roots
        if not stale and not come and roots == self._roots:
            return None
        self._roots = roots
        return News(roots, tuple(stale), [source for name in stale if (source := self._again(name)) is not None])

    def _look(self) -> tuple[list[str], bool]:
        """Look at files: return which modules have changed, and whether some of those that were refused are there."""
        began = self._clock()
        stale = [name for name, sent in self._sent.items() if self._has_changed(name, sent)]
        come = False
        for name in list(self._refused)[:MAX_REFUSED]:
            self._refused[name] = self._refused.pop(name)
            come = self._has_come(name) or come
        now = self._clock()
        self._look_at = now + LOOK_SHARE * (now - began)
        return stale, come

    def _has_changed(self, name: str, sent: _Sent) -> bool:
        """Return whether a module's text is not what was sent; a file that was only touched is remembered as it is now."""
        if not sent.path or (sent.mark is not None and _mark(sent.path) == sent.mark):
            return False
        source = self._read(name)
        if source is None or source.path != sent.path or _digest(source) != sent.digest:
            return True
        self._sent[name] = sent._replace(mark=_mark_of(source))
        return False

    def _has_come(self, name: str) -> bool:
        """Return whether a name that was refused would not be now; forget it then."""
        if self._read(name) is None:
            return False
        del self._refused[name]
        return True

    def _again(self, name: str) -> Source | None:
        """Return a module that has changed, to be sent again; one that does not travel any more is as if never sent."""
        del self._sent[name]
        source = self._read(name)
        if source is not None:
            self._sends(source)
        return source

    def _read(self, name: str) -> Source | None:
        spec = find(name)
        return read(spec) if spec is not None and self._selection.takes(spec) else None

    def _sends(self, source: Source) -> None:
        self._sent[source.name] = _Sent(source.path, _mark_of(source), _digest(source))

    def answer(self, name: str) -> list[Source]:
        """Return a module that was asked for and, once, others that are loaded: likely to be needed next. Empty: it does not travel."""
        source = self._read(name)
        if source is None:
            self._refused[name] = None
            return []
        self._sends(source)
        answer, room = [source], MAX_COMPANY
        for other, module in sorted(sys.modules.items()):
            spec = getattr(module, "__spec__", None)
            if other in self._sent or not isinstance(spec, ModuleSpec) or spec.name != other or not self._selection.takes(spec):
                continue
            company = read(spec)
            if company is not None and len(company.text) <= room:
                room -= len(company.text)
                self._sends(company)
                answer.append(company)
        return answer

    def answer_frames(self, name: str) -> list[Buffer]:
        """Return the answer as it is said to the host, with the reason where it is none."""
        sources = self.answer(name)
        return _modules(name, sources, "" if sources else self._selection.why_not(name))


def _modules(asked: str, sources: list[Source], why: str) -> list[Buffer]:
    head, buffers = framed(MODULES, 0, 0, b"", pack(asked, {source.name: source[1:] for source in sources}, why))
    return [head, *buffers]


def _digest(source: Source) -> bytes:
    return blake2b(source.text, digest_size=16, usedforsecurity=False).digest()


def _mark(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _mark_of(source: Source) -> tuple[int, int, int] | None:
    """Return by what a later look may know that a file is as it was read just now."""
    mark = _mark(source.path) if source.path else None
    if mark is None or mark[1] != len(source.text) or time() - mark[0] / 1e9 < FRESH_SECONDS:
        return None
    return mark


__all__ = ["News", "Shelf"]
