"""The project's chores, each a session: `nox -s demo`, `nox -s tests`, or `nox` for what a change must pass.

Versions and dependencies are read from pyproject.toml. Sessions install the package editable: the tests run the checkout either way
(pytest puts its root on `sys.path`, as a test's functions must be importable in a slot), so a built copy would only cost time and hide
which of the two is tested. `demo` and `minimums` install it built: that the wheel is whole is shown there.
"""

from __future__ import annotations

import shutil
import subprocess
import sys

import nox

PYPROJECT = nox.project.load_toml("pyproject.toml")
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
SMOKE = ("tests/test_docs.py", "tests/test_exports.py", "tests/test_travel.py", "tests/wire")
"""The tests that meet the dependencies: what travels, and every example of the documents, end to end."""


def runs(version: str) -> bool:
    """Return whether that Python is installed: a `python3.x` on the PATH may be a shim with nothing behind it."""
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return True
    path = shutil.which(f"python{version}")
    command = [path or "", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    return path is not None and subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() == version


PYTHONS = [version for version in VERSIONS if runs(version)]
if not PYTHONS:
    raise SystemExit(f"none of Python {', '.join(VERSIONS)} is installed; this one is {sys.version.split()[0]}")

nox.options.sessions = ["lint", "types", "tests", "docs"]
nox.options.error_on_missing_interpreters = True
nox.options.download_python = "never"
nox.options.default_venv_backend = "virtualenv"


def group(*names: str) -> tuple[str, ...]:
    """Return what these dependency groups of pyproject.toml hold."""
    return nox.project.dependency_groups(PYPROJECT, *names)


@nox.session
def demo(session: nox.Session) -> None:
    """Take a census of the standard library on all cores (arguments go to the command)."""
    session.install(".")
    session.chdir(session.create_tmp())
    session.run("python", "-m", "aioparallel", "demo", *session.posargs)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run all tests under every installed Python, on all cores (arguments go to pytest; `-- -n0` for one after the other)."""
    session.install("-e", ".", *group("test"))
    # pytest ends with status 5, and so the session fails, when no test was found.
    session.run("pytest", "--numprocesses=logical", "--maxprocesses=4", "--dist=worksteal", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check rules and formatting with ruff (`nox -s lint -- --fix` repairs what it can)."""
    session.install(*group("lint"))
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", *([] if "--fix" in session.posargs else ["--check"]))


@nox.session
def types(session: nox.Session) -> None:
    """Check types with mypy (strict) and pyright (strict on the public surface)."""
    session.install("-e", ".", *group("types"))
    session.run("mypy")
    session.run("pyright")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error."""
    session.install("-e", ".", *group("docs"))
    session.run("sphinx-build", "-W", "--keep-going", "-q", "-b", "html", "docs", "docs/_build/html", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure speed side by side with the peers (arguments go to the benchmarks: `-- --quick`)."""
    session.install("-e", ".", *group("bench"))
    session.run("python", "-m", "tests.benchmarks", *session.posargs)


@nox.session(python=PYTHONS[0])
def minimums(session: nox.Session) -> None:
    """Run a part of the tests with the oldest dependencies that pyproject.toml allows."""
    oldest = [requirement.replace(">=", "==") for requirement in PYPROJECT["project"]["dependencies"]]
    session.install(".", *oldest, *group("test"))
    session.run("python", "-m", "pip", "check")
    session.run("python", "-W", "error", "-c", "import anyio, asyncssh, cloudpickle, psutil")
    session.run("pytest", *(session.posargs or SMOKE))
