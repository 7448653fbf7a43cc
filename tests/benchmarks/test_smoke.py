"""Every benchmark still runs, with next to no work; how fast is not asked here."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from .run import FAMILIES, MEASURES, main

SCALE = "0.002"
PEERS = {"loky": "loky", "joblib": "joblib"}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__.rpartition(".")[2])
def test_family_runs(family: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [measure.name for measure in family.MEASURES]
    missing = {measure.needs() for measure in family.MEASURES if measure.needs is not None} - {""}
    if missing:
        pytest.skip(", ".join(missing))
    file = tmp_path / "table.json"
    only = [word for name in names for word in ("--only", name)]
    status = main([*only, "--quick", "--scale", SCALE, "--json", str(file)])
    output = capsys.readouterr().out
    assert status == 0, output
    whole = json.loads(file.read_text())
    assert [measure["name"] for measure in whole["measures"]] == names
    for measure in whole["measures"]:
        for row in measure["rows"]:
            assert row["verdict"] != "FAILED"
            assert row["measure"] in output
        for contender, samples in measure["samples"].items():
            installed = importlib.util.find_spec(PEERS.get(contender, "json")) is not None
            assert len(samples) == installed


def test_a_sample_that_fails_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # The process that takes the sample knows no such contender: it ends with a KeyError.
    whole = MEASURES["latency"]
    monkeypatch.setitem(MEASURES, "latency", replace(whole, contenders={"nobody": whole.contenders["ours"]}))
    assert main(["--only", "latency", "--quick"]) == 1
    output = capsys.readouterr().out
    assert "FAILED: latency, nobody: exit status 1: KeyError: 'nobody'" in output


def test_what_cannot_be_measured_here_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MEASURES, "latency", replace(MEASURES["latency"], needs=lambda: "there is no clock"))
    assert main(["--only", "latency", "--quick"]) == 0
    assert "SKIPPED: latency: there is no clock" in capsys.readouterr().out


def test_wrong_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--only", "nonsense"])
    assert ended.value.code == 2
    assert "invalid choice: 'nonsense'" in capsys.readouterr().err
