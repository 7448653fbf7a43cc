"""What holds in the end: arguments, variables, the file, what is built in."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aioparallel import SSH, ConfigError, HostError, Pool
from aioparallel.config import Settings, read_config
from tests.far.servers import PYTHON, Server


def settings_of(pool: Pool) -> Settings:
    return pool._settings


def test_arguments_then_variables_then_the_file_then_what_is_built_in(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "aioparallel.toml").write_text('name = "file"\nseed = 1\nreserve = 1\nhosts = ["of-file"]\n')
    monkeypatch.setenv("AIOPARALLEL_NAME", "variable")
    monkeypatch.setenv("AIOPARALLEL_SEED", "2")
    monkeypatch.setenv("AIOPARALLEL_HOSTS", "of-variable")
    assert settings_of(Pool.from_config(name="argument")) == Settings(name="argument", seed=2, reserve=1, hosts=["of-variable"])
    assert settings_of(Pool.from_config(hosts=[])) == Settings(name="variable", seed=2, reserve=1)
    assert settings_of(Pool.from_config(name=None, hosts=[], seed=None)) == Settings(name="pool", reserve=1)
    assert settings_of(Pool(seed=3)) == Settings(name="variable", seed=3, hosts=["of-variable"]), "a plain pool reads no file"
    assert read_config() == Settings(name="file", seed=1, reserve=1, hosts=["of-file"]), "the file by itself"


VARIABLES: list[tuple[str, str, dict[str, Any]]] = [
    ("LOCAL", "4", {"local": 4}),
    ("LOCAL", "serial", {"local": "serial"}),
    ("LOCAL", "none", {"local": None}),
    ("HOSTS", "gpu1, me@box:2222,", {"hosts": ["gpu1", "me@box:2222"]}),
    ("HOSTS", "none", {"hosts": []}),
    ("NAME", "none", {"name": "none"}),
    ("SEED", "-3", {"seed": -3}),
    ("SEED", "None", {"seed": None}),
    ("SEED", "", {}),
    ("PRELOAD", "json,math", {"preload": ["json", "math"]}),
    ("MAX_TASKS_PER_SLOT", "10", {"max_tasks_per_slot": 10}),
    ("PYTHON", "python3", {"python": "python3"}),
    ("RESERVE", " 2 ", {"reserve": 2}),
    ("SELECTION", "round-robin", {"selection": "round-robin"}),
    ("BACKUP", "true", {"backup": True}),
    ("BACKUP", "No", {"backup": False}),
    ("BACKUP", "none", {"backup": None}),
    ("HEARTBEAT", "2.5", {"heartbeat": 2.5}),
    ("ORPHAN_AFTER", "1e3", {"orphan_after": 1000.0}),
    ("LOST_GRACE", "5", {"lost_grace": 5.0}),
    ("SHIP", "mine,-mine.data", {"ship": ["mine", "-mine.data"]}),
]


@pytest.mark.parametrize(("name", "text", "given"), VARIABLES)
def test_variables(name: str, text: str, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv(f"AIOPARALLEL_{name}", text)
    settings = settings_of(Pool())
    assert settings == Settings(**given) and set(vars(settings)) == set(given)
    assert not caplog.records


def test_every_setting_has_its_variable() -> None:
    assert {name.lower() for name, _, _ in VARIABLES} == set(Settings._fields)


WRONG: list[tuple[dict[str, str], dict[str, Any], str]] = [
    ({"LOCAL": "four"}, {}, "AIOPARALLEL_LOCAL=four: give the number of slots (1 or more), None for one per usable CPU, or"),
    ({"LOCAL": "0"}, {}, "AIOPARALLEL_LOCAL=0: give the number of slots"),
    ({"SEED": "1.5"}, {}, "AIOPARALLEL_SEED=1.5: give an int"),
    ({"BACKUP": "often"}, {}, "AIOPARALLEL_BACKUP=often: give True, a Backup(...), a rule of your own"),
    ({"HEARTBEAT": "often"}, {}, "AIOPARALLEL_HEARTBEAT=often: give seconds above 0"),
    ({"HEARTBEAT": "nan"}, {}, "AIOPARALLEL_HEARTBEAT=nan: give seconds above 0"),
    ({"HEARTBEAT": "40"}, {}, "AIOPARALLEL_HEARTBEAT=40: orphan_after=60 with heartbeat=40: "),
    ({"HOSTS": "a,b,a"}, {}, "AIOPARALLEL_HOSTS=a,b,a: hosts= names 'a' twice"),
    ({"HOSTS": "a,-x"}, {}, "AIOPARALLEL_HOSTS=a,-x: SSH('-x'): give the name of a host"),
    ({"HOSTS": "a:b"}, {}, "AIOPARALLEL_HOSTS=a:b: SSH('a:b'): 'b' is no port; give user@name:port"),
    ({"LOCAL": "serial"}, {"hosts": ["a"]}, 'AIOPARALLEL_LOCAL=serial: local="serial" runs everything in this process: give no hosts='),
    (
        {"HOSTS": "a"},
        {"local": "serial"},
        'AIOPARALLEL_HOSTS=a: local="serial" runs everything in this process: give no hosts= (local=:',
    ),
]


@pytest.mark.parametrize(("variables", "arguments", "said"), WRONG)
def test_what_is_wrong_names_the_variable(
    variables: dict[str, str], arguments: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in variables.items():
        monkeypatch.setenv(f"AIOPARALLEL_{name}", text)
    with pytest.raises(ConfigError) as caught:
        Pool(**arguments)
    assert str(caught.value).startswith(said)
    assert caught.value.path is caught.value.line is None and isinstance(caught.value, ValueError)


def test_what_is_wrong_together_says_where_each_stands(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "aioparallel.toml").write_text("\norphan_after = 9")
    with pytest.raises(ConfigError, match=r"^aioparallel.toml, line 2: orphan_after=9 with heartbeat=6: .* \(heartbeat=: an argument\)$"):
        Pool.from_config(heartbeat=6)
    monkeypatch.setenv("AIOPARALLEL_HEARTBEAT", "7")
    with pytest.raises(ConfigError, match=r"^aioparallel.toml, line 2: .* \(heartbeat=: AIOPARALLEL_HEARTBEAT=7\)$"):
        Pool.from_config()


def test_an_argument_mends_what_the_file_alone_cannot_be(project: Path) -> None:
    (project / "aioparallel.toml").write_text("local = 0\nheartbeat = -1")
    assert settings_of(Pool.from_config(hosts=["a"], heartbeat=1)) == Settings(local=0, hosts=["a"], heartbeat=1)


def test_an_argument_that_is_wrong_is_an_error_as_ever(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "aioparallel.toml").write_text("local = 2")
    monkeypatch.setenv("AIOPARALLEL_HEARTBEAT", "2")
    for make in (Pool, Pool.from_config):
        with pytest.raises(ValueError, match=r"^heartbeat=0: give seconds above 0$") as caught:
            make(heartbeat=0)
        assert type(caught.value) is ValueError
        with pytest.raises(TypeError, match="unexpected keyword argument 'workers'"):
            make(workers=3)


def test_hosts_that_can_be_read_once_are_read_once(project: Path) -> None:
    (project / "aioparallel.toml").write_text("local = 2")
    assert settings_of(Pool.from_config(hosts=(name for name in ("a", "b")))).hosts == (SSH("a"), SSH("b"))


def test_an_unknown_variable_is_warned_of_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("AIOPARALLEL_HEARTBEET", "3")
    monkeypatch.setenv("AIOPARALLEL_local", "3")
    monkeypatch.setenv("AIOPARALLEL_QQ", "3")
    for internal in ("AIOPARALLEL_NONCE", "AIOPARALLEL_CONFIG", "AIOPARALLELISM"):
        monkeypatch.setenv(internal, "x")
    for _ in range(2):
        assert settings_of(Pool()) == Settings()
    said = sorted(record.getMessage() for record in caplog.records)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 3
    assert said[0].startswith("the environment variable AIOPARALLEL_HEARTBEET is no setting of aioparallel, and does nothing")
    assert "did you mean AIOPARALLEL_HEARTBEAT?" in said[0] and "what may follow AIOPARALLEL_ is CONFIG, LOCAL," in said[1]
    assert "did you mean AIOPARALLEL_LOCAL?" in said[2]


def test_who_has_no_file_pays_nothing() -> None:
    program = "import sys, aioparallel; aioparallel.Pool(); print({'tomllib', 'difflib', 'aioparallel.config.reading'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout == "set()\n"


class Named(Pool):
    """A user's own kind of pool."""


