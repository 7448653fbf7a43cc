"""Which host a task goes to, over real pools with far hosts."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from aioparallel import HostLost, Pool, Retry, Task, UsageError
from aioparallel.policies import HostView, LeastLoaded, TaskView, WeightedRandom
from tests.far.loopback import Loopback

from .visitors import fail_on, hold, where


def host_of(task: Task[Any]) -> str:
    return task.attempts[-1].host


@asynccontextmanager
async def ready(*hosts: Loopback, local: int = 0, **more: Any) -> AsyncIterator[Pool]:
    async with Pool(local=local, hosts=hosts, **more) as pool:
        yield await pool.ready(hosts=len(hosts) + bool(local), timeout=60)


async def test_options_restrict_to_hosts_and_labels() -> None:
    async with ready(Loopback("a", slots=1, labels={"gpu": "yes"}), Loopback("b", slots=1), local=1) as pool:
        for options, allowed in (
            ({"hosts": ["b"]}, {"b"}),
            ({"hosts": [pool.hosts["a"], "local"]}, {"a", "local"}),
            ({"hosts": lambda host: not host.is_local}, {"a", "b"}),
            ({"labels": {"gpu": "yes"}}, {"a"}),
            ({"locality": {"a": -1, "local": -1}}, {"b"}),
        ):
            tasks = [pool.options(**options).submit(where) for _ in range(9)]
            await asyncio.gather(*tasks)
            assert {host_of(task) for task in tasks} <= allowed
        assert pool._engine.state.lanes == {}
        isolated = [pool.options(hosts=[name], isolate=True).submit(os.getpid) for name in ("a", "local", "a", "local")]
        assert len(set(await asyncio.gather(*isolated))) == 4
        assert [host_of(task) for task in isolated] == ["a", "local", "a", "local"]


async def test_an_impossible_restriction_is_refused_at_once() -> None:
    async with ready(Loopback("a", slots=1)) as pool:
        with pytest.raises(UsageError, match=r"no host of this pool is allowed by options\(hosts=\['b'\]\); it has a"):
            pool.options(hosts=["b"])
        with pytest.raises(UsageError, match=r"options\(labels=\{'gpu': 'yes'\}\)"):
            pool.options(labels={"gpu": "yes"})
        with pytest.raises(ValueError, match="selection='best': give 'least-loaded'"):
            pool.options(selection="best")
        with pytest.raises(TypeError, match=r"hosts='a': give a list of hosts' names, as in hosts=\['a'\]"):
            pool.options(hosts="a")
        assert await pool.options(hosts=["a"]).submit(abs, -3) == 3
    view = Pool(local=1).options(hosts=["nowhere"])
    async with view._pool:
        with pytest.raises(UsageError, match="nowhere"):
            await view.submit(abs, -3)


async def test_a_predicate_is_asked_again_when_a_host_comes_up() -> None:
    async with Pool(local=1, hosts=[Loopback("a", slots=2)]) as pool:
        wide = pool.options(hosts=lambda host: not host.is_local and host.slots >= 2 and host.is_up)
        task = wide.submit(where)
        assert await task == "a"
        await pool.remove_host("a")
        with pytest.raises(UsageError, match="no host of this pool is allowed"):
            pool.options(hosts=lambda host: not host.is_local)


async def test_a_restricted_task_waits_for_its_host_alone(tmp_path: Path) -> None:
    async with ready(Loopback("a", slots=1), local=1) as pool:
        holding = pool.options(hosts=["a"]).submit(hold, str(tmp_path / "go"))
        waiting = [pool.options(hosts=["a"]).submit(where) for _ in range(3)]
        assert await asyncio.gather(*(pool.submit(abs, -n) for n in range(20))) == list(range(20))
        assert not any(task.done() for task in waiting)
        waiting[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting[1]
        (tmp_path / "go").touch()
        assert await holding == "a"
        await asyncio.gather(waiting[0], waiting[2])
        assert pool.status().queued == 0


async def test_no_host_that_is_allowed_comes_up() -> None:
    async with Pool(local=1, hosts=[Loopback("ill", slots=1, python="/nowhere/python")], lost_grace=0.3) as pool:
        with pytest.raises(HostLost, match=r"no host that these tasks may use was up for 0.3 s \(ill: .*was found there"):
            await pool.options(hosts=["ill"]).submit(abs, -3)
        assert await pool.submit(abs, -3) == 3


async def test_a_retry_avoids_the_host_where_it_failed_and_falls_back_to_it() -> None:
    async with ready(Loopback("a", slots=1), local=1) as pool:
        for failing in ("a", "local"):
            task = pool.options(retries=1, locality={failing: 1}).submit(fail_on, failing)
            assert await task != failing
            assert task.attempts[0].host == failing
        alone = pool.options(retries=2, hosts=["a"]).submit(fail_on, "a")
        with pytest.raises(RuntimeError, match="not on a"):
            await alone
        assert [attempt.host for attempt in alone.attempts] == ["a"] * 3


@pytest.mark.parametrize("avoid", [True, False])
async def test_the_host_where_it_failed_is_avoided_after_the_delay_too(avoid: bool) -> None:
    async with ready(Loopback("a", slots=1), local=1) as pool:
        retry = Retry(attempts=2, on=RuntimeError, delay=0.05, avoid_host=avoid)
        task = pool.options(retry=retry, locality={"a": 1}).submit(fail_on, "a")
        if avoid:
            assert await task == "local"
        else:
            with pytest.raises(RuntimeError, match="not on a"):
                await task
        assert [attempt.host for attempt in task.attempts] == (["a", "local"] if avoid else ["a", "a"])


async def test_round_robin_and_weights() -> None:
    async with ready(Loopback("a", slots=1), Loopback("b", slots=1), selection="round-robin") as pool:
        tasks = [pool.submit(where) for _ in range(2)]
        await asyncio.gather(*tasks)
        assert sorted(map(host_of, tasks)) == ["a", "b"]
    async with ready(Loopback("a", slots=2, weight=9.0), Loopback("b", slots=2), selection=WeightedRandom(), seed=7) as pool:
        count: Counter[str] = Counter()
        for _ in range(40):
            task = pool.submit(where)
            await task
            count[host_of(task)] += 1
        assert count["a"] > 20


async def test_a_policy_of_ones_own(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[tuple[TaskView, list[HostView]]] = []

    def never_local(task: TaskView, hosts: Any) -> HostView | None:
        seen.append((task, list(hosts)))
        return next((host for host in hosts if host.room and not host.is_local), None)

    async with ready(Loopback("a", slots=1), local=1, selection=never_local) as pool:
        tasks = [pool.submit(where) for _ in range(12)]
        await asyncio.gather(*tasks)
        assert set(map(host_of, tasks)) == {"a"}
        assert {view.name for _, views in seen for view in views} == {"a", "local"}
        assert not caplog.records
        wrong = pool.options(selection=lambda task, hosts: 1 / 0)
        assert await asyncio.gather(*(wrong.submit(abs, -n) for n in range(5))) == list(range(5))
        odd = pool.options(selection=lambda task, hosts: "a")
        assert await odd.submit(abs, -3) == 3
    said = [record.message for record in caplog.records]
    assert said == [
        "the selection policy failed: LeastLoaded() decides where it does",
        "the selection policy returned str, and not one of the hosts it was given or None: LeastLoaded() decides where it does",
    ]


async def test_short_work_that_is_known_stays_near() -> None:
    async with ready(Loopback("a", slots=1), local=1, selection=LeastLoaded()) as pool:
        await asyncio.gather(*(pool.submit(abs, -1) for _ in range(50)))  # learned by now
        pool._engine.state.backlog("a").round_trip = 100.0  # and whatever else this machine has to do, that is longer
        tasks = [pool.submit(abs, -1) for _ in range(3)]
        await asyncio.gather(*tasks)
        assert set(map(host_of, tasks)) == {"local"}


async def test_what_waits_behind_a_long_task_far_away_is_taken_back(tmp_path: Path) -> None:
    async with ready(Loopback("a", slots=1), local=1) as pool:
        await asyncio.gather(*(pool.submit(hold, __file__) for _ in range(100)))  # it is expected to be short by now
        tasks = [pool.submit(hold, str(tmp_path / "go") if n == 30 else __file__) for n in range(400)]
        await asyncio.gather(*(task for n, task in enumerate(tasks) if n != 30))
        assert not tasks[30].done()
        (tmp_path / "go").touch()
        await tasks[30]


async def test_a_call_is_restricted_as_it_was_written() -> None:
    async with ready(Loopback("a", slots=1, labels={"gpu": "yes"}), local=1) as pool:
        labels, locality = {"gpu": "yes"}, {"local": -1}
        views = pool.options(labels=labels), pool.options(locality=locality)
        labels["gpu"], locality["local"] = "no", 0
        await pool.add_host(Loopback("b", slots=1))
        await pool.remove_host("b")
        assert [await view.submit(where) for view in views] == ["a", "a"]


async def test_a_predicate_that_is_async_allows_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def allow(host: HostView) -> bool:
        return True

    async with ready(Loopback("a", slots=1)) as pool:
        with pytest.raises(UsageError, match="no host of this pool is allowed"):
            pool.options(hosts=allow)
    (said,) = [record for record in caplog.records if "the predicate" in record.message]
    assert said.exc_info is not None and "it is async" in str(said.exc_info[1])


async def test_what_cannot_be_is_refused_before_anything_is_done() -> None:
    async with ready(Loopback("a", slots=1)) as pool:
        for timeout in ("5", -1, float("nan"), True):
            with pytest.raises(ValueError, match="give seconds, 0 or more"):
                await pool.drain(timeout)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="give seconds, 0 or more"):
                await pool.ready(timeout=timeout)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"remove_host\(3\): give a host's name"):
            await pool.remove_host(3)  # type: ignore[arg-type]
        assert await pool.submit(abs, -3) == 3
        assert "locality={'a': 1}" in repr(pool.options(locality={"a": 1}))


async def test_who_looks_from_another_thread_changes_nothing() -> None:
    async with ready(Loopback("a", slots=1), local=1) as pool:
        taken: list[int] = []
        handle = pool._engine.state.handle
        pool._engine.state.handle = lambda *more: taken.append(threading.get_ident()) or handle(*more)  # type: ignore[method-assign, func-returns-value]
        tasks = [pool.submit(abs, -n) for n in range(10)]
        looking = threading.Thread(target=lambda: (pool.status(), list(pool.slots), repr(pool)))
        looking.start()
        looking.join()
        assert await asyncio.gather(*tasks) == list(range(10))
        assert set(taken) == {threading.get_ident()}
