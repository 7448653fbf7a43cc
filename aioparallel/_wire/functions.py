"""Functions on their way to slots: each gets a number and a pickle, made once for as long as it stays what it is.

Guarantees
    A `Function` holds what the callable was when `entry` was called: no later change of it is in its pickle, no earlier one is missing.
    A number stands for one pickle for ever: what a slot has loaded under it stays right, however often the table forgets and meets
    that function again (then it may get another number).
    A function that could carry something from one task to the next is `fresh`: the slot loads it anew for each attempt.

How it works
    Importable by reference: found by identity, until a module is registered to travel by value. By value (lambdas, closures, what
    `__main__` defines): pickled by cloudpickle, and kept with a `_Watch`, a list of all that the pickle was made of (code, defaults,
    attributes, cells, globals, those of the functions it refers to as well), as long as each of them is immutable. The watch holds
    while all of them are the same objects. With anything else among them the function is fresh and is pickled at each `entry`; equal
    bytes keep their number. Classes by value count as mutable: their attributes can be set from everywhere.
    Fresh is also what rebinds its globals or cells, and what could set attributes of functions, though its pickle may be kept.
    Watched objects are kept alive, so that no other object can take their identity; both shelves forget the least recently used.

Not noticed: a change of nothing but a function's `__name__`, `__doc__`, `__module__` or annotations. A table belongs to one thread.
"""

from __future__ import annotations

import sys

# The extension itself: `hashlib` loads OpenSSL.
from _blake2 import blake2b
from _pickle import dumps as _dumps
from collections import OrderedDict
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, ModuleType
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from aioparallel._wire.codec import by_value_modules

MAX_KEPT = 1024
"""By-value functions that are remembered."""
MAX_KEPT_BYTES = 1 << 26
"""Bytes of their pickles: a closure may hold a large string."""
MAX_NAMED = 4096
"""Functions known by reference."""

Key = TypeVar("Key")
Value = TypeVar("Value")

_MISSING = object()
_ATOMS = frozenset(
    {type(None), bool, int, float, complex, str, bytes, range, type(Ellipsis), type(NotImplemented), CodeType},
)
_REBINDING = frozenset({"globals", "exec", "eval", "__globals__", "__closure__", "__defaults__", "__kwdefaults__"})
_SETTING = frozenset({"setattr", "delattr", "vars", "__dict__", "__setattr__", "__delattr__"})


class Function:
    """A callable as it travels: a pickle, all in band, under a number of its own."""

    __slots__ = ("data", "digest", "fresh", "name", "number")

    def __init__(self, number: int, digest: bytes, data: bytes, fresh: bool, name: str) -> None:
        self.number = number
        """1, 2, 3 ... in the order in which a table met them."""
        self.digest = digest
        """blake2b of `data`, 16 bytes."""
        self.data = data
        self.fresh = fresh
        """Whether a slot must load it anew for each attempt."""
        self.name = name
        """Module and qualified name, for messages."""

    def __repr__(self) -> str:
        return f"<Function {self.number} {self.name}{' fresh' if self.fresh else ''}, {len(self.data)} bytes>"


class FunctionTable:
    """All functions that a pool has sent to slots."""

    def __init__(self, kept: int = MAX_KEPT, kept_bytes: int = MAX_KEPT_BYTES) -> None:
        _register_main()
        self._numbers = 0
        self._named: dict[int, Function] = {}
        self._named_alive: dict[int, object] = {}
        self._by_value_modules: frozenset[str] = frozenset()
        self._made: _Shelf[tuple[bytes, bool], Function] = _Shelf(kept, kept_bytes)
        self._watches: _Shelf[int, _Watch] = _Shelf(kept, kept_bytes)
        self._latest: dict[int, int] = {}
        """id of a code object -> key of the latest watch on a function with that code"""

    def entry(self, fn: object) -> Function | None:
        """Return what travels for `fn`; None: it must be pickled with the arguments, each time.

        None is the answer for bound methods, partials, instances, and all that is not a plain function, builtin or class. Raises what
        cloudpickle and the hooks of objects that a by-value function refers to raise.
        """
        if by_value_modules() != self._by_value_modules:
            self._forget()
        found = self._named.get(id(fn))
        if found is not None:
            return found
        kind = type(fn)
        if kind is FunctionType:
            watch = self._watches.get(id(fn))
            if watch is not None and watch.holds():
                return watch.function
            return self._by_reference(fn) or self._by_value(fn)  # type: ignore[arg-type]
        if issubclass(kind, type):
            return self._by_reference(fn) or self._by_value_class(fn)
        if kind is BuiltinFunctionType and not _is_bound(fn):
            return self._by_reference(fn)
        return None

    def _forget(self) -> None:
        """Begin again: what was importable by reference may travel by value now, or the other way round."""
        self._named.clear()
        self._named_alive.clear()
        self._watches.clear()
        self._by_value_modules = frozenset(by_value_modules())

    def _by_reference(self, fn: object) -> Function | None:
        if not is_importable(fn):
            return None
        if len(self._named) >= MAX_NAMED:
            oldest = next(iter(self._named))
            del self._named[oldest], self._named_alive[oldest]
        function = self._named[id(fn)] = self._number(_dumps(fn, 5), False, fn)
        self._named_alive[id(fn)] = fn
        return function

    def _by_value_class(self, cls: object) -> Function:
        import cloudpickle

        return self._number(cloudpickle.dumps(cls, protocol=5), True, cls)

    def _by_value(self, fn: FunctionType) -> Function:
        import cloudpickle

        twin = self._watches.get(self._latest.get(id(fn.__code__), 0))
        if twin is not None and twin.is_twin(fn) and twin.holds():
            return twin.function
        watch = _Watch(fn)
        function = watch.function = self._number(cloudpickle.dumps(fn, protocol=5), watch.fresh, fn)
        if watch.steady:
            if len(self._latest) > 2 * self._watches.count:
                self._latest.clear()
            self._latest[id(fn.__code__)] = id(fn)
            self._watches.put(id(fn), watch, len(function.data))
        return function

    def _number(self, data: bytes, fresh: bool, fn: object) -> Function:
        digest = blake2b(data, digest_size=16).digest()
        function = self._made.get((digest, fresh))
        if function is None:
            self._numbers += 1
            function = Function(self._numbers, digest, data, fresh, qualified_name(fn))
            self._made.put((digest, fresh), function, len(data))
        return function


