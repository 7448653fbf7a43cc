"""The agent's hands on the dead: reap them, and at the end leave none alive."""

from __future__ import annotations

import os
from time import monotonic, sleep

from . import procs

BURY_SECONDS = 5.0
"""How long an agent that ends waits for processes which the kernel does not let die (D state)."""

QUICK_SECONDS = 0.005
"""Processes without much memory die within this."""


def reap() -> list[tuple[int, bool, int]]:
    """Return (pid, stopped, status) for each child that stopped or ended since the last call."""
    found: list[tuple[int, bool, int]] = []
    while True:
        try:
            info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WSTOPPED | os.WNOHANG)
        except ChildProcessError:
            return found
        if info is None:
            return found
        if info.si_code in (os.CLD_STOPPED, os.CLD_TRAPPED):
            found.append((info.si_pid, True, 0))
        elif info.si_code == os.CLD_EXITED:
            found.append((info.si_pid, False, info.si_status << 8))
        else:
            found.append((info.si_pid, False, info.si_status & 0x7F))


def bury_all() -> bool:
    """Kill everything below this process and reap it; return whether all of it is gone."""
    if _kill_children():
        return True
    until = monotonic() + BURY_SECONDS
    while monotonic() < until:
        below = procs.freeze_tree(os.getpid())
        procs.kill_all(below)
        try:
            while os.waitid(os.P_ALL, 0, os.WEXITED | (os.WNOHANG if below else 0)) is not None:
                pass
        except ChildProcessError:
            return True
        sleep(0.001)  # they die as fast as the kernel lets them; there is nothing else left to do for this process
    return False


def _kill_children() -> bool:
    """Kill what is directly below this process, and return whether that was all: most slots have nothing below them.

    Who is killed leaves his children to us before he can be reaped, so none are left when we have none.
    """
    procs.kill_all(procs.children(os.getpid()))
    until = monotonic() + QUICK_SECONDS
    try:
        while monotonic() < until:
            if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG) is None:
                os.sched_yield()
    except ChildProcessError:
        return True
    return False


def sweep(nonce: str, own: str = "") -> None:
    """Kill what an agent that was killed itself has left behind: whatever carries the pool's nonce, but for what carries our `own`.

    Who is ending already has lost what it carried, but not yet all else (its sockets): wait for every such process, ours or not.
    """
    until = monotonic() + BURY_SECONDS
    while monotonic() < until:
        ours = {os.getpid(), *(procs.carriers(own) if own else ())}
        left = procs.carriers(nonce, ours)
        for pid in left:
            procs.kill_all(procs.freeze_tree(pid))
        procs.kill_all(left)
        if not left and not procs.exiting(ours):
            return
        sleep(0.001)  # not our children: their deaths are told to nobody, so look again


__all__ = ["bury_all", "reap", "sweep"]
