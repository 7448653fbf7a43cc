"""`_worker/procs` against real processes: trees, daemons, zombies, forks without end.

Every process started here tells through a pipe when it is ready, and is killed by its pid at the end of its test.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aioparallel._worker import kernel, procs, reaper

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc trees are Linux's")

FOLDER = str(Path(procs.__file__).parent)
HEAD = f"""
import os, sys, signal
sys.path.insert(0, {FOLDER!r})
import kernel, procs
def say(*what): os.write(1, (" ".join(map(str, what)) + "\\n").encode())
def rest():
    while True: signal.pause()
"""
TREE = """
kernel.become_subreaper()
plain = os.fork()
if not plain:
    rest()
middle = os.fork()
if not middle:
    os.setsid()
    daemon = os.fork()
    if not daemon:
        below = os.fork()
        if below:
            say(os.getpid(), below)
        rest()
    os._exit(0)
os.waitpid(middle, 0)
say(plain)
rest()
"""


class Family:
    """A started interpreter, its words, and everything below it."""

    def __init__(self, script: str, environ: dict[str, str] | None = None) -> None:
        command = [sys.executable, "-I", "-S", "-c", HEAD + script]
        env = None if environ is None else {**os.environ, **environ}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, bufsize=0, env=env)
        self.pid = self.process.pid

    def hear(self, words: int) -> list[int]:
        heard: list[int] = []
        assert self.process.stdout is not None
        while len(heard) < words:
            line = self.process.stdout.readline()
            assert line, "the child ended early"
            heard += map(int, line.split())
        return heard

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def end(self) -> None:
        orphans: list[int] = []
        if self.process.returncode is None:
            self.stop()
            while left := procs.freeze_tree(self.pid):
                orphans += left
                procs.kill_all(left)
                await_end(left)
            orphans += procs.descendants(self.pid, zombies=True)
            self.process.kill()
        self.process.wait()
        # They come to us; the first process of a container may never reap them.
        for pid in orphans:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


def await_end(pids: list[int]) -> None:
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        with os.fdopen(fd):
            assert select.select([fd], [], [], 10)[0], f"{pid} lives on"


@pytest.fixture
def family() -> Iterator[Callable[..., Family]]:
    started: list[Family] = []
    kernel.become_subreaper()

    def start(script: str, **more: Any) -> Family:
        started.append(Family(script, **more))
        return started[-1]

    yield start
    for one in started:
        one.end()
    kernel._prctl(kernel._PR_SET_CHILD_SUBREAPER, 0)


@pytest.fixture(params=["lists", "scan"])
def both(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test by the kernel's own lists of children, and by the pass over /proc."""
    if request.param == "lists" and not os.path.exists("/proc/thread-self/children"):
        pytest.skip("this kernel keeps no lists of children")
    monkeypatch.setattr(procs, "_children_files", request.param == "lists")
    return str(request.param)


def test_descendants_find_a_daemon_in_its_own_session(both: str, family: Callable[..., Family]) -> None:
    tree = family(TREE)
    everything = tree.hear(3)
    assert sorted(procs.descendants(tree.pid)) == sorted(everything)
    assert tree.pid in procs.descendants(os.getpid())
    found = procs.children(tree.pid)
    assert len(found) == 2 and set(found) < set(everything)


def test_descendants_are_parents_first(both: str, family: Callable[..., Family]) -> None:
    tree = family("for depth in range(5):\n    if os.fork(): rest()\nsay(os.getpid())\nrest()")
    last = tree.hear(1)[0]
    found = procs.descendants(tree.pid)
    assert len(found) == 5 and found[-1] == last


def test_a_zombie_is_counted_only_when_asked(both: str, family: Callable[..., Family]) -> None:
    parent = family("pid = os.fork()\nif not pid: os._exit(0)\nos.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)\nsay(pid)\nrest()")
    zombie = parent.hear(1)[0]
    assert procs.descendants(parent.pid) == procs.children(parent.pid) == []
    assert procs.descendants(parent.pid, zombies=True) == procs.children(parent.pid, zombies=True) == [zombie]
    assert procs.state(zombie) == "Z"
    assert procs.tree_memory([zombie]) == 0


