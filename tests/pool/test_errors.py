"""Errors: ours pickle and say what happened; the user's arrive as they were, with the place in the notes."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import traceback
from typing import Any

import pytest

from aioparallel import Pool, RemoteError, SerializationError, TaskExited, errors

OURS: list[BaseException] = [
    errors.AioparallelError("text"),
    errors.UsageError("text"),
    errors.ConfigError("text", "aioparallel.toml", 3),
    errors.PoolClosed("text"),
    errors.HostError("far", "no way"),
    errors.TaskError("text"),
    errors.WorkerDied(3, None),
    errors.WorkerDied(None, 9, "detail"),
    errors.TaskPoisoned((("here", 0, 3, 0.5), ("there", 1, -9, None))),
    errors.TaskTimeout("deadline", 2.5),
    errors.MemoryLimitExceeded(10, 20),
    errors.MemoryLimitExceeded(20, 10),
    errors.HostLost("text"),
    errors.SerializationError("text"),
    errors.RemoteError("Kind", "text"),
    errors.TaskExited(SystemExit(3)),
    errors.TaskExited(None, "Odd(1)"),
    errors.TaskCancelled("text"),
]


def test_every_error_is_here() -> None:
    assert {type(error).__name__ for error in OURS} == set(errors.__all__)
    for name in errors.__all__:
        assert name in (errors.__doc__ or ""), "the whole tree stands in the docstring"


@pytest.mark.parametrize("error", OURS, ids=lambda error: type(error).__name__)
def test_ours_pickle(error: BaseException) -> None:
    error.add_note("a note")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error) and repr(again) == repr(error)
        assert again.__notes__ == ["a note"]
        ours, theirs = dict(vars(error)), dict(vars(again))
        assert repr(ours) == repr(theirs)


def test_what_they_say() -> None:
    assert str(errors.WorkerDied(3)) == "the slot's process exited with code 3 while it ran the task"
    assert str(errors.WorkerDied(None, 11)) == "the slot's process was killed by signal 11 (SIGSEGV) while it ran the task"
    assert "a real-time signal" in str(errors.WorkerDied(None, 40))
    assert str(errors.MemoryLimitExceeded(1000, 2000)) == "the task's processes held 2,000 bytes, over memory=1,000"
    assert str(errors.HostError("h", "r")) == "host 'h' offers no slots: r"
    assert issubclass(errors.TaskTimeout, TimeoutError) and issubclass(errors.UsageError, RuntimeError)
    assert not issubclass(errors.TaskCancelled, Exception)
    assert not issubclass(errors.PoolClosed, errors.TaskError)


async def test_ours_travel_from_a_task() -> None:
    async with Pool(local=1) as pool:
        for error in OURS[:-1]:
            with pytest.raises(type(error)) as caught:
                await pool.submit(throw, error)
            assert str(caught.value) == str(error) and type(caught.value) is type(error)


def throw(error: BaseException) -> None:
    raise error


class Detailed(Exception):
    def __init__(self, code: int, text: str = "") -> None:
        super().__init__(code, text)
        self.code = code
        self.hint: Any = None


class Renamed(Exception):
    """Its arguments are not those of its `__init__`: Python cannot rebuild it."""

    def __init__(self, code: int, where: str) -> None:
        super().__init__(f"code {code} at {where}")
        self.code = code


class Lossy(Exception):
    """It can be rebuilt, but as something else than it was."""

    def __init__(self, code: Any) -> None:
        super().__init__(f"code {code}")
        self.code = code


class Other(Exception):
    def __reduce__(self) -> Any:
        return ValueError, ("somebody else",)


class Silent(Exception):
    def __str__(self) -> str:
        raise KeyError("no text")


class Evil(Exception):
    def __reduce__(self) -> Any:
        raise SystemExit(4)


class EvilOnArrival(Exception):
    def __reduce__(self) -> Any:
        return _exit_on_arrival, ()


def _exit_on_arrival() -> Any:
    raise SystemExit(5)


class NotEqual:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("compare me not")

    __hash__ = None  # type: ignore[assignment]


def build(how: str) -> None:  # noqa: C901, PLR0912 - one line for each kind of exception
    if how == "detailed":
        error = Detailed(3, "text")
        error.hint = {"try": [1, 2]}
        error.add_note("the user's own note")
        raise error
    if how == "renamed":
        raise Renamed(3, "here")
    if how == "lossy":
        raise Lossy(3)
    if how == "other":
        raise Other(3)
    if how == "attribute":
        error = Detailed(3)
        error.hint = (i for i in range(3))
        raise error
    if how == "silent":
        raise Silent(1)
    if how == "evil":
        raise Evil(1)
    if how == "arrival":
        raise EvilOnArrival(1)
    if how == "local":

        class Local(Exception):
            pass

        raise Local(7)
    if how == "chained":
        try:
            {}["missing"]  # type: ignore[call-overload]
        except KeyError as cause:
            raise ValueError("outer") from cause
    if how == "group":
        raise ExceptionGroup("several", [ValueError(1), TypeError(2)])
    if how == "file":
        open("/no/such/file")
    if how == "unicode":
        b"\xff".decode()
    if how == "incomparable":
        raise Detailed(3, NotEqual())  # type: ignore[arg-type]


async def test_the_users_own() -> None:
    async with Pool(local=1) as pool:
        with pytest.raises(Detailed) as caught:
            await pool.submit(build, "detailed")
        error = caught.value
        assert (type(error), error.args, error.code, error.hint) == (Detailed, (3, "text"), 3, {"try": [1, 2]})
        assert error.__notes__[0] == "the user's own note" and len(error.__notes__) == 2
        (pid,) = [slot.pid for slot in pool.status().slots]
        note = error.__notes__[1].splitlines()
        assert note[0] == f"in task 1 'tests.pool.test_errors.build', attempt 1, on local/0 (pid {pid}):"
        assert note[1] == "Traceback (most recent call last):"
        assert 'test_errors.py", line' in note[2] and note[2].endswith("in build")
        assert not any("aioparallel/_worker" in line for line in note), "frames of ours are no news"
        assert "".join(traceback.format_exception(error)).count("in build") == 1

        with pytest.raises(ValueError, match="outer") as chained:
            await pool.submit(build, "chained")
        assert "KeyError: 'missing'" in chained.value.__notes__[0] and "direct cause" in chained.value.__notes__[0]
        with pytest.raises(ExceptionGroup) as group:
            await pool.submit(build, "group")
        assert [type(inner) for inner in group.value.exceptions] == [ValueError, TypeError]
        with pytest.raises(FileNotFoundError) as missing:
            await pool.submit(build, "file")
        assert (missing.value.errno, missing.value.filename) == (2, "/no/such/file")
        with pytest.raises(UnicodeDecodeError):
            await pool.submit(build, "unicode")
        with pytest.raises(Detailed) as odd:
            await pool.submit(build, "incomparable")
        assert isinstance(odd.value.args[1], NotEqual)
        with pytest.raises(Exception, match="7") as local:
            await pool.submit(build, "local")
        assert type(local.value).__name__ == "Local" and local.value.args == (7,)


@pytest.mark.parametrize(
    ("how", "type_name", "text"),
    [
        ("renamed", "tests.pool.test_errors.Renamed", "code 3 at here"),
        ("lossy", "tests.pool.test_errors.Lossy", "code 3"),
        ("other", "tests.pool.test_errors.Other", "3"),
        ("attribute", "tests.pool.test_errors.Detailed", "(3, '')"),
        ("evil", "tests.pool.test_errors.Evil", "1"),
        ("arrival", "tests.pool.test_errors.EvilOnArrival", "1"),
    ],
)
async def test_what_cannot_travel_or_not_truly_arrives_as_text(how: str, type_name: str, text: str) -> None:
    async with Pool(local=1) as pool:
        with pytest.raises(RemoteError) as caught:
            await pool.submit(build, how)
        assert (caught.value.type_name, caught.value.text) == (type_name, text)
        assert "in build" in caught.value.__notes__[0]
        (found,) = await pool.map(build, [how], on_error="return")
        assert isinstance(found, RemoteError) and found.text == text
        assert await pool.submit(abs, -1) == 1 and len(pool.status().slots) == 1


async def test_hooks_that_misbehave_on_the_way() -> None:
    async with Pool(local=1) as pool:
        with pytest.raises(Silent):
            await pool.submit(build, "silent")
        with pytest.raises(SerializationError, match="its function or arguments could not be rebuilt: LookupError: not here"):
            await pool.submit(len, Arriving("slot"))
        with pytest.raises(TaskExited) as caught:
            await pool.submit(len, Arriving("exit"))
        assert isinstance(caught.value.cause, SystemExit)
        task = pool.submit(make_arriving, "controller")
        with pytest.raises(SerializationError, match=r"the result of .* could not be rebuilt: LookupError: not here"):
            await task
        assert task.state == "failed"
        with pytest.raises(SerializationError, match="could not be rebuilt: SystemExit: 6"):
            await pool.submit(make_arriving, "exit in the controller")
        with pytest.raises(SerializationError, match="its result, a Arriving, could not be pickled"):
            await pool.submit(make_arriving, "nowhere")
        status = pool.status()
        assert (status.failed, status.succeeded, len(status.slots)) == (6, 0, 1)


class Arriving:
    def __init__(self, where: str) -> None:
        self.where = where

    def __reduce__(self) -> Any:
        if self.where == "nowhere":
            raise KeyboardInterrupt
        return _arriving, (self.where,)


def _arriving(where: str) -> Any:
    if where.startswith("exit"):
        raise SystemExit(6)
    raise LookupError("not here")


def make_arriving(where: str) -> Arriving:
    return Arriving(where)


# --- exceptions that hinder those who handle them


class Frozen(Exception):
    """As a frozen dataclass: nothing can be set."""

    def __setattr__(self, name: str, value: object) -> None:
        raise TypeError("frozen")


class TupleOfNotes(Exception):
    def __init__(self) -> None:
        self.__notes__ = ("its own",)


class Noteless(Exception):
    __notes__ = 3

    def __setattr__(self, name: str, value: object) -> None:
        raise SystemExit("not even that")


class Shapeless(Exception):
    @property
    def __class__(self) -> Any:
        raise LookupError("no class")


class Wordy(str):
    __slots__ = ()

    def __getitem__(self, index: Any) -> Any:
        return Wordy(super().__getitem__(index))


class SaysMore(Exception):
    """Its text is more than a `str`; and it cannot travel."""

    def __str__(self) -> str:
        return Wordy("more than a str")

    def __reduce__(self) -> Any:
        raise ValueError


def raise_one(kind: type[Exception]) -> None:
    raise kind


async def test_an_exception_that_takes_no_note_in_the_usual_way() -> None:
    async with Pool(local=1) as pool:
        for kind, own in ((Frozen, 0), (TupleOfNotes, 1)):
            with pytest.raises(kind) as caught:
                await pool.submit(raise_one, kind)
            assert "in task" in caught.value.__notes__[own]
            with pytest.raises(kind) as caught:
                await pool.map(raise_one, [kind] * 3, chunk=3)
            assert caught.value.__notes__[-1] == "item 0 of map(tests.pool.test_errors.raise_one)"
        with pytest.raises(Noteless):
            await pool.submit(raise_one, Noteless)
        with pytest.raises(RemoteError, match="more than a str"):
            await pool.submit(raise_one, SaysMore)


async def test_an_exception_that_cannot_be_handled_costs_its_task_alone() -> None:
    async with Pool(local=1) as pool:
        tasks = [pool.submit(raise_one, Shapeless), *(pool.submit(abs, -number) for number in range(20))]
        async with asyncio.timeout(20):
            await asyncio.wait(tasks)
        assert [task.result() for task in tasks[1:]] == list(range(20))
        with pytest.raises(SerializationError, match="could not be opened: LookupError: no class"):
            await tasks[0]
        async with asyncio.timeout(20):
            found = await pool.map(raise_one, [Frozen, Shapeless, Frozen], chunk=3, on_error="return")
        assert [type(error) for error in found] == [Frozen, SerializationError, Frozen]


class Untold:
    """Raises, where it is pickled or rebuilt, what cannot be put into words."""

    def __init__(self, pickles: bool) -> None:
        self.pickles = pickles

    def __reduce__(self) -> Any:
        if self.pickles:
            return _untold, ()
        raise Silent


def _untold() -> Any:
    raise Silent


async def test_a_hook_whose_exception_has_no_text() -> None:
    unprintable = "Silent: <unprintable: its text raised KeyError>"
    async with Pool(local=1) as pool:
        with pytest.raises(SerializationError, match=f"could not be pickled: {unprintable}"):
            pool.submit(print, Untold(False))
        with pytest.raises(SerializationError, match=f"data=Untold could not be pickled: {unprintable}"):
            pool.options(data=Untold(False))
        with pytest.raises(SerializationError, match=f"could not be rebuilt: {unprintable}"):
            await pool.submit(Untold, True)
        with pytest.raises(SerializationError, match=f"could not be rebuilt: {unprintable}"):
            await pool.map(Untold, [True, True], chunk=2)


class Unreadable(type):
    @property
    def __mro__(cls) -> Any:
        raise LookupError("no bases")


class Rootless(Exception, metaclass=Unreadable):
    """Cannot even be described."""


async def test_an_exception_that_cannot_be_described_is_told_all_the_same() -> None:
    async with Pool(local=1) as pool:
        pid = await pool.submit(os.getpid)
        with pytest.raises(SerializationError, match="what came of it could not be told: LookupError: no bases"):
            await pool.submit(raise_one, Rootless)
        found = await pool.map(raise_one, [Frozen, Rootless, Frozen], chunk=3, on_error="return")
        assert [type(error) for error in found] == [Frozen, SerializationError, Frozen]
        assert await pool.submit(os.getpid) == pid


async def test_an_interpreter_of_another_kind_is_said_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("_frozen_importlib_external.MAGIC_NUMBER", b"another")
    async with Pool(local=1) as pool:
        with pytest.raises(errors.HostError, match=r"is not the controller's .*: magic .*; set python= to one that is"):
            await pool.submit(abs, -1)
    assert "Traceback" not in capfd.readouterr().err
