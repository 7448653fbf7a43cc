"""The tables: what they say, and that they stay in their columns."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aioparallel._cli.census import Census, FileCensus, Spot
from aioparallel._cli.report import COLUMNS, Summary, as_dict, as_text


def summary(**changes: Any) -> Summary:
    values = {"slots": 2, "cpus": 2, "tasks": 1790, "seconds": 5.0, "run_seconds": 9.5, "cpu_seconds": 9.0}
    return Summary(**{**values, **changes})


def census(unparsed: int = 0, failed: int = 0) -> Census:
    whole = Census()
    for number in range(7):
        path = f"/lib/package/module{number}.py"
        whole.add(
            path,
            FileCensus(
                path=path,
                lines=10_000,
                classes=3,
                functions=200,
                async_functions=1,
                longest=(Spot(1_000 + number, path, 12, "a_function"),),
                deepest=Spot(number, path, 99),
                imports=("os", "sys"),
                seconds=0.1 * number,
                cpu_seconds=0.1,
            ),
        )
    for number in range(unparsed):
        whole.add(f"/lib/bad{number}.py", SyntaxError("no"))
    for number in range(failed):
        whole.add(f"/lib/worse{number}.py", ZeroDivisionError("no"))
    return whole


def test_table() -> None:
    lines = as_text(census(), summary(), "/lib").splitlines()
    assert lines[0] == "stdlib census"
    text = "\n".join(lines)
    for line in (
        "files                   7",
        "lines              70,000",
        "functions           1,400",
        "deepest nesting         6   package/module6.py:99",
        "   1,006 lines   package/module6.py:12",
        "       7 files   os",
        "     600 ms   package/module6.py",
        "tasks               1,790   on 2 slots, 95% of their time busy",
        "speed-up            1.90x   over one core: 9.50 s of run time in slots / 5.00 s",
    ):
        assert line in text
    assert max(map(len, lines)) <= COLUMNS
    assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize(
    ("bad", "notes"),
    [(1, ["1 more do not parse:", "bad0.py"]), (5, ["5 more do not parse:", "bad0.py", "bad1.py", "bad2.py", "and 2 others"])],
)
def test_files_that_do_not_parse_are_counted_and_named(bad: int, notes: list[str]) -> None:
    lines = as_text(census(unparsed=bad), summary(), "/lib").splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith("files"))
    assert [line[28:] for line in lines[first : first + len(notes)]] == notes
    assert lines[first + len(notes)].startswith("lines")


def test_files_that_failed_are_counted() -> None:
    assert "2 more failed, see stderr" in as_text(census(failed=2), summary(), "/lib")


def test_speed_up_claims_no_cores_that_do_not_exist() -> None:
    crowded = summary(slots=8, run_seconds=38.0)
    assert crowded.speed_up == 2.0
    assert "2.00x   over one core: all 2 CPUs, which 8 slots share" in as_text(census(), crowded, "/lib")


def test_fewer_tasks_than_files_are_explained() -> None:
    assert "(small files travel together, 3.5 to a task)" in as_text(census(), summary(tasks=2), "/lib")
    assert "travel together" not in as_text(census(), summary(tasks=7), "/lib")


def test_nothing_at_all_still_prints() -> None:
    nothing = summary(slots=0, tasks=0, seconds=0.0, run_seconds=0.0, cpu_seconds=0.0)
    assert as_text(Census(), nothing, "/lib").startswith("stdlib census\n")
    assert nothing.busy == nothing.speed_up == 0.0


def test_json_holds_the_same() -> None:
    whole = json.loads(json.dumps(as_dict(census(unparsed=2), summary(), "/lib")))
    assert whole["title"] == "stdlib census"
    assert whole["files"] == 7
    assert whole["unparsed"]["/lib/bad1.py"] == "SyntaxError: no"
    assert whole["longest_functions"][0] == {"size": 1006, "path": "/lib/package/module6.py", "line": 12, "name": "a_function"}
    assert whole["pool"]["speed_up"] == 1.9
