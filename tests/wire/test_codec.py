"""Promises of `_wire/codec`: a value's pickle is a snapshot, by value where it must be, with large buffers beside it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import types
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
from hypothesis import given, strategies as st

from aioparallel._wire import codec
from aioparallel._wire.codec import OUT_OF_BAND, dumps, loads
from aioparallel._wire.memory import HUGE, memory

ROOT = Path(codec.__file__).parents[2]
LARGE = OUT_OF_BAND


def travelled(value: object, copy: bool = True) -> object:
    """Return `value` as the other side receives it."""
    data, buffers = dumps(value, copy)
    return loads(data, tuple(bytearray(buffer) for buffer in buffers))


def run_script(folder: Path, text: str, *arguments: str) -> str:
    script = folder / "script.py"
    script.write_text(text)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


atoms = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(max_size=200)
values = st.recursive(
    atoms,
    lambda inner: st.lists(inner, max_size=5) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_plain_values_arrive_equal(value: object) -> None:
    data, buffers = dumps(value)
    assert buffers == ()
    assert loads(data) == value
    assert loads(memoryview(data)) == value


DTYPES = [np.dtype("u1"), np.dtype("<i4"), np.dtype(">f8"), np.dtype("c16"), np.dtype([("a", "<i2"), ("b", "S3", (2,))])]


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    shape = draw(st.lists(st.sampled_from([0, 1, 2, 7, 300]), max_size=3).filter(lambda sides: np.prod(sides) <= 100_000))
    dtype = draw(st.sampled_from(DTYPES))
    array = np.frombuffer(np.arange(np.prod(shape, dtype=int) * dtype.itemsize, dtype="u1"), dtype).reshape(shape)
    if draw(st.booleans()):
        array = np.asfortranarray(array)
    if array.ndim and draw(st.booleans()):
        array = array[..., ::-2]
    array = array.copy(order="K") if draw(st.booleans()) else array
    array.flags.writeable = array.flags.writeable and draw(st.booleans())
    return array


@given(arrays(), st.booleans())
def test_arrays_arrive_equal_and_those_that_were_writable_still_are(array: np.ndarray, copy: bool) -> None:
    (arrived,) = travelled([array], copy)
    native = array.dtype.newbyteorder("=")  # what numpy itself makes of arrays that are not contiguous
    assert arrived.dtype in (array.dtype, native) and arrived.shape == array.shape
    assert arrived.astype(native).tobytes() == array.astype(native).tobytes()
    assert arrived.flags.writeable >= array.flags.writeable
    assert not np.shares_memory(arrived, array)


payloads = st.sampled_from([b"", b"x", b"y" * LARGE, "z", "__main__", "w" * LARGE, bytearray(LARGE), None, 7])


@given(st.lists(payloads, max_size=8))
def test_names_are_found_wherever_large_payloads_stand_around_them(parts: list[object]) -> None:
    data = pickle.dumps(parts, 5)
    assert codec._mentions(data, codec._MAIN) == ("__main__" in parts)


def test_the_name_is_not_searched_in_large_bytes_nor_met_in_a_scripts_text() -> None:
    assert not codec._needs_value(pickle.dumps([codec._MAIN * LARGE, len, codec._MAIN.decode("latin1") * LARGE], 5))
    assert not codec._needs_value(pickle.dumps([len, "if __name__ == '__main__': main()"], 5))
    assert codec._needs_value(pickle.dumps([b"x" * LARGE, b"y" * LARGE, "__main__"], 5))


def test_large_buffers_travel_beside_the_pickle_and_small_ones_within() -> None:
    small, large = np.ones(LARGE - 1, "u1"), np.ones(LARGE, "u1")
    data, buffers = dumps([small, large])
    assert [len(buffer) for buffer in buffers] == [LARGE]
    assert LARGE <= len(data) < LARGE + 1000


@pytest.mark.parametrize("size", [LARGE, HUGE])
def test_a_change_after_dumps_is_not_seen(size: int) -> None:
    array = np.zeros(size, "u1")
    data, buffers = dumps(array)
    array[:] = 9
    assert not loads(data, tuple(map(bytearray, buffers))).any()


def test_self_is_a_snapshot_too() -> None:
    owner = Owner([1])
    data, _ = dumps(owner.look)
    owner.seen.append(2)
    assert loads(data)() == [1]


class Owner:
    def __init__(self, seen: object) -> None:
        self.seen = seen

    def look(self) -> object:
        return self.seen


def test_without_copy_the_memory_is_the_callers() -> None:
    array = np.zeros(LARGE, "u1")
    _, (buffer,) = dumps(array, copy=False)
    array[0] = 9
    assert buffer[0] == 9


def test_a_read_only_view_of_memory_that_can_be_written_is_copied() -> None:
    array = np.zeros(LARGE, "u1")
    view = array.view()
    view.flags.writeable = False
    data, buffers = dumps(view)
    array[0] = 9
    assert loads(data, buffers)[0] == 0


def test_memory_of_bytes_is_referenced() -> None:
    source = bytes(LARGE)
    _, (buffer,) = dumps(np.frombuffer(source, "u1")[:])
    assert np.shares_memory(np.frombuffer(buffer, "u1"), np.frombuffer(source, "u1"))


def test_a_buffer_that_is_not_contiguous_is_never_handed_out() -> None:
    array = np.ones((600, 600), "u1")[::2, ::2]
    data, buffers = dumps(array)
    assert buffers == () or sum(map(len, buffers)) == array.nbytes
    assert (loads(data, tuple(map(bytearray, buffers))) == array).all()
    with pytest.raises(Exception, match="contiguous"):
        dumps(pickle.PickleBuffer(array))


def test_arrays_inside_of_what_only_cloudpickle_can_do_travel_beside_it_once() -> None:
    array = np.arange(LARGE, dtype="u1")
    data, buffers = dumps([array, lambda: array])
    assert len(buffers) == 1
    plain, closure = loads(data, tuple(map(bytearray, buffers)))
    assert closure() is plain and (plain == array).all() and plain.flags.writeable


def test_lambdas_closures_and_local_classes_travel() -> None:
    def outer(step: int) -> object:
        class Local:
            value = step

        return lambda x: Local.value + x

    assert travelled(outer(3))(4) == 7


def test_memory_is_zero_writable_and_of_the_size_asked_for() -> None:
    for size in (0, 1, HUGE):
        room = memory(size)
        assert len(room) == size and not any(room[:100]) and not memoryview(room).readonly


class Broken:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> object:
        raise self.error


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3), GeneratorExit(), MemoryError()])
def test_what_a_hook_raises_passes_unchanged(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        dumps(((np.ones(LARGE), Broken(error)), {}))
    assert caught.value is error
    assert caught.value.__context__ is None


def raise_it(error: BaseException) -> None:
    raise error


class Bomb:
    def __reduce__(self) -> object:
        return raise_it, (SystemExit(3),)


def test_what_reconstruction_raises_passes_unchanged() -> None:
    data, _ = dumps(Bomb())
    with pytest.raises(SystemExit, match="3"):
        loads(data)


def test_what_nobody_can_pickle_is_an_error() -> None:
    with pytest.raises(TypeError, match="lock"):
        dumps(__import__("threading").Lock())


def test_a_dump_within_a_dump_keeps_its_buffers_apart() -> None:
    data, buffers = dumps([Nested(), np.full(LARGE, 2, "u1")])
    assert len(buffers) == 1 and buffers[0][0] == 2
    assert loads(data, buffers)[0][0] == 1


class Nested:
    def __reduce__(self) -> object:
        data, buffers = dumps(np.full(LARGE, 1, "u1"))
        return loads, (data, tuple(map(bytes, buffers)))


def test_a_module_registered_to_travel_by_value_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("travelling.inner")
    exec("class Thing:\n    def answer(self): return 42", module.__dict__)
    monkeypatch.setitem(sys.modules, "travelling", types.ModuleType("travelling"))
    monkeypatch.setitem(sys.modules, "travelling.inner", module)
    assert len(dumps(module.Thing())[0]) < 100
    cloudpickle.register_pickle_by_value(sys.modules["travelling"])
    try:
        data, _ = dumps(module.Thing())
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules["travelling"])
    assert b"answer" in data and codec._SET_CLASS in data


MAIN = """
import dataclasses, enum, subprocess, sys, abc
from aioparallel._wire.codec import dumps, loads
COUNT = 0
class Colour(enum.Enum):
    RED = 1
