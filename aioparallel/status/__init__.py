"""What a pool shows: `pool.status()`, `pool.summary()`, `pool.failures`, `task.attempts`; frozen values, and the names of every state.

All times are seconds since the epoch (as `time.time()`), all durations seconds, all sizes bytes. Nothing here holds arguments, results
or environment values.
"""

from __future__ import annotations

from .board import HostStatus as HostStatus, PoolStatus as PoolStatus, RunningAttempt as RunningAttempt
from .past import (
    Explanation as Explanation,
    FailureRecord as FailureRecord,
    FunctionSummary as FunctionSummary,
    Histogram as Histogram,
    SlowTask as SlowTask,
    Summary as Summary,
)
from .states import (
    BUSY as BUSY,
    CANCELLED as CANCELLED,
    DIED as DIED,
    FAILED as FAILED,
    GONE as GONE,
    IDLE as IDLE,
    LOST as LOST,
    OUT_OF_MEMORY as OUT_OF_MEMORY,
    QUEUED as QUEUED,
    RETIRING as RETIRING,
    RUNNING as RUNNING,
    STARTING as STARTING,
    STOPPING as STOPPING,
    SUCCEEDED as SUCCEEDED,
    TIMED_OUT as TIMED_OUT,
    UNCONFIRMED as UNCONFIRMED,
    AttemptRecord as AttemptRecord,
    SlotStatus as SlotStatus,
)

__all__ = [
    "AttemptRecord",
    "Explanation",
    "FailureRecord",
    "FunctionSummary",
    "Histogram",
    "HostStatus",
    "PoolStatus",
    "RunningAttempt",
    "SlotStatus",
    "SlowTask",
    "Summary",
]
