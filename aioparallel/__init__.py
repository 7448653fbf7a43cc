"""Run Python functions on all cores, from asyncio, and believe what the library says."""

from __future__ import annotations

from . import config as config, errors as errors, events as events, options as options, status as status
from ._jobs.shared import Shared as Shared
from ._jobs.task import Task as Task
from ._worker.context import current_task as current_task, report_progress as report_progress
from .config import SSH as SSH
from .errors import (
    AioparallelError as AioparallelError,
    ConfigError as ConfigError,
    HostError as HostError,
    HostLost as HostLost,
    MemoryLimitExceeded as MemoryLimitExceeded,
    PoolClosed as PoolClosed,
    RemoteError as RemoteError,
    SerializationError as SerializationError,
    TaskCancelled as TaskCancelled,
    TaskError as TaskError,
    TaskExited as TaskExited,
    TaskPoisoned as TaskPoisoned,
    TaskTimeout as TaskTimeout,
    UsageError as UsageError,
    WorkerDied as WorkerDied,
)
from .options import Retry as Retry
from .policies.backup import Backup as Backup
from .pool import Pool as Pool

__version__ = "0.1.0"
