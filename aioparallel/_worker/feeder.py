"""What a far host was given to do, and which of its slots does it.

Guarantees
    Every attempt that came is answered, named in the death of a slot, or given back, once. It runs on one slot at a time, and again on
    another only if the first never began it. What is given back never began.

How it works
    The pool sends attempts to the host, a round trip ahead; they wait here, and slots are begun and fed as the scheduler does it near:
    a few milliseconds of estimated work each, and one alone where more than that is expected of it.
"""

from __future__ import annotations

from collections import deque
from time import monotonic

from .._wire.frames import Frame, encode, encode_head
from .._wire.link import unframed
from .._wire.messages import (
    BOUND,
    DEFINE,
    FAILED,
    FORGET,
    MODULES,
    NEED,
    OUTCOME,
    PIECE,
    READY,
    ROOTS,
    RUN,
    WHOLE,
    WITHDRAWN,
    unpack,
)
from .commons import Commons
from .library import Library
from .page import FOREVER
from .relay import Relay
from .slot_end import Item, SlotEnd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .._wire.lanes import Lanes
    from .._wire.memory import Buffer, Buffers
    from .shelf import Shelf
    from .watch import Watch

FILL_SECONDS = 0.004
"""A slot is given work ahead up to this much of it, by estimate."""
REFILL_SECONDS = 0.002
MAX_DEPTH = 256
ANNOUNCED_SECONDS = 0.0005
"""The pool is told which slot has an attempt only if that is expected to take longer than this."""
AGAIN_SECONDS = 0.002
"""A kill that found its attempt not yet begun is repeated after this."""
START_FAILURES = 5
"""So many slots in a row may die as they start before the host gives up."""
LOSSES = 10
"""So many slots may die before they begin an attempt: the next one takes the blame."""
CHOKED_BYTES = 8 << 20
"""While so much waits to leave, no answers are taken in: slots wait until the pool has caught up."""


