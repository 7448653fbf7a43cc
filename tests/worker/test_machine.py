"""`_worker/machine` against folders that look like /proc and the cgroup mounts of real machines."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from aioparallel._worker import machine

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "33 32 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:15 - cgroup cgroup rw,cpu,cpuacct\n"
    "34 32 0:31 / /sys/fs/cgroup/cpuset rw,nosuid shared:16 - cgroup cgroup rw,cpuset\n"
)
HYBRID = V1 + "42 32 0:39 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n"
OTHER = "23 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"


def build(root: Path, mounts: str, own: str, files: dict[str, str]) -> str:
    contents = {"proc/self/mountinfo": OTHER + mounts, "proc/self/cgroup": own}
    contents.update({f"sys/fs/cgroup/{name}": text for name, text in files.items()})
    for name, text in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"a/b/cpu.max": "200000 100000\n"}, 2),
        ({"a/b/cpu.max": "150000 100000\n"}, 2),
        ({"a/b/cpu.max": "5000 100000\n"}, 1),
        ({"a/b/cpu.max": "max 100000\n"}, None),
        ({"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ({"a/b/cpu.max": "400000 100000\n", "a/cpu.max": "50000 50000\n"}, 1),
        ({"a/b/cpu.max": "100000 100000\n", "a/cpu.max": "500000 100000\n"}, 1),
        ({"cpu.max": "700000 100000\n"}, 7),
        ({"a/b/cpu.max": "garbage\n"}, None),
        ({"a/b/cpu.max": "100000 0\n"}, None),
        ({}, None),
        ({"other/cpu.max": "100000 100000\n"}, None),
    ],
)
def test_version_2(tmp_path: Path, files: dict[str, str], cpus: int | None) -> None:
    assert machine.cgroup_cpus(build(tmp_path, V2, "0::/a/b\n", files)) == cpus


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"a/cpu.cfs_quota_us": "250000\n", "a/cpu.cfs_period_us": "100000\n"}, 3),
        ({"a/cpu.cfs_quota_us": "-1\n", "a/cpu.cfs_period_us": "100000\n"}, None),
        ({"a/cpu.cfs_quota_us": "-1\n", "cpu.cfs_quota_us": "400000\n", "cpu.cfs_period_us": "100000\n"}, 4),
        ({"a/cpu.cfs_quota_us": "250000\n"}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("mounts", [V1, HYBRID])
def test_version_1_and_hybrid(tmp_path: Path, mounts: str, files: dict[str, str], cpus: int | None) -> None:
    own = "5:cpuset:/elsewhere\n4:cpu,cpuacct:/a\n1:name=systemd:/x\n0::/y\n"
    root = build(tmp_path, mounts, own, {f"cpu,cpuacct/{name}": text for name, text in files.items()})
    assert machine.cgroup_cpus(root) == cpus


def test_container_that_sees_its_outer_name_but_only_its_own_part(tmp_path: Path) -> None:
    mounts = "33 32 0:30 /docker/4711 /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n"
    files = {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}
    assert machine.cgroup_cpus(build(tmp_path, mounts, "4:cpu:/docker/4711\n", files)) == 2


def test_a_name_outside_the_mounted_part_is_no_folder(tmp_path: Path) -> None:
    mounts = V2.replace(" / /sys", " /outer12 /sys")
    files = {"cpu.max": "300000 100000", "a/cpu.max": "100000 100000"}
    assert machine.cgroup_cpus(build(tmp_path, mounts, "0::/another/a\n", files)) == 3
    assert machine.cgroup_cpus(build(tmp_path, mounts, "0::/outer12/a\n", files)) == 1


@pytest.mark.parametrize("own", ["0::/\n", "0::/../../elsewhere\n", "0::/not/mounted/here\n"])
def test_the_mount_point_is_the_nearest_that_can_be_seen(tmp_path: Path, own: str) -> None:
    root = build(tmp_path, V2, own, {"cpu.max": "300000 100000"})
    (tmp_path / "sys/fs/elsewhere").mkdir()
    (tmp_path / "sys/fs/elsewhere/cpu.max").write_text("100000 100000")
    assert machine.cgroup_cpus(root) == 3


def test_a_mount_point_with_a_space(tmp_path: Path) -> None:
    mounts = "30 23 0:26 / /sys/fs/cgroup/my\\040mount rw - cgroup2 cgroup2 rw\n"
    assert machine.cgroup_cpus(build(tmp_path, mounts, "0::/\n", {"my mount/cpu.max": "100000 100000"})) == 1


def test_nothing_there(tmp_path: Path) -> None:
    assert machine.cgroup_cpus(str(tmp_path)) is None
    assert machine.usable_cpus(str(tmp_path)) >= 1


def told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_get_cpu_count_config", lambda: -1, raising=False)


def test_the_smaller_of_mask_and_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told_nothing(monkeypatch)
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: {0, 3, 5, 7}, raising=False)
    limit = build(tmp_path, V2, "0::/\n", {"cpu.max": "250000 100000"})
    assert machine.usable_cpus(limit) == 3
    assert machine.usable_cpus(str(tmp_path / "none")) == 4
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("1600000 100000")
    assert machine.usable_cpus(limit) == 4
    monkeypatch.delattr(machine.os, "sched_getaffinity")
    monkeypatch.setattr(machine.os, "cpu_count", lambda: None)
    assert machine.usable_cpus(str(tmp_path / "none")) == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity masks here")
def test_the_real_mask() -> None:
    folder = str(Path(machine.__file__).parent)
    script = f"""
