"""What the documents say is true: every Python block in README and docs runs, as a script of its own, as a user would run it.

A block that awaits at its top level is a notebook's cell, and runs as such. A `text` block right behind a Python block is what it
prints. README's two commands are real, and `.ci/run` runs the second one.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from sybil import Document
from sybil.parsers.markdown import CodeBlockParser

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SECONDS = 100
"""A block that runs longer hangs."""
CELL = """
import ast, asyncio, pathlib, sys
asyncio.run(eval(compile(pathlib.Path(sys.argv[1]).read_text(), sys.argv[1], "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)))
"""


class Block(NamedTuple):
    """A Python block of a page."""

    place: str
    source: str
    output: str | None
    """What it prints, where the page says so."""


def blocks(path: Path) -> list[Block]:
    parsers = [CodeBlockParser(language, evaluator=lambda example: None) for language in ("python", "text")]
    examples = list(Document.parse(str(path), *parsers).examples())
    text = path.read_text()
    found = []
    for example, follower in zip(examples, [*examples, None][1:], strict=True):
        if example.region.lexemes["arguments"] != "python":
            continue
        behind = follower is not None and not text[example.region.end : follower.region.start].strip()
        prints = behind and follower.region.lexemes["arguments"] == "text"
        place = f"{path.relative_to(ROOT)}:{example.line}"
        found.append(Block(place, example.parsed, follower.parsed if prints else None))
    return found


def is_cell(source: str) -> bool:
    try:
        compile(source, "block", "exec")
    except SyntaxError:
        compile(source, "block", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        return True
    return False


BLOCKS = [block for path in PAGES for block in blocks(path)]


@pytest.mark.parametrize("block", BLOCKS, ids=[block.place for block in BLOCKS])
def test_block_runs(block: Block, tmp_path: Path):
    script = tmp_path / "block.py"
    script.write_text(block.source)
    head = ["-c", CELL] if is_cell(block.source) else []
    done = subprocess.run(
        [sys.executable, "-W", "error", *head, script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stderr == ""
    if block.output is not None:
        assert done.stdout == block.output


def test_no_python_block_escapes():
    fences = sum(len(re.findall(r"^ *```\{?(?:python|code-block\} python|py|pycon)\b", path.read_text(), re.MULTILINE)) for path in PAGES)
    assert fences == len(BLOCKS) > 10


def test_the_two_commands():
    commands = re.findall(r"^```console\n(.+)\n```$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert [command.split(" && ")[-1] for command in commands] == [".venv/bin/nox -s demo", ".venv/bin/nox -s tests"]
    assert commands[1] in [line.strip() for line in (ROOT / ".ci" / "run").read_text().splitlines()]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_links_between_pages():
    for path in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text()):
            assert (path.parent / target).is_file(), f"{path.relative_to(ROOT)} links to {target}"
