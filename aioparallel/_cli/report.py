"""The census as text and as JSON: pure, plain ASCII apart from file names, at most 79 columns unless a path is longer."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from typing import Any

from .census import Census, FileCensus, Spot

TITLE = "stdlib census"
COLUMNS = 79
NAMED = 3
"""How many of the files that do not parse are named in the table."""


@dataclass(slots=True)
class Share:
    """What one host did of it."""

    host: str
    slots: int = 0
    files: int = 0
    lines: int = 0
    seconds: float = 0.0  # of parsing and counting, on all its slots together
    missing: str = ""  # why it was not there

    def add(self, outcome: FileCensus) -> None:
        """Count one file in."""
        self.files += 1
        self.lines += outcome.lines
        self.seconds += outcome.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What the pool did."""

    slots: int
    cpus: int  # that this process may use
    tasks: int
    seconds: float  # from before the pool was opened until it was closed
    run_seconds: float  # the tasks' run time on all slots together
    cpu_seconds: float  # the CPU time that the files took on all slots together
    hosts: tuple[Share, ...] = ()

    @property
    def speed_up(self) -> float:
        """The tasks' run seconds over the seconds it took: how much longer one slot alone would have run.

        Never more than there are CPUs: where more slots than that share them, tasks wait for a CPU while they run, and their run
        seconds would claim cores that do not exist.
        """
        return min(self.run_seconds / self.seconds, float(self.cpus)) if self.seconds else 0.0

    @property
    def busy(self) -> float:
        """The share of the slots' time in which they ran tasks, 0..1."""
        whole = self.slots * self.seconds
        return min(self.run_seconds / whole, 1.0) if whole else 0.0


def as_text(census: Census, summary: Summary, folder: str) -> str:
    """Return the tables."""

    def place(spot: Spot) -> str:
        return f"{os.path.relpath(spot.path, folder)}:{spot.line}"

    def short(path: str) -> str:
        return os.path.relpath(path, folder)

    deepest = [place(census.deepest)] if census.deepest else []
    lines = [TITLE, "=" * len(TITLE), f"Python {platform.python_version()}, {folder}", ""]
    lines += _pairs(
        ("files", f"{census.files:,}", *_unparsed(census, folder)),
        ("lines", f"{census.lines:,}"),
        ("classes", f"{census.classes:,}"),
        ("functions", f"{census.functions:,}"),
        ("async functions", f"{census.async_functions:,}"),
        ("deepest nesting", f"{census.deepest.size if census.deepest else 0:,}", *deepest),
    )
    lines += _ranking("longest functions", "lines", [(f"{spot.size:,}", place(spot), spot.name) for spot in census.longest])
    lines += _ranking("most imported modules", "files", [(f"{count:,}", name, "") for name, count in census.most_imported()])
    lines += _ranking("slowest files", "ms", [(f"{seconds * 1000:,.0f}", short(path), "") for seconds, path in census.slowest])
    lines += ["", "pool", "----"]
    lines += _pairs(
        ("tasks", f"{summary.tasks:,}", f"on {_slots(summary.slots)}, {summary.busy:.0%} of their time busy", *_chunked(census, summary)),
        ("seconds", f"{summary.seconds:.2f}", "from opening the pool to its end"),
        ("speed-up", f"{summary.speed_up:.2f}x", *_explained(summary)),
    )
    if any(share.host != "local" for share in summary.hosts):
        lines += ["", "which host counted what", "-----------------------", *_shares(summary.hosts)]
    return "\n".join(line.rstrip() for line in lines)


