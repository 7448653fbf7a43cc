"""Take one sample, in this process: `python -m tests.benchmarks.sample MEASURE CONTENDER SIZE` prints its figures as JSON."""

from __future__ import annotations

import asyncio
import json
import sys

from .run import MEASURES


def main(measure: str, contender: str, size: str) -> None:
    """Run the contender's piece of the work and print what it measured."""
    work = MEASURES[measure].contenders[contender]

    async def sample() -> dict[str, float]:
        return await work(int(size))

    print(json.dumps(asyncio.run(sample())))


if __name__ == "__main__":
    main(*sys.argv[1:])
