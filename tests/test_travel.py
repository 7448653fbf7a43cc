"""The other process carries no luggage: a slot imports none of the controller's libraries unless user code does.

Each question is asked by a script in a process of its own, as pytest has imported everything long since.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LUGGAGE = ("anyio", "asyncio", "asyncssh", "psutil")

HEAD = f"""
import json, sys
def luggage():
    import sys
    return [name for name in {LUGGAGE!r} if name in sys.modules]
"""
IN_A_SLOT = (
    HEAD
    + """
import asyncio, aioparallel, neighbour

async def coroutine():
    return luggage()

async def main():
    async with aioparallel.Pool(local=1) as pool:
        plain = await pool.submit(luggage)
        by_reference = await pool.submit(neighbour.luggage)
        of_context = await pool.submit(neighbour.knows_its_task)
        of_map = await pool.map(neighbour.luggage_of, [1, 2, 3])
        awaited = await pool.submit(coroutine)
    print(json.dumps([plain, by_reference, of_context, of_map, awaited]))

asyncio.run(main())
"""
)
NEIGHBOUR = (
    HEAD
    + """
def luggage_of(item):
    return luggage()

def knows_its_task():
    from aioparallel import current_task, report_progress
    report_progress(1, 2)
    assert current_task().attempt == 1
    return luggage()
"""
)


def run(folder: Path, text: str) -> object:
    (folder / "neighbour.py").write_text(NEIGHBOUR)
    (folder / "program.py").write_text(text)
    command = [sys.executable, str(folder / "program.py")]
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_slot_imports_none_of_the_controllers_libraries(tmp_path):
    plain, by_reference, of_context, of_map, awaited = run(tmp_path, IN_A_SLOT)
    assert plain == []
    assert by_reference == []
    assert of_map == [[], [], []]
    assert of_context == []
    assert awaited == ["asyncio"]


def test_importing_aioparallel_does_not_import_asyncssh(tmp_path):
    assert "asyncssh" not in run(tmp_path, HEAD + "import aioparallel, aioparallel.testing\nprint(json.dumps(luggage()))")


def test_an_open_local_pool_does_not_import_asyncssh(tmp_path):
    program = """
import asyncio, aioparallel
async def main():
    async with aioparallel.Pool(local=1) as pool:
        await pool.submit(abs, -1)
asyncio.run(main())
print(json.dumps(luggage()))
"""
    assert "asyncssh" not in run(tmp_path, HEAD + program)
