"""The package `aioparallel` as a slot sees it: there at once for what tasks use, whole when somebody asks for more.

Guarantees
    `import aioparallel` in a slot costs nothing. `current_task`, `report_progress` and the errors are the slot's own. Any other public
    name loads the real package, on first use (near); where the package did not travel (far), it raises and says why.
"""

from __future__ import annotations

import sys
from _frozen_importlib import ModuleSpec  # what importlib.machinery shows

from .. import errors
from . import context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
else:
    ModuleType = type(sys)

NAME = "aioparallel"


class _Package(ModuleType):
    """The module object of `aioparallel` in a slot."""

    def __getattr__(self, name: str) -> object:
        if name in context.__all__:
            return getattr(context, name)
        if name in errors.__all__:
            return getattr(errors, name)
        if name.startswith("__") and name != "__version__":
            raise AttributeError(f"module {NAME!r} has no attribute {name!r}")
        far: frozenset[str] | None = self.__dict__.get("_far_names")
        if far is not None:
            if name not in far:
                raise AttributeError(f"module {NAME!r} has no attribute {name!r}")
            stand_in = self.__dict__[name] = _stand_in(name)
            return stand_in
        _load_whole(self)
        try:
            return self.__dict__[name]
        except KeyError:
            raise AttributeError(f"module {NAME!r} has no attribute {name!r}") from None


class _Public(ModuleType):
    """The module object of a public module that did not travel: what it has may be named, but not used."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        stand_in = self.__dict__[name] = _stand_in(f"{self.__name__.partition('.')[2]}.{name}")
        return stand_in


class _Finder:
    """Finds public modules that did not travel; asked when nobody else finds them."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        package, _, module = name.partition(".")
        if package != NAME or module.partition(".")[0] not in self._names:
            return None
        return ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """See `importlib.abc.Loader`."""
        return _Public(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """See `importlib.abc.Loader`."""


def install(far: frozenset[str] | None = None, public: frozenset[str] = frozenset()) -> None:
    """Make the empty parent package that we run under answer for the real one.

    far: the real one's public names, which did not travel. public: its public modules, which did not either, but for `errors`.
    """
    package = sys.modules[NAME]
    if not isinstance(package, _Package):
        package.__class__ = _Package
    if far is not None:
        package.__dict__["_far_names"] = far
        if public:
            sys.meta_path.append(_Finder(public))


def _stand_in(name: str) -> type:
    """Return what stands for a public name where the package did not travel: it may be named, but not used."""
    why = f"{NAME}.{name} is not available inside a task on a far host: only what tasks use has travelled there"
    if name == "Pool":
        why = "a task cannot open a pool of its own: return, and submit from the controller"

    def refuse(*_: object, **__: object) -> None:
        raise errors.UsageError(why)

    return type(name.rpartition(".")[2], (), {"__new__": refuse, "__init_subclass__": refuse, "__module__": NAME})


def _load_whole(package: ModuleType) -> None:
    """Run the real package's `__init__` in the module that stands for it."""
    from importlib.util import module_from_spec, spec_from_file_location

    path = f"{package.__path__[0]}/__init__.py"
    spec = spec_from_file_location(NAME, path, submodule_search_locations=list(package.__path__))
    assert spec is not None
    assert spec.loader is not None
    whole = module_from_spec(spec)
    package.__class__ = ModuleType
    package.__spec__, package.__file__, package.__loader__ = spec, whole.__file__, spec.loader
    try:
        spec.loader.exec_module(package)
    except BaseException:
        package.__class__ = _Package  # a request to stop the task may come in the midst of it: the next use begins again
        raise
