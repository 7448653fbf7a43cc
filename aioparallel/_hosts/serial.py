"""The serial host: one slot which is this very process, for a debugger.

Guarantees
    Calls are pickled and unpickled as for any slot, and give the same results and exceptions. Nothing else is promised: a task blocks
    the event loop while it runs, and crashes, limits and kills are not contained.
"""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import threading
import time
import warnings
from collections import deque
from collections.abc import Coroutine, Sequence
from itertools import count
from typing import Any

from .._jobs.shared import Named
from .._jobs.task import Attempt
from .._wire.codec import written
from .._wire.messages import CALL, CHUNK, EXTRAS, LENGTH, OUT_OF_MEMORY, RAISED, RUN_HEAD
from .._worker import context, shared
from .._worker.chunk import perform_chunk
from .._worker.machine import temporary_folder
from .._worker.run import Call, begin, perform
from .._worker.store import Store
from .base import Death, Host, Outcome, Reports

_numbers = count()


class SerialHost(Host):
    """One slot, in this process."""

    name = "serial"
    slots = 1

    def __init__(self, *, seed: int) -> None:
        self._seed = seed
        self._attempts: deque[Attempt] = deque()
        self._store = Store()
        self._values = shared.Values()
        self._scratch_root = os.path.join(temporary_folder(), f"aioparallel-serial-{os.getpid()}-{next(_numbers)}")
        self._incarnation = 0
        self._running = False
        self._closed = False

    async def start(self) -> None:
        """See `Host.start`."""
        warnings.warn(
            'Pool(local="serial") runs tasks in this process: crashes, exits and endless loops are not contained',
            RuntimeWarning,
            stacklevel=4,
        )
        self._loop = asyncio.get_running_loop()

    def attach(self, reports: Reports) -> None:
        """See `Host.attach`."""
        self._reports = reports
        self._loop.call_soon(reports.host_up, self.name)

    def spawn(self, index: int, incarnation: int) -> None:
        """See `Host.spawn`."""
        self._incarnation = incarnation
        self._loop.call_soon(self._reports.slot_up, self.name, index, incarnation, os.getpid())

    def launch(self, index: int, attempts: Sequence[Attempt], patience: float) -> None:
        """See `Host.launch`."""
        self._attempts += attempts
        if not self._running:
            self._running = True
            self._loop.call_soon(self._run_next)

    def recall(self, index: int) -> int:
        """See `Host.recall`."""
        count = len(self._attempts)
        self._attempts.clear()
        return count

    def kill(self, index: int, ident: int, grace: float) -> None:
        """See `Host.kill`: what runs here has ended before anybody can ask."""
        self._loop.call_soon(self._reports.missed, self.name, index, self._incarnation, ident)

    def retire(self, index: int) -> None:
        """See `Host.retire`."""
        death = Death(index, self._incarnation, 0, None, 0, 0, 0, 0, leftovers=False, asked=False)
        self._loop.call_soon(self._reports.slot_died, self.name, death)

    def close(self) -> None:
        """See `Host.close`."""
        if not self._closed:
            self._closed = True
            self._loop.call_soon(self._reports.host_down, self.name, "closed", {0: self.recall(0)})

    def abandon(self) -> None:
        """See `Host.abandon`."""
        self._attempts.clear()

    def _run_next(self) -> None:
        """Run one attempt; the next follows in the loop's next turn."""
        if not self._attempts:
            self._running = False
            return
        attempt = self._attempts.popleft()
        call = self._open(attempt)
        before = context.surrounding, shared.current
        shared.current = self._values
        context.surrounding = context.Surrounding(self.name, self._seed, self._scratch_root, self._progressed, in_slot=False)
        begin(call, attempt.task.name)
        began, cpu = time.monotonic(), time.process_time()
        try:
            if call.mode == CHUNK:
                status, payload, buffers = perform_chunk(call, self._store, _run_coroutine, [0], self._part_of(attempt))
            else:
                status, payload, buffers = perform(call, self._store, _run_coroutine)
        finally:
            context.end()
            context.surrounding, shared.current = before
            if os.path.isdir(self._scratch_root):
                shutil.rmtree(self._scratch_root, ignore_errors=True)  # with what the task left beside its own folder
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
        if status == OUT_OF_MEMORY:
            status = RAISED
        outcome = Outcome(attempt.ident, status, began, seconds, cpu, 0, payload, tuple(bytearray(buffer) for buffer in buffers))
        self._loop.call_soon(self._run_next)
        self._reports.answered(self.name, 0, self._incarnation, [outcome])

    def _open(self, attempt: Attempt) -> Call:
        task = attempt.task
        function = task._function
        number = 0
        if not isinstance(function, str):
            number = function.number
            self._store.define(number, function.name, function.data, function.fresh)
        if type(task._payload) is Named:
            self._share(task._payload)
        extras = task._extras
        mode = (CALL if task._sink is None else CHUNK) | (EXTRAS if extras else 0)
        head = RUN_HEAD.pack(number, attempt.number, mode, task._deadline, math.inf, 0.0, 0)
        extras = LENGTH.pack(len(extras)) + extras if extras else b""
        payload, buffers = written(task._payload, task._buffers)
        call = Call(attempt.ident, head + extras + payload, ())
        call.buffers = tuple(bytearray(buffer) for buffer in buffers)
        return call

    def _share(self, payload: Named) -> None:
        for handle in payload.shared:
            if handle._number not in self._values:
                self._values.tell(handle._number, *handle._region.words())

    def drop(self, numbers: Sequence[int]) -> None:
        """See `Host.drop`."""
        self._values.drop(numbers)

    def _part_of(self, attempt: Attempt) -> Any:
        def send(status: int, payload: bytes, _: tuple[Any, ...]) -> None:
            self._reports.part(self.name, 0, self._incarnation, attempt.ident, status, payload)

        return send

    def _progressed(self, task: int, attempt: int, done: float, total: float) -> None:
        self._reports.progressed(self.name, task << 16 | attempt, done, total)


def _run_coroutine(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in an event loop of its own; this thread's is running already."""
    ended: dict[str, Any] = {}

    def run() -> None:
        try:
            ended["value"] = asyncio.run(coroutine)
        except BaseException as error:  # noqa: BLE001 - it is the task's outcome
            ended["error"] = error

    thread = threading.Thread(target=run, name="aioparallel serial")
    thread.start()
    thread.join()
    if "error" in ended:
        raise ended["error"]
    return ended["value"]
