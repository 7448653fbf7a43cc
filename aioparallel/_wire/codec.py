"""Values to bytes and back: a snapshot of any Python value, at the speed of C pickle, with large buffers beside the pickle.

Guarantees
    What `dumps` returns shares no writable memory with the value (unless `copy=False`): what is changed afterwards is not seen.
    What `__main__`, a lambda, a local class or a module registered with `cloudpickle.register_pickle_by_value` defines travels by
    value; everything else by reference. An exception raised by a user's hook, whatever it is, passes through unchanged.
    `loads` gives arrays memory of their own: those that were writable arrive writable. Those that were read-only arrive read-only
    where their buffer travelled as such, and may arrive writable where they were not contiguous.
    `loads(..., keep_classes=True)` never alters a class that this process already has.

How it works
    C pickle goes first. Where it fails, or where its output names a module that the other side lacks, cloudpickle does the work
    again (a hook may therefore run twice). Only what can hold such a name is searched: not the insides of large strings and bytes.
    A buffer of 64 KiB or more is handed out by pickle protocol 5 instead of being copied into the pickle. It is referenced only if
    its memory belongs to a `bytes` object: a read-only array may be a view of memory that somebody else writes to.
"""

from __future__ import annotations

from _io import BytesIO

# The C functions themselves: the module `pickle` costs 5 ms (it imports `re`) at each slot's start and adds nothing to them.
from _pickle import PickleBuffer, Unpickler, dumps as _dumps, loads as _loads
from marshal import dumps as _marshal, loads as _unmarshal
from sys import modules

from .memory import Buffer, Buffers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Arguments = bytes | tuple[Any, ...]
    """The arguments of a call as they wait to be sent: pickled; or themselves, where they are large atoms. Those nobody can change, so
    the copy is made when it is needed, in memory that is used again and again."""

ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes})
"""Plain immutable values, which marshal writes and reads in a fifth of a pickle's time. (Of what is not an atom it makes nonsense: a
memoryview becomes bytes.) Both ends run the same Python, so its format is the same; it keeps a string that occurs twice as one."""

OUT_OF_BAND = 1 << 16
"""Bytes. In band, a smaller buffer costs no more than its own frame entry would; a larger one would be copied several times more."""
MANY = 4096
"""Buffers that travel out of band with one value; a frame can announce 65,535."""
REUSED = 1 << 20
"""Bytes. Smaller snapshots are left to malloc, which has them at hand."""

KEPT_BYTES = 1 << 11
"""Bytes. Larger atoms wait as they are: 10,000 copies of 10 KB are fresh memory, whose page faults cost more than all the rest."""

APART = 1 << 20
"""Bytes. To copy 64 MiB into fresh memory takes 50 to 100 ms, in which the event loop stands: so large a `bytes` leaves as it is."""

BIG_PICKLE = 1 << 20
"""Bytes. A larger pickle is opened in a thread."""
_IN_PIECES = b"bytes_in_pieces"
_REFERENCE = b"\x93"
"""STACK_GLOBAL: without it a pickle names no class and no function. One byte is searched for much faster than a name."""
_SMALLEST_CLASS = 256
"""Bytes; less than any class by value takes."""
_PICKLED = 0x80
"""The first byte of every pickle (PROTO). What marshal makes begins with a letter, perhaps plus 0x80."""
_MAIN = b"\x8c\x08__main__"
"""SHORT_BINUNICODE, the length, the name: how C pickle writes it. (The bare name stands in the text of many a script.)"""
_SET_CLASS = b"_class_setstate"

_FRAME = 0x95
_PAYLOADS = {0x42: 4, 0x58: 4, 0x8E: 8, 0x8D: 8, 0x96: 8}
"""BINBYTES, BINUNICODE, BINBYTES8, BINUNICODE8, BYTEARRAY8, and the bytes of their lengths: they stand outside of frames when large."""
_BARE = frozenset(b"]}()\x94\x85\x86\x87.aestuN\x88\x89")
"""Operations without argument. Less than 4 bytes of them may stand between two payloads without a frame."""


def dumps_plain(value: Any) -> bytes:
    """Return what `loads_plain` makes the value from again; it consists of atoms, lists and tuples, and nothing else."""
    try:
        return _marshal(value, 4)
    except ValueError:
        return _dumps(value, 5)  # a string of 2 GiB or more


def loads_plain(data: Buffer) -> Any:
    """Return the value that `dumps_plain` made `data` of."""
    return _loads(data) if data[0] == _PICKLED else _unmarshal(data)


def dumps_call(args: tuple[Any, ...], kwargs: dict[str, Any], copy: bool = True) -> tuple[Arguments, Buffers]:
    """Return the arguments of a call, safe from later changes, and the large buffers in them; see `dumps`."""
    if not kwargs and ATOMS.issuperset(map(type, args)):
        if bytes in map(type, args) and _has_large(args):
            return args, ()
        data = dumps_plain((args, kwargs))
        return (data if len(data) < KEPT_BYTES else args), ()
    return dumps((args, kwargs), copy)


