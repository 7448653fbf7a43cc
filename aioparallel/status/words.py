"""Values as people read them: durations in words, tables in plain text and in HTML; and as JSON holds them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

from .._wire.records import Record

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""The names of the columns, and the rows."""
UNITS = ((1e-3, 1e6, "us"), (1.0, 1e3, "ms"))


def in_units(seconds: float | None) -> str:
    """Return a duration with three digits and its unit; None is "-"."""
    if seconds is None:
        return "-"
    for limit, factor, unit in UNITS:
        if seconds < limit * 0.9995:
            return f"{seconds * factor:.3g} {unit}"
    if seconds < 100:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole} s" if whole < 600 else f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02} h"


def in_bytes(size: int | None) -> str:
    """Return a size with its unit; None is "-"."""
    if size is None:
        return "-"
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.1f} KiB"


def as_lines(table: Table, indent: str = "  ") -> list[str]:
    """Return a table as lines of text: the first column to the left, and the last; the others to the right."""
    names, rows = table
    widths = [max(len(name), *(len(row[column]) for row in rows), 0) for column, name in enumerate(names)]
    last = len(names) - 1

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell if column == last else cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return (indent + "  ".join(padded)).rstrip()

    return [line(names), *map(line, rows)] if rows else []


def as_html(lines: Iterable[str], tables: Iterable[Table]) -> str:
    """Return lines and tables as a piece of HTML."""
    from html import escape

    parts = [f"<div>{escape(line.strip())}</div>" for line in lines]
    for names, rows in tables:
        if rows:
            head = "".join(f"<th>{escape(name)}</th>" for name in names)
            body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
            parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
    return "".join(parts)


def as_plain(value: Any) -> Any:
    """Return what JSON can hold of a value made of records, tuples and numbers."""
    if isinstance(value, Record):
        return {name: as_plain(getattr(value, name)) for name in value._fields}
    if isinstance(value, (tuple, list)):
        return [as_plain(part) for part in cast("Sequence[Any]", value)]
    return value
