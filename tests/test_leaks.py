"""The fixture that fails leaking tests can fail: `leaks` finds what it is there to find."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from .leaks import Snapshot, lasting_leftovers, leftovers

DAEMON = """
import os, sys, time
if os.fork():
    os._exit(0)
os.setsid()
print(os.getpid(), flush=True)
os.close(1)
time.sleep(1000)
"""


def test_finds_nothing_where_nothing_is():
    assert not leftovers(Snapshot.take())


def test_finds_a_child_and_kills_it():
    before = Snapshot.take()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], stdin=subprocess.DEVNULL)
    left = lasting_leftovers(before, 0)
    assert f"process {child.pid} (child of {os.getpid()}" in str(left)
    left.kill()
    assert child.wait(10) == -9


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="environments of other processes are readable in Linux's /proc")
def test_finds_a_process_of_a_pool_that_left_the_tree():
    before = Snapshot.take()
    environ = os.environ | {"AIOPARALLEL_NONCE": "test"}
    daemon = int(subprocess.run([sys.executable, "-c", DAEMON], env=environ, stdout=subprocess.PIPE, check=True).stdout)
    left = lasting_leftovers(before, 0)
    assert [process.pid for process in left.processes] == [daemon]
    left.kill()
    assert not lasting_leftovers(before)


def test_finds_a_descriptor_a_thread_and_a_file():
    before = Snapshot.take()
    reader, writer = os.pipe()
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="the one that stays")
    thread.start()
    descriptor, name = tempfile.mkstemp(prefix="aioparallel")
    said = str(lasting_leftovers(before, 0))
    release.set()
    thread.join()
    for number in (reader, writer, descriptor):
        os.close(number)
    Path(name).unlink()
    assert f"file descriptor {reader} -> pipe" in said and "thread 'the one that stays'" in said and f"file {name}" in said


async def test_async_tests_run_in_a_loop(tmp_path):
    assert asyncio.get_running_loop().get_debug() is False and tmp_path.is_dir()