def as_dict(census: Census, summary: Summary, folder: str) -> dict[str, Any]:
    """Return the same as one object that JSON can hold, with whole paths."""
    return {
        "title": TITLE,
        "python": platform.python_version(),
        "folder": folder,
        "files": census.files,
        "lines": census.lines,
        "classes": census.classes,
        "functions": census.functions,
        "async_functions": census.async_functions,
        "deepest_nesting": _spot(census.deepest) if census.deepest else None,
        "longest_functions": [_spot(spot) for spot in census.longest],
        "most_imported_modules": dict(census.most_imported()),
        "slowest_files": {path: round(seconds, 6) for seconds, path in census.slowest},
        "unparsed": dict(sorted(census.unparsed.items())),
        "failed": dict(sorted(census.failed.items())),
        "pool": {
            "slots": summary.slots,
            "cpus": summary.cpus,
            "tasks": summary.tasks,
            "seconds": round(summary.seconds, 6),
            "run_seconds": round(summary.run_seconds, 6),
            "cpu_seconds": round(summary.cpu_seconds, 6),
            "speed_up": round(summary.speed_up, 3),
            "hosts": {share.host: _share(share) for share in summary.hosts},
        },
    }


def _chunked(census: Census, summary: Summary) -> list[str]:
    """Return a note for those who wonder why there are fewer tasks than files."""
    files = census.files + len(census.unparsed) + len(census.failed)
    return [f"(small files travel together, {files / summary.tasks:.1f} to a task)"] if 0 < summary.tasks < files else []


def _shares(shares: tuple[Share, ...]) -> list[str]:
    width = max(len(share.host) for share in shares)
    return [
        f"{share.host:<{width}}  "
        + (share.missing or f"{share.files:>7,} files  {share.lines:>11,} lines  {share.seconds:>8.2f} s on {_slots(share.slots)}")
        for share in shares
    ]


def _share(share: Share) -> dict[str, Any]:
    whole = {"slots": share.slots, "files": share.files, "lines": share.lines, "seconds": round(share.seconds, 6)}
    return whole | {"missing": share.missing} if share.missing else whole


def _slots(count: int) -> str:
    return "1 slot" if count == 1 else f"{count} slots"


def _explained(summary: Summary) -> list[str]:
    """Return the notes that say what the speed-up is."""
    notes = [f"over one core: {summary.run_seconds:.2f} s of run time in slots / {summary.seconds:.2f} s"]
    if summary.run_seconds > summary.speed_up * summary.seconds * 1.005:
        notes[0] = f"over one core: all {summary.cpus} CPUs, which {summary.slots} slots share"
    return [*notes, f"({summary.cpu_seconds:.2f} s of CPU time went into the files)"]


def _spot(spot: Spot) -> dict[str, Any]:
    whole = {"size": spot.size, "path": spot.path, "line": spot.line}
    return whole | {"name": spot.name} if spot.name else whole


def _unparsed(census: Census, folder: str) -> list[str]:
    """Return the notes on the files that are not in the count."""
    notes = []
    if census.failed:
        notes.append(f"{len(census.failed):,} more failed, see stderr")
    if census.unparsed:
        names = [os.path.relpath(path, folder) for path in sorted(census.unparsed)]
        more = len(names) - NAMED
        notes.append(f"{len(names):,} more do not parse:")
        notes += names[:NAMED]
        notes += [f"and {more:,} others"] if more > 0 else []
    return notes


def _pairs(*rows: tuple[str, ...]) -> list[str]:
    """Lay out rows of a name, a figure, and any number of notes, which stand below each other."""
    lines = []
    for name, figure, *notes in rows:
        first, *others = notes or [""]
        lines.append(f"{name:<16}{figure:>9}   {first}")
        lines += [f"{'':<28}{note}" for note in others]
    return lines


def _ranking(title: str, unit: str, rows: list[tuple[str, str, str]]) -> list[str]:
    """Lay out a ranking: a figure, what it belongs to, and a name at the right edge where there is one."""
    if not rows:
        return []
    lines = ["", title, "-" * len(title)]
    for figure, what, name in rows:
        head = f"{figure:>8} {unit}   {what}"
        lines.append(f"{head}  {name:>{max(COLUMNS - len(head) - 2, 0)}}" if name else head)
    return lines
