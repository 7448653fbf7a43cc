"""Sphinx: MyST pages, and a reference from the docstrings."""

from __future__ import annotations

import tomllib
from pathlib import Path

project = "aioparallel"
author = "the aioparallel authors"
project_copyright = "2026, the aioparallel authors"
release = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["version"]
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"aioparallel {release}"
default_role = "code"  # docstrings write `code` as Markdown does
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
