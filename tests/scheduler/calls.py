"""The options of the calls in random histories."""

from __future__ import annotations

from typing import Any

from aioparallel.errors import MemoryLimitExceeded, TaskTimeout, WorkerDied
from aioparallel.options import Retry

CALLS: list[dict[str, Any]] = [
    {},
    {"retries": 1},
    {"retries": 1},
    {"retries": 3},
    {"retries": 3, "grace": 1.0},
    {"isolate": True},
    {"isolate": True, "retries": 1},
    {"deadline": 0.004},
    {"deadline": 2.0, "retries": 2},
    {"idempotent": False},
    {"idempotent": False},
    {"idempotent": False, "deadline": 0.3},
    {"grace": 1.0},
    {"timeout": 1.0, "retries": 1},
    {"timeout": 1.0, "grace": 0.5, "deadline": 1.5},
    {"memory": 1000},
    {"backup": True},
    {"backup": True},
    {"backup": True, "retries": 2},
    {"backup": True, "grace": 1.0},
    {"backup": True, "isolate": True, "timeout": 1.0},
    {"backup": True, "retry": Retry(attempts=3, delay=0.1)},
    {"retry": Retry(attempts=3, delay=0.002)},
    {"retry": Retry(attempts=4, infrastructure=1, delay=0.3, max_delay=1.0, avoid_host=False)},
    {"retry": Retry(attempts=3, delay=0.5, on=lambda error: "1" in str(error)), "deadline": 2.0},
    {"retry": Retry(attempts=3, on=(WorkerDied, TaskTimeout, MemoryLimitExceeded), delay=0.01), "memory": 1000, "timeout": 1.0},
    {"retry": Retry(infrastructure=0), "isolate": True},
]
