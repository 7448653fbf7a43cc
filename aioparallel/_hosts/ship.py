"""What travels to a host where nothing is installed: the agent's program, and the line that starts it there.

How it works
    The command that SSH runs is the same for every host and names no secret: a shell finds a Python of the right version, which reads
    one line of Python from its standard input and runs it. That line says a marker (whatever a login shell printed before is not ours),
    takes a zip with our modules into memory, and begins the agent from there.
"""

from __future__ import annotations

import io
import sys
import zipfile
from functools import cache
from pathlib import Path

import cloudpickle

_PACKAGE = Path(__file__).parent.parent
TRAVELS = ("errors.py", "_wire", "_worker")
VERSION = "{}.{}".format(*sys.version_info)

COMMAND = (
    "exec /bin/sh -c '"
    "for p in {pythons}; do "
    "if $p -V </dev/null >/dev/null 2>&1; then "
    'exec env AIOPARALLEL_NONCE={nonce} $p -S -c "import io;exec(io.FileIO(0,closefd=False).readline())"; fi; '
    "done; echo {marker} none {pythons}'"
)
"""Runs under sh, bash, zsh, fish and tcsh alike: no quote, backslash, exclamation mark or newline inside the quotes.

A Python must say its version (2 ms) to be taken: a shim of pyenv is there for each version that any project has, and runs none.
"""

_LINE = """
import os,sys
def out(text):
    os.write(1,text.encode())
def take(count):
    parts=[]
    while count:
        part=os.read(0,min(count,1<<20))
        if not part: os._exit(0)
        parts.append(part); count-=len(part)
    return b''.join(parts)
here='%d.%d'%sys.version_info[:2]
if here!={version!r}:
    out({marker!r}+' version '+sys.version.split()[0]+' '+(sys.executable or '?')+chr(10))
    os._exit(0)
out({marker!r}+' begin'+chr(10))
import fcntl
data=take({size})
if hasattr(os,'memfd_create'):
    low=os.memfd_create('aioparallel')
else:
    import tempfile
    low,path=tempfile.mkstemp(); os.unlink(path)
while data: data=data[os.write(low,data):]
archive=fcntl.fcntl(low,fcntl.F_DUPFD_CLOEXEC,100)
os.close(low)
path='/proc/%d/fd/%d'%(os.getpid(),archive)
sys.path[:]=[path]+[p for p in sys.path if p]
P=type(sys)('aioparallel')
P.__path__=[path+'/aioparallel']
sys.modules['aioparallel']=P
from aioparallel._worker.far import main
main(archive,{nonce!r})
"""


_IN_ANOTHER_PYTHON = "from ._worker import modules\nmodules.install(frozenset())\n"
"""The package as a Python finds it that a task starts: agent and slots never run this."""


@cache
def archive() -> bytes:
    """Return the zip of everything that an agent and its slots need of ours."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name in TRAVELS:
            for path in sorted([_PACKAGE / name, *(_PACKAGE / name).glob("*.py")]):
                if path.suffix == ".py":
                    zipped.writestr(f"aioparallel/{path.relative_to(_PACKAGE).as_posix()}", path.read_bytes())
        zipped.writestr("aioparallel/__init__.py", _IN_ANOTHER_PYTHON)
        folder = Path(cloudpickle.__file__).parent
        for path in sorted(folder.glob("*.py")):
            zipped.writestr(f"cloudpickle/{path.name}", path.read_bytes())
    return target.getvalue()


def command(python: str | None, nonce: str, marker: str) -> str:
    """Return the command that finds a Python over there and starts it: the one named, or one of our own version."""
    pythons = python or f"python{VERSION} python3 python"
    return COMMAND.format(pythons=pythons, nonce=nonce, marker=marker)


def first_words(nonce: str, marker: str) -> bytes:
    """Return what that Python is to read first."""
    data = archive()
    line = f"exec({_LINE.format(version=VERSION, marker=marker, size=len(data), nonce=nonce.split('.', maxsplit=1)[0])!r})\n"
    return line.encode() + data


def why_not(verdict: list[str]) -> str:
    """Say why no agent was begun, by what stands behind the marker."""
    remedy = f"install python{VERSION} there, or name one with SSH(..., python=...)"
    if verdict[:1] == ["none"] and len(verdict) == 2:
        return (
            f"no {verdict[1]} that runs was found there: name another with SSH(..., python=...), or none to have python{VERSION} looked for"
        )
    if verdict[:1] == ["version"] and len(verdict) > 2:
        return f"its Python ({verdict[2]}) is {verdict[1]}, and the controller's is {VERSION}: {remedy}"
    return f"no python{VERSION}, python3 or python that runs was found there: {remedy}"


__all__ = ["VERSION", "archive", "command", "first_words", "why_not"]