def _register_main() -> None:
    """Have `__mp_main__` travel by value: so a child of multiprocessing's "spawn" calls the program, and no slot can import it."""
    main = sys.modules.get("__mp_main__")
    if main is not None and main.__name__ == "__mp_main__":  # (elsewhere multiprocessing has it stand for `__main__`)
        import cloudpickle

        cloudpickle.register_pickle_by_value(main)


def is_importable(thing: object) -> bool:
    """Return whether a function, builtin or class is what an import of its module and name gives, in every process."""
    try:
        name: object = thing.__module__
        path: object = thing.__qualname__  # type: ignore[attr-defined]
        if type(name) is not str or type(path) is not str or name == "__main__" or _travels_by_value(name):
            return False
        found: object = sys.modules[name]
        for part in path.split("."):
            found = getattr(found, part)
    except Exception:  # noqa: BLE001 - a module's or a metaclass's `__getattr__` may raise anything
        return False
    return found is thing


def qualified_name(fn: object) -> str:
    """Return how messages call a function or class."""
    return f"{getattr(fn, '__module__', '?')}.{getattr(fn, '__qualname__', '?')}"


def _travels_by_value(module: str) -> bool:
    registered = by_value_modules()
    if not registered:
        return False
    parts = module.split(".")
    return any(".".join(parts[: end + 1]) in registered for end in range(len(parts)))


def _is_bound(builtin: object) -> bool:
    owner = getattr(builtin, "__self__", None)
    return owner is not None and not isinstance(owner, ModuleType)


