"""A slot: one process that runs one attempt at a time, and says the truth about it.

Guarantees
    Every answer is in the kernel before the next attempt begins. An attempt begins only with a permit of its own generation. A forked
    child that returns into this file ends there. What a task changed in the process is put back before the next begins, or the slot
    ends.

How it works
    Attempts arrive ahead of time on the slot's socket; one permit each arrives on a pipe. The slot waits for a permit, takes it,
    and begins the attempt it belongs to. (Waiting there, it wakes up while the pool still writes the attempt.) The pool calls attempts
    back by taking the permits out of the pipe itself: what it gets, the slot can no longer begin. Permits carry a generation that rises
    with every recall, and so do attempts: a permit of a later generation makes the slot skip the attempts that were called back.
"""

from __future__ import annotations

import os
import sys
from _signal import SIG_DFL, SIG_IGN, SIGINT, SIGPIPE, SIGTERM, SIGURG, default_int_handler, signal
from _thread import _count as count_threads, allocate_lock
from collections import deque
from select import POLLIN, poll
from time import monotonic, process_time

from .._wire.frames import Frame
from .._wire.link import Link, unframed
from .._wire.memory import Buffers
from .._wire.messages import (
    ASKED,
    BY_DEADLINE,
    BY_TIMEOUT,
    CHUNK,
    DEFINE,
    DROP,
    ERA,
    EXITED,
    FORGET,
    FRESH,
    MODULES,
    NEED,
    OUTCOME,
    OUTCOME_HEAD,
    PART,
    PERMIT,
    PROGRESS,
    PROGRESS_BODY,
    READY,
    RETIRE,
    ROOTS,
    RUN,
    SHARE,
    SURROUND,
    encode_knock,
    unpack,
)
from ..errors import TaskCancelled
from . import context, shared
from .baseline import Baseline
from .chunk import perform_chunk
from .page import Page
from .run import Call, Outcome, begin, failure, perform
from .store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Coroutine
    from typing import Any

    from .imports import OwnModules

CPU_WORTH = 0.001
"""Seconds: of attempts shorter than this no CPU time is reported, it would be noise."""
LOST_LINK = 81
"""Exit code of a slot whose link is gone: the pool, or the descriptor under a task's hands."""
UNRESTORABLE = 82
"""Exit code of a slot that could not put back what a task changed."""
MAX_DEAD = 64
"""So many dead children may wait in a slot for a task that reaps them. It cannot do that itself, and the table of processes is finite."""
END_ROUNDS = 1000
"""A killed process is gone within a few looks; what cannot die (D state) must not keep the answer."""
STOPPED = 84
"""Exit code of a slot whose task was asked to stop, and did."""
FOREVER = float("inf")
NAN = float("nan")