def size_of(arguments: Arguments) -> int:
    """Return how many bytes arguments have, or nearly."""
    if isinstance(arguments, bytes):
        return len(arguments)
    return sum([len(one) for one in arguments if isinstance(one, (str, bytes))])


def written(arguments: Arguments, buffers: Buffers) -> tuple[bytes, Buffers]:
    """Return what `loads_call` makes the arguments from again, of what `dumps_call` returned. Large `bytes` are referenced, not copied."""
    if isinstance(arguments, bytes):
        return arguments, buffers
    if not _has_large(arguments):
        return dumps_plain((arguments, {})), ()
    return dumps((tuple([_Apart(one) if type(one) is bytes and len(one) >= APART else one for one in arguments]), {}), copy=False)


def _has_large(arguments: tuple[Any, ...]) -> bool:
    return any(type(one) is bytes and len(one) >= APART for one in arguments)


class _Apart:
    """Stands in a pickle for a `bytes` whose memory travels beside it, and is made again of that."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> tuple[Callable[[Buffer], bytes], tuple[PickleBuffer]]:
        return bytes_in_pieces, (PickleBuffer(self.data),)


def bytes_in_pieces(data: Buffer) -> bytes:
    """Return a copy of a buffer as `bytes`, made so that other threads run meanwhile: `bytes(data)` would hold the GIL to its end."""
    target = BytesIO()
    with memoryview(data) as view:
        for start in range(0, len(view), APART):
            target.write(view[start : start + APART])
    return target.getvalue()  # no second copy is made of what nobody else looks at


def takes_time(data: Buffer, buffers: Buffers) -> bool:
    """Return whether to open what `dumps_result` made would hold up an event loop."""
    return len(data) > BIG_PICKLE or (bool(buffers) and _mentions(data, _IN_PIECES))


def loads_call(data: Buffer, buffers: Sequence[Buffer] = ()) -> tuple[Sequence[Any], dict[str, Any]]:
    """Return (args, kwargs); see `loads`."""
    if data[0] == _PICKLED:
        return _loads(data, buffers=buffers)  # type: ignore[no-any-return]
    return _unmarshal(data)  # type: ignore[no-any-return]


def dumps_result(value: object) -> tuple[bytes, Buffers]:
    """Return what `loads` makes the value from again, with large buffers referenced: for what is sent before anything else can run."""
    if type(value) not in ATOMS:
        return dumps(value, copy=False)
    return dumps(_Apart(value), copy=False) if type(value) is bytes and len(value) >= APART else (dumps_plain(value), ())


def dumps(value: object, copy: bool = True) -> tuple[bytes, Buffers]:
    """Return the pickle of `value` and the large buffers that belong to it, in order.

    With `copy=False` writable buffers are referenced, not copied: the caller promises not to touch them until they have been sent.
    Raises whatever a hook of `value` raises, and what cloudpickle raises for what cannot be pickled.
    """
    met: list[PickleBuffer] = []
    try:
        data = _dumps(value, 5, buffer_callback=met.append)
    except Exception:  # noqa: BLE001 - whatever a hook raised, cloudpickle may know a way; if not, it raises that again
        data = b""
    by_value = not data or ((len(data) >= OUT_OF_BAND or data.find(_REFERENCE) >= 0) and _needs_value(data))
    if not met and not by_value:
        return data, ()
    taken = None if by_value else _all_large(met)
    if taken is None:
        data, taken = _dumps_apart(value, by_value)
    return data, tuple([_snapshot(view) for view in taken]) if copy else tuple(taken)


def dumps_in_band(value: object) -> bytes:
    """Return the pickle of `value` with all of its buffers in it; else as `dumps`."""
    try:
        data = _dumps(value, 5)
    except Exception:  # noqa: BLE001 - as in `dumps`
        data = b""
    if not data or ((len(data) >= OUT_OF_BAND or data.find(_REFERENCE) >= 0) and _needs_value(data)):
        return _dumps_by_value(value, None)
    return data


def loads(data: Buffer, buffers: Sequence[Buffer] = (), keep_classes: bool = False) -> Any:
    """Return the value that `dumps` or `dumps_result` made `data` of.

    It takes possession of `buffers` (bytearrays, for arrays that can be written to).
    `keep_classes=True` is for the process that the classes came from: a class defined in its `__main__` comes back by value inside
    each result, and would otherwise have its attributes and methods replaced by the other process's copies of them.
    Raises whatever a hook raises.
    """
    if data[0] != _PICKLED:
        return _unmarshal(data)
    if keep_classes and len(data) >= _SMALLEST_CLASS and _mentions(data, _SET_CLASS):
        return _loads_keeping_classes(data, buffers)
    return _loads(data, buffers=buffers) if buffers else _loads(data)


def by_value_modules() -> set[str]:
    """Return the names of the modules that the user registered to travel by value (never to be changed here)."""
    cloudpickle = modules.get("cloudpickle.cloudpickle")
    if cloudpickle is None:
        return _NO_MODULES  # nobody can have registered one
    return cloudpickle._PICKLE_BY_VALUE_MODULES  # type: ignore[no-any-return]


_NO_MODULES: set[str] = set()


def _needs_value(data: bytes) -> bool:
    """Return whether C pickle's output refers to something that only this process can find."""
    if _mentions(data, _MAIN):
        return True
    registered = by_value_modules()
    return bool(registered) and any(_mentions(data, name.encode()) for name in list(registered))