async def test_a_pool_from_a_file_over_local_slots_and_a_host(tmp_path: Path) -> None:
    with Server("asyncssh", tmp_path) as server:
        folder = server.folder
        (folder / "pool.toml").write_text(
            f'local = 1\n[[hosts]]\naddress = "127.0.0.1"\nport = {server.port}\nslots = 2\npython = "{PYTHON}"\n'
            'keys = ["key"]\nknown_hosts = "known_hosts"\nconfig = "config"\nenv = { GREETING = "hello" }\n'
        )
        async with Named.from_config(folder / "pool.toml", name="here") as pool:
            assert type(pool) is Named
            await pool.ready(3)
            assert await asyncio.gather(*(pool.submit(abs, -number) for number in range(50))) == list(range(50))
            status = pool.status()
    assert status.name == "here" and sorted(slot.host for slot in status.slots) == ["127.0.0.1", "127.0.0.1", "local"]


async def test_a_variable_sets_the_slots_of_a_plain_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOPARALLEL_LOCAL", "2")
    monkeypatch.setenv("AIOPARALLEL_PYTHON", "/nowhere/python")
    async with Pool(python=sys.executable) as pool:
        await pool.ready(2)
        assert pool.status().max_slots == 2
    with pytest.raises(HostError, match="/nowhere/python"):
        await Pool().ready()
