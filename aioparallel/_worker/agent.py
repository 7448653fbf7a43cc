"""The agent: the small supervisor that feeds, limits and kills the slots of one host.

Guarantees
    It dies with its controller (end of the link, or of the controller's process), and takes every process below it along. It never
    imports or runs code of the user's, forks nothing but its template (`spawner`), and never waits for one slot while another needs it.

How it works
    One thread, one `poll`: the pool's link, the template's socket, a pipe on which slots knock when an attempt with a limit begins, the
    controller's pidfd, and SIGCHLD through a wake-up descriptor. Being the sub-reaper of all its slots start, it can find, kill and
    reap whatever they leave behind. Near, the pool feeds the slots itself; far, a `feeder` here does.
"""

from __future__ import annotations

import os
import sys
from _signal import SIGCHLD, SIGKILL, set_wakeup_fd, signal
from select import POLLIN
from time import monotonic, time

from .._wire.frames import encode
from .._wire.messages import (
    BURIED,
    BY_CANCEL,
    CLOSE,
    DIED,
    DISMISS,
    FAILED,
    HELLO,
    KILL,
    KNOCK_SIZE,
    LIMIT,
    MISSED,
    PING,
    PONG,
    PROTOCOL,
    SLOT_FDS,
    SPAWN,
    STOP,
    UNCONFIRMED,
    WANT,
    WELCOME,
    WITHDRAW,
    decode_knocks,
    pack,
    unpack,
)
from . import procs
from .page import FOREVER, Page, make_memory, map_memory
from .reaper import bury_all, reap, sweep
from .spawner import Spawner
from .ward import Check, Ward
from .watch import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .channel import NearChannel
    from .far_channel import FarChannel
    from .feeder import Feeder
    from .output import Output

RETIRE_SECONDS = 10.0
"""How long a retiring slot's `atexit` functions may take."""


