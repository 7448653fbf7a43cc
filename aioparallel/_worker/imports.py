"""The user's own modules in a far slot: imported from source that the pool sends when it is needed.

Guarantees
    Modules keep their names, so that what was pickled by reference is found, and what comes back is of the same classes. A name that
    the pool knows as the user's own is never taken from what happens to be installed here.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, ModuleType
    from typing import Any

Answer = tuple[str, bool, bytes]
"""path, is it a package, source"""


class OwnModules:
    """A finder and loader of modules that the pool has."""

    def __init__(self, known: dict[str, Answer], host: str) -> None:
        """Take part in every import: first for the user's own names, last for all others. `known` came with the agent."""
        self._known = known
        self._run: dict[str, Answer] = {}
        """Modules as they were imported."""
        self._host = host
        self._refused: dict[str, str] = {}
        """Why a module did not come that is the user's, or that the pool does not have either; of others nothing."""
        self.fetch: Callable[[str], tuple[dict[str, Answer], str]] | None = None
        """In a slot: asks the pool for a module; it gives none, and why, for what is not the user's own or cannot travel."""
        self.roots = frozenset(name.partition(".")[0] for name in known)
        """The top-level names of what is known to be the user's."""
        sys.meta_path.insert(0, _First(self))
        sys.meta_path.append(_Last(self))

    def told(self, roots: tuple[str, ...], stale: tuple[str, ...]) -> None:
        """The pool says which names are the user's, and of which modules it has another text now; it may have what it refused."""
        self.roots = frozenset(roots)
        for name in stale:
            self._known.pop(name, None)
        self._refused.clear()

    def find(self, name: str) -> ModuleSpec | None:
        """Return the spec of a module that the pool has."""
        answer = self._known.get(name)
        if answer is None and self.fetch is not None and name not in self._refused:
            fetched, why = self.fetch(name)
            answer = fetched.get(name)
            if answer is None:
                self._refused[name] = why
            else:
                self._known.update(fetched)
        if answer is None:
            return None
        path, is_package, _ = answer
        loader: Any = self
        spec = ModuleSpec(name, loader, origin=path or None, is_package=is_package)
        spec.has_location = bool(path)
        spec.loader_state = answer
        return spec

    def remedy(self, error: ImportError) -> str:
        """Say what is missing on this host, and what to do; nothing where that would be the same at the controller."""
        name = error.name
        if not isinstance(name, str) or not name:
            return ""
        root = name.partition(".")[0]
        where = f"on host {self._host!r} (python {sys.executable})"
        other = "or name another interpreter with SSH(..., python=)"
        why = next((self._refused[known] for known in _with_parents(name) if self._refused.get(known)), "")
        if why:
            return f"{where} there is no module {name!r}, {why}"
        if root == "aioparallel":
            return f"{where} there is only as much of aioparallel as tasks use: import the rest in the controller alone"
        if root in self.roots or root in self._known:
            return ""
        if not isinstance(error, ModuleNotFoundError) or root in sys.modules:
            return f"if this works at the controller, {root!r} {where} is of another version: install the same one there, {other}"
        if root in sys.stdlib_module_names:
            return f"{where} the standard library lacks {root!r}: install the rest of it there (a package of the system's), {other}"
        return f"{where} there is no module {root!r}: install it there ({sys.executable} -m pip install {root}), {other}"

    # --- as a loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Have the module made as any."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's source."""
        spec: Any = module.__spec__
        self._run[spec.name] = spec.loader_state
        code = self.get_code(spec.name)
        exec(code, module.__dict__)  # noqa: S102 - what an import is

    def _answer(self, name: str) -> Answer:
        return self._run.get(name) or self._known[name]

    def get_code(self, name: str) -> CodeType:
        """Return the module's code."""
        path, _, source = self._answer(name)
        return compile(source, path or f"<namespace {name}>", "exec", dont_inherit=True)

    def get_source(self, name: str) -> str:
        """Return the module's source: tracebacks and `inspect` show it, though there is no such file here."""
        from importlib.util import decode_source

        return decode_source(self._answer(name)[2])

    def is_package(self, name: str) -> bool:
        """Return whether the module is a package."""
        return self._answer(name)[1]


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(len(parts), 0, -1)]


class _First:
    def __init__(self, modules: OwnModules) -> None:
        self._modules = modules

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        return self._modules.find(name) if name.partition(".")[0] in self._modules.roots else None


class _Last:
    def __init__(self, modules: OwnModules) -> None:
        self._modules = modules

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        root = name.partition(".")[0]
        if root in sys.stdlib_module_names or root in self._modules.roots or root == "aioparallel":
            return None
        return self._modules.find(name)


__all__ = ["OwnModules"]
