"""The template: a process that imports what every slot needs, once, and forks slots from itself.

Guarantees
    It forks only while it has one OS thread; where something it preloaded started threads, slots are exec'ed instead. A slot is the
    agent's child, not the template's, before its first attempt begins. Each request for a slot is answered, also where no fork is possible.

How it works
    A slot is forked twice. The process between sends the slot's pid to the agent and ends, so that the slot falls to the agent, which
    is a sub-reaper. The slot waits for that before anything else.
"""

from __future__ import annotations

import gc
import os
import sys
from _signal import SIG_DFL, SIGCHLD, signal
from _socket import socket as Socket  # `socket` would import `selectors` and `enum`: milliseconds of every pool's start
from marshal import dumps as marshal, loads as unmarshal

from .._wire.frames import Frame, FrameReader, encode
from .._wire.messages import CLEAN, CONFIGURE, FAILED, FORK, FORK_FAILED, FORKED, PRELOADED, SLOT_FDS, pack, unpack
from . import kernel, procs
from .launcher import NOT_BORN
from .page import Page, make_nameless, map_memory
from .passing import receive_with_fds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

HIGH_DESCRIPTOR = 512
"""Slots keep their own descriptors from here on, out of the way of tasks that close the low ones."""


class Template:
    """What the template holds; the config is the pool's HELLO and some descriptors."""

    def __init__(self, socket: int, agent: int) -> None:
        self._socket = Socket(fileno=socket)
        self._reader = FrameReader()
        self._config: dict[str, Any] = {}
        self._agent = agent
        self._fds: list[int] = []
        self._cleaners: list[int] = []
        self._has_threads = False

    def main(self) -> None:
        """Load what slots need of ours, then serve requests until the agent lets go; never returns."""
        load_own()
        while True:
            for kind, _, _, body, _ in self._receive():
                if kind == FORK:
                    index, incarnation = unpack(body)
                    fds, self._fds = self._fds[:SLOT_FDS], self._fds[SLOT_FDS:]
                    self._fork(index, incarnation, fds)
                elif kind == CLEAN:
                    self._clean(*unpack(body))
                elif kind == CONFIGURE:
                    self._configure(*unpack(body))

    def _configure(self, config: dict[str, Any]) -> None:
        config["pages"], config["knocker"], *self._fds = self._fds
        self._config = config
        what = "its slots cannot begin"
        try:
            become_python(config)
            what = "preload= failed"
            preload(config)
        except BaseException as error:  # noqa: BLE001 - user's modules may raise or exit as they like
            from .failures import describe

            name, text, trace, _, _ = describe(error, "")
            own = config.get("own_modules")
            remedy = own.remedy(error) if own is not None and isinstance(error, ImportError) else ""
            self._socket.sendall(encode(FAILED, 0, 0, pack(f"{what}: {name}: {text}{remedy and f': {remedy}'}\n{trace}")))
            os._exit(1)
        gc.freeze()
        self._socket.sendall(encode(PRELOADED, 0, 0, pack(procs.os_threads())))

    def _receive(self) -> list[Frame]:
        data, fds = receive_with_fds(self._socket)
        if not data:
            os._exit(0)
        self._fds += fds
        return self._reader.feed(data)

    def _fork(self, index: int, incarnation: int, fds: list[int]) -> None:
        # Asked here: a forked child has one thread in any case.
        self._has_threads = procs.os_threads() > 1 or bool(self._config["threads"])
        try:
            between = os.fork()
            if not between:
                self._fork_slot(index, incarnation, fds)
            wrong = how_it_failed(between)
        except OSError as error:
            wrong = str(error)
        for fd in fds:
            os.close(fd)
        if wrong:
            self._say_failed(index, incarnation, wrong)

    def _fork_slot(self, index: int, incarnation: int, fds: list[int]) -> NoReturn:
        """Be the process between, and then the slot."""
        code = NOT_BORN
        try:
            try:
                slot = os.fork()
            except OSError as error:
                self._say_failed(index, incarnation, str(error))
                os._exit(0)
            if slot:
                self._socket.sendall(encode(FORKED, 0, 0, pack(index, incarnation, slot)))
                code = 0
            else:
                self._become_slot(index, incarnation, fds)
        except BaseException:  # noqa: BLE001 - the last words of a slot that nobody has heard of
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)

    def _say_failed(self, index: int, incarnation: int, wrong: str) -> None:
        self._socket.sendall(encode(FORK_FAILED, 0, 0, pack(index, incarnation, wrong)))

    def _become_slot(self, index: int, incarnation: int, fds: list[int]) -> None:
        between = os.getppid()
        while os.getppid() == between != self._agent:
            os.sched_yield()
        self._socket.close()
        signal(SIGCHLD, SIG_DFL)
        config = {**self._config, "index": index, "incarnation": incarnation, "fds": fds, "agent": self._agent}
        if self._has_threads:
            exec_slot(config)
        else:
            slot_main(config)

    def _clean(self, path: str) -> None:
        """Remove a folder in a child of our own: what falls to the agent is killed as a dead slot's leftover."""
        if not self._cleaners:
            signal(SIGCHLD, self._reap_cleaners)
        try:
            cleaner = os.fork()
        except OSError:
            return  # what is left is removed with the pool
        if cleaner:
            self._cleaners.append(cleaner)
            self._reap_cleaners()  # in case it ended before it was known
            return
        try:
            self._socket.close()
            from shutil import rmtree

            rmtree(path, ignore_errors=True)
        finally:
            os._exit(0)

    def _reap_cleaners(self, *_: object) -> None:
        for pid in tuple(self._cleaners):
            try:
                gone = os.waitpid(pid, os.WNOHANG)[0]
            except ChildProcessError:
                continue  # SIGCHLD came in the middle of this very loop
            if gone:
                self._cleaners.remove(pid)