def test_a_process_whose_first_thread_ended_is_alive(both: str, family: Callable[..., Family]) -> None:
    # pthread_exit in the first thread; /proc/PID/stat says Z from then on.
    script = """
import ctypes, threading
pid = os.fork()
if not pid:
    block = bytearray(b"x") * (8 << 20)
    leader = f"/proc/{os.getpid()}/stat"
    def second():
        while " Z " not in open(leader).read(): pass
        say(os.getpid())
        rest = threading.Event().wait()
    threading.Thread(target=second).start()
    ctypes.CDLL(None).syscall(60, 0)
rest()
"""
    if os.uname().machine != "x86_64":
        pytest.skip("the number of the system call exit is x86-64's")
    parent = family(script, environ={"AIOPARALLEL_NONCE": "leaderless-1"})
    pid = parent.hear(1)[0]
    assert procs._fields(pid)[0] == b"Z"
    assert procs.descendants(parent.pid) == [pid]
    assert procs.state(pid) in ("S", "R")
    assert procs.tree_memory([pid]) > 8 << 20
    assert pid in procs.carriers("leaderless-")
    assert pid not in procs.exiting(set()), "it lives on: a sweep must not wait for it"
    parent.stop()
    assert procs.freeze_tree(parent.pid) == [pid]


@pytest.mark.parametrize("name", ["a) (b", ") S 1 (", "x) Z 1 1", "new\nline)", "  "])
def test_odd_names(both: str, family: Callable[..., Family], name: str) -> None:
    parent = family(f"pid = os.fork()\nif not pid:\n    open('/proc/self/comm', 'w').write({name!r})\n    say(os.getpid())\nrest()")
    pid = parent.hear(1)[0]
    assert procs.descendants(parent.pid) == [pid]
    assert procs.state(pid) in ("S", "R")


def test_gone_pids_are_no_error(both: str) -> None:
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", ""])
    process.wait()
    gone = process.pid
    assert procs.descendants(gone) == procs.children(gone) == procs.freeze_tree(gone) == []
    assert procs.kill_all([gone]) == []
    assert procs.state(gone) is None and not procs.is_stopped(gone)
    assert procs.tree_memory([gone]) == procs.os_threads(gone) == 0
    with pytest.raises(ProcessLookupError):
        kernel.pidfd_open(gone)


def test_freeze_then_kill_the_whole_tree(both: str, family: Callable[..., Family]) -> None:
    tree = family(TREE)
    everything = tree.hear(3)
    tree.stop()
    frozen = procs.freeze_tree(tree.pid)
    assert sorted(frozen) == sorted(everything)
    assert procs.kill_all(frozen) == []
    await_end(frozen)
    assert procs.descendants(tree.pid) == []
    assert procs.is_stopped(tree.pid)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let freeze_tree keep its promise on a machine of any load: nobody may be missed, however late it gets a CPU."""
    monkeypatch.setattr(procs, "_FREEZE_SECONDS", 20.0)
    monkeypatch.setattr(procs, "_FREEZE_LOOKS", 100_000)


@pytest.mark.usefixtures("both", "patient")
@pytest.mark.parametrize("own_group", [False, True])
def test_a_runner_that_forks_and_exits_without_end_is_caught(family: Callable[..., Family], own_group: bool) -> None:
    # At any moment one process lives, for less than a millisecond; by the time a look has its pid it is another one.
    script = f"""
kernel.become_subreaper()
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
if not os.fork():
    count = 0
    while True:
        if {own_group}: os.setsid()
        if os.fork(): os._exit(0)
        count += 1
        if count == 20: say(1)
rest()
"""
    runner = family(script)
    runner.hear(1)
    runner.stop()
    frozen = procs.freeze_tree(runner.pid)
    assert frozen and sorted(procs.descendants(runner.pid)) == sorted(frozen)
    assert all(map(procs.is_stopped, frozen))
    assert procs.kill_all(frozen) == []
    await_end(frozen)
    assert procs.descendants(runner.pid) == []


@pytest.mark.usefixtures("both", "patient")
def test_a_fork_happy_tree_is_frozen_as_a_whole(family: Callable[..., Family]) -> None:
    # Bounded by itself at 2**7 processes, so that a failure hurts nobody.
    script = """
kernel.become_subreaper()
if not os.fork():
    for generation in range(7):
        os.fork()
        if generation == 4: say(1)
    rest()