import os, sys
sys.path.insert(0, {folder!r})
import machine
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
print(machine.usable_cpus())
"""
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_the_users_word_decides_where_the_interpreter_knows_it(tmp_path: Path) -> None:
    folder = str(Path(machine.__file__).parent)
    script = f"import sys; sys.path.insert(0, {folder!r}); import machine; print(machine.usable_cpus())"
    command = [sys.executable, "-S", "-c", script]
    plain = {name: value for name, value in os.environ.items() if name != "PYTHON_CPU_COUNT"}
    answers = [
        int(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout)
        for env in (plain, {**plain, "PYTHON_CPU_COUNT": "37"}, {**plain, "PYTHON_CPU_COUNT": "default"})
    ]
    expected = 37 if sys.version_info >= (3, 13) else answers[0]
    assert answers == [answers[0], expected, answers[0]]


@pytest.mark.parametrize(("cpus", "slots", "threads"), [(8, 2, "4"), (8, 3, "2"), (2, 4, "1"), (1, 1, "1"), (4, 0, "4")])
def test_threads_a_slot(cpus: int, slots: int, threads: str) -> None:
    found = machine.thread_environment(cpus, slots, {})
    assert set(found.values()) == {threads}
    assert {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"} <= set(found)


def test_threads_that_the_user_has_set_stay() -> None:
    found = machine.thread_environment(8, 2, {"MKL_NUM_THREADS": "7", "NUMBA_NUM_THREADS": ""})
    assert "MKL_NUM_THREADS" not in found and "NUMBA_NUM_THREADS" not in found
    assert found["OMP_NUM_THREADS"] == "4"


def test_a_users_omp_speaks_for_those_that_fall_back_to_it() -> None:
    assert set(machine.thread_environment(8, 2, {"OMP_NUM_THREADS": "8"})) == {"VECLIB_MAXIMUM_THREADS", "NUMBA_NUM_THREADS"}


def test_descriptor_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    assert machine.descriptor_limit()[0] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, resource.RLIM_INFINITY))
    assert machine.descriptor_limit() == (256, sys.maxsize)


def test_lean_at_import() -> None:
    folder = str(Path(machine.__file__).parent)
    script = f"import sys; sys.path.insert(0, {folder!r}); old = set(sys.modules); import machine; print(*set(sys.modules) - old)"
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"machine", "__future__"}


def test_a_users_file_called_resource(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", types.ModuleType("resource"))
    assert machine.descriptor_limit() == (sys.maxsize, sys.maxsize)
