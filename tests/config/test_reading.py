"""A configuration file: where it is found, what it gives, and what is said of one that is wrong."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from aioparallel import SSH, ConfigError, Pool
from aioparallel.config import Settings, read_config

EVERYTHING = """
local = 0
name = "census"
seed = 7
preload = ["json", "math"]
max_tasks_per_slot = 10
python = "bin/python"
reserve = 2
heartbeat = 2
orphan_after = 20.5
lost_grace = 9
ship = ["mine", "-mine.data"]
selection = "round-robin"
backup = true

[[hosts]]
address = "me@box:2222"
slots = 8
weight = 2.0
labels = { gpu = "yes" }
python = "~/venv/bin/python"
env.OMP_NUM_THREADS = "1"
cwd = "work"
user = "you"
port = 2223
keys = ["keys/box", "~/.ssh/box", "/etc/box"]
known_hosts = "known"
jump = "gate"
config = "ssh_config"

[[hosts]]
address = "gpu1"
"""


def test_every_setting_and_every_field_of_a_host(project: Path) -> None:
    (project / "aioparallel.toml").write_text(EVERYTHING)
    box = SSH(
        "me@box:2222", slots=8, weight=2.0, labels={"gpu": "yes"}, python="~/venv/bin/python", env={"OMP_NUM_THREADS": "1"}, cwd="work",
        user="you", port=2223, keys=[f"{project}/keys/box", "~/.ssh/box", "/etc/box"], known_hosts=f"{project}/known", jump="gate",
        config=f"{project}/ssh_config",
    )  # fmt: skip
    settings = read_config()
    assert settings == Settings(
        local=0, name="census", seed=7, preload=["json", "math"], max_tasks_per_slot=10, python=f"{project}/bin/python", reserve=2,
        heartbeat=2, orphan_after=20.5, lost_grace=9, ship=["mine", "-mine.data"], selection="round-robin", backup=True,
        hosts=[box, "gpu1"],
    )  # fmt: skip
    assert set(vars(settings)) == set(Settings._fields) and set(SSH._fields) == set(vars(settings.hosts[0])), "a new one belongs in here"


def test_hosts_as_a_list_of_names_and_tables(project: Path) -> None:
    (project / "aioparallel.toml").write_text('hosts = ["gpu1", { address = "gpu2", slots = 4 }]\npython = "python3"\n')
    assert read_config() == Settings(hosts=["gpu1", SSH("gpu2", slots=4)], python="python3")
    (project / "aioparallel.toml").write_bytes(b"\xef\xbb\xbflocal = 2\r\n")
    assert read_config() == Settings(local=2)
    (project / "aioparallel.toml").write_text("")
    assert read_config() == Settings()


def test_the_files_of_the_documents_are_right(project: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "howto" / "configuration.md"
    blocks = re.findall(r"^```toml\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    for block in blocks:
        (project / "aioparallel.toml").write_text(block)
        assert read_config().hosts
    assert len(blocks) == 2


WRONG: list[tuple[str, int, str]] = [
    # what is said stands whole, up to where it is cut by an ellipsis
    (
        '\nlocal = "four"',
        2,
        'local = "four": give the number of slots (1 or more), leave it out for one per usable CPU, or "serial" (0 needs hosts=)',
    ),
    ("seed = 1.5", 1, "seed = 1.5: give an int, or leave it out to have one drawn"),
    ("reserve = -1", 1, "reserve = -1: give a number of CPUs (0 or more), or leave it out ..."),
    ("lost_grace = inf", 1, "lost_grace = inf: give seconds above 0"),
    ("python = 3", 1, "python = 3: give the path of an interpreter, ..."),
    ("name = 1979-05-27", 1, "name = 1979-05-27: give a str"),
    ("[local]\nx = 3", 1, "[local]: give the number of slots ..."),
    ('preload = "json"', 1, "preload = \"json\": give a list of module names, as in preload=['json']"),
    ("preload = 3", 1, "preload = 3: give a list of module names, as in preload=['numpy']"),
    ("preload = [3]", 1, "preload = [3]: give the modules' names, ..."),
    ("orphan_after = 8\nheartbeat = 7", 1, "orphan_after=8 with heartbeat=7: ... (heartbeat=: aioparallel.toml, line 2)"),
    (
        'local = "serial"\nhosts = ["a"]',
        1,
        'local="serial" runs everything in this process: ... (hosts=: aioparallel.toml, line 2)',
    ),
    # names
    ("# a\nheartbeet = 3", 2, "heartbeet = 3: no such setting; did you mean heartbeat?"),
    ("max-tasks-per-slot = 3", 1, "max-tasks-per-slot = 3: no such setting; did you mean max_tasks_per_slot?"),
    ("x = 1", 1, "x = 1: no such setting; there are local, hosts, name, ..."),
    ("[pool]\nlocal = 3", 1, "[pool]: no such setting; there are ...; settings stand at the top of the file, outside tables"),
    ("slots = 4", 1, "slots = 4: no setting of the pool, but of a host: write it in a [[hosts]] table, ...; ... write local = ..."),
    ("weight = 4", 1, 'weight = 4: no setting of the pool, but of a host: write it in a [[hosts]] table, below its address = "..."'),
    # hosts
    ('hosts = "a"', 1, 'hosts = "a": give a list, as in hosts = ["gpu1", "me@box:2222"], or [[hosts]] tables, each with an address'),
    ("[hosts.a]\nslots = 3", 1, "[hosts]: give a list, ..."),
    ("hosts = [\n1]", 2, '1: give a name, as in "me@box:2222", or a table, as in { address = "gpu2", slots = 4 }'),
    ('hosts = ["a",\n"b",\n"a"]', 3, "\"a\": 'a' is on line 1 already: one entry serves any number of slots ...; leave one of the two out"),
    ('[[hosts]]\naddress = "a"\n\n[[hosts]]\naddress = "a"', 4, "host 2 of hosts: 'a' is on line 1 already: ..."),
    ("[[hosts]]\nslots = 3", 1, 'host 1 of hosts: give its address = "...": a name, user@name:port, or an alias of your ssh configuration'),
    ('[[hosts]]\nname = "x"', 2, 'name = "x": a host is called by its address: write address = ...'),
    ('[[hosts]]\naddress = "x"\nslots = "four"', 3, 'slots = "four": give a number of slots (1 or more), or leave it out'),
    (
        '[[hosts]]\naddress = "x"\nheartbeat = 2',
        3,
        "heartbeat = 2: a setting of the pool, ...: write it above the first [[hosts]]",
    ),
    ('[[hosts]]\naddress = "x"\nslot = 2', 3, "slot = 2: no such field of a host; did you mean slots?"),
    ('hosts = [{address="a",weight=0}]', 1, "weight = 0: give a number above 0"),
    ('hosts = [{address="a",port=0}]', 1, "port = 0: give a port (1 to 65535), or leave it out"),
    ('hosts = [{address="a",python="a b"}]', 1, 'python = "a b": give a path of letters, ...'),
    ('hosts = [{address="a",cwd=3}]', 1, "cwd = 3: give a str, or leave it out"),
    ('[[hosts]]\naddress = "x"\nenv = { A = 4 }', 3, 'A = 4: give text, in quotes, as in A = "4"'),
    ('[[hosts]]\naddress = "x"\n[hosts.env]\nB = "x"\nA = [4]', 5, "A = [4]: give text, in quotes"),
    ('[[hosts]]\naddress = "x"\nlabels = "gpu"', 3, 'labels = "gpu": give a table, as in labels = { some_name = "some text" }'),
    ('[[hosts]]\naddress = "x"\nkeys = "key"', 3, 'keys = "key": give a list of files, as in keys=["~/.ssh/id_ed25519"]'),
    ('[[hosts]]\naddress = "x"\nkeys = ["key", 3]', 3, 'keys = ["key", 3]: give a list of files, ...'),
    ('[[hosts]]\naddress = "me@x:abc"', 2, "address = \"me@x:abc\": 'abc' is no port; give user@name:port"),
    ("[[hosts]]\naddress = 3", 2, "address = 3: give the name of a host, ..."),
    ('hosts = [\n"-x"]', 2, '"-x": give the name of a host, or user@name:port'),
]


@pytest.mark.parametrize(("text", "line", "said"), WRONG, ids=[repr(text) for text, _, _ in WRONG])
def test_what_is_wrong_is_said_with_the_line_and_the_remedy(project: Path, text: str, line: int, said: str) -> None:
    (project / "aioparallel.toml").write_text(text)
    check(f"aioparallel.toml, line {line}: {said}", line)


SYNTAX: list[tuple[str, int, str]] = [
    ("\nname = gpu", 2, "...name = gpu: ...: write text in quotes, as in name = ..."),
    ("local = 1\nlocal = 2", 2, "...local = 2: ...: each name stands once: leave one of them out"),
    ('name = "x\nlocal = 2', 1, '...name = "x: ...: end a text with the quote that it began with, on the same line'),
    ('name "x"', 1, '...name "x": ...: write name = value, ...'),
    ('hosts = ["a"\n\n', 1, '...hosts = ["a": ...: close every [ with a ]'),
    ('name = "a\\p"', 1, "...: write text with backslashes in single quotes, ..."),
    ("local = 08", 1, "...: write one name = value on each line, ..."),
    (
        'hosts = ["a"]\n[[hosts]]\naddress = "b"',
        2,
        "...: hosts is one list: either hosts = [...], or a [[hosts]] table for every host",
    ),
    ('[[hosts]]\naddress = "b"\n[hosts]\n', 3, "...: hosts is one list: ..."),
]


@pytest.mark.parametrize(("text", "line", "said"), SYNTAX, ids=[repr(text) for text, _, _ in SYNTAX])
def test_what_is_no_toml_is_said_with_the_line_and_the_remedy(project: Path, text: str, line: int, said: str) -> None:
    (project / "aioparallel.toml").write_text(text)
    check(f"aioparallel.toml, line {line}{said}", line)


def test_a_column_is_said_where_there_is_one(project: Path) -> None:
    (project / "aioparallel.toml").write_text("name = gpu")
    check("aioparallel.toml, line 1, column 8: name = gpu: ...", 1)


def check(said: str, line: int | None, path: str | None = "aioparallel.toml") -> None:
    """See that the file is refused with this text."""
    for read in (read_config, Pool.from_config):
        with pytest.raises(ConfigError) as caught:
            read()
        parts, text = said.split("..."), str(caught.value)
        at = 0
        for number, part in enumerate(parts):
            found = text.find(part, at) if number else 0 if text.startswith(part) else -1
            assert found >= 0, text
            at = found + len(part)
        assert not parts[-1] or text.endswith(parts[-1]), text
        assert (caught.value.path, caught.value.line) == (path, line)


def test_a_file_that_cannot_be_read(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"^no\.toml: it cannot be read \(No such file or directory\): give the path of a TOML file"):
        Pool.from_config("no.toml")
    os.mkfifo(project / "pipe.toml")
    with pytest.raises(ConfigError, match="it is no file: give the path of a TOML file"):
        read_config(project / "pipe.toml")
    with pytest.raises(ConfigError, match="Is a directory"):
        Pool.from_config(project)
    with pytest.raises(ConfigError, match="No such file"):
        Pool.from_config("")
    monkeypatch.setenv("AIOPARALLEL_CONFIG", "no.toml")
    with pytest.raises(ConfigError, match=r"^no\.toml: AIOPARALLEL_CONFIG names it: it cannot be read"):
        Pool.from_config()
    (project / "no.toml").write_bytes(b"# a\nname = '\xe9'\n")
    with pytest.raises(ConfigError, match=r"^no\.toml, line 2: byte 0xe9 is not UTF-8: save the file as UTF-8") as caught:
        Pool.from_config()
    assert (caught.value.path, caught.value.line) == ("no.toml", 2)


# --- where it is


def name_found() -> str:
    return read_config().name


def write(path: Path, name: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"name = {name!r}")


def test_the_nearest_file_up_to_the_root_of_the_project(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = project / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    write(tmp_path / "aioparallel.toml", "above the root")
    with pytest.raises(ConfigError, match="no configuration file"):
        read_config()
    write(project / "aioparallel.toml", "root")
    assert name_found() == "root"
    write(project / "a" / "aioparallel.toml", "nearer")
    assert name_found() == "nearer"
    write(below / "aioparallel.toml", "here")
    assert name_found() == "here"
    (below / "aioparallel.toml").unlink()
    (below / "pyproject.toml").touch()
    with pytest.raises(ConfigError, match="no configuration file"):
        read_config()


def test_then_the_users(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "xdg" / "aioparallel" / "config.toml", "xdg")
    write(tmp_path / "home" / ".config" / "aioparallel" / "config.toml", "home")
    assert name_found() == "xdg"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for unset in ("", "relative"):
        monkeypatch.setenv("XDG_CONFIG_HOME", unset)
        assert name_found() == "home"
    write(project / "aioparallel.toml", "project")
    assert name_found() == "project"


def test_the_variable_and_the_argument_name_one(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project / "aioparallel.toml", "project")
    write(tmp_path / "named.toml", "named")
    write(tmp_path / "argument.toml", "argument")
    monkeypatch.setenv("AIOPARALLEL_CONFIG", "")
    assert name_found() == "project"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AIOPARALLEL_CONFIG", "~/named.toml")
    assert name_found() == "named"
    assert read_config(tmp_path / "argument.toml").name == read_config("~/argument.toml").name == "argument"


def test_no_file_names_the_places(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "a").mkdir()
    monkeypatch.chdir(project / "a")
    places = f"{project}/a/aioparallel.toml, {project}/aioparallel.toml, {tmp_path}/xdg/aioparallel/config.toml"
    check(f"no configuration file; looked for {places}: write one, or name one with from_config(path) or AIOPARALLEL_CONFIG", None, None)


def test_a_folder_that_was_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ConfigError, match=f"looked for {tmp_path}/xdg/aioparallel/config.toml: write one"):
        read_config()


def test_another_users_file_is_refused_unless_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project / "aioparallel.toml", "theirs")
    if os.geteuid() == 0:
        os.chown(project / "aioparallel.toml", 12345, 12345)
    else:
        me = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(ConfigError, match=r"belongs to another user \(uid \d+\): if you trust it, name it with from_config"):
        read_config()
    assert read_config("aioparallel.toml").name == "theirs"


def test_wrong_types_of_path() -> None:
    wrong: Any = 3
    with pytest.raises(TypeError, match="PathLike"):
        Pool.from_config(wrong)