def _mentions(data: Buffer, name: bytes) -> bool:
    """Return whether `name` may stand in a pickle, without searching the large strings and bytes in it."""
    size = len(data)
    if size < OUT_OF_BAND:
        return bytes(data).find(name) >= 0
    position = 2
    while position < size:
        operation = data[position]
        if operation == _FRAME:
            end = position + 9 + int.from_bytes(data[position + 1 : position + 9], "little")
            if bytes(data[position:end]).find(name) >= 0:
                return True
            position = end
        elif operation in _PAYLOADS:
            start = position + 1 + _PAYLOADS[operation]
            position = start + int.from_bytes(data[position + 1 : start], "little")
        elif operation in _BARE:
            position += 1
        else:
            return bytes(data[position:]).find(name) >= 0
    return False


def _all_large(met: list[PickleBuffer]) -> list[memoryview] | None:
    """Return the buffers of a pickle if all of them may travel apart: then it is done."""
    try:
        views = [buffer.raw() for buffer in met]
    except BufferError:
        return None  # not contiguous: nobody can take it as it is
    return views if len(views) <= MANY and all(view.nbytes >= OUT_OF_BAND for view in views) else None


def _dumps_apart(value: object, by_value: bool) -> tuple[bytes, list[memoryview]]:
    """Return a pickle, and the buffers in it that are large enough to travel apart."""
    taken: list[memoryview] = []

    def place(buffer: PickleBuffer) -> bool:
        try:
            view = buffer.raw()
        except BufferError:
            return True
        if view.nbytes < OUT_OF_BAND or len(taken) == MANY:
            return True
        taken.append(view)
        return False

    if by_value:
        return _dumps_by_value(value, place), taken
    return _dumps(value, 5, buffer_callback=place), taken


def _dumps_by_value(value: object, place: object) -> bytes:
    from io import BytesIO

    import cloudpickle

    file = BytesIO()
    cloudpickle.Pickler(file, protocol=5, buffer_callback=place).dump(value)
    return file.getvalue()


def _snapshot(view: memoryview) -> Buffer:
    if view.readonly and _is_bytes(view):
        return view
    size = view.nbytes
    if size < REUSED:
        return bytes(view)
    from .arena import take

    room = take(size)
    room[:] = view
    return room


def _is_bytes(view: memoryview) -> bool:
    """Return whether a buffer's memory belongs to a `bytes` object, which nobody can write to."""
    owner: object = view.obj
    while owner is not None:
        kind = type(owner)
        if kind is bytes:
            return True
        if kind is memoryview:
            owner = owner.obj  # type: ignore[attr-defined]
        elif kind.__module__ == "numpy":
            owner = getattr(owner, "base", None)
        else:
            return False
    return False


def _loads_keeping_classes(data: Buffer, buffers: Sequence[Buffer]) -> Any:
    from io import BytesIO

    import cloudpickle.cloudpickle as cloud

    # A pickle of a class by value calls a maker, which returns the class already known under the same id, and then a setter.
    known = cloud._DYNAMIC_CLASS_TRACKER_BY_ID
    ours: set[int] = set()

    def make(maker: str) -> object:
        def skeleton(*args: object) -> object:
            there = known.get(args[-2])  # (..., class_tracker_id, extra)
            if there is None:
                return getattr(cloud, maker)(*args)
            ours.add(id(there))
            return there

        return skeleton

    def set_state(cls: type, state: object) -> object:
        return cls if id(cls) in ours else cloud._class_setstate(cls, state)

    replaced: dict[str, object] = {
        "_class_setstate": set_state,
        "_make_skeleton_class": make("_make_skeleton_class"),
        "_make_skeleton_enum": make("_make_skeleton_enum"),
    }

    class Keeper(Unpickler):
        def find_class(self, module: str, name: str) -> object:
            if module == "cloudpickle.cloudpickle" and name in replaced:
                return replaced[name]
            return super().find_class(module, name)

    return Keeper(BytesIO(data), buffers=buffers).load()
