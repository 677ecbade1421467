"""The built-in task in full: what the quickstart promises. About two minutes on two cores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dactcli.cli.app import app

RECIPE = Path(__file__).parents[2] / "recipes" / "quickstart.yaml"


@pytest.mark.slow
def test_the_quickstart_learns_halts_early_and_goes_deeper_with_difficulty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trained = CliRunner().invoke(app, ["finetune", str(RECIPE), "--json"], catch_exceptions=False)
    assert trained.exit_code == 0
    certificate = json.loads(trained.stdout)["calibration"]
    assert certificate["certified"]
    assert certificate["epsilon"] == 0.01
    judged = CliRunner().invoke(app, ["eval", "--split", "test", "--json"], catch_exceptions=False)
    document = json.loads(judged.stdout)
    exact = document["rules"]["exact"]
    assert exact["metric"] >= 0.92
    assert exact["layers_share"] < 0.55
    assert exact["agreement_with_full"] == 1
    assert document["depth_by_difficulty"]["exact"]["spearman"] >= 0.4
    certified = document["rules"][certificate["rule"]]
    assert certified["layers_share"] < exact["layers_share"]
    assert certified["agreement_with_full"] >= 0.99
