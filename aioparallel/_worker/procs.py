"""Find, stop, kill and measure process trees, by /proc and signals.

Guarantees
- A process that vanishes while it is looked at is skipped; a shortage of our own (no descriptor left) is raised.
- A process whose first thread has ended while others run is alive, although /proc calls it a zombie.
- After `freeze_tree(pid)` of a stopped `pid`, what it returns is the whole tree and none of it runs (exceptions: see there).
- Where the platform lacks something (no /proc, no prctl: macOS), functions answer "none", "nothing" or False.

How it works
Who is whose child is read from `/proc/PID/task/TID/children` where the kernel has it (CONFIG_PROC_CHILDREN), else from one pass
over all `/proc/PID/stat`. In a pass an entry whose parent was gone by the time it was looked for is read again: it has been
handed to a sub-reaper meanwhile. Source: proc(5).
"""

from __future__ import annotations

import errno
import os

# The public `signal` builds three enums (1 ms); the C module below it is built in.
from _signal import SIGKILL, SIGSTOP
from time import monotonic

_PROC = "/proc"
_PF_EXITING = 0x4  # include/linux/sched.h: it is on its way out
# A quiet tree needs two looks; C programs that fork and exit without end took 41 at most (240 runs).
_FREEZE_LOOKS = 256
_FREEZE_SECONDS = 0.05
# What stands for a process that hidepid= does not let us read: nobody's child, in no group.
_HIDDEN = (0, 0, False)
# pid -> (parent, process group, dead)
_Table = dict[int, tuple[int, int, bool]]


def _read(path: str) -> bytes:
    """Read a whole /proc file; b"" when its process is gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
        return b""
    try:
        data = os.read(fd, 4096)
        # One read returns all that fits; only a list of many records may stop a little short of the buffer's end.
        if len(data) > 2048:
            parts = [data]
            while data := os.read(fd, 65536):
                parts.append(data)
            data = b"".join(parts)
        return data
    except ProcessLookupError:
        return b""
    finally:
        os.close(fd)


def _fields(pid: int | str) -> list[bytes]:
    """Return what follows the name in /proc/PID/stat: state first; empty when gone or hidden."""
    try:
        line = _read(f"{_PROC}/{pid}/stat")
    except PermissionError:
        return []
    # The name may hold anything, ") (" too; nothing behind it holds a bracket.
    return line[line.rfind(b")") + 2 :].split() if line else []


def _is_dead(fields: list[bytes]) -> bool:
    """Tell a zombie from a live process whose first thread alone has ended."""
    return fields[0] in b"ZX" and int(fields[17]) <= 1


def _entry(pid: int) -> tuple[int, int, bool] | None:
    """Return (parent, process group, dead) of a process; None when gone."""
    try:
        line = _read(f"{_PROC}/{pid}/stat")
    except PermissionError:
        return _HIDDEN
    if not line:
        return None
    state, parent, group, _ = line[line.rfind(b")") + 2 :].split(b" ", 3)
    return int(parent), int(group), state in b"ZX" and _is_dead(line[line.rfind(b")") + 2 :].split())


def _pids() -> list[int]:
    """Return the pids of all processes that we can see; none without /proc."""
    try:
        return [int(name) for name in os.listdir(_PROC) if name.isdigit()]
    except FileNotFoundError:
        return []


def _tasks(pid: int | str) -> list[str]:
    """Return the thread ids of a process; empty when it is gone or hidden."""
    try:
        return os.listdir(f"{_PROC}/{pid}/task")
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError, PermissionError):
        return []


_children_files: bool | None = None


def _has_children_files() -> bool:
    """Probe once whether the kernel lists children by itself (CONFIG_PROC_CHILDREN)."""
    global _children_files
    if _children_files is None:
        _children_files = os.path.exists(f"{_PROC}/thread-self/children")
    return _children_files


def _parentless(table: _Table) -> list[int]:
    return [pid for pid, entry in table.items() if entry[0] and entry[0] not in table]


def _scan(table: _Table) -> bool:
    """Bring a table up to date; True when a process slipped away before it was read.

    Only processes that are not in the table, or whose parent is not, are read: a second look costs little more than the listing.
    """
    listed = _pids()
    for pid in table.keys() - listed:
        del table[pid]
    slipped = False
    fresh = [pid for pid in listed if pid not in table] + _parentless(table)
    # Twice more for those whose parent ended between the two readings: they have a new one by now.
    for _ in range(3):
        for pid in fresh:
            entry = _entry(pid)
            if entry is None:
                table.pop(pid, None)
                slipped = True
            else:
                table[pid] = entry
        fresh = _parentless(table)
        if not fresh:
            break
    return slipped


def _below(table: _Table, pid: int) -> list[int]:
    """Return everything below pid in a table, parents before children."""
    families: dict[int, list[int]] = {}
    for child, entry in table.items():
        families.setdefault(entry[0], []).append(child)
    found = list(families.pop(pid, ()))
    for parent in found:
        found += families.pop(parent, ())
    return found


def _listed_children(pid: int) -> list[int]:
    found: list[int] = []
    for task in _tasks(pid):
        found += map(int, _read(f"{_PROC}/{pid}/task/{task}/children").split())
    return found


def _walk(pid: int) -> list[int]:
    """Return everything below pid by the kernel's own lists, parents before children, zombies included."""
    found = [pid]
    for parent in found:
        found += [child for child in _listed_children(parent) if child not in found]
    return found[1:]