class _Watch:
    """What a by-value function's pickle was made of."""

    __slots__ = ("_cells", "_functions", "_modules", "_names", "_tables", "_target", "fresh", "function", "steady")

    def __init__(self, fn: FunctionType) -> None:
        self._target = fn
        self.function: Function  # set by the table, as soon as the pickle is made
        self._names: list[tuple[dict[str, object], str, object]] = []
        self._cells: list[tuple[CellType, object]] = []
        self._tables: list[tuple[dict[str, object], int]] = []
        self._functions: list[tuple[FunctionType, CodeType, object, object, object]] = []
        self._modules: int | None = None
        self.steady = True
        """Whether everything there is immutable, so that the same objects mean the same pickle."""
        self.fresh = False
        self._look()

    def holds(self) -> bool:
        """Return whether all of it is still the same."""
        try:
            for table, name, value in self._names:
                if table.get(name, _MISSING) is not value:
                    return False
            for cell, value in self._cells:
                if cell.cell_contents is not value:
                    return False
        except ValueError:  # a cell was emptied
            return False
        for fn, code, defaults, keywords, attributes in self._functions:
            if (
                fn.__code__ is not code
                or fn.__defaults__ is not defaults
                or fn.__kwdefaults__ is not keywords
                or fn.__dict__ is not attributes
            ):
                return False
        for table, size in self._tables:
            if len(table) != size:
                return False
        return self._modules is None or self._modules == len(sys.modules)

    def is_twin(self, fn: FunctionType) -> bool:
        """Return whether another function is the same lambda or `def`, executed again, around the same objects.

        Its pickle is then that of the watched one, if that is still unchanged.
        """
        target = self._target
        return (
            fn.__code__ is target.__code__
            and fn.__globals__ is target.__globals__
            and fn.__qualname__ == target.__qualname__
            and fn.__module__ == target.__module__
            and fn.__doc__ is target.__doc__
            and not fn.__dict__
            and not target.__dict__
            and not fn.__kwdefaults__
            and not target.__kwdefaults__
            and _same(fn.__defaults__, target.__defaults__)
            and _same(_contents(fn), _contents(target))
        )

    def _look(self) -> None:
        """Follow everything that cloudpickle would put into the pickle; a list, for functions that refer to each other."""
        functions: list[FunctionType] = [self._target]
        met = {id(self._target)}
        setting = referred = False
        while functions:
            fn = functions.pop()
            names, rebinds, sets = _survey(fn.__code__)
            self.fresh |= rebinds
            setting |= sets
            values = self._take(fn, names)
            while values and self.steady:
                value = values.pop()
                kind = type(value)
                if kind in _ATOMS or value is _MISSING:
                    continue
                if kind is tuple or kind is frozenset:
                    values.extend(value)  # type: ignore[arg-type]
                elif kind is FunctionType and not is_importable(value):
                    referred = True
                    if id(value) not in met:
                        met.add(id(value))
                        functions.append(value)  # type: ignore[arg-type]
                elif not self._is_reference(value):
                    self.steady = False
            if not self.steady:
                break
        if not self.steady or (setting and referred):
            self.fresh = True

    def _take(self, fn: FunctionType, names: tuple[str, ...]) -> list[object]:
        """Watch one function; return the values that it holds."""
        space, keywords, attributes, defaults = fn.__globals__, fn.__kwdefaults__, fn.__dict__, fn.__defaults__
        values: list[object] = list(defaults or ())
        for table in (keywords, attributes):
            if table:
                self._names.extend([(table, name, value) for name, value in table.items()])
                values.extend(table.values())
            if table is not None:
                self._tables.append((table, len(table)))
            if table is not None and type(table) is not dict:
                self.steady = False
        for name in names:
            value = space.get(name, _MISSING)
            self._names.append((space, name, value))
            values.append(value)
        for cell in fn.__closure__ or ():
            try:
                value = cell.cell_contents
            except ValueError:  # not filled yet
                self.steady = False
                continue
            self._cells.append((cell, value))
            values.append(value)
        if type(space) is not dict:
            self.steady = False
        self._functions.append((fn, fn.__code__, defaults, keywords, attributes))
        return values

    def _is_reference(self, value: object) -> bool:
        kind = type(value)
        if issubclass(kind, ModuleType):
            space = value.__dict__
            name = space.get("__name__")
            if "__path__" in space:
                # cloudpickle adds those submodules that are loaded and whose names stand in the code
                self._modules = len(sys.modules)
            return type(name) is str and sys.modules.get(name) is value and not _travels_by_value(name)
        if kind is FunctionType or issubclass(kind, type):
            return is_importable(value)
        return kind is BuiltinFunctionType and not _is_bound(value) and is_importable(value)


def _same(one: tuple[object, ...] | None, other: tuple[object, ...] | None) -> bool:
    if one is other:
        return True
    if one is None or other is None or len(one) != len(other):
        return False
    return all([mine is theirs for mine, theirs in zip(one, other, strict=True)])  # noqa: C419 - a generator would cost twice that


def _contents(fn: FunctionType) -> tuple[object, ...] | None:
    cells = fn.__closure__
    if cells is None:
        return None
    try:
        return tuple([cell.cell_contents for cell in cells])
    except ValueError:
        return (object(),)  # an empty cell is the same as nothing


_surveys: WeakKeyDictionary[CodeType, tuple[tuple[str, ...], bool, bool]] = WeakKeyDictionary()


def _survey(code: CodeType) -> tuple[tuple[str, ...], bool, bool]:
    """Return what a code object and those within it do.

    The global names they use; whether they rebind globals or free variables of the outermost; and whether they set attributes.
    """
    found = _surveys.get(code)
    if found is not None:
        return found
    from dis import get_instructions

    names: dict[str, None] = {}
    rebinds = sets = False
    codes = [code]
    while codes:
        inner = codes.pop()
        codes.extend([const for const in inner.co_consts if type(const) is CodeType])
        rebinds |= not _REBINDING.isdisjoint(inner.co_names)
        sets |= not _SETTING.isdisjoint(inner.co_names)
        for instruction in get_instructions(inner):
            operation = instruction.opname
            if "GLOBAL" in operation:
                names[instruction.argval] = None
                rebinds |= not operation.startswith("LOAD")
            elif operation in ("STORE_DEREF", "DELETE_DEREF"):
                rebinds |= instruction.argval in inner.co_freevars and instruction.argval in code.co_freevars
            elif operation in ("STORE_ATTR", "DELETE_ATTR"):
                sets = True
    found = _surveys[code] = (tuple(names), rebinds, sets)
    return found


class _Shelf(Generic[Key, Value]):
    """A few entries with their sizes, of which the least recently used are forgotten first."""

    def __init__(self, count: int, size: int) -> None:
        self.count = count
        self._size = size
        self._held = 0
        self._entries: OrderedDict[Key, tuple[Value, int]] = OrderedDict()

    def get(self, key: Key) -> Value | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: Key, value: Value, size: int) -> None:
        replaced = self._entries.pop(key, None)
        if replaced is not None:
            self._held -= replaced[1]
        self._entries[key] = (value, size)
        self._held += size
        while len(self._entries) > 1 and (len(self._entries) > self.count or self._held > self._size):
            self._held -= self._entries.popitem(last=False)[1][1]

    def clear(self) -> None:
        self._entries.clear()
        self._held = 0