rest()
"""
    bomb = family(script)
    bomb.hear(1)
    bomb.stop()
    frozen = procs.freeze_tree(bomb.pid)
    assert len(frozen) >= 6
    assert sorted(procs.descendants(bomb.pid)) == sorted(frozen)
    assert all(map(procs.is_stopped, frozen))
    assert procs.kill_all(frozen) == []
    await_end(frozen)
    assert procs.descendants(bomb.pid) == []


def test_the_last_look_comes_after_everybody_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    # A fork under way when SIGSTOP arrives is completed: the child appears only when its parent has stopped.
    states = {7: ["R", "R", "T"], 8: ["T"]}
    sent = []
    monkeypatch.setattr(procs, "monotonic", lambda: 0.0)
    monkeypatch.setattr(procs, "state", lambda pid: states[pid].pop(0) if len(states[pid]) > 1 else states[pid][0])
    monkeypatch.setattr(procs, "_look", lambda *a, **k: (False, [7] if len(states[7]) > 1 else [7, 8], set()))
    monkeypatch.setattr(procs, "send", lambda pid, signum: sent.append(pid) or True)
    monkeypatch.setattr(procs, "_alive", lambda pid: True)
    assert procs.freeze_tree(5) == sent == [7, 8]


def test_what_does_not_stop_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(procs, "monotonic", lambda: next(clock) / 100)
    monkeypatch.setattr(procs, "state", lambda pid: "D")
    monkeypatch.setattr(procs, "_look", lambda *a, **k: (False, [7], set()))
    monkeypatch.setattr(procs, "send", lambda pid, signum: True)
    monkeypatch.setattr(procs, "_alive", lambda pid: True)
    assert procs.freeze_tree(5) == [7]
    assert next(clock) < 20


def test_a_group_with_an_outsider_is_not_stopped() -> None:
    sent: list[tuple[int, int]] = []
    table = {50: (1, 50, False), 51: (50, 60, False), 52: (50, 70, False), 53: (1, 70, False), 54: (50, 50, False)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(procs, "send", lambda pid, signum: sent.append((pid, signum)) or True)
        patch.setattr(procs, "is_stopped", lambda pid: False)
        procs._stop_groups(table, 50, [51, 52, 54])
        assert sent == [(-60, signal.SIGSTOP)]
        sent.clear()
        patch.setattr(procs, "is_stopped", lambda pid: True)
        procs._stop_groups(table, 50, [51, 52, 54])
    assert sorted(sent) == [(-60, signal.SIGSTOP), (-50, signal.SIGSTOP)]


def test_an_entry_whose_parent_slipped_away_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {10: [(1, 10, False)], 11: [None], 12: [(11, 10, False), (10, 10, False)], 1: [(0, 1, False)]}
    monkeypatch.setattr(procs.os, "listdir", lambda path: ["1", "10", "11", "12", "self"])
    monkeypatch.setattr(procs, "_entry", lambda pid: answers[pid].pop(0))
    table: dict[int, tuple[int, int, bool]] = {}
    assert procs._scan(table) is True
    assert procs._below(table, 10) == [12]


def test_kill_all_says_what_it_may_not_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(pid: int, signum: int) -> None:
        raise {7: PermissionError, 8: ProcessLookupError}[pid]

    monkeypatch.setattr(procs.os, "kill", kill)
    assert procs.kill_all([7, 8]) == [7]


@pytest.mark.parametrize("pid", [0, -1, 1, -5])
def test_kill_all_refuses_what_is_no_single_process(pid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procs, "send", lambda pid, signum: pytest.fail("a signal was sent"))
    with pytest.raises(ValueError, match="one process each"):
        procs.kill_all([os.getpid(), pid])


def test_carriers_match_the_entry_and_nothing_else(family: Callable[..., Family]) -> None:
    own = f"abc{os.getpid()}"
    carrier = family("say(os.fork() or os.getpid())\nrest()", environ={"AA": "a" * 70_000, "AIOPARALLEL_NONCE": f"{own}-123"})
    other = family("say(os.getpid())\nrest()", environ={"AIOPARALLEL_NONCE": "xyz", "OTHER_AIOPARALLEL_NONCE": f"{own}-123"})
    child = carrier.hear(2)[0]
    other.hear(1)
    assert sorted(procs.carriers(own)) == sorted({carrier.pid, child})
    assert procs.carriers(f"{own}-123", {carrier.pid}) == [child]
    assert procs.carriers(f"{own}-1234") == []
    with pytest.raises(ValueError, match="empty nonce"):
        procs.carriers("")


def test_memory_counts_touched_private_and_shared_pages(family: Callable[..., Family]) -> None:
    script = """
