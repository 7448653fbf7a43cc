"""What both ends of a link say: the kinds of frames and the layout of their bodies.

Control frames (pool <-> agent) are rare: their body is a tuple of plain values, packed by `marshal` in a version of its format that
every Python reads the same. Data frames (pool <-> slot) are many: their bodies begin with a packed struct.
"""

from __future__ import annotations

from marshal import dumps as _marshal, loads as _unmarshal
from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .memory import Buffer

PROTOCOL = 1

# pool -> slot
RUN = 1
"""One attempt. flags: its permit's generation (the lowest 8 bits); ident: the attempt; body: RUN_HEAD, extras, the pickled arguments."""
DEFINE = 2
"""A function's pickle. flags: FRESH or 0; ident: its number; body: u16 length of its name, the name, the pickle."""
SURROUND = 3
"""The controller's `sys.path` and working directory, where they have changed. body: packed (path entries, folder)."""
SHARE = 4
"""A shared value. ident: its number; body: packed (name, sizes of its pickle and buffers, where it is, its bytes), see
`_worker/region.py`; perhaps one buffer: its bytes."""
FORGET = 5
"""Functions that will not be named again. body: their packed numbers."""
MODULES = 7
"""Far: modules of the user's. body: packed (the name that was asked for, {name: (path, is it a package, source)}, and
if that is empty why, where it is the user's); nobody asked for what is sent anew, behind ROOTS: its name is empty."""
ROOTS = 8
"""Far: the top-level names of the user's own modules, and which modules are not as they were sent; whatever was refused may be there now.
body: packed (names, names)."""
SHARE_PART = 9
"""Far: the next bytes of a shared value that SHARE announced without any. ident: its number; one buffer."""
DROP = 10
"""Shared values that will not be named again. body: their packed numbers."""
ERA = 6
"""What follows belongs to later generations. ident: their upper bits."""
PERMIT = Struct("<I")
"""What goes through the permit pipe, one for each attempt: its generation, of which a RUN frame carries the lowest 8 bits. Pipes keep
pieces of such a size whole."""
RETIRE = 0xFFFFFFFF
"""As a permit: run the functions registered with `atexit` and end."""
MAX_PERMITS = 4096

# slot -> pool
READY = 16
"""The slot can work. ident: its pid."""
OUTCOME = 17
"""How an attempt ended. flags: a status below, perhaps with ASKED; ident: the attempt; body: OUTCOME_HEAD, then what the status says."""
PART = 18
"""What some items of a chunk gave. flags: a status; ident: the attempt; body: PART_HEAD, then as OUTCOME."""
PROGRESS = 19
"""ident: the attempt; body: PROGRESS_BODY."""
NEED = 20
"""Far: the source of a module. ident: 0; body: its name; MODULES follows."""

# pool -> agent
HELLO = 32
"""body: a dict, see `_worker/agent.py`."""
SPAWN = 33
"""Fork a slot; SLOT_FDS descriptors come along: its socket, its permit pipe, its answer pipe. body: (index, incarnation)."""
SLOT_FDS = 3
KILL = 34
"""Kill a slot if it still runs an attempt (ident 0: whatever it does). ident: the attempt; body: (index, incarnation, grace seconds)."""
CLOSE = 35
"""Kill everything and end."""
DISMISS = 36
"""A slot was asked to retire: kill it if it lives after some seconds. body: (index, incarnation, seconds)."""
STOP = 37
"""Far: end an attempt, wherever on the host it is. ident: the attempt; body: (grace seconds,). WITHDRAWN, DIED or its answer follows."""
WITHDRAW = 38
"""Far: give back those of these attempts that have not begun. body: their idents; WITHDRAWN follows."""
WANT = 40
"""Far: have slots up before there is work for them. body: (how many,)."""
LIMIT = 41
"""Far: have no more slots than this, for others use this machine too. body: (how many,)."""
PING = 39
"""Far: are you there? ident: a number; PONG follows."""

# agent -> pool
WELCOME = 48
"""The agent supervises (and what an agent before it left behind is dead). body: a dict of facts about the host."""
SPAWNED = 49
"""body: (index, incarnation, pid)."""
DIED = 50
"""A slot and all below it are dead. ident: the attempt that ran, or 0; body: (index, incarnation, exit code | None, signal | None,
why, item, peak bytes, leftovers, asked)."""
MISSED = 51
"""A KILL came too late or too early: that attempt does not run there. ident: the attempt; body: (index, incarnation)."""
FAILED = 52
"""The host cannot offer slots, or not this one. body: (index | -1, incarnation, text)."""
NOTICE = 53
"""Something that status should say. body: (text,)."""
BURIED = 54
"""The agent's last word: all that was below it is dead. body: ()."""
UNCONFIRMED = 55
"""As DIED, of a slot that was killed or died a while ago while some of it, or all, is still there. DIED follows when it is not."""
PONG = 60
"""ident: the PING's; body: (CLOCK_MONOTONIC seconds there,)."""
WITHDRAWN = 56
"""These attempts never began there, and never will. body: their idents."""
BOUND = 57
"""An attempt that is expected to take a while is with this slot now. ident: the attempt; body: (index, incarnation)."""
STAMP = 58
"""On the work lane: what follows comes from this slot. ident: its index, shifted by INCARNATION_BITS, plus its incarnation."""
INCARNATION_BITS = 32
OUTPUT = 59
"""What processes below the agent wrote to their standard output (flags 1) or standard error (flags 2). body: whole lines, mostly."""

