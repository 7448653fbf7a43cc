"""The census on several hosts: which of them counted a file is counted too.

Other machines need not have this one's files, nor this package: the bytes of each file travel with the call, and what counts them
travels as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import cloudpickle

from .._worker.context import current_task
from . import census
from .census import FileCensus, measure


def measure_there(path: str, source: bytes | OSError) -> tuple[str, FileCensus]:
    """Count one file, and say which host this is. Raises what reading or parsing it raises, see `census.UNPARSABLE`."""
    if isinstance(source, OSError):
        raise source
    return current_task().host, measure(path, source)


def sources(paths: Iterable[str]) -> Iterator[bytes | OSError]:
    """Yield what each file holds, or why it cannot be read."""
    for path in paths:
        try:
            with open(path, "rb") as file:
                yield file.read()
        except OSError as error:
            yield error


@contextmanager
def travelling() -> Iterator[None]:
    """Have functions and classes of the census travel by value: nothing of this package's commands is on other machines."""
    modules = (census, sys.modules[__name__])
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)
