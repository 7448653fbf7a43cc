"""`hosts check`: one look at every host that a pool would use, and one line about each.

All are looked at concurrently, each within its own time; what is found is what a pool would find, since it goes the same way.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
from collections.abc import Sequence
from typing import Any

from .. import config
from .._hosts.checking import HostCheck, check
from ..config import SSH, Settings
from ..errors import AioparallelError, ConfigError, UsageError
from .progress import Progress

DESCRIPTION = """\
Look at the hosts of a configuration file, or at those that are named, and
print a line about each: whether it can be reached, the round trip, its
Python, the CPUs that may be used, memory (available of all), load, how far
its clock is ahead of this one, and "ok" or what is wrong and what to do.
A slot is begun on each and ended again; nothing stays there.
"""
EXIT_STATUSES = """\
exit status:
  0    all is well
  1    a host is not well; its line says why
  2    wrong arguments, or a configuration that cannot be read
  130  interrupted (Ctrl-C)
  141  whoever read the output left before its end
"""
USAGE = 2
AT_ONCE = 32
"""So many hosts are looked at at a time."""
SECONDS = 30.0
HEADS = ("host", "reached", "latency", "python", "cores", "memory", "load", "clock", "verdict")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help="an aioparallel.toml (default: the hosts of AIOPARALLEL_HOSTS, else the file that a pool would find)",
    )
    which.add_argument(
        "--host", nargs="+", action="extend", type=_host, metavar="NAME", help="hosts as for ssh: an alias, or user@name:port"
    )  # fmt: skip
    parser.add_argument(
        "--timeout", type=_seconds, default=SECONDS, metavar="SECONDS", help=f"give each host so long (default: {SECONDS:g})"
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print a list of JSON objects instead of lines")


def run(options: argparse.Namespace) -> int:
    """Look at the hosts, print what was found, and return the exit status."""
    try:
        settings = Settings(hosts=options.host) if options.host else from_file(options.file)
    except (AioparallelError, OSError, TypeError, ValueError) as error:
        where = f"{options.file}: " if isinstance(error, OSError) and options.file else ""
        print(f"aioparallel: error: {where}{(isinstance(error, OSError) and error.strerror) or error}", file=sys.stderr)
        return USAGE
    checks = asyncio.run(look(settings.hosts, options.timeout, settings))
    print(json.dumps([as_dict(one) for one in checks], indent=2) if options.json else "\n".join(as_lines(checks)))
    return 0 if all(one.well for one in checks) else 1


def from_file(path: str | None) -> Settings:
    """Return what a configuration file says; None: the variable AIOPARALLEL_HOSTS, else the file that a pool would find.

    Raises what reading it raises, and UsageError where there are no hosts.
    """
    if path is None and (of_variables := config.settled({})).hosts:
        return of_variables
    try:
        found = config.read_config(path)
    except ConfigError as error:
        if path is not None or error.path is not None:
            raise
        raise UsageError(f"{error}; or name hosts with --host, or AIOPARALLEL_HOSTS") from None
    if not found.hosts:
        raise UsageError(f"{path or 'the configuration'} names no hosts: add some, or name them with --host")
    return found


async def look(hosts: Sequence[Any], seconds: float, settings: Settings | None = None) -> list[HostCheck]:
    """Return what is found of these hosts, in their order. If cancelled: nothing of it is left, here or there."""
    turns = asyncio.Semaphore(AT_ONCE)
    done = 0
    with Progress("hosts", len(hosts), sys.stderr) as progress:

        async def one(host: Any) -> HostCheck:
            nonlocal done
            async with turns:
                found = await check(host, seconds, settings)
            done += 1
            progress.update(done)
            return found

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(host)) for host in hosts]
    return [task.result() for task in tasks]


def as_lines(checks: Sequence[HostCheck]) -> list[str]:
    """Return a line of heads and one for each host, in columns."""
    rows = [HEADS, *(_cells(one) for one in checks)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS) - 1)]
    return ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in rows]


def as_dict(one: HostCheck) -> dict[str, Any]:
    """Return the same as JSON can hold it: seconds and bytes."""
    return {name: getattr(one, name) for name in HostCheck._fields}


def _cells(one: HostCheck) -> tuple[str, ...]:
    python = " ".join(part for part in (one.python, one.executable) if part)
    memory = ""
    if one.memory is not None:
        available = "?" if one.memory_available is None else f"{one.memory_available / 2**30:.1f}"
        memory = f"{available}/{one.memory / 2**30:.1f} GiB"
    cells = (
        one.host,
        "yes" if one.reachable else "no",
        "" if one.latency is None else f"{one.latency * 1000:.1f} ms",
        python,
        "" if one.cpus is None else str(one.cpus),
        memory,
        "" if one.load is None else f"{one.load:.2f}",
        "" if one.clock_ahead is None else _ahead(one.clock_ahead),
        one.verdict.partition("\n")[0],
    )
    return tuple(cell or "-" for cell in cells)


def _ahead(seconds: float) -> str:
    return f"{round(seconds * 1000):+d} ms" if abs(seconds) < 1 else f"{seconds:+,.0f} s"


def _host(text: str) -> SSH:
    try:
        host = SSH(text)
        host.parts()
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return host


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"not a number: {text!r}") from None
    if not math.isfinite(seconds) or seconds <= 0:
        raise argparse.ArgumentTypeError(f"give seconds above 0, not {text}")
    return seconds