# pool <-> far agent, see `_wire/lanes.py`
DATA = 96
"""A slice of the work lane. body: its bytes."""
ACK = 97
"""ident: how many bytes of the work lane were taken in, since the link began."""
PIECE = 98
"""On the work lane: the next bytes of a buffer. See `_wire/pieces.py`, as for the next one."""
WHOLE = 99
"""All pieces have come: they belong to the next frame; or, with ABANDONED, to none. ident: the stream of pieces."""
ABANDONED = 1

# agent <-> template
FORK = 64
"""Fork a slot; its descriptors come along. body: (index, incarnation)."""
CLEAN = 65
"""Remove a folder. body: (path,)."""
FORKED = 66
"""body: (index, incarnation, pid). Sent before the slot becomes the agent's child."""
FORK_FAILED = 69
"""No slot came of a FORK. body: (index, incarnation, text)."""
CONFIGURE = 68
"""To a new template: who it serves. body: (HELLO's dict,); the memory of the pages and the knocking pipe come along as descriptors."""
PRELOADED = 67
"""The template can fork. body: (number of OS threads,)."""

# why a slot was killed, in DIED
BY_ITSELF, BY_CANCEL, BY_TIMEOUT, BY_DEADLINE, BY_MEMORY, BY_CLOSE = range(6)

# status of an OUTCOME or PART
OK = 0
"""body: the pickled result."""
RAISED = 1
"""The task raised: body: u32 length of a description, the description, the pickled exception (or nothing, where it cannot travel)."""
EXITED = 2
"""As RAISED, for what is not an Exception."""
UNREADABLE = 3
"""The function or its arguments could not be rebuilt: as RAISED."""
UNSENDABLE = 4
"""The result could not be pickled: as RAISED."""
OUT_OF_MEMORY = 5
"""The task met the ceiling under `memory=`: as RAISED."""
STATUS = 0x0F
ASKED = 0x40
"""The attempt was asked to stop (its grace ran) before it ended."""

FRESH = 1

RUN_HEAD = Struct("<IHHdddQ")
"""function number (0: the callable is the first argument) · attempt number · mode · deadline (CLOCK_MONOTONIC seconds there, inf: none)
· timeout (seconds, inf: none) · grace (seconds) · memory (bytes, 0: no limit)"""
CALL, CHUNK = 0, 1
MEASURE = 4
"""Bit of `mode`: the attempt is expected to be long enough that its CPU time is worth measuring."""
ISOLATE = 8
"""Bit of `mode`, far: run it in a slot that serves nothing else."""
ESTIMATE_SHIFT, ESTIMATE_ZERO = 8, 40
"""Far, the upper byte of `mode` says how long the attempt is expected to run: the binary exponent of the seconds, plus ESTIMATE_ZERO."""
EXTRAS = 2
"""Bit of `mode`: behind RUN_HEAD stand a u32 length and a pickled (name, pickled data, seed path)."""
LENGTH = Struct("<I")
OUTCOME_HEAD = Struct("<dddQ")
"""began (CLOCK_MONOTONIC seconds there) · seconds · CPU seconds (nan: too short to measure) · peak bytes (0: not measured)"""
PART_HEAD = Struct("<II")
"""first item · number of items"""
PROGRESS_BODY = Struct("<dd")

ATTEMPT_BITS = 16
"""An attempt's ident on the wire is its task's id, shifted by these, plus the attempt's number."""


def pack(*values: Any) -> bytes:
    """Return the body of a control frame."""
    return _marshal(values, 2)


def unpack(body: Buffer) -> tuple[Any, ...]:
    """Return the values of a control frame."""
    return _unmarshal(body)  # type: ignore[no-any-return]


_KNOCK = Struct("<II")
KNOCK_SIZE = _KNOCK.size
encode_knock = _KNOCK.pack
"""What a slot writes to its agent when an attempt with a limit begins: (index, incarnation). Small enough to be written whole."""
decode_knocks = _KNOCK.iter_unpack
