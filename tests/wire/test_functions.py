"""Promises of `_wire/functions`: a function's pickle is what the function is at `entry`, and one number is one pickle."""

from __future__ import annotations

import abc
import functools
import math
import operator
import os
import subprocess
import sys
import types
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
from hypothesis import given, strategies as st

from aioparallel._wire import functions
from aioparallel._wire.codec import by_value_modules, loads
from aioparallel._wire.functions import Function, FunctionTable


def known(x: object) -> object:
    return x


class Known:
    def method(self) -> int:
        return 1

    @staticmethod
    def static() -> int:
        return 2


class Odd(abc.ABCMeta):
    def __hash__(cls) -> int:
        raise RuntimeError("no hash")

    def __eq__(cls, other: object) -> bool:
        raise RuntimeError("no comparison")


class OddClass(metaclass=Odd):
    pass


@pytest.fixture
def table() -> FunctionTable:
    return FunctionTable()


def space(text: str, **names: object) -> dict[str, object]:
    """Return the globals of a program that cannot be imported."""
    result: dict[str, object] = {"__name__": "__main__", **names}
    exec(text, result)
    return result


def entry(table: FunctionTable, fn: object) -> Function:
    found = table.entry(fn)
    assert found is not None
    return found


def call(function: Function, *arguments: object) -> object:
    return loads(function.data)(*arguments)  # type: ignore[operator]


@pytest.mark.parametrize("fn", [known, Known, Known.static, Known.method, OddClass, operator.neg, math.sqrt, len, int, dict])
def test_what_is_importable_travels_by_reference_once(table: FunctionTable, fn: object) -> None:
    function = entry(table, fn)
    assert loads(function.data) is fn
    assert not function.fresh and function.number == 1 and len(function.digest) == 16 and len(function.data) < 200
    assert entry(table, fn) is function


@pytest.mark.parametrize("fn", [Known().method, functools.partial(known, 1), [].append, "a".join, dict.fromkeys, str.upper, Known(), 3])
def test_what_belongs_to_a_value_is_an_argument(table: FunctionTable, fn: object) -> None:
    assert table.entry(fn) is None


def test_numbers_count_from_one_and_names_say_where(table: FunctionTable) -> None:
    got = [entry(table, known), entry(table, Known.static), entry(table, lambda: 1)]
    assert [function.number for function in got] == [1, 2, 3]
    assert got[1].name == f"{__name__}.Known.static" and got[2].name.endswith("<locals>.<lambda>")
    assert repr(got[0]) == f"<Function 1 {__name__}.known, {len(got[0].data)} bytes>"


def test_a_lambda_around_immutable_things_is_pickled_once(table: FunctionTable, monkeypatch: pytest.MonkeyPatch) -> None:
    names = space("import math, operator\nK = (1, ('a', frozenset([2])))\ndef f(x, y=3, *, z=None): return math.floor(x) + len(K) + y")
    counts = count_pickles(monkeypatch)
    function = entry(table, names["f"])
    assert not function.fresh and call(function, 1.5) == 6
    assert entry(table, names["f"]) is function
    assert counts == [1]


