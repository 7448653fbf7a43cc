"""What a process asks of the kernel for itself: to adopt orphans, to die with its parent, to be told of an end.

Where the platform lacks something (macOS: no prctl, no pidfd), functions answer "no" or None. Sources: prctl(2), pidfd_open(2).
"""

from __future__ import annotations

import errno
import os
from _signal import SIGKILL  # the public `signal` builds three enums (1 ms); the C module below it is built in

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def _find_prctl() -> object:
    """Return prctl as a callable.

    By `_ctypes`, the C half of ctypes: 0.5-1.1 ms in all, against 2.7-5.7 ms by `import ctypes`. It is private, so that stands behind it.
    """
    try:
        import _ctypes

        # The class statements are what ctypes/__init__.py does: "i" and "l" are C's int and long.
        simple = _ctypes._SimpleCData
        c_int = type("c_int", (simple,), {"_type_": "i"})
        c_long = type("c_long", (simple,), {"_type_": "l"})
        kind = type("call", (_ctypes.CFuncPtr,), {"_flags_": _ctypes.FUNCFLAG_CDECL, "_restype_": c_int})
        call = kind(_ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl"))  # type: ignore[arg-type]
        call.argtypes = (c_int, c_long, c_long, c_long, c_long)
        return call
    except (ImportError, AttributeError, TypeError):
        import ctypes

        return ctypes.CDLL(None).prctl


_prctl_function: object = None


def _prctl(option: int, value: int) -> bool:
    global _prctl_function
    if _prctl_function is None:
        try:
            _prctl_function = _find_prctl()
        except (ImportError, AttributeError, TypeError, OSError):
            _prctl_function = False
    return callable(_prctl_function) and _prctl_function(option, value, 0, 0, 0) == 0


def become_subreaper() -> bool:
    """Adopt every orphan that this process's descendants leave; False where the platform cannot. Not inherited by fork."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(expected_parent_pid: int) -> bool:
    """Be killed when the parent ends, and at once when it is another one already; False where the platform cannot.

    The kernel means the parent *thread* that this process descends from. Call it after an adoption. Not inherited by fork.
    """
    armed = _prctl(_PR_SET_PDEATHSIG, SIGKILL)
    # It may have ended before the call: then nothing would ever arrive.
    if os.getppid() != expected_parent_pid:
        os._exit(1)
    return armed


def set_oom_score(adj: int) -> bool:
    """Set how readily the kernel picks this process when memory runs out (-1000 to 1000); False where it may not."""
    try:
        with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
            file.write(b"%d" % adj)
    except OSError:
        return False
    return True


def pidfd_open(pid: int) -> int | None:
    """Return a descriptor that becomes readable when the process ends; None where the platform has none.

    Raises ProcessLookupError when there is no such process, and OSError when descriptors run out.
    """
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError as exc:
        # ENOSYS: an old kernel; EPERM: a sandbox that filters the call. Both know no pidfd at all.
        if isinstance(exc, PermissionError) or exc.errno == errno.ENOSYS:
            return None
        raise
