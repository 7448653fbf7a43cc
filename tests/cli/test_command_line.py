"""`python -m aioparallel` as a user meets it: in a process of its own, on pipes and on a terminal."""

from __future__ import annotations

import errno
import json
import os
import pty
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from aioparallel._cli.census import python_files, stdlib_folder

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "aioparallel"]
SMALL = "import sys; from aioparallel._cli import demo, main; demo.stdlib_folder = lambda: sys.argv[1]; sys.exit(main.main(['demo']))"
"""A program that takes the census of another folder."""
MARK = "AIOPARALLEL_TEST_MARK"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)


def start_on_terminal(command: list[str], **environment: str) -> tuple[subprocess.Popen[str], Callable[[], str]]:
    """Start a command with its stderr on a terminal; return it and a function that reads what comes there, "" at its end."""
    far, near = pty.openpty()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=near,
        text=True,
        start_new_session=True,
    )
    os.close(near)

    def read() -> str:
        nonlocal far
        try:
            data = os.read(far, 65536) if far >= 0 else b""
        except OSError:  # EIO: nobody holds the other end any more
            data = b""
        if not data and far >= 0:
            os.close(far)
            far = -1
        return data.decode()

    return process, read


def read_all(read: Callable[[], str]) -> str:
    return "".join(iter(read, ""))


def carrying(mark: str) -> list[psutil.Process]:
    """Return every process whose environment carries the mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def small(tmp_path: Path) -> str:
    """Return a folder with two good files and one which is not Python."""
    (tmp_path / "one.py").write_text("def f():\n    return 1\n")
    (tmp_path / "two.py").write_text("import os\n")
    (tmp_path / "bad.py").write_text("def (:\n")
    return str(tmp_path)


def test_help_names_the_command_and_the_exit_statuses() -> None:
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "demo" in done.stdout
    assert "130  interrupted" in done.stdout


def test_help_of_the_demo() -> None:
    done = run("demo", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--slots N" in done.stdout
    assert "standard library" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "required: COMMAND"),
        (["nonsense"], "invalid choice: 'nonsense'"),
        (["demo", "--slots", "0"], "argument --slots: at least 1 is needed, not 0"),
        (["demo", "--slots", "many"], "argument --slots: not a number: 'many'"),
        (["demo", "--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_wrong_arguments(arguments: list[str], reason: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_no_files_is_an_error(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SMALL, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr == f"aioparallel: error: this interpreter's standard library holds no .py files: {tmp_path}\n"


def test_table_on_pipes_is_the_table_alone(small: str) -> None:
    done = subprocess.run([sys.executable, "-c", SMALL, small], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "stdlib census"
    assert "files                   2   1 more do not parse:" in lines
    assert "                            bad.py" in lines
    assert "       1 files   os" in lines
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("descriptor", [1, 2])
def test_started_without_stdout_or_stderr(small: str, descriptor: int) -> None:
    command = ["sh", "-c", f'exec "$0" -c "$1" "$2" {descriptor}>&-', sys.executable, SMALL, small]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("stdlib census") == (descriptor == 2)


def test_a_name_that_the_output_cannot_spell(tmp_path: Path) -> None:
    (tmp_path / "gr\u00fcn.py").write_text("def f(): pass\n")
    done = subprocess.run(
        [sys.executable, "-c", SMALL, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "gr\\xfcn.py:1" in done.stdout


def test_a_reader_that_leaves_ends_it_quietly(small: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", SMALL, small], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_is_one_line(small: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", SMALL, small], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert (done.returncode, done.stderr) == (1, f"aioparallel: error: {os.strerror(errno.ENOSPC)}\n")


@pytest.mark.timeout(300)
def test_the_whole_standard_library_with_a_progress_line() -> None:
    process, read = start_on_terminal([*COMMAND, "demo", "--json"])
    drawn = read_all(read)
    assert process.stdout is not None
    with process.stdout:
        whole = json.load(process.stdout)
    assert process.wait(60) == 0
    assert "stdlib census  [" in drawn
    assert drawn.endswith("\r\x1b[K")
    assert whole["title"] == "stdlib census"
    assert whole["files"] + len(whole["unparsed"]) == len(python_files(stdlib_folder()))
    assert whole["failed"] == {}
    assert whole["files"] > 500
    assert len(whole["longest_functions"]) == len(whole["slowest_files"]) == 5
    assert whole["most_imported_modules"]["sys"] > 100
    assert whole["pool"]["tasks"] > 0
    assert 0 < whole["pool"]["speed_up"] <= whole["pool"]["cpus"]


@pytest.mark.timeout(300)
def test_ctrl_c_ends_it_with_a_short_line_and_nothing_left() -> None:
    mark = uuid.uuid4().hex
    process, read = start_on_terminal([*COMMAND, "demo"], **{MARK: mark})
    drawn = read()
    while not re.search(r"[1-9][\d,]* of ", drawn):
        more = read()
        assert more, f"ended before a file was done: {drawn!r}"
        drawn += more
    everyone = carrying(mark)
    assert len(everyone) > 1
    os.killpg(process.pid, signal.SIGINT)
    last = read_all(read)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.read() == ""
    assert process.wait(60) == 130
    assert last.endswith("\r\x1b[Kaioparallel: interrupted\r\n")
    assert "Traceback" not in last
    psutil.wait_procs(everyone, timeout=10)
    assert carrying(mark) == []


@pytest.mark.timeout(300)
def test_the_example_prints_the_same_table() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "stdlib_census.py")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "stdlib census"


def test_watch_shows_the_scoreboard_and_the_summary(small: str) -> None:
    watched = SMALL.replace("['demo'", "['demo', '--watch'")
    assert watched != SMALL
    done = subprocess.run([sys.executable, "-c", watched, small], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("stdlib census\n") and "\x1b" not in done.stderr
    lines = done.stderr.splitlines()
    assert lines[0].startswith("census: 0 of 0 finished")
    assert any(line.startswith("pool 'census', ") for line in lines) and any(line.startswith("  ran: ") for line in lines)
