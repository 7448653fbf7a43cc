"""`Backup`: the values that a user gives, and the rules they make."""

from __future__ import annotations

from typing import Any

import pytest

from aioparallel import Backup
from aioparallel.policies.presets import Hedge, MapReduce, Reference, Spark
from aioparallel.policies.rule import Racing


@pytest.mark.parametrize("values", [{"max_copies": 1}, {"max_copies": 2.0}, {"max_copies": True}, {"max_copies": 1000}])
@pytest.mark.parametrize("make", [Backup])
def test_refuses_copies_out_of_range(make: Any, values: dict[str, Any]):
    with pytest.raises(ValueError, match=r"Backup\(max_copies=.*from 2 to"):
        make(**values)


@pytest.mark.parametrize("share", [0, -0.1, 1.5, float("nan"), float("inf"), "much", None, True])
def test_refuses_shares_out_of_range(share: Any):
    with pytest.raises(ValueError, match="max_extra_work"):
        Backup(max_extra_work=share)
    with pytest.raises(ValueError, match="quantile"):
        Backup.hedge(quantile=share)
    with pytest.raises(ValueError, match="max_extra_work"):
        Backup.hedge(max_extra_work=share)
    with pytest.raises(ValueError, match="quantile"):
        Backup.spark(quantile=share)
    with pytest.raises(ValueError, match="remaining"):
        Backup.mapreduce(remaining=share)


@pytest.mark.parametrize("multiplier", [0.5, float("inf"), "twice", None])
def test_refuses_multiples_below_one(multiplier: Any):
    with pytest.raises(ValueError, match="multiplier"):
        Backup.spark(multiplier=multiplier)


def test_does_not_know_other_fields():
    with pytest.raises(TypeError, match="factor"):
        Backup(factor=2)  # pyright: ignore[reportCallIssue]  # ty: ignore


def test_is_a_frozen_value():
    backup = Backup(max_extra_work=0.2)
    with pytest.raises(AttributeError, match="frozen"):
        backup.max_copies = 4  # pyright: ignore[reportAttributeAccessIssue]
    assert backup == Backup(max_extra_work=0.2) != Backup()
    assert repr(Backup()) == "Backup(max_copies=3, max_extra_work=0.1)"


def test_presets_are_values_too():
    assert Backup.hedge() == Backup.hedge() != Backup.hedge(quantile=0.9)
    assert len({Backup.spark(), Backup.spark(), Backup.mapreduce(), Backup.reference(), Backup()}) == 4
    assert repr(Backup.hedge(0.9)) == "Backup.hedge(quantile=0.9, max_extra_work=0.05)"
    assert isinstance(Backup.hedge(), Backup)


@pytest.mark.parametrize(
    ("backup", "kind"),
    [
        (Backup(), Racing),
        (Backup.hedge(), Hedge),
        (Backup.spark(), Spark),
        (Backup.mapreduce(), MapReduce),
        (Backup.reference(), Reference),
    ],
    ids=repr,
)
def test_makes_a_new_rule_each_time(backup: Backup, kind: type):
    first, second = backup.rule(), backup.rule()
    assert type(first) is type(second) is kind
    assert first is not second


def test_the_reference_may_have_three_backups():
    assert Backup.reference().max_copies == 4
    assert Backup.hedge().max_copies == Backup.spark().max_copies == 2
