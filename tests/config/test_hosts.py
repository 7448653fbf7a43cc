"""Hosts as values: what cannot be one is refused where it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aioparallel import SSH

WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"address": 3}, TypeError, r"^SSH\(3\): give the name of a host"),
    ({"address": "me@box:abc"}, ValueError, r"^SSH\('me@box:abc'\): 'abc' is no port"),
    ({"cwd": 3}, TypeError, r"^SSH\('box', cwd=3\): give a str, or None"),
    ({"user": b"me"}, TypeError, r"user=b'me'\): give a str"),
    ({"python": 3}, TypeError, r"python=3\): give a str"),
    ({"keys": "key"}, TypeError, r"^SSH\('box', keys='key'\): give a list of files, as in keys=\["),
    ({"keys": ["key", 3]}, TypeError, r"keys=\('key', 3\)\): give a list of files"),
    ({"env": {"A": 1}}, TypeError, r"^SSH\('box', env={'A': 1}\): give names and values, both str, as in env={'OMP_NUM_THREADS': '1'}"),
    ({"labels": "gpu"}, TypeError, r"labels='gpu'\): give names and values"),
]


@pytest.mark.parametrize(("fields", "kind", "said"), WRONG)
def test_what_cannot_be_is_refused(fields: dict[str, Any], kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        SSH(**{"address": "box", **fields})


def test_paths_are_taken_too() -> None:
    host = SSH("box", keys=[Path("a"), "b"], known_hosts=Path("c"), config=Path("d"))
    assert host == SSH("box", keys=("a", "b"), known_hosts="c", config="d")