def _steady_walk(pid: int) -> list[int]:
    # The kernel's list may skip a child while its siblings end: believe it when two looks agree.
    found = _walk(pid)
    for _ in range(3):
        again = _walk(pid)
        if again == found:
            break
        found = again
    return found


def _alive(pid: int) -> bool:
    return not (_entry(pid) or (0, 0, True))[2]


def descendants(pid: int, *, zombies: bool = False) -> list[int]:
    """Return the live descendants of a process at any depth, not itself, parents before children.

    `zombies=True` includes those that ended and wait to be reaped. Below a process that is neither stopped nor a sub-reaper
    the answer is a moment's truth.
    """
    if _has_children_files():
        found = _steady_walk(pid)
        return found if zombies else [child for child in found if _alive(child)]
    table: _Table = {}
    _scan(table)
    found = _below(table, pid)
    return found if zombies else [child for child in found if not table[child][2]]


def children(pid: int, *, zombies: bool = False) -> list[int]:
    """Return the live direct children of a process; `zombies=True` includes those that wait to be reaped."""
    if _has_children_files():
        return [child for child in _listed_children(pid) if zombies or _alive(child)]
    table: _Table = {}
    _scan(table)
    return [child for child, entry in table.items() if entry[0] == pid and (zombies or not entry[2])]


def send(pid: int, signum: int) -> bool:
    """Send a signal; return False where that is not permitted (a setuid program). Gone is fine."""
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        pass
    except PermissionError:
        return False
    return True


def _stop_groups(table: _Table, pid: int, below: list[int]) -> None:
    """Stop each process group that lies wholly in the tree: one call, atomic against fork, members not seen yet included."""
    inside = set(below)
    if is_stopped(pid):
        inside.add(pid)
    groups = {table[member][1] for member in below} - {0, os.getpgrp()}
    for member, entry in table.items():
        if member not in inside:
            groups.discard(entry[1])
    for group in groups:
        send(-group, SIGSTOP)


def _moves(pid: int) -> bool:
    """Tell whether a process that was told to stop may still act."""
    return state(pid) not in ("T", "t", "Z", "X", None)


def _look(pid: int, table: _Table, early: bool) -> tuple[bool, list[int], set[int]]:
    """Return (somebody slipped away unread, everything below pid, which of it is dead)."""
    if early and _has_children_files():
        below = _walk(pid)
        return False, below, {child for child in below if not _alive(child)}
    slipped = _scan(table)
    below = _below(table, pid)
    if not early:
        _stop_groups(table, pid, below)
    return slipped, below, {child for child in below if table[child][2]}


def freeze_tree(pid: int) -> list[int]:
    """SIGSTOP every descendant of a process until a look finds none that is new; return them, parents before children.

    Not `pid` itself: whoever calls has stopped it before (else it goes on forking). A stopped process cannot end by itself,
    so the pids returned stay theirs until they are killed. Those that may not be signalled (a setuid child) are returned too.

    A fork that is under way when SIGSTOP arrives is completed first (only SIGKILL aborts it), so the last look counts only
    after everybody was seen stopped. It waits until 50 ms bring no further stop (a process in state D does not stop).

    A fork bomb does not win: from the third look on, whole process groups are stopped in one call that no fork escapes;
    later looks read only what is new, which is quicker than forking it; what is stopped keeps its place in the process
    table, so the bomb soon meets its own limit (pids cgroup, RLIMIT_NPROC). The looks are bounded all the same: kill what
    was returned and call again until nothing is left, which is how a death is confirmed anyhow.
    """
    frozen: dict[int, None] = {}
    moving: list[int] = []
    ended: set[int] = set()
    table: _Table = {}
    looks = 0
    wait_until = 0.0
    while looks < _FREEZE_LOOKS:
        before, moving = len(moving), [child for child in moving if _moves(child)]
        if len(moving) < before:
            wait_until = monotonic() + _FREEZE_SECONDS
        slipped, below, dead = _look(pid, table, early=looks < 2)
        fresh = [child for child in below if child not in frozen and child not in dead]
        moving += [child for child in fresh if send(child, SIGSTOP)]
        frozen.update(dict.fromkeys(fresh))
        # Somebody who ended since the last look may have forked first: look once more.
        if fresh or slipped or not dead <= ended:
            looks += 1
            wait_until = monotonic() + _FREEZE_SECONDS
        elif moving and monotonic() < wait_until:
            os.sched_yield()
        else:
            break
        ended = dead
    return [child for child in frozen if _alive(child)]


