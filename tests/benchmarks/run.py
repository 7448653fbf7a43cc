"""Take all measures side by side with the peers, in one run, and print one table.

    python -m tests.benchmarks [--only NAME ...] [--quick] [--json FILE]

How it works
    Each sample is taken in a process of its own, below this one, so that no contender inherits another's memory, caches or threads. The
    contenders take turns round by round: a neighbour's load on the machine meets all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from subprocess import PIPE

from . import cancel, dispatch, far_bulk, far_start, far_tasks, latency, makespan, mapping, memory, payload, startup
from .measure import Measure, Sample, Verdict, judge

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = (dispatch, latency, payload, startup, makespan, memory, mapping, cancel, far_tasks, far_bulk, far_start)
MEASURES: dict[str, Measure] = {measure.name: measure for family in FAMILIES for measure in family.MEASURES}
SAMPLE_SECONDS = 300
"""A sample that takes longer hangs; at a smaller scale a shorter time is enough, but not less than the next figure."""
LEAST_SECONDS = 60
QUICK_SCALE = 0.1
HEADER = ("measure", "ours", "peer", "ratio", "reach", "verdict")
WIDTHS = (58, 18, 24, 7, 14, 7)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; return 0 if every sample could be taken, 1 if one failed. A missed reach is in the table, and no failure."""
    options = _parser().parse_args(arguments)
    chosen = [MEASURES[name] for name in options.only or MEASURES]
    scale = options.scale or (QUICK_SCALE if options.quick else 1.0)
    # The load at the beginning is other people's: above the number of idle CPUs it explains what is missed.
    load = os.getloadavg()[0]
    print(f"{sys.implementation.name} {platform.python_version()}, {os.cpu_count()} CPUs, load {load:.1f}, scale {scale:g}\n")
    print(_line(HEADER) + "\n" + _line(tuple("-" * width for width in WIDTHS)), flush=True)
    taken, failures = [], []
    for measure in chosen:
        missing = measure.needs() if measure.needs is not None else ""
        if missing:
            print(f"SKIPPED: {measure.name}: {missing}", flush=True)
            continue
        rounds = options.rounds or (1 if options.quick else measure.rounds)
        samples, failed = take(measure, measure.scaled(scale), rounds, max(SAMPLE_SECONDS * scale, LEAST_SECONDS))
        verdicts = [judge(row, samples) for row in measure.rows]
        print("\n".join(_line(verdict.cells()) for verdict in verdicts), flush=True)
        taken.append(_as_dict(measure, samples, verdicts))
        failures += failed
    for failure in failures:
        print(f"\nFAILED: {failure}")
    if options.json:
        machine = {"python": platform.python_version(), "cpus": os.cpu_count(), "load": load}
        whole = {**machine, "scale": scale, "measures": taken, "failures": failures}
        Path(options.json).write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    return 1 if failures else 0


def take(measure: Measure, size: int, rounds: int, limit: float) -> tuple[dict[str, list[Sample]], list[str]]:
    """Take samples of all contenders in turn; return them by contender, and what went wrong in words.

    A contender that failed once is not tried again. A peer that is not installed is no failure: its rows say "no peer".
    """
    samples: dict[str, list[Sample]] = {name: [] for name in measure.contenders}
    out: set[str] = set()
    failures = []
    for _ in range(rounds):
        for contender in measure.contenders:
            if contender in out:
                continue
            sample = _sample(measure.name, contender, size, limit)
            if isinstance(sample, dict):
                samples[contender].append(sample)
            else:
                out.add(contender)
                if not any(f"No module named '{peer}'" in sample for peer in ("loky", "joblib")):
                    failures.append(f"{measure.name}, {contender}: {sample}")
    return samples, failures


def _sample(measure: str, contender: str, size: int, limit: float) -> Sample | str:
    """Take one sample in a fresh process, within `limit` seconds; return its figures, or the last line that it had to say instead."""
    command = [sys.executable, "-m", "tests.benchmarks.sample", measure, contender, str(size)]
    # A group of its own: what it has started, such as an sshd, ends with it when it hangs.
    with subprocess.Popen(command, cwd=ROOT, stdout=PIPE, stderr=PIPE, text=True, start_new_session=True) as process:
        try:
            output, errors = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            return f"took longer than {limit:g} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
    if process.returncode:
        return f"exit status {process.returncode}: {(errors.strip().splitlines() or ['(nothing on stderr)'])[-1]}"
    figures: Sample = json.loads(output.splitlines()[-1])
    return figures


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(f"{cell:<{width}}" for cell, width in zip(cells, WIDTHS, strict=True)) + " |"


def _as_dict(measure: Measure, samples: dict[str, list[Sample]], verdicts: list[Verdict]) -> dict[str, object]:
    rows = [dict(zip(HEADER, verdict.cells(), strict=True)) for verdict in verdicts]
    return {"name": measure.name, "rows": rows, "samples": samples}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--only", action="append", choices=sorted(MEASURES), metavar="NAME", help=f"one of {', '.join(MEASURES)}; repeatable"
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, one round: to see that it runs, not how fast")
    parser.add_argument("--scale", type=float, metavar="SHARE", help="this share of the work (default 1, with --quick 0.1)")
    parser.add_argument("--rounds", type=int, metavar="N", help="samples of each contender (default: each measure's own number)")
    parser.add_argument("--json", metavar="FILE", help="write the table and every sample there")
    return parser
