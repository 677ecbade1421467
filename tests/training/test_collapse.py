"""A training says where its halting does not depend on the example."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import TINY, Told

import dactcli
from dactcli.recipe.load import load_recipe
from dactcli.training.collapse import collapse_notice


@pytest.mark.parametrize(
    ("depths", "sentence"),
    [
        ([0, 0, 4, 96], "96.0% of validation runs all 4 layers under exact, so halting saves nothing: raise dact.tau"),
        ([960, 20, 10, 10], "96.0% of validation stops after layer 1 of 4 under exact, so the depth hardly depends"),
        ([95, 5, 0, 0], None),
        ([0, 0, 0, 99], None),
        ([1000], None),
    ],
)
def test_the_notice(depths: list[int], sentence: str | None, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    found = collapse_notice(load_recipe(tmp_path / "tiny.yaml", ["dact.tau=0.02"]), "exact", depths)
    if sentence is None:
        assert found is None
    else:
        assert found is not None
        assert found.startswith(sentence)
        assert "dact.tau (now 0.02)" in found


def test_a_training_without_a_price_that_halts_nowhere_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)
    listener = Told()
    overrides = ["dact.tau=1e-9", "training.max_steps=1", "data.examples=1000", "evaluation.risk=null"]
    result = dactcli.fit("tiny.yaml", overrides=overrides, listener=listener)
    depths = result.evaluation["validation"].rules["exact"].depths
    assert depths[-1] == sum(depths)
    told = f"100.0% of validation runs all {len(depths)} layers under exact"
    assert any(told in notice for notice in listener.notices)
