"""What an agent says of its machine in WELCOME.

Guarantees
    It costs a fraction of a millisecond, needs nothing but the standard library, and what cannot be known is None.
"""

from __future__ import annotations

import os
import sys

from .machine import _read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_KIB = 1024


def facts(cpus: int, root: str = "/") -> dict[str, Any]:
    """Return what there is to say; `root` is where /proc is looked for.

    boot_id: names the machine since it was started. cpus: that may be used. memory, memory_available: bytes of the machine, and of
    those what could be had now. load: runnable processes in the last minute. python, executable: the version and path of this Python.
    """
    memory, available = _memory(root)
    return {
        "boot_id": boot_id(root) or None,
        "cpus": cpus,
        "memory": memory,
        "memory_available": available,
        "load": _load(),
        "python": sys.version.partition(" ")[0],
        "executable": sys.executable or None,
    }


def boot_id(root: str = "/") -> str:
    """Return what names this machine since it was started; "" where that is not known."""
    return _read(os.path.join(root, "proc/sys/kernel/random/boot_id")).strip()


def _memory(root: str) -> tuple[int | None, int | None]:
    """Return (total, available) bytes: /proc/meminfo, proc(5); elsewhere the total that POSIX tells."""
    found: dict[str, int] = {}
    for line in _read(os.path.join(root, "proc/meminfo")).splitlines():
        name, _, rest = line.partition(":")
        figure, _, unit = rest.strip().partition(" ")
        if name in ("MemTotal", "MemAvailable") and figure.isdigit() and unit == "kB":
            found[name] = int(figure) * _KIB
    if "MemTotal" not in found:
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), None
        except (ValueError, OSError, AttributeError):
            return None, None
    return found["MemTotal"], found.get("MemAvailable")


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return None


__all__ = ["boot_id", "facts"]
