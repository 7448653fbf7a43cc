"""What a pool may be told: its settings, and hosts as plain values. See `Pool`."""

from __future__ import annotations

from .hosts import HostAdded as HostAdded, HostRemoved as HostRemoved, as_value as as_value, as_values as as_values
from .settings import Settings as Settings, check_backup as check_backup, check_selection as check_selection, given as given, unset as unset
from .settling import read_config as read_config, settled as settled, with_file as with_file
from .ssh import SSH as SSH

__all__ = ["SSH", "HostAdded", "HostRemoved", "Settings", "read_config"]
