"""What one Python file is made of, and what many are together; nothing here knows that there is a pool.

`measure` is what runs in a slot: it parses one file and returns a few numbers instead of the tree, so that little travels back.
`Census` adds these up in the controller, in whatever order they come: the same files give the same census.
"""

from __future__ import annotations

import ast
import os
import sysconfig
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import nsmallest

TOP = 5
"""How many of the longest functions, the most imported modules and the slowest files are kept."""
FOREIGN = frozenset({"site-packages", "dist-packages", "__pycache__"})
"""Folders below the standard library that are not part of it."""
UNPARSABLE = (SyntaxError, ValueError, RecursionError, MemoryError, OSError)
"""What a file's own content or mode makes `measure` raise: null bytes, a wrong encoding, nesting beyond the parser's stack ..."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in the source and how remarkable it is."""

    size: int  # lines of a function, or levels of nesting
    path: str
    line: int
    name: str = ""

    @property
    def rank(self) -> tuple[int, str, int]:
        """The largest first; equal ones by place, so that the order in which files were read does not show."""
        return -self.size, self.path, self.line


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCensus:
    """What one file is made of."""

    path: str
    lines: int
    classes: int
    functions: int  # `def`, methods included; `async def` apart
    async_functions: int
    longest: tuple[Spot, ...]  # at most TOP functions
    deepest: Spot  # the statement with the most blocks around it
    imports: tuple[str, ...]  # top-level names of modules, each once
    seconds: float  # wall time that reading, parsing and counting took
    cpu_seconds: float


def stdlib_folder() -> str:
    """Return the folder of the running interpreter's standard library."""
    return sysconfig.get_path("stdlib")


def python_files(folder: str) -> list[str]:
    """Return the paths of all `.py` files below `folder`, without installed packages; the largest first.

    Long tasks first and short ones last is what keeps all slots busy to the end (R. L. Graham, "Bounds on multiprocessing timing
    anomalies", 1969).
    """
    found = []
    for here, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in FOREIGN]
        for name in names:
            path = os.path.join(here, name)
            if name.endswith(".py") and os.path.isfile(path):
                found.append((-os.path.getsize(path), path))
    return [path for _, path in sorted(found)]


def measure(path: str, source: bytes | None = None) -> FileCensus:
    """Parse and count one file, and read it unless `source` is what it holds.

    Raises what reading or parsing it raises, see `UNPARSABLE`.
    """
    began, cpu = time.perf_counter(), time.process_time()
    if source is None:
        with open(path, "rb") as file:
            source = file.read()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about escapes in other people's strings
        tree = ast.parse(source, path)
    kinds: Counter[type[ast.stmt]] = Counter()
    functions: list[Spot] = []
    imports: set[str] = set()
    deepest = Spot(0, path, 1)
    for statement, depth in statements(tree.body):
        kinds[type(statement)] += 1
        if (-depth, statement.lineno) < (-deepest.size, deepest.line):
            deepest = Spot(depth, path, statement.lineno)
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (statement.end_lineno or statement.lineno) - statement.lineno + 1
            functions.append(Spot(length, path, statement.lineno, statement.name))
        elif isinstance(statement, (ast.Import, ast.ImportFrom)):
            imports.update(imported(statement))
    return FileCensus(
        path=path,
        lines=source.count(b"\n") + (source[-1:] not in (b"", b"\n")),
        classes=kinds[ast.ClassDef],
        functions=kinds[ast.FunctionDef],
        async_functions=kinds[ast.AsyncFunctionDef],
        longest=tuple(nsmallest(TOP, functions, key=lambda spot: spot.rank)),
        deepest=deepest,
        imports=tuple(sorted(imports)),
        seconds=time.perf_counter() - began,
        cpu_seconds=time.process_time() - cpu,
    )


def statements(body: list[ast.stmt]) -> Iterator[tuple[ast.stmt, int]]:
    """Yield every statement with the number of levels by which a reader sees it indented.

    Expressions are not entered: definitions and imports are statements. A stack instead of recursion, so that no file is too deep.
    """
    waiting = [(body, 0)]
    while waiting:
        block, depth = waiting.pop()
        for statement in block:
            yield statement, depth
            waiting.extend((inner, depth + levels) for inner, levels in blocks(statement) if inner)


def blocks(statement: ast.stmt) -> Iterator[tuple[list[ast.stmt], int]]:
    """Yield the blocks of a statement, each with the levels it is indented by."""
    yield getattr(statement, "body", []), 1
    orelse: list[ast.stmt] = getattr(statement, "orelse", [])
    # `elif` is an `if` in the tree's `else`, at the column of the `if` it belongs to; on the page it is not deeper.
    yield orelse, 0 if orelse and orelse[0].col_offset == statement.col_offset else 1
    yield getattr(statement, "finalbody", []), 1
    for handler in getattr(statement, "handlers", ()):
        yield handler.body, 1
    for case in getattr(statement, "cases", ()):
        yield case.body, 2


def imported(statement: ast.Import | ast.ImportFrom) -> list[str]:
    """Return the top-level names of the modules that a statement imports; none for a relative import."""
    if isinstance(statement, ast.Import):
        return [alias.name.partition(".")[0] for alias in statement.names]
    if statement.level or not statement.module:
        return []
    return [statement.module.partition(".")[0]]


@dataclass(slots=True)
class Census:
    """What many files are made of together."""

    files: int = 0  # that were parsed
    lines: int = 0
    classes: int = 0
    functions: int = 0
    async_functions: int = 0
    longest: list[Spot] = field(default_factory=list)
    deepest: Spot | None = None
    imports: Counter[str] = field(default_factory=Counter)  # name -> files that import it
    slowest: list[tuple[float, str]] = field(default_factory=list)  # seconds, path
    cpu_seconds: float = 0.0
    unparsed: dict[str, str] = field(default_factory=dict)  # path -> why
    failed: dict[str, str] = field(default_factory=dict)  # path -> what went wrong, and is not the file's fault

    def add(self, path: str, outcome: FileCensus | BaseException) -> None:
        """Count one file in: what was measured, or what was raised instead."""
        if isinstance(outcome, BaseException):
            reasons = self.unparsed if isinstance(outcome, UNPARSABLE) else self.failed
            reasons[path] = f"{type(outcome).__name__}: {outcome}"
            return
        self.files += 1
        self.lines += outcome.lines
        self.classes += outcome.classes
        self.functions += outcome.functions
        self.async_functions += outcome.async_functions
        self.longest = nsmallest(TOP, [*self.longest, *outcome.longest], key=lambda spot: spot.rank)
        self.deepest = min(self.deepest or outcome.deepest, outcome.deepest, key=lambda spot: spot.rank)
        self.imports.update(outcome.imports)
        self.slowest = nsmallest(TOP, [*self.slowest, (outcome.seconds, path)], key=lambda pair: (-pair[0], pair[1]))
        self.cpu_seconds += outcome.cpu_seconds

    def most_imported(self) -> list[tuple[str, int]]:
        """Return the TOP modules that most files import, with the number of files."""
        return nsmallest(TOP, self.imports.items(), key=lambda pair: (-pair[1], pair[0]))
