"""How a call is made: the frozen values behind `pool.options(...)`.

`None` means off. A value that cannot work is refused where it is given, with what to do instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from inspect import iscoroutinefunction
from math import inf, isfinite
from typing import Any, ClassVar, cast

from ._wire.codec import dumps, dumps_in_band
from ._wire.records import Record
from ._worker.failures import in_words, type_name
from .errors import HostLost, SerializationError

__all__ = ["DEFAULTS", "Options", "Retry"]

MAX_RETRIES = 10_000
"""Attempts are numbered in 16 bits, and what was lost underway is numbered too."""


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)


def _check_seconds(name: str, value: object, *, minimum_excluded: bool) -> None:
    if value is None and minimum_excluded:
        return
    wrong = not _is_number(value) or value < 0  # type: ignore[operator]
    if wrong or (minimum_excluded and value == 0):
        what = "seconds above 0, or None for no limit" if minimum_excluded else "seconds, 0 or more"
        raise ValueError(f"{name}={value!r}: give {what}")


class Retry(Record):
    """How a call is tried again, as in `pool.options(retry=Retry(attempts=3, on=OSError, delay=1.0))`; `retries=2` is `Retry(attempts=3)`.

    A task's own failures are an exception, a crash and a timeout; what a lost host or link takes with it is counted apart. No retry
    outlives the task's deadline. Raises TypeError or ValueError for what cannot be.
    """

    attempts: int = 1
    """How many attempts there may be in all that fail by the task's own doing."""
    infrastructure: int = 3
    """How often it is run again, at once, after a host or link was lost with it."""
    on: type[BaseException] | tuple[type[BaseException], ...] | Callable[[Exception], object] | None = None
    """Try again only after these exceptions (by their types' names, so that nothing of yours is opened for it), or where a function of
    the exception says True. None: after every failure of the task's own but MemoryLimitExceeded, which must be named itself."""
    delay: float = 0.0
    """Seconds to wait before the second attempt."""
    backoff: float = 2.0
    """Each further delay is so many times as long as the one before it."""
    jitter: float = 0.1
    """Up to this part of each delay is left out, by chance, so that tasks that failed together do not come back together."""
    max_delay: float | None = None
    """No delay is longer (seconds)."""
    avoid_host: bool = True
    """Try elsewhere than where it failed or was lost, while another host is up."""

    names: ClassVar[frozenset[str] | None] = None
    """The qualified names of the types in `on`; None: there are none."""
    predicate: ClassVar[Any] = None
    """The function in `on`."""

    def __init__(
        self, *, attempts: int = 1, infrastructure: int = 3,
        on: type[BaseException] | Iterable[type[BaseException]] | Callable[[Exception], object] | None = None,
        delay: float = 0.0, backoff: float = 2.0, jitter: float = 0.1, max_delay: float | None = None, avoid_host: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(
            attempts=attempts, infrastructure=infrastructure, on=_as_types(on), delay=delay, backoff=backoff, jitter=jitter,
            max_delay=max_delay, avoid_host=avoid_host,
        )  # fmt: skip
        self._check()
        self._check_on()

    def _check(self) -> None:
        if type(self.attempts) is not int or not 1 <= self.attempts <= MAX_RETRIES + 1:
            raise ValueError(f"attempts={self.attempts!r}: give how many there may be in all, 1 to {MAX_RETRIES + 1}")
        if type(self.infrastructure) is not int or not 0 <= self.infrastructure <= MAX_RETRIES:
            raise ValueError(f"infrastructure={self.infrastructure!r}: give how many lost hosts are made good, 0 to {MAX_RETRIES}")
        _check_seconds("delay", self.delay, minimum_excluded=False)
        _check_seconds("max_delay", self.max_delay, minimum_excluded=True)
        if not _is_number(self.backoff) or self.backoff < 1:
            raise ValueError(f"backoff={self.backoff!r}: give a number, 1 (each delay is as long as the first) or more")
        if not _is_number(self.jitter) or not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter={self.jitter!r}: give the part of a delay that chance may leave out, 0 to 1")
        if self.max_delay is not None and self.max_delay < self.delay:
            raise ValueError(f"max_delay={self.max_delay!r} is less than delay={self.delay!r}: give as much or more")
        if type(self.avoid_host) is not bool:
            raise TypeError(f"avoid_host={self.avoid_host!r}: give True or False")

    def _check_on(self) -> None:
        on: Any = self.on
        if on is None:
            return
        if not isinstance(on, tuple):
            if not callable(on):
                raise TypeError(f"on={on!r}: give types of exceptions, as in on=(OSError, WorkerDied), or a function of the exception")
            if iscoroutinefunction(on):
                raise TypeError(f"on={on!r}: it is async, and nobody can wait for it there: give a plain function")
            self.__dict__["predicate"] = on
            return
        kinds = cast("Any", on)
        if not kinds:
            raise ValueError("on=(): no exception would be tried again: give types, or leave attempts=1")
        for kind in kinds:
            if not (isinstance(kind, type) and issubclass(kind, BaseException)):
                raise TypeError(f"on=: {kind!r} is no type of exceptions; give types, as in on=(OSError, WorkerDied)")
        if HostLost in kinds:
            raise ValueError("on=: HostLost is no failure of the task's own: infrastructure= says how often it is run again")
        self.__dict__["names"] = frozenset(map(type_name, kinds))

    def but(self, **changes: Any) -> Retry:
        """Return this with some changed."""
        return Retry(**{**{name: getattr(self, name) for name in self._fields}, **changes})

    def __repr__(self) -> str:
        changed = {name: getattr(self, name) for name in self._fields if getattr(self, name) != getattr(Retry, name)}
        return f"Retry({', '.join(f'{name}={value!r}' for name, value in changed.items())})"


def _as_types(on: Any) -> Any:
    """Return types as a tuple, and a function as it is."""
    if isinstance(on, type):
        return (on,)
    return tuple(cast("Any", on)) if isinstance(on, Iterable) and not isinstance(on, str) else on


class Options(Record):
    """What a call may be given besides its function and arguments. See `Pool.options`."""

    timeout: float | None = None
    """Seconds that one attempt may run."""
    deadline: float | None = None
    """Seconds from submit to the end, over queue, attempts and retries."""
    retry: Retry = Retry()
    """How the task is tried again; `retries=2` is short for `Retry(attempts=3)`."""
    memory: int | None = None
    """Bytes that an attempt's process tree may hold beyond the idle slot."""
    name: str | None = None
    """What the task is called in messages; None: its function's name."""
    data: Any = None
    """Anything of the user's; opaque to us: `task.data`, `current_task().data`."""
    idempotent: bool | None = None
    """None: run again after a lost host or link. False: never run twice. True: gladly."""
    grace: float = 0.0
    """Seconds between asking an attempt to stop and killing it; 0: it is killed at once."""
    isolate: bool = False
    """Run in a fresh slot that serves this call alone."""
    copy: bool = True
    """Snapshot large buffers at submit. False: the caller promises not to touch them until the task is done."""
    hosts: tuple[str, ...] | Callable[[Any], object] | None = None
    """Only these hosts, by name ("local": this machine), or those of which a function of a `policies.HostView` says True."""
    labels: Mapping[str, str] | None = None
    """Only hosts whose entry has these labels."""
    locality: Mapping[str, int] | None = None
    """By a host's name, how much better it is than another: 0 is indifferent, -1 forbidden."""
    selection: Callable[[Any, Any], Any] | str | None = None
    """The policy that chooses the host; None: the pool's. See `aioparallel.policies`."""
    backup: Any = None
    """By which rule a second copy is started of an attempt that is late; None: by none. See `aioparallel.Backup`."""
    cost: float | None = None
    """How much work the call is compared with others of its function, in any unit: what is expected of it is scaled by that."""

    extras: ClassVar[bytes] = b""
    """What a slot must know of `name` and `data`, pickled when they were given."""
    pickled_data: ClassVar[bytes | None] = None
    limits: ClassVar[tuple[float, float, int]] = (inf, 0.0, 0)
    """(timeout, grace, memory) as they travel."""
    is_placed: ClassVar[bool] = False
    """Whether the call says something about hosts."""
    is_special: ClassVar[bool] = False
    """Whether it waits elsewhere than other calls."""

    def __init__(self, **values: Any) -> None:
        _read_retry(values)
        if "hosts" in values:
            values["hosts"] = _as_names(values["hosts"])
        if values.get("backup") is False:
            values["backup"] = None
        for name in ("labels", "locality"):
            if isinstance(given := values.get(name), Mapping):
                values[name] = dict(cast("Any", given))  # what is changed later changes no call
        super().__init__(**values)
        self._check()
        self._check_placement()
        self.__dict__["is_placed"] = any(value is not None for value in (self.hosts, self.labels, self.locality, self.selection))
        self.__dict__["is_special"] = self.is_placed or self.isolate
        self.__dict__["limits"] = (inf if self.timeout is None else self.timeout, self.grace, self.memory or 0)
        if self.name is not None or self.data is not None:
            self.__dict__["pickled_data"] = _pickle_data(self.data)
            self.__dict__["extras"] = self.extras_with(())

    def _check(self) -> None:
        for name in ("timeout", "deadline"):
            _check_seconds(name, getattr(self, name), minimum_excluded=True)
        _check_seconds("grace", self.grace, minimum_excluded=False)
        retry: Any = self.retry
        if not isinstance(retry, Retry):
            raise TypeError(f"retry={retry!r}: give a value, as in retry=Retry(attempts=3), or retries=2, which is short for that")
        if self.memory is not None and (type(self.memory) is not int or self.memory <= 0):
            raise ValueError(f"memory={self.memory!r}: give bytes as an int above 0, or None for no limit")
        if self.idempotent is False and self.retries:
            raise ValueError("idempotent=False forbids running twice, so retries must be 0 (and Retry(attempts=) 1)")
        if self.name is not None and not isinstance(self.name, str):
            raise TypeError(f"name={self.name!r}: give a str")
        _check_cost(self.cost)
        for name in ("isolate", "copy"):
            if type(getattr(self, name)) is not bool:
                raise TypeError(f"{name}={getattr(self, name)!r}: give True or False")
        if self.idempotent is not None and type(self.idempotent) is not bool:
            raise TypeError(f"idempotent={self.idempotent!r}: give True, False or None")

    def _check_placement(self) -> None:
        labels: Any = self.labels
        locality: Any = self.locality
        if labels is not None and not isinstance(labels, Mapping):
            raise TypeError(f"labels={labels!r}: give a dict, as in labels={{'gpu': 'yes'}}")
        if locality is not None and not (isinstance(locality, Mapping) and _are_ints(cast("Any", locality))):
            raise TypeError(f"locality={locality!r}: give a dict of hosts' names and ints (-1 forbidden, 0 indifferent, 1 and more better)")
        if self.selection is not None and not isinstance(self.selection, str) and not callable(self.selection):
            raise TypeError(f"selection={self.selection!r}: give a policy, as in selection=policies.RoundRobin()")

    def extras_with(self, seed_path: tuple[Any, ...]) -> bytes:
        """Return `extras` for a task whose seed does not come from its id."""
        return dumps((self.name, self.pickled_data, seed_path))[0]

    @property
    def retries(self) -> int:
        """How many more attempts follow one that failed."""
        return self.retry.attempts - 1

    def but(self, changes: dict[str, Any]) -> Options:
        """Return these options with some changed. Raises TypeError for a name that does not exist."""
        known = {*self._fields, "retries"}
        for name in changes:
            if name not in known:
                raise TypeError(f"options() has no {name!r}; it knows {', '.join(sorted(known))}")
        replaced = {*changes, "retry"} if "retries" in changes else changes
        given = {name: value for name, value in self.__dict__.items() if name in self._fields and name not in replaced}
        return Options(**given, **changes)


def _read_retry(values: dict[str, Any]) -> None:
    """Put a Retry in the place of what is short for one. Raises ValueError for a wrong number, and where both are given."""
    if "retry" in values and values["retry"] is None:
        del values["retry"]
    if "retries" not in values:
        return
    retries = values.pop("retries")
    if type(retries) is not int or not 0 <= retries <= MAX_RETRIES:
        raise ValueError(f"retries={retries!r}: give the number of further attempts, 0 to {MAX_RETRIES}")
    if "retry" in values:
        raise ValueError(f"retries={retries} is short for retry=Retry(attempts={retries + 1}): give one of the two")
    values["retry"] = Retry(attempts=retries + 1)


def _check_cost(cost: object) -> None:
    if cost is not None and (isinstance(cost, bool) or not isinstance(cost, int | float) or not isfinite(cost) or cost <= 0):
        raise ValueError(f"cost={cost!r}: give a number above 0, in any unit, or None")


def _are_ints(mapping: Mapping[Any, Any]) -> bool:
    return all(type(value) is int for value in mapping.values())


def _as_names(hosts: Any) -> Any:
    """Return hosts by name, or the function that says which. Raises TypeError for what cannot be either."""
    if hosts is None or callable(hosts):
        return hosts
    if isinstance(hosts, str) or not isinstance(hosts, Iterable):
        raise TypeError(f"hosts={hosts!r}: give a list of hosts' names, as in hosts=[{hosts!r}], or a function of a HostView")
    return tuple(map(_name_of, cast("Any", hosts)))


def _name_of(host: Any) -> str:
    name = host if isinstance(host, str) else getattr(host, "name", None)
    if not isinstance(name, str):
        raise TypeError(f"hosts=: {host!r} is no host; give its name")
    return name


def _pickle_data(data: object) -> bytes | None:
    # A pickle within a pickle: a slot opens it only when the task asks for it.
    try:
        return None if data is None else dumps_in_band(data)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise SerializationError(f"data={type(data).__qualname__} could not be pickled: {in_words(error)}") from error


DEFAULTS = Options()
