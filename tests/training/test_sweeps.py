"""Sweeps: combinations, names, and the front."""

from __future__ import annotations

import pytest

from dactcli.errors import UsageError
from dactcli.training.sweeps import expand, front


def test_all_combinations_with_names_of_their_own() -> None:
    variants = expand(["dact.tau=0.01,0.1", "training.stages=[{name: joint, tau: 0.1}],[{name: encoder}]"], "sst2")
    assert [one.overrides for one in variants] == [
        ["dact.tau=0.01", "training.stages=[{name: joint, tau: 0.1}]"],
        ["dact.tau=0.01", "training.stages=[{name: encoder}]"],
        ["dact.tau=0.1", "training.stages=[{name: joint, tau: 0.1}]"],
        ["dact.tau=0.1", "training.stages=[{name: encoder}]"],
    ]
    assert variants[1].name == "sst2-tau-0.01-stages--name-encoder-"
    assert len({one.name for one in variants}) == 4


def test_a_key_is_swept_once() -> None:
    with pytest.raises(UsageError, match=r"`sweep`: dact.tau is swept twice"):
        expand(["dact.tau=1", "dact.tau=2"], "sst2")


def test_the_front_holds_what_no_other_run_beats() -> None:
    runs = [
        {"run": name, "rules": {"exact": {"layers_mean": layers, "metric": metric}}}
        for name, layers, metric in (
            ("deep", 5.0, 0.9),
            ("worse", 5.5, 0.89),
            ("shallow", 2.0, 0.8),
            ("same", 2.5, 0.8),
        )
    ]
    assert front(runs, "exact") == ["shallow", "deep"]