class Agent:
    """The supervisor's state and its loop."""

    def __init__(
        self, channel: NearChannel | FarChannel, controller: int | None, template: tuple[int, int], facts: dict[str, Any] | None = None
    ) -> None:
        """Take over the link to the pool, the controller's pidfd, and a template: its pid and our end of the socket to it.

        facts: what of the pool's HELLO is known here alone.
        """
        self._channel = channel
        self._facts = facts or {}
        self._first_template = template
        self._controller = controller
        self._config: dict[str, Any] = {}
        self._wards: dict[int, Ward] = {}
        self._by_pid: dict[int, Ward] = {}
        self._spawner: Spawner | None = None
        self._feeder: Feeder | None = None
        self._outputs: list[Output] = []
        self._watch = Watch()
        self._stop = False
        self._heard = monotonic()
        self._orphan_after = FOREVER
        self._wake, wake = os.pipe()
        self._knocks, self._knocker = os.pipe()
        for fd in (self._wake, wake, self._knocks):
            os.set_blocking(fd, False)
        signal(SIGCHLD, lambda *_: None)
        set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._watch.add({self._wake: POLLIN}, lambda: os.read(self._wake, 4096))
        self._watch.add({self._knocks: POLLIN}, self._read_knocks)
        if controller is not None:
            self._watch.add({controller: POLLIN}, self.stop)
        self._watch_channel()

    def own(self) -> list[int]:
        """Return our descriptors, which no other process may hold."""
        fds = [*self._channel.own(), self._wake, self._knocks, *([] if self._controller is None else [self._controller])]
        return fds if self._feeder is None else fds + self._feeder.own()

    # --- the loop

    def stop(self) -> None:
        """End at the next turn of the loop."""
        self._stop = True

    def run(self) -> None:
        """Supervise until the controller lets go; then leave nothing behind."""
        try:
            while not self._stop:
                self._turn()
        finally:
            buried = bury_all()
            self._remove_scratch()
            for output in self._outputs:
                output.finish()
            if buried:
                self._tell(BURIED, 0)
                self._channel.flush()

    def _turn(self) -> None:
        now = monotonic()
        due = self._next_due(now)
        self._watch.wait(None if due == FOREVER else max(0.0, due - now) + 0.0005)
        self._reap()
        self._look_at_clocks(monotonic())
        if self._feeder is not None:
            self._feeder.turn_ended()
        if not self._channel.flush():
            self._stop = True
        self._watch_channel()

    def _watch_channel(self) -> None:
        self._watch.add(self._channel.interests(), self._read_link)

    def _read_knocks(self) -> None:
        for index, incarnation in decode_knocks(os.read(self._knocks, KNOCK_SIZE * 512)):
            ward = self._wards.get(index)
            if ward is not None and ward.incarnation == incarnation:
                ward.next_look(monotonic())

    def _next_due(self, now: float) -> float:
        due = self._heard + self._orphan_after
        if self._spawner is not None:
            due = min(due, self._spawner.preload_until)
        if self._feeder is not None:
            due = min(due, self._feeder.due, *(output.due for output in self._outputs))
        for ward in self._wards.values():
            if ward.status is not None and not ward.dying:
                return now  # its fork failed while another was buried
            due = min(due, ward.confirm_until)
            if ward.watch_at:
                due = min(due, ward.watch_at)
            if ward.ask_until is not None:
                due = min(due, ward.ask_until[0])
            if ward.dismissed_at:
                due = min(due, ward.dismissed_at)
        return due

    def _look_at_clocks(self, now: float) -> None:
        for ward in self._wards.values():
            if ward.status is not None or ward.killed_for is not None:
                ward.watch_at, ward.ask_until, ward.dismissed_at = 0.0, None, 0.0
                if now >= ward.confirm_until:
                    ward.confirm_until = FOREVER
                    self._tell_end(UNCONFIRMED, ward)
                continue
            if ward.watch_at and now >= ward.watch_at:
                check = ward.over_limit(now)
                if check is not None:
                    ward.watch_at = 0.0
                    self._check(ward, check)
                else:
                    ward.next_look(now)
            if ward.ask_until is not None and now >= ward.ask_until[0]:
                check, ward.ask_until = ward.ask_until[1], None
                self._check(ward, check)
            if ward.dismissed_at and now >= ward.dismissed_at:
                ward.dismissed_at = 0.0
                self._check(ward, Check(0, BY_CANCEL, 0.0))
        if self._spawner is not None:
            self._spawner.look_at_clock(now)
        if self._feeder is not None:
            self._feeder.look_at_clock(now)
            for output in self._outputs:
                output.look_at_clock(now)
        if now >= self._heard + self._orphan_after:
            self._stop = True  # the controller's machine, or the way to it, is gone without a word

    # --- the pool's link

    def _read_link(self) -> None:
        frames = self._channel.receive()
        if frames is None:
            self._stop = True
            return
        self._heard = monotonic()
        for frame in frames:
            if frame[0] < HELLO:
                assert self._feeder is not None
                self._feeder.take(frame)
            else:
                self._obey(frame[0], frame[2], frame[3])

    def _obey(self, kind: int, ident: int, body: bytes) -> None:
        if kind == HELLO:
            (config,) = unpack(body)
            self._begin(config)
        elif kind == CLOSE:
            self._stop = True
        elif not self._config:
            pass  # it cannot serve this controller, and has said so
        elif self._feeder is None:
            self._obey_near(kind, ident, unpack(body))
        elif kind == STOP:
            self._feeder.stop(ident, *unpack(body))
        elif kind == WITHDRAW:
            self._feeder.withdraw(unpack(body))
        elif kind == WANT:
            self._feeder.want(*unpack(body))
        elif kind == LIMIT:
            self._feeder.limit(*unpack(body))
        elif kind == PING:
            self._tell(PONG, ident, monotonic())

    def _obey_near(self, kind: int, ident: int, values: tuple[Any, ...]) -> None:
        index, incarnation, *rest = values
        if kind == SPAWN:
            self._spawn(index, incarnation, self._channel.take_fds(SLOT_FDS))
            return
        ward = self._wards.get(index)
        if ward is None or ward.incarnation != incarnation:
            if kind == KILL:
                self._tell(MISSED, ident, index, incarnation)
        elif kind == KILL:
            self._kill(index, ident, *rest)
        elif kind == DISMISS:
            self._dismiss(index, *rest)

    def _kill(self, index: int, ident: int, grace: float) -> None:
        ward = self._wards[index]
        if ward.killed_for is None and ward.status is None:
            self._check(ward, Check(ident, BY_CANCEL, grace))

    def _dismiss(self, index: int, seconds: float = RETIRE_SECONDS) -> None:
        self._wards[index].dismissed_at = monotonic() + seconds

    def _tell(self, kind: int, ident: int, *values: object) -> None:
        self._channel.say(encode(kind, 0, ident, pack(*values)))

    def _begin(self, config: dict[str, Any]) -> None:
        wrong = mismatch(config)
        if wrong:
            self._tell(FAILED, 0, -1, 0, wrong)
            return
        self._config = config
        facts: dict[str, Any] = {}
        if config["far"]:
            config |= self._facts
            facts = settle_in(config)
        if config["sweep"]:
            sweep(str(config["nonce"]), str(config["own_nonce"]))
        pages = make_memory(config["slots"])
        config["agent_fds"] = [pages, self._knocker]
        self._pages = map_memory(pages)
        if config["far"]:
            self._begin_feeding(config)
        self._spawner = Spawner(config, self._first_template, self._watch, self.own, self._tell, self._born)
        self._tell(WELCOME, 0, {"pid": os.getpid(), "slots": config["slots"], **facts, "clock": time(), "monotonic": monotonic()})

    def _begin_feeding(self, config: dict[str, Any]) -> None:
        from .feeder import Feeder  # near these would only cost time
        from .output import Output
        from .shelf import Shelf

        self._orphan_after = config["orphan_after"]
        shelf = Shelf(config["modules"])
        config["shelf"] = shelf.path
        self._feeder = Feeder(
            config["slots"], config["max_tasks"], shelf, self._channel.lanes, self._watch,
            self._tell, self._spawn, self._kill, self._dismiss,
        )  # fmt: skip
        self._outputs = [Output(number, fd, self._channel.lanes, self._watch) for number, fd in enumerate(self._channel.outputs, 1)]

    # --- slots

    def _spawn(self, index: int, incarnation: int, fds: list[int]) -> None:
        ward = Ward(index, incarnation, Page(self._pages, index))
        self._wards[index] = ward
        assert self._spawner is not None
        self._spawner.fork(ward, fds)

    def _born(self, ward: Ward, pid: int) -> None:
        self._by_pid[pid] = ward
        if ward.adopted(pid):
            self._look(ward)

    def _check(self, ward: Ward, check: Check) -> None:
        if ward.stop_for(check):
            self._look(ward)

    def _look(self, ward: Ward) -> None:
        ident = ward.check.ident if ward.check is not None else 0
        if ward.look() == "missed":
            ward.next_look(monotonic())
            if self._feeder is not None:
                self._feeder.missed(ident)
            else:
                self._tell(MISSED, ident, ward.index, ward.incarnation)

    def _reap(self) -> None:
        dead = reap()
        if self._spawner is not None and any(pid not in self._by_pid for pid, _, _ in dead):
            self._spawner.drain()  # a slot that died at once: it was announced before it could
        for pid, stopped, status in dead:
            ward = self._by_pid.get(pid)
            if stopped:
                if ward is not None and ward.check is not None:
                    self._look(ward)
                continue
            if self._spawner is not None and pid == self._spawner.pid:
                self._spawner.died(status, self._kill_unknown)
            elif ward is not None:
                ward.died(status)
            for other in self._wards.values():
                other.dying.discard(pid)
        for ward in [ward for ward in self._wards.values() if ward.status is not None]:
            ward.forget_gone()
            if not ward.dying:
                ward.dying = self._kill_unknown()  # what it left behind, or what escaped its kill
            if not ward.dying:
                self._bury(ward)

    def _kill_unknown(self) -> set[int]:
        """Kill what has fallen to us and is neither a slot nor the template, with all below it."""
        orphans = set(procs.children(os.getpid(), zombies=False))
        assert self._spawner is not None
        self._spawner.drain()  # a slot that was just forked is no orphan; it is announced before it falls to us
        known = {self._spawner.pid, *self._by_pid}
        for ward in self._wards.values():
            known |= ward.dying
        killed: set[int] = set()
        for pid in orphans - known:
            tree = [pid, *procs.freeze_tree(pid)]
            killed.update(tree)
            procs.kill_all(tree)
        return killed

    def _bury(self, ward: Ward) -> None:
        """Say that a slot and all below it are gone."""
        del self._wards[ward.index]
        self._by_pid.pop(ward.pid, None)
        self._tell_end(DIED, ward)
        scratch = f"{self._config['scratch']}/{ward.index}.{ward.incarnation}"
        if os.path.exists(scratch) and self._spawner is not None:
            self._spawner.clean(scratch)

    def _tell_end(self, kind: int, ward: Ward) -> None:
        status = SIGKILL if ward.status is None else ward.status  # (None: it was killed, and has not died of it yet)
        code, number = (os.WEXITSTATUS(status), None) if os.WIFEXITED(status) else (None, os.WTERMSIG(status))
        ident, item = ward.last
        asked = ward.killed_for is not None and ward.killed_for.asked
        values = code, number, ward.why, item, int(ward.page.peak), int(ward.page.leftovers), asked
        if self._feeder is not None:
            how = f"with code {code}" if number is None else f"with signal {number}"
            ident = self._feeder.slot_ended(ward.index, ident, how, confirmed=kind == DIED)  # (its page is another's then)
        if self._feeder is None or ward.why == BY_CANCEL:
            self._tell(kind, ident, ward.index, ward.incarnation, *values)
        else:  # behind what it answered: a part of a chunk's answer must not come after its end
            self._channel.lanes.work((encode(kind, 0, ident, pack(ward.index, ward.incarnation, *values)),))

    def _remove_scratch(self) -> None:
        path = str(self._config.get("scratch", ""))
        if path and os.path.exists(path):
            import shutil

            shutil.rmtree(path, ignore_errors=True)


def settle_in(config: dict[str, Any]) -> dict[str, Any]:
    """Far: complete what the pool cannot know of this host; return what it is to be told of it."""
    from .facts import facts
    from .machine import thread_environment, usable_cpus

    cpus = usable_cpus()
    config["slots"] = config["slots"] or cpus
    config["environ"] = {**thread_environment(cpus, config["slots"], dict(os.environ)), **config["environ"]}
    return facts(cpus)


def mismatch(config: dict[str, Any]) -> str:
    """Return why this interpreter cannot serve that controller, or nothing."""
    from _frozen_importlib_external import MAGIC_NUMBER

    ours = {"protocol": PROTOCOL, "implementation": sys.implementation.name, "magic": MAGIC_NUMBER, "byteorder": sys.byteorder}
    wrong = [f"{name} {theirs!r} there, {ours[name]!r} here" for name, theirs in config["versions"].items() if ours[name] != theirs]
    if not wrong:
        return ""
    version = ".".join(map(str, sys.version_info[:3]))
    differ = "; ".join(wrong)
    return f"its Python ({sys.executable}, {version}) is not the controller's ({config['python']}): {differ}; set python= to one that is"


__all__ = ["Agent"]
