"""`demo`: the standard library census, taken on all local slots; an example of the library in use as much as a command.

The files stream through `pool.map`, answers come as they are ready, and a file that does not parse arrives as the exception it
raised, in its place: it is counted, and costs nothing else. `--hosts` has other machines take part, or two SSH servers of the occasion
on this one (the only thing here that listens, and on a loopback address).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from typing import Any

from .. import Pool
from .._jobs.results import Results
from .._worker.machine import usable_cpus
from ..config import SSH, as_values
from ..errors import HostError
from ..status import PoolStatus
from . import report
from .census import Census, measure, python_files, stdlib_folder
from .progress import Progress
from .spread import measure_there, sources, travelling

DESCRIPTION = """\
Parse every .py file of this interpreter's own standard library on all local
slots, and print what it is made of and what the pool did. Files that do not
parse (there are some among Python's own test data) are counted and named.
With --hosts, other machines take part, and each one's share is printed.
A progress line is shown on stderr when that is a terminal; with --watch,
the pool's whole scoreboard, and in the end a summary.
"""
OCCASION = "demo"
"""As the value of --hosts: servers of the occasion."""
SERVERS = 2
USAGE = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "--slots", type=_slots, metavar="N", help="worker processes to use here (default: one per CPU that this process may use)"
    )
    parser.add_argument(
        "--hosts", type=_hosts, default=(), metavar="demo|NAME,NAME",
        help=f"have machines that `ssh` reaches take part too; '{OCCASION}': {SERVERS} SSH servers on this machine, for the occasion",
    )  # fmt: skip
    parser.add_argument(
        "--watch", action="store_true", help="show the pool's scoreboard on stderr while it works, and its summary at the end"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")


def run(options: argparse.Namespace) -> int:
    """Take the census, print it, and return the exit status."""
    if options.slots == 0 and not options.hosts:
        print("aioparallel: error: argument --slots: at least 1 is needed, not 0 (which is for --hosts)", file=sys.stderr)
        return USAGE
    folder = stdlib_folder()
    paths = python_files(folder)
    if not paths:
        print(f"aioparallel: error: this interpreter's standard library holds no .py files: {folder}", file=sys.stderr)
        return 1
    if options.hosts == OCCASION:
        census, summary = _on_servers(paths, options.slots, options.watch)
    else:
        census, summary = _on(paths, options.slots, options.hosts, options.watch)
    whole = report.as_dict(census, summary, folder)
    print(json.dumps(whole, indent=2) if options.json else report.as_text(census, summary, folder))
    wrong = [f"{path}: {reason}" for path, reason in sorted(census.failed.items())]
    wrong += [f"host {share.host} took no part: {share.missing}" for share in summary.hosts if share.missing]
    for text in wrong:
        print(f"aioparallel: error: {text}", file=sys.stderr)
    return 1 if wrong else 0


def _on(paths: list[str], slots: int | None, hosts: Sequence[SSH], watch: bool) -> tuple[Census, report.Summary]:
    if hosts:
        logging.getLogger("aioparallel").addHandler(logging.NullHandler())  # what there is to say of hosts is said at the end
    return asyncio.run(take_census(paths, slots, hosts, watch=watch))


def _on_servers(paths: list[str], slots: int | None, watch: bool) -> tuple[Census, report.Summary]:
    """Take the census on servers of the occasion too, which share this machine's CPUs with the local slots."""
    from ..testing import SSHServer

    share = max(1, usable_cpus() // (SERVERS + 1))
    local = max(1, usable_cpus() - SERVERS * share) if slots is None else slots
    with ExitStack() as stack:
        servers = [stack.enter_context(SSHServer(f"{OCCASION}-{number}")) for number in range(1, SERVERS + 1)]
        hosts = [server.host(slots=share) for server in servers]
        return asyncio.run(take_census(paths, local, hosts, cpus=usable_cpus(), watch=watch))


async def take_census(
    paths: list[str], slots: int | None = None, hosts: Sequence[SSH] = (), *, cpus: int | None = None, watch: bool = False
) -> tuple[Census, report.Summary]:
    """Measure the files on `slots` local slots (None: as many as there are CPUs) and on these hosts.

    Return the census and what the pool did; cpus: how many CPUs all slots have (None: as many as there are here, and one for each far
    slot). watch: show the scoreboard on stderr, and in the end the pool's summary. Raises HostError where there are no slots at all. If
    cancelled: the files being parsed are abandoned, their processes are gone before this returns.
    """
    census = Census()
    shares: dict[str, report.Share] = {}
    began = time.perf_counter()
    async with Pool(local=slots, hosts=hosts, name="census", backup=bool(hosts)) as pool:
        if hosts:
            await pool.ready()
            _check_any(pool.status(), slots, hosts)
        line = Progress(report.TITLE, len(paths), None if watch else sys.stderr)
        with line as progress, travelling() if hosts else nullcontext():
            async with pool.watch(quiet=not watch), _map(pool, paths, hosts) as results:
                done = 0
                async for item, outcome in results.items():
                    _count(census, shares, item, outcome)
                    done += 1
                    progress.update(done)
        status = pool.status()
    seconds = time.perf_counter() - began
    if watch and sys.stderr is not None:
        print(pool.summary(), file=sys.stderr)
    return census, report.Summary(
        slots=len(status.slots),
        cpus=cpus or (slots != 0) * usable_cpus() + sum(slot.host != "local" for slot in status.slots),
        tasks=status.succeeded + status.failed,
        seconds=seconds,
        run_seconds=status.run_seconds,
        cpu_seconds=census.cpu_seconds,
        hosts=_shares(shares, status, hosts),
    )


def _map(pool: Pool, paths: list[str], hosts: Sequence[SSH]) -> Results[Any]:
    if not hosts:
        return pool.map(measure, paths, ordered=False, on_error="return")
    return pool.map(measure_there, paths, sources(paths), ordered=False, on_error="return")


def _count(census: Census, shares: dict[str, report.Share], item: Any, outcome: Any) -> None:
    path, host = item, "local"
    if isinstance(item, tuple):
        path = item[0]
        if isinstance(outcome, tuple):
            host, outcome = outcome
    census.add(path, outcome)
    if not isinstance(outcome, BaseException):
        shares.setdefault(host, report.Share(host)).add(outcome)


def _missing(status: PoolStatus, host: SSH) -> str:
    """Return why a host is not there, or nothing."""
    return next((note.partition(": ")[2] for note in status.notes if note.startswith(f"{host.name}: ")), "")


def _check_any(status: PoolStatus, slots: int | None, hosts: Sequence[SSH]) -> None:
    missing = [(host.name, why) for host in hosts if (why := _missing(status, host))]
    if slots == 0 and len(missing) == len(hosts):
        name, why = missing[0]
        others = "".join(f"; {other}: {reason}" for other, reason in missing[1:])
        raise HostError(name, why + others)


def _shares(shares: dict[str, report.Share], status: PoolStatus, hosts: Sequence[SSH]) -> tuple[report.Share, ...]:
    """Return what each host did, the local one first, and why those did nothing that were not there."""
    for host in hosts:
        share = shares.setdefault(host.name, report.Share(host.name))
        share.missing = "" if share.files else _missing(status, host)
    for share in shares.values():
        share.slots = sum(slot.host == share.host for slot in status.slots)
    order = {name: place for place, name in enumerate(["local", *(host.name for host in hosts)])}
    return tuple(sorted(shares.values(), key=lambda share: order[share.host]))


def _slots(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"not a number: {text!r}") from None
    if number < 0:
        raise argparse.ArgumentTypeError(f"at least 1 is needed, not {number}")
    return number


def _hosts(text: str) -> str | tuple[SSH, ...]:
    if text == OCCASION:
        return text
    try:
        hosts: tuple[SSH, ...] = as_values(text.split(","))
        for host in hosts:
            host.parts()
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return hosts
