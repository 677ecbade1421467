"""`dact recipes`, `dact validate` and `dact runs`: what there is, and what a recipe comes to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support import TINY, dact

from dactcli.cli.options import recipes, rules, runs
from dactcli.halting.names import RULE_NAMES
from dactcli.halting.rules import RULES
from dactcli.recipe.bundled import bundled_recipes

ROOT = Path(__file__).parents[2]


def test_recipes_are_listed_shown_and_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    listed = dact("recipes")
    assert listed.exit_code == 0
    assert "SST-2: sentiment of sentences from film reviews, positive or negative." in " ".join(listed.stdout.split())
    names = [entry["name"] for entry in json.loads(dact("recipes", "list", "--json").stdout)]
    assert names == [path.relative_to(ROOT / "recipes").with_suffix("").as_posix()
                     for path in sorted((ROOT / "recipes").rglob("*.yaml"))]  # fmt: skip
    assert dact("recipes", "show", "sst2").stdout == (ROOT / "recipes" / "sst2.yaml").read_text()
    copied = dact("recipes", "copy", "quickstart", "mine/first.yaml")
    assert copied.exit_code == 0
    assert "check it with: dact validate mine/first.yaml" in copied.stderr
    assert Path("mine/first.yaml").read_text().startswith("# dact finetune mine/first.yaml\n")
    again = dact("recipes", "copy", "quickstart", "mine/first.yaml")
    assert again.exit_code == 2
    assert "mine/first.yaml: already exists; add --overwrite" in again.stderr
    assert dact("recipes", "copy", "recipes/quickstart.yaml", "mine/first.yaml", "--overwrite").exit_code == 0
    wrong = dact("recipes", "show", "sst3")
    assert "no recipe is called 'sst3'; did you mean sst2?" in wrong.stderr
    assert wrong.exit_code == 2
    assert all(one.about.endswith((".", "?")) for one in bundled_recipes())


def test_a_recipe_is_validated_without_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)
    shown = dact("validate", "tiny.yaml", "--set", "data.max_length=12")
    assert shown.exit_code == 0, shown.stderr
    assert "the recipe is valid" in shown.stdout
    assert "of training on cpu (20 steps" in shown.stdout
    assert "texts are longer than 12 tokens and were cut" in shown.stderr
    assert not Path("runs").exists()
    plan = json.loads(dact("validate", "tiny.yaml", "--json").stdout)
    facts = plan["splits"]["train"]
    assert facts["examples"] == sum(facts["counts"].values()) == 320
    assert f"unacceptable {facts['counts']['unacceptable']} ({facts['labels']['unacceptable']:.0%})" in shown.stdout
    assert facts["majority"] == max(facts["labels"].values())
    assert plan["splits"]["train"]["tokens_p50"] <= plan["splits"]["train"]["tokens_max"] <= 48
    assert (plan["steps"], plan["layers"]) == (20, 3)
    assert plan["seconds"] == pytest.approx(plan["steps"] * plan["seconds_per_step"])
    assert plan["memory_mib"] > 100
    for wrong, sentence in (
        ("training.batchsize=3", "did you mean batch_size?"),
        ("evaluation.rules=[exat]", "rule 'exat' is unknown; did you mean exact?"),
    ):
        refused = dact("validate", "tiny.yaml", "--set", wrong)
        assert refused.exit_code == 2, refused.stdout
        assert sentence in refused.stderr


def test_runs_are_listed(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "there are no runs in runs; make one with" in dact("runs").stderr
    shutil.copytree(tiny_run.parent, "runs", symlinks=True)
    shutil.copytree(tiny_run, "runs/tiny-2")
    Path("runs/tiny-2/summary.json").unlink()
    Path("runs/tiny-3").mkdir()
    Path("runs/tiny-3/recipe.yaml").write_text("data: [")
    shown = dact("runs")
    assert "runs/tiny-1 *" in shown.stdout
    assert "unfinished" in shown.stdout
    found = {one["run"]: one for one in json.loads(dact("runs", "--json", "--sort", "name").stdout)["runs"]}
    assert list(found) == ["runs/tiny-1", "runs/tiny-2", "runs/tiny-3"]
    assert found["runs/tiny-1"]["task"] == "agreement"
    assert found["runs/tiny-1"]["rule"] == "exact"
    assert 0 <= found["runs/tiny-1"]["metric"] <= 1
    assert found["runs/tiny-1"]["megabytes"] > 0.1
    assert 0.5 <= found["runs/tiny-1"]["majority"] < 0.6
    assert found["runs/tiny-2"]["metric"] is None
    assert "did you mean layers?" in dact("runs", "--sort", "layer").stderr


def test_what_the_shell_completes(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tuple(RULES) == RULE_NAMES
    assert rules("conf") == [("confidence", "the answer so far is this sure")]
    assert "sst2" in recipes("s")
    monkeypatch.chdir(tmp_path)
    assert runs("") == []
    shutil.copytree(tiny_run.parent, "runs", symlinks=True)
    assert "runs/tiny-1" in runs("tiny")
