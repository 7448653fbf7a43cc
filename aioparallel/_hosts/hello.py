"""The first words between a pool and a far agent: what the agent must know, and the word by which its begin is known."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from .._wire.messages import PROTOCOL
from .sources import Selection, needed_by


def hello(config: dict[str, Any], nonce: str, generation: int, selection: Selection) -> dict[str, Any]:
    """Return what the agent there must know: what the host was told, and what all are."""
    from _frozen_importlib_external import MAGIC_NUMBER  # what importlib.util shows, without importing that

    versions = {"protocol": PROTOCOL, "implementation": sys.implementation.name, "magic": MAGIC_NUMBER, "byteorder": sys.byteorder}
    return {
        **config,
        "modules": {source.name: source[1:] for source in needed_by(config["preload"], selection)},
        "versions": versions,
        "python": f"{sys.executable}, {sys.version.split()[0]}",
        "nonce": f"{nonce}.",
        "own_nonce": f"{nonce}.{generation}",
        "sweep": generation > 1,
        "threads": 0,
        "far": True,
        "names": [name for name in vars(sys.modules["aioparallel"]) if not name.startswith("_")],
        "public": [path.stem for path in Path(__file__).parents[1].iterdir() if path.stem[0] not in "_." and path.suffix in ("", ".py")],
    }


def new_marker() -> str:
    """Return a word that no login shell prints."""
    return f"aioparallel-{os.urandom(8).hex()}"


__all__ = ["hello", "new_marker"]
