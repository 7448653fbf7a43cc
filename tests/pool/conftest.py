"""Fixtures of the pool's suites."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .gate import Gate


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A place where tasks and the test meet."""
    with Gate(tmp_path) as made:
        yield made
