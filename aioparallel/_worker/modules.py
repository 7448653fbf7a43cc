"""The package `aioparallel` as a slot sees it: there at once for what tasks use, whole when somebody asks for more.

Guarantees
    `import aioparallel` in a slot costs nothing. `current_task`, `report_progress` and the errors are the slot's own. Any other public
    name loads the real package, on first use (near); where the package did not travel (far), it raises and says why.
"""

from __future__ import annotations

import sys

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
        _load_whole(self)
        try:
            return self.__dict__[name]
        except KeyError:
            raise AttributeError(f"module {NAME!r} has no attribute {name!r}") from None


def install() -> None:
    """Make the empty parent package that we run under answer for the real one."""
    package = sys.modules[NAME]
    if not isinstance(package, _Package):
        package.__class__ = _Package


def _load_whole(package: ModuleType) -> None:
    """Run the real package's `__init__` in the module that stands for it."""
    from importlib.util import module_from_spec, spec_from_file_location

    path = f"{package.__path__[0]}/__init__.py"
    spec = spec_from_file_location(NAME, path, submodule_search_locations=list(package.__path__))
    if spec is None or spec.loader is None:
        raise AttributeError(f"{NAME} is not available inside a task on this host, but for current_task and report_progress")
    whole = module_from_spec(spec)
    package.__class__ = ModuleType
    package.__spec__, package.__file__, package.__loader__ = spec, whole.__file__, spec.loader
    try:
        spec.loader.exec_module(package)
    except BaseException:
        package.__class__ = _Package  # a request to stop the task may come in the midst of it: the next use begins again
        raise
