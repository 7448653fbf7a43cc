"""Frozen records of named fields, which look like dataclasses to type checkers and cost nothing to import.

A score of real dataclasses would take a tenth of the time that a pool takes to start: each compiles its methods as it is defined.
"""

from __future__ import annotations

from typing import Any, ClassVar, dataclass_transform


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Record:
    """A frozen record: a subclass's annotations are its fields, given by name; a value in the class is a default."""

    _fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls._fields = (*cls._fields, *(name for name, kind in cls.__annotations__.items() if not str(kind).startswith("ClassVar")))

    def __init__(self, **values: Any) -> None:
        if tuple(values) != self._fields:
            wrong = [name for name in values if name not in self._fields]
            wrong += [name for name in self._fields if name not in values and not hasattr(type(self), name)]
            if wrong:
                raise TypeError(f"{type(self).__name__} takes {', '.join(self._fields)}; missing or unknown: {', '.join(wrong)}")
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {name!r} cannot be set")

    def _values(self) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in self._fields])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and type(self) is type(other) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self._fields)})"
