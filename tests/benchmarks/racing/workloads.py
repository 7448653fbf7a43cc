"""The workloads of the study, as pure data: hosts and tasks with arrival, durations of each copy, failures and cost."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from math import exp, inf, log
from typing import Any

from .cluster import VirtualHost, VirtualTask

COPIES = 4
"""Durations are drawn for so many copies of a task; from then on in a cycle."""
MEDIAN = 30.0

Draw = Callable[[random.Random], float]
Workload = tuple[Sequence[VirtualHost], Sequence[VirtualTask], dict[str, Any]]


def lognormal(sigma: float) -> Draw:
    return lambda rng: exp(rng.gauss(0.0, sigma))


def straggling(noise: Draw, share: float, low: float = 5.0, high: float = 8.0, *, logarithmic: bool = False) -> Draw:
    """Return noise that is some times slower in a share of the draws."""

    def draw(rng: random.Random) -> float:
        value = noise(rng)
        if rng.random() >= share:
            return value
        return value * (exp(rng.uniform(log(low), log(high))) if logarithmic else rng.uniform(low, high))

    return draw


def pareto(alpha: float, cap: float) -> Draw:
    """Return draws with median 1 that are at most `cap` times the smallest."""
    least = 0.5 ** (1.0 / alpha)
    return lambda rng: least * min(cap, rng.paretovariate(alpha))


def hosts(count: int, slots: int, *, delay: float = 0.1, **more: Any) -> list[VirtualHost]:
    return [VirtualHost(name=f"h{i}", slots=slots, launch_delay=delay, cancel_delay=delay / 2, **more) for i in range(count)]


def batch(rng: random.Random, count: int, noise: Draw, work: Draw | None = None, scale: float = MEDIAN, **more: Any) -> list[VirtualTask]:
    """Return tasks that all wait at the start."""
    tasks: list[VirtualTask] = []
    for _ in range(count):
        own = scale * (work(rng) if work is not None else 1.0)
        tasks.append(VirtualTask(durations=tuple(own * noise(rng) for _ in range(COPIES)), **more))
    return tasks


def _requests(share: float, load: float, requests: int = 1500) -> Callable[[random.Random], Workload]:
    def build(rng: random.Random) -> Workload:
        noise = straggling(lognormal(0.3), share, 10.0, 200.0, logarithmic=True)
        mean = 0.01 * exp(0.045) * (1.0 + share * (190.0 / log(20.0) - 1.0))
        rate = load * 200 / (50 * mean)
        tasks, now = [], 0.0
        for request in range(requests):
            now += rng.expovariate(rate)
            tasks += [VirtualTask(arrival=now, durations=tuple(0.01 * noise(rng) for _ in range(COPIES)), group=request) for _ in range(50)]
        return hosts(20, 10, delay=0.0005), tasks, {}

    return build


def _fast(share: float, *, scale: float = MEDIAN, delay: float = 0.1, fails: float = 0.0) -> Callable[[random.Random], Workload]:
    def build(rng: random.Random) -> Workload:
        tasks = batch(rng, 400, straggling(lognormal(0.2), share), scale=scale)
        if fails:
            tasks = [
                VirtualTask(durations=task.durations, fails=tuple(rng.random() if rng.random() < fails else None for _ in range(COPIES)))
                for task in tasks
            ]
        return hosts(50, 2, delay=delay), tasks, {}

    return build


def _slow_hosts(rng: random.Random) -> Workload:
    machines = hosts(50, 2)
    for i in rng.sample(range(50), 2):
        machines[i] = VirtualHost(name=f"h{i}", slots=2, speed=1.0 / rng.uniform(5.0, 8.0))
    return machines, batch(rng, 400, lognormal(0.2)), {}


def _unequal(weights: str) -> Callable[[random.Random], Workload]:
    def build(rng: random.Random) -> Workload:
        speeds = [1.0] * 10 + [1 / 1.5] * 4 + [0.5] * 3 + [1 / 3] * 3
        rng.shuffle(speeds)
        wrong = sorted(range(20), key=lambda i: speeds[i])
        said = {"unknown": [1.0] * 20, "true": speeds, "wrong": [0.0] * 20}[weights]
        if weights == "wrong":  # the slowest is said to be the fastest
            for i, other in zip(wrong, reversed(wrong), strict=True):
                said[i] = speeds[other]
        machines = [VirtualHost(name=f"h{i}", slots=2, speed=speeds[i], weight=said[i]) for i in range(20)]
        return machines, batch(rng, 200, straggling(lognormal(0.2), 0.02)), {}

    return build


def _hangs(length: float, heartbeat: float | None = None) -> Callable[[random.Random], Workload]:
    def build(rng: random.Random) -> Workload:
        machines = hosts(10, 4)
        start, which = rng.uniform(35.0, 60.0), rng.randrange(10)
        machines[which] = VirtualHost(name=f"h{which}", outages=((start, start + length),))
        return machines, batch(rng, 200, lognormal(0.2)), {"heartbeat": heartbeat, "attempt_timeout": 600.0}

    return build


def _skewed(rng: random.Random) -> Workload:
    return hosts(10, 4), batch(rng, 200, lognormal(0.03), lognormal(1.0)), {}


def _ten_times(*, hint: bool, share: float = 0.0) -> Callable[[random.Random], Workload]:
    def build(rng: random.Random) -> Workload:
        noise, tasks = straggling(lognormal(0.03), share), []
        for _ in range(200):
            own = MEDIAN * exp(rng.gauss(0.0, 0.07)) * (10.0 if rng.random() < 0.05 else 1.0)
            cost = own * exp(rng.gauss(0.0, 0.2)) if hint else None
            tasks.append(VirtualTask(durations=tuple(own * noise(rng) for _ in range(COPIES)), cost=cost))
        return hosts(10, 4), tasks, {}

    return build


def _tails(noise: Draw, work: Draw) -> Callable[[random.Random], Workload]:
    return lambda rng: (hosts(10, 4), batch(rng, 300, noise, work), {})


def _small(count: int, machines: int, slots: int, noise: Draw) -> Callable[[random.Random], Workload]:
    return lambda rng: (hosts(machines, slots), batch(rng, count, noise), {})


def _functions(share: float) -> Callable[[random.Random], Workload]:
    def build(rng: random.Random) -> Workload:
        noise, tasks = straggling(lognormal(0.2), share), []
        for _ in range(300):
            name, own = rng.choices((("short", 1.0), ("middle", 10.0), ("long", 100.0)), (0.6, 0.3, 0.1))[0]
            tasks.append(VirtualTask(function=name, durations=tuple(own * noise(rng) for _ in range(COPIES))))
        return hosts(10, 4), tasks, {}

    return build


def _stream(load: float, sigma: float, share: float, slow: float = 0.0) -> Callable[[random.Random], Workload]:
    def build(rng: random.Random) -> Workload:
        noise = straggling(lognormal(0.2), share, 5.0, 10.0)
        scale = exp(-sigma * sigma / 2.0 - 0.02)
        now, tasks = 0.0, []
        for _ in range(6000):
            now += rng.expovariate(load * 20 / (1.0 + 6.5 * share))
            own = scale * exp(rng.gauss(0.0, sigma))
            tasks.append(VirtualTask(arrival=now, durations=tuple(own * noise(rng) for _ in range(COPIES))))
        machines = hosts(5, 4, delay=0.01)
        if slow:
            machines = [
                VirtualHost(name=f"h{i}", launch_delay=0.01, cancel_delay=0.005, slowdowns=_every(rng, 60.0, 6.0, 5.0, now * 1.5))
                for i in range(5)
            ]
        return machines, tasks, {}

    return build


def _every(rng: random.Random, normal: float, slow: float, factor: float, until: float) -> tuple[tuple[float, float, float], ...]:
    now, found = rng.uniform(-slow, normal), []
    while now < until:
        found.append((max(0.0, now), now + slow, factor))
        now += normal + slow
    return tuple(found)


def _changing(rng: random.Random) -> Workload:
    machines = [VirtualHost(name=f"h{i}", slowdowns=_every(rng, 200.0, 60.0, 4.0, 5000.0)) for i in range(10)]
    return machines, batch(rng, 300, lognormal(0.2)), {}


def _one_host(rng: random.Random) -> Workload:
    return hosts(1, 8), batch(rng, 100, straggling(lognormal(0.2), 0.02), scale=10.0), {}


WORKLOADS: dict[str, Callable[[random.Random], Workload]] = {
    "a1": _requests(0.01, 0.4),
    "a2": _requests(0.002, 0.4),
    "a3": _requests(0.01, 0.75),
    "b1": _fast(0.01),
    "b2": _fast(0.05),
    "b3": _slow_hosts,
    "b4": _fast(0.05, fails=0.03),
    "b5": _fast(0.05, scale=1.0, delay=0.01),
    "c1": _unequal("unknown"),
    "c2": _unequal("true"),
    "c3": _unequal("wrong"),
    "d1": _hangs(inf),
    "d2": _hangs(inf, heartbeat=5.0),
    "d3": _hangs(120.0),
    "e1": _skewed,
    "e2": _ten_times(hint=False),
    "e3": _ten_times(hint=True),
    "e4": _ten_times(hint=True, share=0.03),
    "f1": _tails(lognormal(0.5**0.5), lognormal(0.5**0.5)),
    "f2": _tails(pareto(1.5, 100.0), lognormal(0.0)),
    "f3": _tails(straggling(lognormal(0.2), 0.03), pareto(1.1, 40.0)),
    "g1": _small(12, 2, 2, straggling(lognormal(0.2), 0.1)),
    "g2": _small(5, 4, 1, straggling(lognormal(0.2), 0.1)),
    "g3": _small(20, 4, 1, lognormal(0.3)),
    "h1": _functions(0.03),
    "h2": _functions(0.0),
    "i50": _stream(0.5, 0.5, 0.02),
    "i70e": _stream(0.6, 0.5, 0.0, slow=5.0),
    "i80": _stream(0.8, 0.5, 0.02),
    "i80s": _stream(0.8, 1.2, 0.0),
    "i95": _stream(0.95, 0.5, 0.02),
    "i95n": _stream(0.95, 0.5, 0.0),
    "j1": _changing,
    "k1": _one_host,
}


def build(name: str, seed: int) -> Workload:
    """Return hosts, tasks and what else the cluster is to be given."""
    return WORKLOADS[name](random.Random(f"{name}/{seed}"))


def figure(name: str, run: Any) -> float:
    """Return what a row shows: the makespan of a batch, the 99th percentile of a stream's requests or tasks."""
    if name[0] not in "ai":
        return run.makespan
    taken: dict[Any, float] = {}
    for outcome in run.tasks:
        key = outcome.id if outcome.task.group is None else outcome.task.group
        taken[key] = max(taken.get(key, 0.0), outcome.finished - outcome.arrival)
    return sorted(taken.values())[int(0.99 * len(taken))]
