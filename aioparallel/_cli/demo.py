"""`demo`: the standard library census, taken on all local slots; an example of the library in use as much as a command.

The files stream through `pool.map`, answers come as they are ready, and a file that does not parse arrives as the exception it
raised, in its place: it is counted, and costs nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time

from .. import Pool
from .._worker.machine import usable_cpus
from . import report
from .census import Census, measure, python_files, stdlib_folder
from .progress import Progress

DESCRIPTION = """\
Parse every .py file of this interpreter's own standard library on all local
slots, and print what it is made of and what the pool did. Files that do not
parse (there are some among Python's own test data) are counted and named.
A progress line is shown on stderr when that is a terminal.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "--slots", type=_slots, metavar="N", help="worker processes to use (default: one per CPU that this process may use)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")


def run(options: argparse.Namespace) -> int:
    """Take the census, print it, and return the exit status."""
    folder = stdlib_folder()
    paths = python_files(folder)
    if not paths:
        print(f"aioparallel: error: this interpreter's standard library holds no .py files: {folder}", file=sys.stderr)
        return 1
    census, summary = asyncio.run(take_census(paths, options.slots))
    whole = report.as_dict(census, summary, folder)
    print(json.dumps(whole, indent=2) if options.json else report.as_text(census, summary, folder))
    for path, reason in sorted(census.failed.items()):
        print(f"aioparallel: error: {path}: {reason}", file=sys.stderr)
    return 1 if census.failed else 0


async def take_census(paths: list[str], slots: int | None = None) -> tuple[Census, report.Summary]:
    """Measure the files on `slots` local slots (None: as many as there are CPUs), and return the census and what the pool did.

    If cancelled: the files being parsed are abandoned, their processes are gone before this returns.
    """
    census = Census()
    began = time.perf_counter()
    async with Pool(local=slots, name="census") as pool:
        with Progress(report.TITLE, len(paths), sys.stderr) as progress:
            async with pool.map(measure, paths, ordered=False, on_error="return") as results:
                done = 0
                async for path, outcome in results.items():
                    census.add(path, outcome)
                    done += 1
                    progress.update(done)
        status = pool.status()
    seconds = time.perf_counter() - began
    return census, report.Summary(
        slots=len(status.slots),
        cpus=usable_cpus(),
        tasks=status.succeeded + status.failed,
        seconds=seconds,
        run_seconds=status.run_seconds,
        cpu_seconds=census.cpu_seconds,
    )


def _slots(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"not a number: {text!r}") from None
    if number < 1:
        raise argparse.ArgumentTypeError(f"at least 1 is needed, not {number}")
    return number