def how_it_failed(between: int) -> str:
    """Wait for the process between; return how it failed, or nothing."""
    try:
        _, status = os.waitpid(between, 0)
    except ChildProcessError:
        return ""  # a module that was preloaded has SIGCHLD ignored
    return f"the process that was to fork it ended with status {status}" if status else ""


def load_own() -> None:
    """Import what slots need while `sys.path` is Python's own: a user's file may be called like a module of Python's."""
    import fcntl  # noqa: F401
    import resource  # noqa: F401

    from . import chunk, modules, slot  # noqa: F401

    modules.install()


def become_python(config: dict[str, Any]) -> None:
    """Make this process what the controller's is: `site` has run, `sys.path` is the same, `__main__` is empty."""
    if sys.flags.no_site:
        import site

        site.main()
    if config["far"]:
        from . import modules
        from .imports import OwnModules

        modules.install(frozenset(config["names"]), frozenset(config["public"]))
        config["own_modules"] = OwnModules(config["modules"], config["host"])
        sys.path.append(config["shelf"])
        os.environ.update(config["environ"])
        _enter(os.path.expanduser(config["folder"] or "~"))
    else:
        sys.path[:] = config["sys_path"]
    sys.argv[:] = [""]
    sys.modules["__main__"] = type(sys)("__main__")
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _enter(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        remedy = "slots would work there: name another folder with SSH(..., cwd=)"
        raise type(error)(error.errno, f"{error.strerror} ({remedy})", folder) from None


def preload(config: dict[str, Any]) -> None:
    """Import what the user named."""
    if config["far"]:
        from . import failures, imports  # noqa: F401 - near it can be imported when first needed; far, a task may close the zip it would come from

    for name in config["preload"]:
        __import__(name)


def slot_main(config: dict[str, Any]) -> None:
    """Be a slot; never returns."""
    from .._wire.link import Link
    from .context import Surrounding
    from .slot import LOST_LINK, Slot

    os.setsid()
    kernel.become_subreaper()
    kernel.die_with_parent(config["agent"])
    kernel.set_oom_score(300)
    reseed()
    index, incarnation = config["index"], config["incarnation"]
    page = Page(map_memory(config["pages"]), index)
    os.close(config["pages"])
    high = high_descriptor()
    end, permits, answers = (raise_fd(fd, high) for fd in config["fds"])
    knocker = raise_fd(config["knocker"], high)
    socket = Socket(fileno=end)
    surrounding = Surrounding(config["host"], config["seed"], f"{config['scratch']}/{index}.{incarnation}", None, True)
    slot = Slot((index, incarnation), Link(socket, answers), (permits, knocker), page, surrounding, high)
    if config["far"]:
        slot.modules = config["own_modules"]
        slot.modules.fetch, surrounding.remedy = slot.fetch, slot.modules.remedy

    def let_go() -> None:
        """Not hold the slot's link open in a child of a task's."""
        slot.forked()
        os.closerange(answers, answers + 1)  # as close, and no error where a task has closed it

    os.register_at_fork(after_in_child=let_go)
    try:
        slot.serve()
    except (EOFError, OSError):
        os._exit(LOST_LINK)


def raise_fd(fd: int, high: int) -> int:
    """Move a descriptor up to `high` or above."""
    import fcntl

    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, high)
    os.close(fd)
    return moved


def high_descriptor() -> int:
    """Return the number above which a slot keeps its own descriptors."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return HIGH_DESCRIPTOR if soft < 0 or soft > 2 * HIGH_DESCRIPTOR else soft // 2


def reseed() -> None:
    """Give this fork its own randomness: whatever of it was preloaded would be the same in every slot."""
    if "random" in sys.modules:
        sys.modules["random"].seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed(int.from_bytes(os.urandom(4), "little"))
    if "uuid" in sys.modules:
        uuid: Any = sys.modules["uuid"]
        uuid._last_timestamp = None
        uuid._generate_time_safe = None  # libuuid's clock sequence is per process image


def exec_slot(config: dict[str, Any]) -> None:
    """Be a slot by way of exec: for when this process has threads, whose locks a fork would inherit held."""
    fd = make_nameless("aioparallel-config")  # a pipe would take 64 KiB, and no more before somebody reads
    os.write(fd, marshal({name: value for name, value in config.items() if name != "own_modules"}, 2))
    for number in (fd, *config["fds"], config["knocker"], config["pages"], *config.get("archive", ())):
        os.set_inheritable(number, True)
    boot = f"{config['boot']};from aioparallel._worker.template import exec_main;exec_main({fd})"
    os.execv(sys.executable, [sys.executable, *config["flags"], "-c", boot])


def exec_main(fd: int) -> None:
    """Be an exec'ed slot; its configuration waits in a file."""
    config = unmarshal(os.pread(fd, os.fstat(fd).st_size, 0))
    os.close(fd)
    load_own()
    become_python(config)
    preload(config)
    for number in (*config["fds"], config["knocker"], config["pages"]):
        os.set_inheritable(number, False)
    slot_main(config)
