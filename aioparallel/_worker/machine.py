"""Know what this machine lets us use: CPUs, threads a slot, descriptors.

Guarantees
- `usable_cpus` is what this process may really use, not what the machine has: the affinity mask and every cgroup quota above it.
- What the user has set in the environment is never overridden.

How it works
A quota holds for a cgroup and all below it, so the smallest one between our own cgroup and the mount point counts. Where a
hierarchy is mounted, and which part of it, stands in /proc/self/mountinfo (a container without a cgroup namespace sees its
own cgroup's outer name, but only its own part is mounted). Formats: proc(5), cgroups(7), the kernel's cgroup-v2.rst.
"""

from __future__ import annotations

import os
import sys

# Those that fall back to OMP_NUM_THREADS when it is set and they are not.
_THREADS_AS_OMP = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_THREADS_ALONE = ("VECLIB_MAXIMUM_THREADS", "NUMBA_NUM_THREADS")


def _read(path: str) -> str:
    """Read a small file; "" when there is none or it may not be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def _mounts(root: str) -> list[tuple[str, str, str, str]]:
    """Return (type, options, part that is mounted, mount point) of each mounted cgroup hierarchy."""
    found = []
    for line in _read(os.path.join(root, "proc/self/mountinfo")).splitlines():
        # 36 35 98:0 /part /mount/point rw,noatime shared:1 - cgroup2 source rw,super,options
        head, dash, tail = line.partition(" - ")
        kind = tail.partition(" ")[0]
        if dash and kind in ("cgroup", "cgroup2"):
            fields = [field.replace("\\040", " ") for field in head.split()]
            found.append((kind, tail.rpartition(" ")[2], fields[3], fields[4]))
    return found


def _cgroup_folders(root: str) -> list[tuple[str, str, str]]:
    """Return (type, own folder, folder of the mount point) for each hierarchy that may limit our CPU."""
    own = {}
    for line in _read(os.path.join(root, "proc/self/cgroup")).splitlines():
        # 4:cpu,cpuacct:/name for version 1, 0::/name for version 2
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            own["cgroup2"] = path
        elif "cpu" in controllers.split(","):
            own["cgroup"] = path
    folders = []
    for kind, options, part, point in _mounts(root):
        path = own.get(kind, "")
        if not path or (kind == "cgroup" and "cpu" not in options.split(",")):
            continue
        part = part.rstrip("/")
        # A name that lies outside the mounted part says nothing about folders: the mount point is the nearest we can see.
        inside = path[len(part) :] if path == part or path.startswith(part + "/") else ""
        top = os.path.normpath(os.path.join(root, point.lstrip("/")))
        folder = os.path.normpath(os.path.join(top, inside.lstrip("/")))
        folders.append((kind, folder if folder.startswith(top + "/") else top, top))
    return folders


def _quota(kind: str, folder: str) -> int | None:
    """Return the CPUs a cgroup grants, a part of one counted as one; None for no limit."""
    if kind == "cgroup2":
        quota, _, period = _read(os.path.join(folder, "cpu.max")).strip().partition(" ")
    else:
        quota = _read(os.path.join(folder, "cpu.cfs_quota_us")).strip()
        period = _read(os.path.join(folder, "cpu.cfs_period_us")).strip()
    # "max", "-1", missing and garbled all mean that nothing is known to limit us.
    if not (quota.isdigit() and period.isdigit() and int(quota) and int(period)):
        return None
    return -(-int(quota) // int(period))


def cgroup_cpus(root: str = "/") -> int | None:
    """Return the CPUs that the cgroups of this process grant it, rounded up; None without a limit."""
    least: int | None = None
    for kind, folder, top in _cgroup_folders(root):
        while True:
            cpus = _quota(kind, folder)
            if cpus is not None and (least is None or cpus < least):
                least = cpus
            if len(folder) <= len(top):
                break
            folder = os.path.dirname(folder)
    return least


def usable_cpus(root: str = "/") -> int:
    """Return how many CPUs this process may really use, at least 1.

    The smaller of the affinity mask and the cgroup quotas. PYTHON_CPU_COUNT and -X cpu_count, where the interpreter knows
    them (3.13), are the user's word and decide alone. `root` is where /proc and the cgroup mounts are looked for.
    """
    told = getattr(sys, "_get_cpu_count_config", lambda: -1)()
    if told > 0:
        return int(told)
    try:
        cpus = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        cpus = os.cpu_count() or 1
    granted = cgroup_cpus(root)
    return max(1, cpus if granted is None else min(cpus, granted))


def thread_environment(cpus: int, slots: int, environ: dict[str, str]) -> dict[str, str]:
    """Return the variables that keep numeric libraries from starting more threads than a slot has CPUs.

    Only those that `environ` does not hold. A user's OMP_NUM_THREADS speaks also for the libraries that fall back to it.
    """
    names = _THREADS_ALONE if "OMP_NUM_THREADS" in environ else ("OMP_NUM_THREADS", *_THREADS_AS_OMP, *_THREADS_ALONE)
    threads = str(max(1, cpus // max(1, slots)))
    return {name: threads for name in names if name not in environ}


def descriptor_limit() -> tuple[int, int]:
    """Return (soft, hard) limit of open descriptors of this process; sys.maxsize for none."""
    try:
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        endless = resource.RLIM_INFINITY
    except (ImportError, AttributeError):
        return sys.maxsize, sys.maxsize  # there is none, or a user's file has its name
    return (sys.maxsize if soft == endless else soft), (sys.maxsize if hard == endless else hard)


def temporary_folder() -> str:
    """Return the folder for temporary files, as `tempfile.gettempdir` finds it (whose import costs as much as all of ours)."""
    for name in (*map(os.environ.get, ("TMPDIR", "TEMP", "TMP")), "/tmp", "/var/tmp", "/usr/tmp"):  # noqa: S108 - only looked for
        if name and os.path.isdir(name) and os.access(name, os.W_OK | os.X_OK):
            return os.path.abspath(name)
    return os.getcwd()
