"""Races, measured: every workload of the study under no rule, the presets and the default rule, against an oracle.

    python -m tests.benchmarks.racing [--seeds N] [--rows a1,b2,...] [--progress]

A figure is a multiple of the oracle's; after the slash the slot-seconds of losing backups, in % of the useful ones (the mean over the
seeds; "most" is the worst seed). `--progress` adds late and mantri, which are told every copy's exact progress.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from math import exp, log
from typing import Any

from aioparallel import Backup
from aioparallel.policies.presets import Late, Mantri

from .cluster import Cluster, oracle
from .workloads import WORKLOADS, build, figure

Make = Callable[[], Any]
RULES: dict[str, Make] = {
    "none": lambda: None,
    "reference": Backup.reference().rule,
    "mapreduce": Backup.mapreduce().rule,
    "spark": Backup.spark().rule,
    "hedge": Backup.hedge().rule,
    "default": Backup().rule,
}
INFORMED: dict[str, Make] = {"late": Late, "mantri": Mantri}
COPIES = {"reference": 4}
STUDY = dict(
    zip(
        WORKLOADS,
        map(
            float,
            "1.61 1.67 1.65 1.37 1.20 1.22 1.22 1.24 1.35 1.39 1.44 1.20 1.19 1.21 1.21 1.35 1.44 1.40 1.65 1.42 1.54 1.64 1.42 1.21 "
            "1.56 1.41 1.23 0.93 1.32 1.08 1.55 1.22 1.18 1.24".split(),
        ),
        strict=True,
    )
)
"""What the study's own rule reached, in its own simulator and with its own draws."""


class Row:
    """What one workload gave, summed over the seeds."""

    def __init__(self, name: str, seeds: int, rules: dict[str, Make]) -> None:
        self.name, self.seeds = name, seeds
        self.oracle = 0.0
        self.figures = dict.fromkeys(rules, 0.0)
        self.waste: dict[str, list[float]] = {rule: [] for rule in rules}
        self.deciding = self.tasks = 0.0
        for seed in range(seeds):
            self._run(seed, rules)

    def _run(self, seed: int, rules: dict[str, Make]) -> None:
        hosts, tasks, more = build(self.name, seed)
        self.oracle += figure(self.name, oracle(hosts, tasks))
        for name, make in rules.items():
            run = Cluster(hosts, rule=make(), max_copies=COPIES.get(name, 3), exact_progress=name in INFORMED, **more).run(tasks)
            self.figures[name] += figure(self.name, run)
            self.waste[name].append(100.0 * run.wasted / run.useful)
            if name == "default":
                self.deciding += run.deciding
                self.tasks += len(tasks)

    def ratio(self, rule: str) -> float:
        return self.figures[rule] / self.oracle

    def wasted(self, rule: str) -> float:
        return sum(self.waste[rule]) / self.seeds

    def best(self) -> str:
        """Return the best rule but the default that wastes at most 10 % and knows no exact progress."""
        fair = [rule for rule in self.figures if rule != "default" and rule not in INFORMED and self.wasted(rule) <= 10.0]
        return min(fair, key=self.ratio)

    def line(self) -> str:
        cells = [f"{self.ratio(rule):7.2f}/{self.wasted(rule):4.1f}" for rule in self.figures]
        best = self.best()
        missed = "".join(
            mark
            for mark, miss in (
                ("P", self.ratio("default") > 1.05 * self.ratio(best)),
                ("S", self.ratio("default") > 1.05 * STUDY[self.name]),
                ("W", max(self.waste["default"]) > 10.0),
            )
            if miss
        )
        most = max(self.waste["default"])
        return f"{self.name:5}{self.oracle / self.seeds:10.4g} {' '.join(cells)} {most:5.1f} {STUDY[self.name]:6.2f} {best:9} {missed}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rows", default=",".join(WORKLOADS))
    parser.add_argument("--progress", action="store_true")
    given = parser.parse_args(arguments)
    rules = {**RULES, **INFORMED} if given.progress else RULES
    print(f"{'':5}{'oracle s':>10} {' '.join(f'{rule:>12}' for rule in rules)}  most  study best      misses")
    rows: list[Row] = []
    for name in given.rows.split(","):
        rows.append(Row(name, given.seeds, rules))
        print(rows[-1].line(), flush=True)
    for rule in rules:
        ratios = [row.ratio(rule) for row in rows]
        waste = max(row.wasted(rule) for row in rows)
        print(f"{rule:10} geometric mean {exp(sum(map(log, ratios)) / len(rows)):.3f}, worst {max(ratios):.2f}, most waste {waste:.1f} %")
    print("misses: P: more than 1.05 x the best preset that wastes at most 10 %, S: than the study's figure, W: more than 10 % wasted")
    print(f"deciding: {1e6 * sum(row.deciding for row in rows) / sum(row.tasks for row in rows):.1f} us a task")
