"""The command line: find the command, run it, and turn how it ended into an exit status.

Guarantees
    Results go to stdout and nothing else does. An error of ours is one line on stderr, never a traceback. Ctrl-C and a reader that
    leaves early (`| head`) end the command quietly. The exit statuses are those of `EXIT_STATUSES`, which `--help` prints.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import cast

from ..errors import AioparallelError
from . import demo, hosts

FAILED = 1
INTERRUPTED = 130  # 128 + SIGINT, as a shell would say it
READER_LEFT = 141  # 128 + SIGPIPE, likewise

EXIT_STATUSES = """\
exit status:
  0    done
  1    failed; the reason is on stderr
  2    wrong arguments
  130  interrupted (Ctrl-C)
  141  whoever read the output left before its end
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; `arguments` are the process's own when None.

    Raises SystemExit for `--help` (status 0) and for wrong arguments (status 2), as argparse does.
    """
    options = build_parser().parse_args(arguments)
    run = cast("Callable[[argparse.Namespace], int]", options.run)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path that the reader's encoding lacks is no reason to fail
    try:
        status = run(options)
        print(end="", flush=True)  # (a process started with `>&-` has no stdout to flush)
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
        return READER_LEFT
    except AioparallelError as error:
        _complain(f"error: {error}")
        return FAILED
    except OSError as error:  # (after ours, some of which are TimeoutErrors)
        _forget_stdout()
        _complain(f"error: {error.strerror or error}")
        return FAILED
    return status


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line; each command's function is in `run` of what it parses."""
    parser = argparse.ArgumentParser(
        prog="python -m aioparallel",
        description="Run Python functions on many cores, and believe what the library says.",
        epilog=EXIT_STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    command = commands.add_parser(
        "demo",
        help="count what this interpreter's standard library is made of, on all local slots",
        description=demo.DESCRIPTION,
        epilog=EXIT_STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    demo.add_arguments(command)
    command.set_defaults(run=demo.run)
    _add_hosts(commands)
    return parser


def _add_hosts(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    group = commands.add_parser("hosts", help="look at hosts that `ssh` reaches")
    deeds = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    command = deeds.add_parser(
        "check",
        help="say of each host whether a pool could use it, and what to do where it could not",
        description=hosts.DESCRIPTION,
        epilog=hosts.EXIT_STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    hosts.add_arguments(command)
    command.set_defaults(run=hosts.run)


def _complain(text: str) -> None:
    print(f"aioparallel: {text}", file=sys.stderr)


def _forget_stdout() -> None:
    # The interpreter flushes stdout once more when it ends; into a closed pipe that would be a second error, with a traceback.
    if sys.stdout is None:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