def count_pickles(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    counts = [0]
    plain = cloudpickle.dumps

    def counted(*arguments: object, **keywords: object) -> bytes:
        counts[0] += 1
        return plain(*arguments, **keywords)

    monkeypatch.setattr(cloudpickle, "dumps", counted)
    return counts


def test_the_same_lambda_made_again_shares_the_pickle(table: FunctionTable, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(*held: object) -> object:
        return lambda x=held: (held, x)

    word = "a" * 1000
    counts = count_pickles(monkeypatch)
    plain = [entry(table, lambda: None) for _ in range(9)]
    assert len({function.number for function in plain}) == 1 and counts == [1]
    once = [(1, word), (1, word), (2, word)]
    numbers = [entry(table, make(*held)).number for held in once]
    assert numbers[0] == numbers[1] != numbers[2]
    assert [call(entry(table, make(*held)))[0] for held in once] == once


def test_twins_that_differ_in_one_place_only_are_told_apart(table: FunctionTable) -> None:
    def closed(held: object) -> object:
        return lambda: held

    def given_by_default(held: object) -> object:
        return lambda x=held: x

    for make in (closed, given_by_default):
        assert [call(entry(table, make(held))) for held in ("one", "other", "one")] == ["one", "other", "one"]


def test_a_function_whose_name_means_something_else_travels_by_value(table: FunctionTable) -> None:
    hidden = types.FunctionType((lambda x: ("hidden", x)).__code__, globals(), "known")
    hidden.__qualname__, hidden.__module__ = "known", __name__
    assert not functions.is_importable(hidden)
    assert call(entry(table, hidden), 1) == ("hidden", 1)
    assert call(entry(table, known), 1) == 1


MUTATIONS = [
    ("K = 1\ndef f(): return K", "K = 2"),
    ("K = 1\ndef f(): return (lambda: [K for _ in 'a'][0])()", "K = 2"),
    ("def f(): return K", "K = 2"),
    ("def f(): return sum([1, 2])", "sum = len"),
    ("def f(x=1): return x", "f.__defaults__ = (2,)"),
    ("def f(*, x=1): return x", "f.__kwdefaults__['x'] = 2"),
    ("def f(*, x=1): return x", "f.__kwdefaults__ = {'x': 2}"),
    ("def f(): return 1", "f.__code__ = (lambda: 2).__code__"),
    ("def f(): return f.x\nf.x = 1", "f.x = 2"),
    ("def f(): return getattr(f, 'x', 1)", "f.x = 2"),
    ("def f(): return getattr(f, 'x', 1)", "f.__dict__ = {'x': 2}"),
    ("def g(): return 1\ndef f(): return g()", "def g(): return 2"),
    ("def g(): return 1\ndef f(): return g()", "g.__code__ = (lambda: 2).__code__"),
    ("def make(c):\n    def f(): return c\n    return f\nf = make(1)", "f.__closure__[0].cell_contents = 2"),
    ("L = [1]\ndef f(): return L[0]", "L[0] = 2"),
    ("L = ([1],)\ndef f(): return L[0][0]", "L[0][0] = 2"),
    ("def f(x=[1]): return x[0]", "f.__defaults__[0][0] = 2"),
    ("def make(c):\n    def f(): return c[0]\n    return f\nf = make([1])", "f.__closure__[0].cell_contents[0] = 2"),
    ("class C:\n    x = 1\ndef f(): return C.x", "C.x = 2"),
    ("class C:\n    x = 1\nc = C()\ndef f(): return c.x", "c.x = 2"),
    ("import numpy\nA = numpy.ones(3)\ndef f(): return A[0]", "A[0] = 2"),
    ("K = 1\ndef h(): return K\ndef g(): return h()\ndef f(): return g()", "K = 2"),
]


def outcome(function: Function) -> object:
    try:
        return call(function)
    except NameError:
        return 1


@pytest.mark.parametrize(("program", "change"), MUTATIONS)
def test_a_change_between_two_entries_is_seen_by_the_second_only(table: FunctionTable, program: str, change: str) -> None:
    names = space(program)
    fn = names["f"]
    before = entry(table, fn)
    assert entry(table, fn).number == before.number
    exec(change, names)
    after = entry(table, fn)
    assert after.number != before.number and after.digest != before.digest
    # A class by value is one class per process, whichever pickle brought it: the later one is looked at first.
    assert outcome(after) == 2
    if "class" not in program:
        assert outcome(before) == (3 if "sum" in program else 1)


def test_a_deleted_global_is_noticed(table: FunctionTable) -> None:
    names = space("K = 1\ndef f(): return K")
    before = entry(table, names["f"])
    del names["K"]
    after = entry(table, names["f"])
    with pytest.raises(NameError):
        call(after)
    assert call(before) == 1


FRESH = [
    "L = []\ndef f(): L.append(1); return len(L)",
    "D = {}\ndef f(): D[len(D)] = 1; return len(D)",
    "def f(x=[]): x.append(1); return len(x)",
    "def f(*, x=[]): x.append(1); return len(x)",
    "def make():\n    c = []\n    def f(): c.append(1); return len(c)\n    return f\nf = make()",
    "def make():\n    c = 0\n    def f():\n        nonlocal c\n        c += 1\n        return c\n    return f\nf = make()",
    "def make():\n c = 0\n def f():\n  def g():\n   nonlocal c\n   c += 1\n  g()\n  return c\n return f\nf = make()",
    "K = 0\ndef f():\n    global K\n    K += 1\n    return K",
    "K = 0\ndef g():\n    global K\n    K += 1\ndef f():\n    g()\n    return K",
    "def f():\n    f.n = getattr(f, 'n', 0) + 1\n    return f.n",
    "def g(): pass\ndef f():\n    vars(g)['n'] = vars(g).get('n', 0) + 1\n    return g.n",
    "def f():\n    globals()['n'] = globals().get('n', 0) + 1\n    return n",
    "def g(): g.l.append(1); return len(g.l)\ng.l = []\ndef f(): return g()",
]


@pytest.mark.parametrize("program", FRESH)
def test_what_could_leak_from_task_to_task_is_fresh(table: FunctionTable, program: str) -> None:
    function = entry(table, space(program)["f"])
    assert function.fresh
    assert [call(function), call(function)] == [1, 1]
    kept = loads(function.data)
    assert [kept(), kept()] == [1, 2], "the program does not keep anything: it tests nothing"


@pytest.mark.parametrize(
    "program",
    [
        "def f(x): x.attribute = 1; return x",
        "def f():\n    n = 0\n    def g():\n        nonlocal n\n        n += 1\n    g()\n    return n",
        "def f(n): return 1 if n < 2 else n * f(n - 1)",
    ],
)
def test_what_keeps_its_state_to_itself_is_not_fresh(table: FunctionTable, program: str) -> None:
    assert not entry(table, space(program)["f"]).fresh


def test_functions_that_refer_to_each_other(table: FunctionTable) -> None:
    names = space("def even(n): return n == 0 or odd(n - 1)\ndef odd(n): return n != 0 and even(n - 1)")
    function = entry(table, names["even"])
    assert call(function, 10) is True and not function.fresh
    assert entry(table, names["even"]) is function
    exec("def odd(n): return 'changed'", names)
    assert call(entry(table, names["even"]), 3) == "changed"


def test_a_cell_that_is_filled_later(table: FunctionTable) -> None:
    def outer() -> object:
        def inner() -> object:
            return later  # noqa: F821  (deleted below, on purpose)

        first = entry(table, inner)
        later = 5
        second = entry(table, inner)
        del later
        third = entry(table, inner)
        assert first.number != second.number
        with pytest.raises(NameError):
            call(first)
        with pytest.raises(NameError):
            call(third)
        return call(second)

    assert outer() == 5


def test_fresh_functions_with_equal_bytes_keep_their_number(table: FunctionTable) -> None:
    names = space("L = [1]\ndef f(): return L")
    first = entry(table, names["f"])
    assert entry(table, names["f"]) is first
    names["L"].append(2)
    assert entry(table, names["f"]).number == 2
    names["L"].pop()
    assert entry(table, names["f"]) is first


def test_a_large_array_stays_in_band(table: FunctionTable) -> None:
    array = np.arange(1 << 18)
    function = entry(table, lambda: array)
    assert len(function.data) > array.nbytes and (call(function) == array).all()


def test_a_submodule_loaded_later_is_noticed(table: FunctionTable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "growing"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "part.py").write_text("answer = 42")
    monkeypatch.syspath_prepend(tmp_path)
    names = space("import growing\ndef f(): return growing.part.answer")
    before = entry(table, names["f"])
    exec("import growing.part", names)
    after = entry(table, names["f"])
    for name in ("growing", "growing.part"):
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(AttributeError):
        call(before)
    for name in ("growing", "growing.part"):
        sys.modules.pop(name, None)
    assert call(after) == 42


def test_a_module_registered_by_value_later_is_noticed(table: FunctionTable, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("registered_later")
    exec("def g(): return 1", module.__dict__)
    monkeypatch.setitem(sys.modules, "registered_later", module)
    names = space("def f(): return g()", g=module.g)
    named, watched = entry(table, module.g), entry(table, names["f"])
    cloudpickle.register_pickle_by_value(module)
    try:
        assert len(entry(table, module.g).data) > 200
        assert entry(table, names["f"]).number != watched.number
    finally:
        cloudpickle.unregister_pickle_by_value(module)
    assert entry(table, module.g) is named
    assert entry(table, names["f"]) is watched


def test_the_table_forgets_and_never_uses_a_number_again() -> None:
    table = FunctionTable(kept=4)
    made = [eval(f"lambda: {number}") for number in range(20)]
    got = [entry(table, fn) for fn in made]
    assert [function.number for function in got] == list(range(1, 21))
    again = entry(table, made[0])
    assert again.number == 21 and again.digest == got[0].digest
    assert len(table._watches._entries) == len(table._made._entries) == 4
    assert len(table._latest) <= 9


def test_the_table_forgets_by_bytes_too() -> None:
    table = FunctionTable(kept_bytes=100_000)
    for number in range(20):
        entry(table, eval(f"lambda: '{number:040000}'"))
        assert table._made._held <= 100_000 and table._watches._held <= 100_000
    assert len(table._made._entries) == 2


def test_a_function_that_is_gone_is_not_mistaken_for_the_next_at_its_address() -> None:
    table = FunctionTable(kept=8)
    for number in range(500):
        assert call(entry(table, eval(f"lambda: {number}"))) == number


def test_what_pickling_raises_passes_unchanged(table: FunctionTable) -> None:
    class Refusing:
        def __reduce_ex__(self, protocol: object) -> object:
            raise KeyboardInterrupt("mine")

    refusing = Refusing()
    with pytest.raises(KeyboardInterrupt, match="mine"):
        table.entry(lambda: refusing)


immutables = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)


places = st.sampled_from(["a", "b", "cell", "default", "keyword", "delete"])

HELD_EVERYWHERE = """
def make(c):
    def f(d=None, *, k=None):
        try: return a, b, c, d, k
        except NameError: return c, d, k
    return f
"""


@given(st.lists(st.tuples(places, immutables | st.lists(immutables)), max_size=8))
def test_every_history_of_changes_is_followed(steps: list[tuple[str, object]]) -> None:
    table = FunctionTable()
    names = space(HELD_EVERYWHERE)
    fn = names["make"](0)
    for place, value in steps:
        match place:
            case "cell":
                fn.__closure__[0].cell_contents = value
            case "default":
                fn.__defaults__ = (value,)
            case "keyword":
                fn.__kwdefaults__ = {"k": value}
            case "delete":
                names.pop("a", None)
            case name:
                names[name] = value
        assert call(entry(table, fn)) == fn()


MAIN = """
import subprocess, sys
from aioparallel._wire.codec import dumps, loads
from aioparallel._wire.functions import FunctionTable
class Thing:
    def __init__(self, x): self.x = x
    def twice(self): return helper(self.x)
FACTOR = 2
def helper(x): return FACTOR * x
def work(thing): return Thing(thing.twice())
OTHER = '''
import sys
from aioparallel._wire.codec import dumps, loads
function, arguments = map(bytes.fromhex, sys.stdin.read().split())
print(dumps(loads(function)(*loads(arguments)))[0].hex())
'''
if __name__ == "__main__":
    table = FunctionTable()
    def ask(fn, *arguments):
        sent = table.entry(fn).data.hex() + " " + dumps(arguments)[0].hex()
        came = subprocess.run([sys.executable, "-c", OTHER], input=sent, capture_output=True, check=True, text=True).stdout
        return loads(bytes.fromhex(came), (), keep_classes=True)
    print(type(ask(work, Thing(4))) is Thing, ask(work, Thing(4)).x, ask(Thing, 3).twice(), ask(helper, 5))
    FACTOR = 3
    print(ask(work, Thing(4)).x, ask(helper, 5), table.entry(helper).name, table.entry(helper).fresh, table.entry(Thing).fresh)
"""


def test_a_script_of_functions_and_classes_works_elsewhere(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(MAIN)
    environment = os.environ | {"PYTHONPATH": str(Path(functions.__file__).parents[2])}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["True 8 6 10", "12 15 __main__.helper False True"]


def test_what_multiprocessing_calls_main_in_the_program_itself_is_nothing_new() -> None:
    import multiprocessing  # noqa: F401 - it puts `__mp_main__` in place

    assert sys.modules["__mp_main__"] is not None
    FunctionTable()
    assert "__main__" not in by_value_modules()