def kill_all(pids: list[int]) -> list[int]:
    """SIGKILL processes, the gone ones ignored; return those which it was not permitted to kill."""
    if any(pid <= 1 for pid in pids):
        raise ValueError(f"not pids of one process each: {[pid for pid in pids if pid <= 1]}")
    return [pid for pid in pids if not send(pid, SIGKILL)]


def carriers(nonce_prefix: str, exclude: set[int] | tuple[int, ...] = ()) -> list[int]:
    """Return the processes whose environment at their start held AIOPARALLEL_NONCE=<nonce_prefix...>.

    Only those whose environment we may read: our own user's, for root everybody's (a task may have changed its uid).
    `exclude` are pids that are not looked at. A zombie has no environment any more.
    """
    if not nonce_prefix:
        raise ValueError("an empty nonce would match the processes of every pool")
    entry = b"AIOPARALLEL_NONCE=" + nonce_prefix.encode()
    found = []
    for pid in _pids():
        if pid in exclude:
            continue
        try:
            environ = _read(f"{_PROC}/{pid}/environ") or _later_thread(pid, "environ")
        except OSError as exc:
            # EIO: its memory went away under the read; everything but a shortage of ours means "not readable".
            if isinstance(exc, PermissionError) or exc.errno == errno.EIO:
                continue
            raise
        if environ.startswith(entry) or b"\0" + entry in environ:
            found.append(pid)
    return found


def exiting(exclude: set[int]) -> list[int]:
    """Return the processes that are ending just now: their memory is gone, and what they carried with it, but not all they hold."""
    found = []
    for pid in _pids():
        fields = _fields(pid) if pid not in exclude else []
        if fields and fields[0] in b"ZX" and not _is_dead(fields):
            tasks = _tasks(pid)  # its first thread alone has ended: look at one that has not
            fields = _fields(f"{pid}/task/{tasks[-1]}") if tasks else []
        if fields and int(fields[6]) & _PF_EXITING and fields[0] not in b"ZX":
            found.append(pid)
    return found


def _later_thread(pid: int | str, name: str) -> bytes:
    """Read a file of the last thread of a process whose first thread has ended and taken its memory map along."""
    tasks = _tasks(pid)
    return _read(f"{_PROC}/{pid}/task/{tasks[-1]}/{name}") if len(tasks) > 1 else b""


def state(pid: int) -> str | None:
    """Return the one-letter state of proc(5) ("R", "S", "T", "Z" ...), of a living thread if the first has ended; None when gone."""
    fields = _fields(pid)
    if fields and fields[0] in b"ZX" and not _is_dead(fields):
        tasks = _tasks(pid)
        fields = _fields(f"{pid}/task/{tasks[-1]}") if tasks else []
    return fields[0].decode() if fields else None


def is_stopped(pid: int) -> bool:
    """Tell whether a process is stopped by a signal (or by its tracer)."""
    return state(pid) in ("T", "t")


def tree_memory(pids: list[int]) -> int:
    """Return the sum over processes of RssAnon + RssShmem + VmSwap, in bytes; gone ones and kernel threads count 0."""
    kibibytes = 0
    for pid in pids:
        try:
            status = _read(f"{_PROC}/{pid}/status")
            at = status.find(b"\nRssAnon:")
            if at < 0:
                status = _later_thread(pid, "status")
                at = status.find(b"\nRssAnon:")
                if at < 0:
                    continue
        except PermissionError:
            continue
        # Every line reads "Name:<tab><number> kB"; the three stand in this order, so each search starts at the last find.
        kibibytes += int(status[at + 9 : status.index(b"k", at)])
        at = status.find(b"\nRssShmem:", at)
        kibibytes += int(status[at + 10 : status.index(b"k", at + 10)])
        at = status.find(b"\nVmSwap:", at)
        if at >= 0:
            kibibytes += int(status[at + 8 : status.index(b"k", at + 8)])
    return kibibytes * 1024


def os_threads(pid: int | str = "self") -> int:
    """Return the number of operating-system threads of a process; 0 when it is gone or unknown."""
    return len(_tasks(pid))
