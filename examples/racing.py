"""What backups are worth: `python examples/racing.py [picture.svg]`.

Four workloads run on machines that do not exist, by the scheduler that a pool has, once for each rule and seed; the table says how long
they took and how many slot-seconds losing backups took. With a file name behind it, one batch is drawn without and with backups.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from math import exp
from pathlib import Path
from statistics import fmean

from aioparallel import Backup
from aioparallel.testing import VirtualCluster, VirtualHost, VirtualReport, VirtualTask

RULES = {
    "none": None,
    "reference": Backup.reference(),
    "mapreduce": Backup.mapreduce(),
    "spark": Backup.spark(),
    "hedge": Backup.hedge(),
    "Backup()": Backup(),
}
SEEDS = range(3)
Workload = tuple[list[VirtualHost], list[VirtualTask], float | None]


def machines(count: int, slots: int, delay: float = 0.1) -> list[VirtualHost]:
    """Return so many machines alike."""
    return [VirtualHost(name=f"m{number}", slots=slots, launch_delay=delay, cancel_delay=delay / 2) for number in range(count)]


def batch(dice: random.Random, count: int, stragglers: float) -> list[VirtualTask]:
    """Return tasks of about 30 s, of which a share of the copies is five to eight times slower."""

    def seconds() -> float:
        return 30 * exp(dice.gauss(0, 0.2)) * (dice.uniform(5, 8) if dice.random() < stragglers else 1)

    return [VirtualTask(durations=[seconds() for _ in range(3)]) for _ in range(count)]


def slow_copies(dice: random.Random) -> Workload:
    """Any machine is slow now and then."""
    return machines(50, 2), batch(dice, 400, 0.05), None


def slow_machines(dice: random.Random) -> Workload:
    """A few machines are slow all the time, and nobody said so."""
    hosts = machines(50, 2)
    for number in dice.sample(range(50), 2):
        hosts[number] = VirtualHost(name=f"m{number}", slots=2, speed=1 / dice.uniform(5, 8))
    return hosts, batch(dice, 400, 0.0), None


def silent_machine(dice: random.Random) -> Workload:
    """One machine goes silent in the midst of a batch, which its link tells after 5 s."""
    hosts = machines(10, 4)
    hosts[3] = VirtualHost(name="m3", slots=4, outages=[(dice.uniform(35, 60), 1e7)])
    return hosts, batch(dice, 200, 0.01), 5.0


def stream(dice: random.Random) -> Workload:
    """Calls of about a second arrive at random; half of the slots are busy, and one copy in fifty is slow."""
    tasks, now = [], 0.0
    for _ in range(1500):
        now += dice.expovariate(10)
        seconds = [exp(dice.gauss(-0.125, 0.5)) * (dice.uniform(5, 10) if dice.random() < 0.02 else 1) for _ in range(3)]
        tasks.append(VirtualTask(arrival=now, durations=seconds))
    return machines(5, 4, 0.01), tasks, None


WORKLOADS: dict[str, Callable[[random.Random], Workload]] = {
    "slow copies": slow_copies,
    "slow machines": slow_machines,
    "silent machine": silent_machine,
    "stream (p99)": stream,
}


def run(name: str, rule: Backup | None, seed: int, *, events: bool = False) -> VirtualReport:
    """Run a workload under a rule."""
    hosts, tasks, heartbeat = WORKLOADS[name](random.Random(seed))  # noqa: S311 - dice
    return VirtualCluster(hosts, backup=rule, heartbeat=heartbeat, seed=seed, events=events).run(tasks)


def figure(name: str, report: VirtualReport) -> float:
    """Return what counts: the time of a batch, or the 99th percentile of a stream's answers (seconds)."""
    if not name.startswith("stream"):
        return report.makespan
    waits = sorted(task.finished - task.arrival for task in report.tasks)
    return waits[int(0.99 * len(waits))]


def table() -> str:
    """Return the table."""
    lines = [f"{'':16}" + "".join(f"{rule:>18}" for rule in RULES)]
    for name in WORKLOADS:
        cells = []
        for rule in RULES.values():
            reports = [run(name, rule, seed) for seed in SEEDS]
            seconds = fmean(figure(name, report) for report in reports)
            wasted = fmean(report.wasted / report.useful for report in reports)
            cells.append(f"{f'{seconds:.1f} s {wasted:4.0%}':>18}")
        lines.append(f"{name:16}" + "".join(cells))
    return "\n".join(lines)


def picture() -> str:
    """Return one batch without and with backups as SVG: a row for each slot, losing copies in red."""
    width, row, shapes, top = 900, 3, [], 20
    reports = {"without backups": run("slow copies", None, 1), "with Backup()": run("slow copies", Backup(), 1)}
    scale = width / max(report.makespan for report in reports.values())
    for title, report in reports.items():
        first = min(record.started_at or 0.0 for task in report.tasks for record in task.attempts)
        records = [record for task in report.tasks for record in task.attempts if record.started_at and record.ended_at]
        rows = {place: number for number, place in enumerate(sorted({(record.host, record.slot) for record in records}))}
        shapes.append(f'<text x="4" y="{top - 5}" font-size="13">{title}: {report.makespan:.0f} s</text>')
        for record in records:
            start, end = (record.started_at or 0.0) - first, (record.ended_at or 0.0) - first
            colour = "#4a7" if record.outcome == "succeeded" else "#d43"
            y = top + row * rows[record.host, record.slot]
            shapes.append(f'<rect x="{start * scale:.1f}" y="{y}" width="{(end - start) * scale:.1f}" height="{row - 1}" fill="{colour}"/>')
        top += row * len(rows) + 40
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top}" font-family="sans-serif">{"".join(shapes)}</svg>'


if __name__ == "__main__":
    print(table())
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(picture())