import mmap
say(os.getpid())
sys.stdin.buffer.read(1)
private = bytearray(b"x") * (32 << 20)
shared = mmap.mmap(-1, 16 << 20)
shared.write(b"y" * (16 << 20))
say(1)
rest()
"""
    one = family(script)
    one.hear(1)
    before = procs.tree_memory([one.pid])
    assert one.process.stdin is not None
    one.process.stdin.write(b"g")
    one.hear(1)
    grown = procs.tree_memory([one.pid]) - before
    assert 48 << 20 <= grown < 80 << 20
    assert procs.tree_memory([one.pid, one.pid]) == 2 * procs.tree_memory([one.pid])


def test_a_kernel_thread_has_no_memory() -> None:
    if b"kthreadd" not in procs._read("/proc/2/stat"):
        pytest.skip("no kernel threads in this PID namespace")
    assert procs.tree_memory([2]) == 0


def test_os_threads_see_a_thread() -> None:
    before = procs.os_threads()
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        assert procs.os_threads() == procs.os_threads(os.getpid()) == before + 1
    finally:
        done.set()
        thread.join()


def test_a_child_dies_with_its_parent(family: Callable[..., Family]) -> None:
    script = """
kernel.become_subreaper()
first = os.fork()
if not first:
    me = os.getpid()
    if not os.fork():
        assert kernel.die_with_parent(me)
        say(os.getpid(), me)
    rest()
rest()
"""
    one = family(script)
    child, parent = one.hear(2)
    os.kill(parent, signal.SIGKILL)
    await_end([child])
    assert procs.descendants(one.pid) == []


def test_a_child_of_another_parent_ends_at_once(family: Callable[..., Family]) -> None:
    script = """
pid = os.fork()
if not pid:
    kernel.die_with_parent(os.getpid())
    rest()
say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
rest()
"""
    one = family(script)
    assert one.hear(1) == [1]


def test_oom_score(family: Callable[..., Family]) -> None:
    one = family("say(int(kernel.set_oom_score(500)), int(kernel.set_oom_score(5000)), open('/proc/self/oom_score_adj').read())\nrest()")
    assert one.hear(3) == [1, 0, 500]


def test_prctl_by_the_public_ctypes_too(family: Callable[..., Family]) -> None:
    script = """
import ctypes
sys.modules["_ctypes"] = None
say(int(kernel.become_subreaper()), int(kernel._prctl(9999, 0)))
rest()
"""
    assert family(script).hear(2) == [1, 0]


def test_a_sweep_outlasts_who_is_still_ending(family: Callable[..., Family]) -> None:
    # A killed process with much memory lives on while the kernel frees it; its environment cannot be read any more.
    nonce = f"sweep-{os.getpid()}."
    script = "memory = bytearray(400_000_000)\nmemory[::4096] = b'x' * len(memory[::4096])\nsay(1)\nrest()"
    one = family(script, environ={"AIOPARALLEL_NONCE": f"{nonce}1"})
    one.hear(1)
    one.process.kill()
    reaper.sweep(nonce)
    ended = procs.state(one.pid)
    one.process.wait()
    assert ended == "Z"


def test_pidfd_sees_the_end(family: Callable[..., Family], monkeypatch: pytest.MonkeyPatch) -> None:
    one = family("say(1)\nrest()")
    one.hear(1)
    fd = kernel.pidfd_open(one.pid)
    assert fd is not None
    try:
        assert not select.select([fd], [], [], 0)[0]
        one.process.kill()
        assert select.select([fd], [], [], 10)[0]
        one.process.wait()
    finally:
        os.close(fd)
    monkeypatch.delattr(kernel.os, "pidfd_open")
    assert kernel.pidfd_open(os.getpid()) is None


def test_a_platform_without_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(procs, "_PROC", str(tmp_path / "none"))
    monkeypatch.setattr(procs, "_children_files", None)
    monkeypatch.setattr(kernel, "_prctl_function", False)
    me = os.getpid()
    assert procs.descendants(me) == procs.children(me) == procs.carriers("x") == procs.freeze_tree(me) == []
    assert procs.tree_memory([me]) == procs.os_threads() == 0
    assert procs.state(me) is None
    assert not kernel.become_subreaper()
    assert not kernel.die_with_parent(os.getppid())


def test_a_shortage_of_descriptors_is_no_empty_answer(both: str, family: Callable[..., Family]) -> None:
    script = f"""
import resource
procs._children_files = {both == "lists"}
pid = os.fork()
if not pid: rest()
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
try:
    procs.descendants(os.getpid())
except OSError as exc:
    say(exc.errno)
rest()
"""
    assert family(script).hear(1) == [24]


def test_lean_at_import() -> None:
    script = f"import sys; sys.path.insert(0, {FOLDER!r}); old = set(sys.modules); import procs; print(*set(sys.modules) - old)"
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"procs", "__future__", "errno"}