class Feeder:
    """The queue of one far host and its slots."""

    def __init__(
        self,
        slots: int,
        max_tasks: int | None,
        shelf: Shelf,
        lanes: Lanes,
        watch: Watch,
        tell: Callable[..., None],
        spawn: Callable[[int, int, list[int]], None],
        kill: Callable[[int, int, float], None],
        dismiss: Callable[[int], None],
    ) -> None:
        """`spawn` begins a slot, `kill` stops one for an attempt (0: for whatever it does), `dismiss` watches one that retires."""
        self._slots = slots
        self._max_tasks = max_tasks
        self._lanes = lanes
        self._watch = watch
        self._tell, self._spawn, self._kill, self._dismiss = tell, spawn, kill, dismiss
        self._items: dict[int, Item] = {}
        self._queue: deque[Item] = deque()
        self._isolated: deque[Item] = deque()
        self._gone = 0
        """Entries of both queues that were given back; they are dropped when they are met."""
        self._functions: dict[int, tuple[bytes, Buffers]] = {}
        self._unwanted: set[int] = set()
        self._ends: dict[int, SlotEnd] = {}
        self._incarnations = [0] * slots
        self._again: deque[tuple[float, int]] = deque()
        self._losses: dict[int, int] = {}
        self._start_failures = 0
        self._spawn_after = 0.0
        self._wanted = 0
        self._choked = False
        self._relay = Relay(lanes)
        self._library = Library(shelf, tell, self._say)
        self._commons = Commons()

    @property
    def due(self) -> float:
        """When `look_at_clock` has something to do (CLOCK_MONOTONIC seconds)."""
        again = self._again[0][0] if self._again else FOREVER
        return min(again, self._spawn_after or FOREVER)

    def own(self) -> list[int]:
        """Return our descriptors, which no other process may hold."""
        return [*self._commons.own(), *(fd for end in self._ends.values() for fd in end.own())]

    # --- from the pool

    def take(self, frame: Frame) -> None:
        """Take in a frame of the work lane."""
        kind, flags, ident, body, buffers = frame
        if kind == RUN:
            item = self._items[ident] = Item(frame)
            (self._isolated if item.isolate else self._queue).append(item)
        elif kind == DEFINE:
            head = encode_head(DEFINE, flags, ident, body, list(map(len, buffers))) if buffers else encode(DEFINE, flags, ident, body)
            self._functions[ident] = head, buffers
        elif kind == FORGET:
            self._unwanted.update(unpack(body))
            self._forget()
        elif kind == MODULES:
            self._library.modules_came(*unpack(unframed(body, 0, buffers)[0]))
        else:
            if kind == ROOTS:
                self._library.withdraw(unpack(body)[1])
            news = self._commons.take(frame)
            for end in self._ends.values():
                self._say(end, *news)

    def _forget(self) -> None:
        """Forget functions that the pool will not name again; what waits or runs may still need one."""
        gone = self._unwanted - {item.function for item in self._items.values()}
        self._unwanted -= gone
        for number in gone:
            self._functions.pop(number, None)
        for end in self._ends.values():
            end.forget(gone)
            self._rewatch(end)

    def _say(self, end: SlotEnd, *pieces: Buffer) -> None:
        end.say(pieces)
        self._rewatch(end)

    def want(self, slots: int) -> None:
        """Have so many slots, before there is work for them."""
        self._wanted = max(self._wanted, min(slots, self._slots))

    def limit(self, slots: int) -> None:
        """Begin no more slots than so many."""
        self._slots = min(self._slots, slots)

    def stop(self, ident: int, grace: float) -> None:
        """End an attempt, wherever it is."""
        item = self._items.get(ident)
        if item is None or item.grace is not None:
            return  # its answer is on the way; or it comes behind this, and the same word again; or this is that word
        item.grace = grace
        if item.end is not None:
            self._take_back(item.end)
        if item.end is None:
            self._give_back([item])
        elif item.end.outstanding[0] is item:
            self._kill(item.end.index, ident, grace)

    def withdraw(self, idents: Iterable[int]) -> None:
        """Give back those of these attempts that have not begun."""
        items = [item for ident in idents if (item := self._items.get(ident)) is not None]
        for end in {item.end for item in items if item.end is not None and item.end.outstanding[0] is not item}:
            self._take_back(end)
        self._give_back([item for item in items if item.end is None])

    def _take_back(self, end: SlotEnd) -> None:
        self._requeue(end.recall())

    def _requeue(self, items: list[Item]) -> None:
        for item in reversed(items):
            item.end = None
            (self._isolated if item.isolate else self._queue).appendleft(item)

    def _give_back(self, items: list[Item]) -> None:
        """Give back attempts that wait here."""
        if items:
            self._gone += len(items)
            for item in items:
                del self._items[item.ident]
            self._tell(WITHDRAWN, 0, *(item.ident for item in items))

    def _head(self, queue: deque[Item]) -> Item | None:
        """Return the first that waits; it stays."""
        while queue:
            item = queue[0]
            if self._items.get(item.ident) is item:
                return item
            queue.popleft()
            self._gone -= 1
        return None

    # --- to the slots

    def feed(self) -> None:
        """Begin slots and give them work, as far as there is any."""
        waiting = len(self._queue) + len(self._isolated) - self._gone
        if not waiting and len(self._ends) >= self._wanted:
            return
        free = sum(not end.outstanding and not end.retiring and not end.closed for end in self._ends.values())
        self._begin_slots(max(waiting - free, self._wanted - len(self._ends)))
        if self._head(self._isolated) is not None:
            self._feed_isolated()
        if self._head(self._queue) is not None:
            self._fill([end for end in self._ends.values() if self._has_room(end)])

    def _has_room(self, end: SlotEnd) -> bool:
        if end.retiring or end.closed or end.exclusive or (self._max_tasks is not None and end.launched >= self._max_tasks):
            return False
        outstanding = end.outstanding
        return not outstanding or (end.up and end.load < REFILL_SECONDS and len(outstanding) < MAX_DEPTH and outstanding[0].grace is None)

    def _fill(self, ends: list[SlotEnd]) -> None:
        queue = self._queue
        ends.sort(key=lambda end: (not end.up, end.load))
        live = len(self._ends)
        for end in ends:
            share = min(-(-len(queue) // live), MAX_DEPTH - len(end.outstanding))
            if self._max_tasks is not None:
                share = min(share, self._max_tasks - end.launched)
            batch: list[Item] = []
            load = end.load
            while len(batch) < share and (item := self._head(queue)) is not None:
                if (batch or end.outstanding) and (not end.up or load + item.estimate > FILL_SECONDS or item.buffers):
                    break
                load += item.estimate
                batch.append(queue.popleft())
            if batch:
                self._give(end, batch)

    def _feed_isolated(self) -> None:
        """Give isolated attempts the slots that never served; where there are none, let idle ones end to make room."""
        isolated = self._isolated
        for end in self._ends.values():
            if self._head(isolated) is not None and not end.launched and not end.outstanding and not end.retiring and not end.closed:
                end.exclusive = True
                self._give(end, [isolated.popleft()])
        coming = sum(end.retiring for end in self._ends.values())
        for end in self._ends.values():
            if coming < len(isolated) and end.up and not end.outstanding and not end.retiring and not end.closed:
                coming += 1
                self._retire(end)

    def _give(self, end: SlotEnd, batch: list[Item]) -> None:
        first = not end.outstanding
        end.give(batch, self._functions)
        self._rewatch(end)
        if first:
            self._announce(end)

    def _announce(self, end: SlotEnd) -> None:
        """A slot has something else to run now."""
        item = end.outstanding[0]
        if item.estimate >= ANNOUNCED_SECONDS:
            self._tell(BOUND, item.ident, end.index, end.incarnation)
        if item.grace is not None:
            self._kill(end.index, item.ident, item.grace)

    def _retire(self, end: SlotEnd) -> None:
        end.retire()
        self._dismiss(end.index)

    def _begin_slots(self, wanted: int) -> None:
        if monotonic() < self._spawn_after or self._start_failures >= START_FAILURES:
            return
        self._spawn_after = 0.0
        for index in range(self._slots):
            if wanted <= 0:
                return
            if index not in self._ends:
                wanted -= 1
                self._begin(index)

    def _begin(self, index: int) -> None:
        self._incarnations[index] += 1
        end = SlotEnd(index, self._incarnations[index])
        fds = end.open()
        self._ends[index] = end
        end.say(self._commons.known())
        self._rewatch(end)
        self._spawn(index, end.incarnation, fds)

    # --- from the slots

    def _rewatch(self, end: SlotEnd) -> None:
        if end.closed:
            return
        interests = dict.fromkeys(end.interests(), 0) if self._choked else end.interests()
        self._watch.add(interests, lambda: self._ready(end))

    def _ready(self, end: SlotEnd) -> None:
        end.write()
        frames = end.read()
        if frames is None:
            self._watch.drop(*end.own())
            self._kill(end.index, 0, 0.0)  # most likely it is dying already; if a task closed its link, it can answer nothing any more
            return
        if frames:
            self._pass_on(end, frames)
        self._rewatch(end)

    def _pass_on(self, end: SlotEnd, frames: list[Frame]) -> None:
        relay = self._relay
        relay.source(end.index, end.incarnation)
        ended = False
        for frame in frames:
            kind, _, ident, body, _ = frame
            if kind == READY:
                self._up(end, ident)
            elif kind == NEED:
                self._library.need(end, body.decode())
            elif kind == OUTCOME:
                item = end.ended(frame)
                if item is not None:
                    ended = True
                    del self._items[ident]
                relay.frame(frame, wanted=item is not None)
            elif kind in (PIECE, WHOLE):
                relay.piece(frame)
            else:
                relay.frame(frame, wanted=bool(end.outstanding) and end.outstanding[0].ident == ident)
        relay.flush()
        if ended:
            self._after_answers(end)

    def _up(self, end: SlotEnd, pid: int) -> None:
        end.up = True
        self._start_failures = 0
        self._tell(READY, 0, end.index, end.incarnation, pid)

    def _after_answers(self, end: SlotEnd) -> None:
        if end.outstanding:
            self._announce(end)
            return
        worn = self._max_tasks is not None and end.launched >= self._max_tasks
        if (worn or end.exclusive) and not end.retiring:
            self._retire(end)

    # --- from the agent

    def missed(self, ident: int) -> None:
        """A kill found its attempt not running: it has answered, or has not quite begun."""
        item = self._items.get(ident)
        if item is not None and item.end is not None and item.grace is not None:
            self._again.append((monotonic() + AGAIN_SECONDS, ident))

    def slot_ended(self, index: int, ident: int, how: str, *, confirmed: bool) -> int:
        """A slot is dead, or was killed and may live (`confirmed`); `ident` ran in it (0: none). Return the attempt to blame."""
        end = self._ends[index]
        blamed = 0 if end.closed else self._leave(end, ident)
        if confirmed:
            del self._ends[index]
            if not end.up:
                self._start_failed(index, how)
            elif not end.exclusive:
                self._begin(index)  # so that the next attempt need not wait for it
        return blamed

    def _leave(self, end: SlotEnd, ident: int) -> int:
        """Let go of a slot; what it had not begun waits again. Return the attempt to blame for its end."""
        while frames := end.read():
            self._pass_on(end, frames)
        self._relay.abandon(end.passing)
        self._watch.drop(*end.own())
        end.close()
        blamed = self._items.pop(ident, None)
        others = [item for item in end.outstanding if item is not blamed]
        end.outstanding.clear()
        if blamed is None and others:
            innocent = others[0]
            self._losses[innocent.ident] = self._losses.get(innocent.ident, 0) + 1
            if self._losses[innocent.ident] > LOSSES:
                blamed = self._items.pop(others.pop(0).ident)
        self._requeue(others)
        self._give_back([item for item in others if item.grace is not None])
        if blamed is None:
            return 0
        self._losses.pop(blamed.ident, None)
        return blamed.ident

    def _start_failed(self, index: int, how: str) -> None:
        self._start_failures += 1
        self._spawn_after = monotonic() + 0.05 * 2**self._start_failures
        if self._start_failures == START_FAILURES:
            self._tell(FAILED, 0, index, 0, f"{START_FAILURES} slots in a row died as they started, the last {how}")

    def look_at_clock(self, now: float) -> None:
        """Do what is due."""
        if now >= self._spawn_after:
            self._spawn_after = 0.0
        while self._again and self._again[0][0] <= now:
            item = self._items.get(self._again.popleft()[1])
            if item is not None and item.end is not None and item.end.outstanding[0] is item:
                self._kill(item.end.index, item.ident, item.grace or 0.0)

    def turn_ended(self) -> None:
        """Give slots what came in this turn; take answers in only while the pool keeps up."""
        self.feed()
        choked = self._lanes.waiting > CHOKED_BYTES
        if choked != self._choked:
            self._choked = choked
            for end in self._ends.values():
                self._rewatch(end)


__all__ = ["Feeder"]