@dataclasses.dataclass
class Point(abc.ABC):
    x: int
    colour: Colour = Colour.RED
    tally = 5
    def bump(self):
        global COUNT
        COUNT += 1
        return COUNT
OTHER = '''
import sys
from aioparallel._wire.codec import dumps, loads
point = loads(sys.stdin.buffer.read())
type(point).tally = 6
point.x += type(point).tally + point.bump()
sys.stdout.buffer.write(dumps(point)[0])
'''
if __name__ == "__main__":
    bump = Point.__dict__["bump"]
    sent = dumps(Point(1))[0]
    came = subprocess.run([sys.executable, "-c", OTHER], input=sent, capture_output=True, check=True).stdout
    Point.tally = 7
    back = loads(came, (), KEEP)
    print(type(back) is Point, back.colour is Colour.RED, back.x, Point.tally, Point.__dict__["bump"] is bump, COUNT)
"""


def test_a_class_of_main_comes_back_as_itself_and_untouched(tmp_path: Path) -> None:
    assert run_script(tmp_path, MAIN.replace("KEEP", "True")).split() == ["True", "True", "8", "7", "True", "0"]


def test_a_slot_takes_over_what_a_class_of_main_has_become(tmp_path: Path) -> None:
    assert run_script(tmp_path, MAIN.replace("KEEP", "False")).split() == ["True", "True", "8", "6", "False", "0"]


def test_a_class_that_is_not_known_here_is_made(tmp_path: Path) -> None:
    text = "import sys\nfrom aioparallel._wire.codec import dumps\nclass New:\n    x = 3\nsys.stdout.write(dumps(New())[0].hex())"
    data = bytes.fromhex(run_script(tmp_path, text))
    first, second = loads(data, (), keep_classes=True), loads(memoryview(data), (), keep_classes=True)
    assert type(first) is type(second) and first.x == 3


def test_the_codec_brings_no_luggage() -> None:
    text = (
        "import sys; parent = type(sys)('aioparallel'); parent.__path__ = [sys.argv[1]]; sys.modules['aioparallel'] = parent\n"
        "from aioparallel._wire import codec; codec.loads(codec.dumps([1])[0]); print(*sorted(sys.modules))"
    )
    command = [sys.executable, "-S", "-c", text, str(ROOT / "aioparallel")]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "aioparallel._wire.codec" in loaded.stdout
    assert not {"pickle", "cloudpickle", "re", "typing", "mmap", "asyncio"} & set(loaded.stdout.split())


@pytest.mark.parametrize("size", [10, codec.KEPT_BYTES, codec.APART])
def test_arguments_that_are_plain_values_come_back_and_large_bytes_are_not_copied(size: int) -> None:
    data = os.urandom(size)
    arguments, buffers = codec.dumps_call((1, data, "text"), {})
    payload, buffers = codec.written(arguments, buffers)
    assert [buffer.obj is data for buffer in buffers if isinstance(buffer, memoryview)] == [True] * (size >= codec.APART)
    args, kwargs = codec.loads_call(payload, [bytearray(buffer) for buffer in buffers])
    assert (tuple(args), kwargs) == ((1, data, "text"), {})
    assert type(args[1]) is bytes


@pytest.mark.parametrize("size", [0, codec.APART - 100, codec.APART, 3 * codec.APART + 7])
def test_large_bytes_come_back_of_pieces(size: int) -> None:
    data = os.urandom(size)
    payload, buffers = codec.dumps_result(data)
    assert [buffer.obj is data for buffer in buffers if isinstance(buffer, memoryview)] == [True] * (size >= codec.APART)
    assert codec.takes_time(payload, buffers) == (size >= codec.APART)
    back = codec.loads(payload, [bytearray(buffer) for buffer in buffers])
    assert type(back) is bytes and back == data
    assert codec.bytes_in_pieces(bytearray(data)) == data


def test_opening_what_is_only_referenced_takes_no_time() -> None:
    payload, buffers = codec.dumps_result([pickle.PickleBuffer(bytearray(codec.APART)), "bytes_in_piece"])
    assert buffers and not codec.takes_time(payload, buffers)