class Slot:
    """The loop of one slot, and what it holds."""

    def __init__(
        self, identity: tuple[int, int], link: Link, pipes: tuple[int, int], page: Page, surrounding: context.Surrounding, high: int
    ) -> None:
        self.identity = identity
        self._permits, self._knocker = pipes
        self.link = link
        self._end = link.socket.fileno()
        self.page = page
        self.store = Store()
        self.values = shared.current
        self.values.mapping = page.allow
        self.pid = os.getpid()
        self.is_copy = False
        """Whether this process was forked from the slot."""
        self._inbox: deque[Frame] = deque()
        self._receiving = allocate_lock()
        self._came: dict[str, tuple[dict[str, tuple[str, bool, bytes]], str]] = {}
        """What came of the user's modules, or why nothing did, by the name that was asked for."""
        self.modules: OwnModules | None = None
        """Far: what knows of the user's own modules."""
        self._wait = poll()  # the pipe is shared with the pool, which must not block on it
        self._wait.register(self._permits, POLLIN)
        self._wait_with_values = poll()
        self._wait_with_values.register(self._permits, POLLIN)
        self._wait_with_values.register(self._end, POLLIN)
        self._running = self._armed = self._era = 0
        self._left = False
        self._async_task: tuple[AbstractEventLoop, Any] | None = None
        surrounding.send_progress = self._send_progress
        context.surrounding = surrounding
        self._own_signals()
        self._baseline = Baseline(high)

    def _own_signals(self) -> None:
        signal(SIGINT, default_int_handler)
        signal(SIGTERM, SIG_DFL)
        signal(SIGPIPE, SIG_IGN)
        # SIGURG: ignored by default and used by nearly nobody, so a stray one does no harm.
        signal(SIGURG, self._on_request_to_stop)

    def serve(self) -> None:
        """Work until the pool lets go of the link; never returns."""
        self.link.send(READY, 0, self.pid, b"")
        while True:
            self._attempt(self._called_for(self._next_permit()))  # (held here by no name: the arguments' memory is the task's)

    def _next_permit(self) -> int:
        """Wait for a permit and take it; return its generation."""
        while True:
            try:
                permit = os.read(self._permits, PERMIT.size)
            except BlockingIOError:
                if self.values:
                    self._wait_with_values_told()
                else:
                    self._wait.poll()
                continue
            if not permit:
                raise EOFError
            generation = int.from_bytes(permit, "little")
            if generation == RETIRE:
                retire()
            return generation

    def _wait_with_values_told(self) -> None:
        """Wait for a permit, and let go at once of shared values that will not be named again: they may be large.

        What comes without a permit was called back, or is no attempt.
        """
        look, inbox = self._wait_with_values.poll, self._inbox
        if any(fd == self._permits for fd, _ in look()):
            return
        with self._receiving:
            if any(fd == self._end for fd, _ in look(0)):  # (a thread that a task left may have read it, in `fetch`)
                inbox.extend(frame for frame in self.link.receive() if not self._is_modules(frame))
        if any(frame[0] == DROP for frame in inbox):
            for frame in inbox:
                if frame[0] in (SHARE, DROP):
                    self._control(frame)
            kept = [frame for frame in inbox if frame[0] not in (SHARE, DROP)]
            inbox.clear()
            inbox.extend(kept)

    def _called_for(self, generation: int) -> Frame:
        """Return the first attempt of a generation; those before it were called back."""
        inbox = self._inbox
        while True:
            while not inbox:
                with self._receiving:
                    inbox.extend(self.link.receive())
            frame = inbox.popleft()
            if frame[0] != RUN:
                self._control(frame)
            elif self._era | frame[1] == generation:
                return frame

    def fetch(self, name: str) -> tuple[dict[str, tuple[str, bool, bytes]], str]:
        """Far: return a module of the user's as the pool has it, with others that it is likely to need; or none, and why if it is one."""
        if os.getpid() != self.pid:
            return {}, ""
        armed, self._armed = self._armed, 0  # a request to stop must not come in the midst of a frame
        try:
            self.link.send(NEED, 0, 0, name.encode())
            while True:
                with self._receiving:
                    if name in self._came:
                        return self._came.pop(name)
                    self._inbox.extend(frame for frame in self.link.receive() if not self._is_modules(frame))
        finally:
            self._arm_again(armed)

    def _is_modules(self, frame: Frame) -> bool:
        """Put aside what a thread of a task waits for."""
        if frame[0] != MODULES:
            return False
        asked, modules, why = unpack(unframed(frame[3], 0, frame[4])[0])
        self._came[asked] = modules, why
        return True

    def _arm_again(self, armed: int) -> None:
        self._armed = armed
        if armed and self.page.asked == armed and self._async_task is None:
            raise TaskCancelled("the task was asked to stop")

    def _control(self, frame: Frame) -> None:
        kind, flags, ident, body, buffers = frame
        if kind == DEFINE:
            length = int.from_bytes(body[:2], "little")
            data = buffers[0] if buffers else body[2 + length :]
            self.store.define(ident, body[2 : 2 + length].decode(errors="replace"), data, bool(flags & FRESH))
        elif kind == FORGET:
            for number in unpack(body):
                self.store.forget(number)
        elif kind == SHARE:
            self.values.tell(ident, body, buffers)
        elif kind == DROP:
            self.values.drop(unpack(body))
        elif kind == ERA:
            self._era = ident << 8
        elif kind == ROOTS and self.modules is not None:
            self.modules.told(*unpack(body))
        elif kind == MODULES:
            self._is_modules(frame)
        elif kind == SURROUND:
            (sys.path[:],) = unpack(body)
            self._baseline.path = list(sys.path)

    def _attempt(self, frame: Frame) -> None:
        call = Call(frame[2], frame[3], frame[4])
        del frame  # the arguments' memory is the task's, not ours
        page = self.page
        cpu = process_time() if call.measure else 0.0
        began = monotonic()
        stop_at = call.deadline if call.deadline < began + call.timeout else began + call.timeout
        limited = stop_at != FOREVER or call.memory
        baseline = self._prepare_limits(call, stop_at) if limited else 0
        page.begin(call.ident, began, stop_at, call.memory, baseline)
        if limited:
            self._knock_if_needed(call, stop_at)
        begin(call, self.store.name(call.function))
        status, payload, buffers = self._run(call)
        if os.getpid() != self.pid:
            os._exit(0)  # a forked child of the task came back here: it is not the slot, and answers nothing
        peak = 0
        if limited:
            page.finished()
            if page.asked == call.ident:
                status |= ASKED
            peak = self._peak() if call.memory else 0
        elif call.grace and page.asked == call.ident:
            status |= ASKED
        seconds = monotonic() - began
        cpu = process_time() - cpu if call.measure and seconds >= CPU_WORTH else NAN
        context.end()
        if status & ASKED:
            end_descendants(self.pid)
        try:
            os.get_inheritable(self._end)  # the cheapest look: a task that closed the socket has closed the link, whatever else works
            self.link.send(OUTCOME, status, call.ident, OUTCOME_HEAD.pack(began, seconds, cpu, peak), payload, buffers)
        except OSError:
            os._exit(LOST_LINK)
        page.clear()
        if status & ASKED:
            os._exit(STOPPED)  # threads of the task may live on, and what it was stopped in may be half done
        self._put_back()

    def _run(self, call: Call) -> Outcome:
        """Run the call."""
        self._running = call.ident
        try:
            if call.mode == CHUNK:
                return perform_chunk(call, self.store, self._run_coroutine, self.page.items, self._send_part)
            return perform(call, self.store, self._run_coroutine, self._arm if call.grace else None)
        except TaskCancelled as error:
            return failure(error, EXITED)
        except ValueError:
            if self.is_copy:
                os._exit(0)  # a forked child of an item came back here: the other items are not its own
            raise
        finally:
            self._armed = 0

    def _put_back(self) -> None:
        baseline = self._baseline
        if baseline.started_something or count_threads() or self._left:
            self._left, dead = leftovers(self.pid)
            self.page.leftovers = self._left
            if dead > MAX_DEAD:
                os._exit(UNRESTORABLE)
        if not baseline.restore():  # (it takes the ceiling under `memory=` away too)
            os._exit(UNRESTORABLE)
        try:
            flush_standard()
        except OSError:
            pass  # nobody reads the controller's output any more

    def _prepare_limits(self, call: Call, stop_at: float) -> int:
        """Write down what the agent must know before it may look; return what the idle slot holds (bytes) where memory is limited."""
        self.page.which = BY_DEADLINE if stop_at == call.deadline else BY_TIMEOUT
        self.page.grace = call.grace
        if not call.memory:
            return 0
        from .procs import tree_memory

        self.page.peak = 0
        set_ceiling(call.memory)
        return tree_memory([self.pid])

    def _knock_if_needed(self, call: Call, stop_at: float) -> None:
        """Make sure that the agent looks in time: knock only if it does not look by then anyway."""
        until = self.page.watched_until
        if not until or until > stop_at or call.memory:
            os.write(self._knocker, encode_knock(*self.identity))

    def _peak(self) -> int:
        from .procs import tree_memory

        return max(int(self.page.peak), tree_memory([self.pid]) - self.page.running()[4], 1)

    def forked(self) -> None:
        """Let go of the link, in a child that a task has forked; should it come back into our code, it ends there."""
        self.is_copy = True
        self.page.items.release()  # the next item of a chunk would be shown there
        self.link.socket.close()

    def _send_part(self, status: int, payload: bytes, buffers: Buffers) -> None:
        if os.getpid() == self.pid:
            self.link.send(PART, status, self._running, b"", payload, buffers)

    def _send_progress(self, task: int, attempt: int, done: float, total: float) -> None:
        # What would have to wait for a busy pool is dropped: the task's time is not the pool's.
        if os.getpid() == self.pid and self.link.has_room():
            self.link.send(PROGRESS, 0, task << 16 | attempt, PROGRESS_BODY.pack(done, total))

    def _arm(self, on: bool) -> None:
        """Let a request to stop be raised, or not: an import of ours or of a task's module that it hit would be broken for ever."""
        self._armed = self._running if on else 0
        if on and self.page.asked == self._running:
            raise TaskCancelled("the task was asked to stop")

    def _on_request_to_stop(self, number: int, frame: object) -> None:
        """Raise TaskCancelled in the task (or cancel its asyncio task), if that very attempt still runs."""
        if not self._armed or self.page.asked != self._armed or os.getpid() != self.pid:
            return
        if self._async_task is not None:
            loop, task = self._async_task
            loop.call_soon_threadsafe(task.cancel)
            return
        raise TaskCancelled("the task was asked to stop")

    def _run_coroutine(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        armed, self._armed = self._armed, 0
        import asyncio

        async def main() -> Any:
            task = asyncio.current_task()
            self._async_task = asyncio.get_running_loop(), task
            self._armed = armed
            if armed and task is not None and self.page.asked == armed:
                task.cancel()
            try:
                return await coroutine
            finally:
                self._armed = 0
                self._async_task = None

        return asyncio.run(main())


def end_descendants(pid: int) -> None:
    """Kill all that a stopped task started: its tree must be gone before the answer says that it has ended."""
    from .procs import freeze_tree, kill_all

    for _ in range(END_ROUNDS):
        below = freeze_tree(pid)
        if not below:
            return
        kill_all(below)
        os.sched_yield()


def leftovers(pid: int) -> tuple[bool, int]:
    """Return whether tasks left a thread or a living child in this process, and how many dead ones, which they may yet wait for."""
    from .procs import children

    look = os.WEXITED | os.WNOHANG | os.WNOWAIT
    try:
        if os.waitid(os.P_ALL, 0, look) is None:
            return True, 0
        dead = [os.waitid(os.P_PID, child, look) is not None for child in children(pid, zombies=True)]
    except ChildProcessError:  # there is none, or a thread that was left has just waited for one
        return count_threads() > 0, 0
    return count_threads() > 0 or not all(dead), sum(dead)


def flush_standard() -> None:
    """Write out what tasks have printed."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def set_ceiling(memory: int) -> None:
    """Stop a sprint: an allocation far over the limit fails at once, before the agent's next look.

    The ceiling counts address space (RLIMIT_DATA), so it is generous: thread stacks and allocators reserve much more than they touch.
    """
    import resource

    with open("/proc/self/statm", "rb") as file:
        data = int(file.read().split()[5]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    ceiling = data + 2 * memory + (1 << 30)
    resource.setrlimit(resource.RLIMIT_DATA, (ceiling if hard < 0 else min(ceiling, hard), hard))


def retire() -> None:
    """End as a Python program ends: run multiprocessing's finalizers and the functions registered with `atexit`."""
    import atexit

    try:
        if "multiprocessing.util" in sys.modules:
            sys.modules["multiprocessing.util"]._exit_function()
        atexit._run_exitfuncs()
        flush_standard()
    finally:
        os._exit(0)
