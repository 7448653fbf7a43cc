"""Take a census of the standard library on all local cores: `python examples/stdlib_census.py`.

The same as `python -m aioparallel demo`, called from a program of one's own. What runs in the slots is `census.measure`; how the
files stream through the pool is `demo.take_census`.
"""

from __future__ import annotations

import asyncio

from aioparallel._cli import report
from aioparallel._cli.census import python_files, stdlib_folder
from aioparallel._cli.demo import take_census


async def main() -> None:
    """Measure every file, then print the tables."""
    folder = stdlib_folder()
    census, summary = await take_census(python_files(folder))
    print(report.as_text(census, summary, folder))


if __name__ == "__main__":
    asyncio.run(main())
