"""The census on several hosts."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import psutil
import pytest

from aioparallel._cli.census import Census, measure
from aioparallel._cli.report import Share, Summary, as_dict, as_text
from aioparallel._cli.spread import measure_there, sources
from tests.far.servers import _free_port

from .test_command_line import COMMAND, MARK, ROOT, carrying, read_all, start_on_terminal

SMALL = """
import sys
from aioparallel._cli import demo, main
demo.stdlib_folder = lambda: sys.argv[1]
sys.exit(main.main(["demo", *sys.argv[2:]]))
"""
FILES = 40


@pytest.fixture
def small(tmp_path: Path) -> str:
    """Return a folder of good files and one which is not Python."""
    folder = tmp_path / "library"
    folder.mkdir()
    for number in range(FILES):
        (folder / f"good{number}.py").write_text("def f():\n    return 1\n")
    (folder / "bad.py").write_text("def (:\n")
    return str(folder)


def census(folder: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SMALL, folder, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )


def test_on_servers_of_the_occasion(small: str, tmp_path: Path) -> None:
    done = census(small, "--hosts", "demo", "--slots", "0", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    whole = json.loads(done.stdout)
    assert (whole["files"], whole["lines"], list(whole["unparsed"]), whole["failed"]) == (FILES, 2 * FILES, [f"{small}/bad.py"], {})
    shares = whole["pool"]["hosts"]
    assert set(shares) == {"demo-1", "demo-2"}
    assert sum(share["files"] for share in shares.values()) == FILES
    assert all("missing" not in share for share in shares.values())


def test_the_table_says_which_host_counted_what(small: str) -> None:
    done = census(small, "--hosts", "demo")
    assert (done.returncode, done.stderr) == (0, "")
    table = done.stdout.split("which host counted what\n-----------------------\n")[1]
    counts = dict(re.findall(r"^(\S+) +(\d+) files", table, re.MULTILINE))
    assert set(counts) <= {"local", "demo-1", "demo-2"} and {"demo-1", "demo-2"} <= set(counts)
    assert sum(map(int, counts.values())) == FILES


def test_a_host_that_took_no_part_is_said(small: str) -> None:
    name = f"127.0.0.1:{_free_port()}"
    done = census(small, "--hosts", name, "--slots", "1")
    assert done.returncode == 1
    assert (
        done.stderr.startswith(f"aioparallel: error: host {name} took no part: the connection was refused") and done.stderr.count("\n") == 1
    )
    assert f"{name}  the connection was refused" in done.stdout
    assert f"files  {FILES:>18,}" in done.stdout


def test_no_host_at_all_is_an_error(small: str) -> None:
    names = [f"127.0.0.1:{_free_port()}", f"localhost:{_free_port()}"]
    done = census(small, "--hosts", ",".join(names), "--slots", "0")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("was refused") == 2 and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--hosts", "a,a"], "names 'a' twice"),
        (["--hosts", "a:b"], "'b' is no port"),
        (["--hosts", ""], "give the name of a host"),
        (["--slots", "-1", "--hosts", "a"], "at least 1 is needed, not -1"),
    ],
)
def test_wrong_arguments(arguments: list[str], reason: str) -> None:
    done = census("/nowhere", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in done.stderr and "Traceback" not in done.stderr


@pytest.mark.timeout(300)
def test_ctrl_c_takes_the_servers_along(tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    process, read = start_on_terminal([*COMMAND, "demo", "--hosts", "demo"], **{MARK: mark, "TMPDIR": str(tmp_path)})
    drawn = read()
    while not re.search(r"[1-9][\d,]* of ", drawn):
        more = read()
        assert more, f"ended before a file was done: {drawn!r}"
        drawn += more
    everyone = carrying(mark)
    assert sum("ssh_server" in " ".join(one.cmdline()) for one in everyone) == 2
    assert len([path for path in os.listdir(tmp_path) if path.startswith("aioparallel-ssh-")]) == 2
    os.killpg(process.pid, signal.SIGINT)
    last = read_all(read)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.read() == ""
    assert process.wait(60) == 130
    assert last.endswith("\r\x1b[Kaioparallel: interrupted\r\n") and "Traceback" not in last
    psutil.wait_procs(everyone, timeout=10)
    assert carrying(mark) == [] and os.listdir(tmp_path) == []


def test_files_are_read_here_and_one_that_cannot_be_is_its_own_error(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("import os\n")
    there, missing = sources([str(tmp_path / "one.py"), str(tmp_path / "two.py")])
    assert there == b"import os\n" and isinstance(missing, FileNotFoundError)
    assert measure("elsewhere.py", there).imports == ("os",)
    with pytest.raises(FileNotFoundError):
        measure_there("two.py", missing)


def test_shares_in_table_and_json() -> None:
    shares = (Share("local", 1, 700, 3000, 1.5), Share("demo-1", 2, 1100, 50_000, 2.25), Share("box", missing="it is away"))
    values = {"slots": 3, "cpus": 2, "tasks": 10, "seconds": 5.0, "run_seconds": 9.5, "cpu_seconds": 9.0, "hosts": shares}
    lines = as_text(Census(), Summary(**values), "/lib").splitlines()
    assert lines[-3:] == [
        "local       700 files        3,000 lines      1.50 s on 1 slot",
        "demo-1    1,100 files       50,000 lines      2.25 s on 2 slots",
        "box     it is away",
    ]
    whole = as_dict(Census(), Summary(**values), "/lib")["pool"]["hosts"]
    assert whole["demo-1"] == {"slots": 2, "files": 1100, "lines": 50_000, "seconds": 2.25}
    assert whole["box"]["missing"] == "it is away"
