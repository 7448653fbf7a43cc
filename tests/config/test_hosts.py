"""Hosts as values: what cannot be one is refused where it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aioparallel import SSH

WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"address": 3}, TypeError, r"^SSH\(3\): give the name of a host"),
    ({"address": "me@box:abc"}, ValueError, r"^SSH\('me@box:abc'\): 'abc' is no port"),
    ({"address": "box:99999"}, ValueError, r"^SSH\('box:99999'\): '99999' is no port"),
    ({"address": "box:0"}, ValueError, r"^SSH\('box:0'\): '0' is no port"),
    ({"address": "box:"}, ValueError, r"^SSH\('box:'\): '' is no port"),
    ({"address": "me@"}, ValueError, r"^SSH\('me@'\): give the name of a host"),
    ({"address": "@box"}, ValueError, r"^SSH\('@box'\): give the name of a host"),
    ({"address": "a box"}, ValueError, r"^SSH\('a box'\): give the name of a host"),
    ({"address": "a\nbox"}, ValueError, r"give the name of a host"),
    ({"jump": ""}, ValueError, r"^SSH\('box', jump=''\): give user@name:port, several with commas, or None"),
    ({"jump": "gate:x"}, ValueError, r"jump='gate:x'\): give user@name:port"),
    ({"jump": "one,two:99999"}, ValueError, r"jump='one,two:99999'\): give user@name:port"),
    ({"env": {"A=B": "1"}}, ValueError, r"env=.*'A=B' cannot be a variable: leave it out"),
    ({"env": {"": "1"}}, ValueError, r"env=.*'' cannot be a variable"),
    ({"env": {"A": "x\0"}}, ValueError, r"env=.*'A' cannot be a variable"),
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


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("box", ("box", None, None)),
        ("me@box:2222", ("box", "me", 2222)),
        ("me@work@box", ("box", "me@work", None)),
        ("::1", ("::1", None, None)),
        ("me@fe80::1%eth0", ("fe80::1%eth0", "me", None)),
        ("[::1]", ("::1", None, None)),
        ("[::1]:2222", ("::1", None, 2222)),
    ],
)
def test_an_address_is_taken_apart_as_ssh_does(address: str, parts: tuple[str, str | None, int | None]) -> None:
    assert SSH(address).parts() == parts


def test_paths_are_taken_too() -> None:
    host = SSH("box", keys=[Path("a"), "b"], known_hosts=Path("c"), config=Path("d"))
    assert host == SSH("box", keys=("a", "b"), known_hosts="c", config="d")
