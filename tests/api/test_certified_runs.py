"""Training ends with a certificate: the run halts by it from the start, and a fault costs no training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support import TINY, Told, dact, tiny_on_files

import dactcli
from dactcli import RiskRequest
from dactcli.errors import RecipeError
from dactcli.recipe.load import difference, dump_recipe, load_recipe
from dactcli.recipe.schema import DELTA, RISK, EvaluationSection
from dactcli.report.training import render_training
from dactcli.runs.calibration import ATTEMPTS, CALIBRATION, load_attempts, load_calibration
from dactcli.runs.load import load_run

SHORT = ["data.examples=64", "training.max_steps=2"]
EASY = [*SHORT, "evaluation.risk=0.4"]  # an untrained model passes at some threshold


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)


def read(path: Path | str) -> Any:
    return json.loads(Path(path).read_text())


def test_a_run_is_certified_when_it_is_trained() -> None:
    made = dactcli.fit("tiny.yaml", overrides=EASY)
    run, found = Path(made.run), made.calibration
    assert found is not None
    assert (found.epsilon, found.delta, found.attempt, found.split) == (0.4, 0.05, 1, "calibration")
    assert (found.loss, found.rules_tried, found.screened) == ("disagreement", ["settled"], ["train", "validation"])
    assert found.certified
    assert found.rule.startswith("settled:")
    assert load_calibration(load_run(run)) == (found, None)
    assert read(run / "config.json")["rule"] == found.rule
    document = made.to_json()
    assert document["calibration"] == found.to_json()
    summary = read(run / "summary.json")
    assert summary["calibration"] == document["calibration"]
    assert summary["evaluation"] == json.loads(json.dumps(document["evaluation"]))
    assert list(document["evaluation"]["validation"]["rules"]) == ["full", "paper", "exact", found.rule]
    assert list(document["evaluation"]["validation"]["depth_by_difficulty"]) == ["paper", "exact", found.rule]
    assert {one.rule for one in dactcli.inspect(["the key is old ."], run=run)} == {found.rule}
    assert list(dactcli.evaluate(run).rules)[-1] == found.rule


def test_calibrating_for_the_same_risk_again_spends_no_attempt() -> None:
    made = dactcli.fit("tiny.yaml", overrides=EASY)
    assert dactcli.calibrate(made.run) == made.calibration  # the default goal is the recipe's
    assert dactcli.calibrate(made.run, RiskRequest(0.4)) == made.calibration
    assert len(load_attempts(Path(made.run))) == 1
    again = dactcli.calibrate(made.run, RiskRequest(0.3))
    assert again.attempt == 2


def test_the_command_gives_the_same_and_leads_with_it() -> None:
    made = dactcli.fit("tiny.yaml", overrides=EASY)
    flags = [part for text in EASY for part in ("--set", text)]
    shown = json.loads(dact("finetune", "tiny.yaml", *flags, "--json").stdout)
    assert shown["calibration"] == json.loads(json.dumps(made.to_json()["calibration"]))
    panel = dact("finetune", "tiny.yaml", *flags).stdout.splitlines()
    assert "certified: settled:" in panel[1]
    assert not any("--calibrate" in line for line in panel)


@pytest.mark.parametrize("change", ["evaluation.risk=null", "dact=null"])
def test_nothing_is_certified_that_is_not_asked_for_or_has_no_rule(change: str) -> None:
    told = Told()
    made = dactcli.fit("tiny.yaml", overrides=[*EASY, change], listener=told)
    assert made.calibration is None
    assert made.to_json()["calibration"] is None
    assert not (Path(made.run) / CALIBRATION).exists()
    assert not (Path(made.run) / ATTEMPTS).exists()
    assert not [notice for notice in told.notices if "certif" in notice]


def test_a_recipe_without_a_calibration_split_certifies_nothing() -> None:
    Path("tiny.yaml").write_text(tiny_on_files("null"))
    made = dactcli.fit("tiny.yaml", overrides=["training.max_steps=2"])
    assert made.calibration is None
    assert read(Path(made.run) / "config.json")["rule"] == "exact"


def test_too_few_examples_leave_the_sound_rule_and_say_what_to_do() -> None:
    Path("tiny.yaml").write_text(tiny_on_files("few.jsonl"))
    notice = (
        "calibration has 50 examples, and a risk of 0.01 takes at least 368: nothing will be certified; enlarge the "
        "split or evaluation.risk"
    )
    assert notice in dactcli.validate("tiny.yaml").notices
    assert notice not in dactcli.validate("tiny.yaml", overrides=["data.calibration=calibration.jsonl"]).notices
    assert notice not in dactcli.validate("tiny.yaml", overrides=["evaluation.risk=null"]).notices
    made = dactcli.fit("tiny.yaml", overrides=["training.max_steps=2"])
    assert made.calibration is not None
    assert not made.calibration.certified
    assert read(Path(made.run) / "config.json")["rule"] == "exact"
    text = str(getattr(render_training(made).renderable, "renderables")[0])  # noqa: B009
    assert text == (
        "not certified: no threshold of settled can be certified for a risk of 0.01 with 50 examples (50 distinct "
        "inputs), so exact stays; use more calibration examples (data.calibration) or a larger evaluation.risk"
    )


def test_a_finished_run_of_an_earlier_version_keeps_its_rule() -> None:
    made = dactcli.fit("tiny.yaml", overrides=[*SHORT, "evaluation.risk=null"])
    recipe = Path(made.run) / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("  risk: null\n", "").replace("  delta: 0.05\n", ""))
    assert dactcli.fit("tiny.yaml", overrides=EASY, resume=True).calibration is None
    assert not (Path(made.run) / CALIBRATION).exists()


def test_an_unfinished_run_of_an_earlier_version_can_be_resumed() -> None:
    now = dump_recipe(load_recipe(Path("tiny.yaml")))
    then = now.replace("  risk: 0.01\n", "").replace("  delta: 0.05\n", "")
    assert then != now
    assert difference(then, now) is None
    assert difference(then, now.replace("risk: 0.01", "risk: 0.5")) == "evaluation.risk was 0.01 and is 0.5"


def test_a_sweep_certifies_its_runs_and_compares_them_by_the_recipe_s_rule() -> None:
    swept = dactcli.sweep("tiny.yaml", ["training.seed=1,2"], overrides=EASY)
    assert swept.rule == "exact"
    assert [list(one["rules"]) for one in swept.runs] == [["full", "paper", "exact"]] * 2
    assert swept.front
    assert [read(Path(one["run"]) / CALIBRATION)["certified"] for one in swept.runs] == [True, True]
    shutil.rmtree(swept.runs[1]["run"])
    assert [one["rules"] for one in dactcli.sweep("tiny.yaml", ["training.seed=1,2"], overrides=EASY).runs] == [
        one["rules"] for one in swept.runs
    ]


def test_the_plan_tells_of_the_certificate() -> None:
    told = (
        "then: certifies a risk of 0.01 (delta 0.05) on the calibration split and makes the certified rule the default"
    )
    assert dactcli.plan("tiny.yaml").stages[-1] == told
    assert told in dact("finetune", "tiny.yaml", "--dry-run").stderr
    for change in ("evaluation.risk=null", "dact=null"):
        assert not any("certifies" in line for line in dactcli.plan("tiny.yaml", [change]).stages)


@pytest.mark.parametrize("key", ["risk", "delta"])
@pytest.mark.parametrize("value", ["0", "1", "-0.1", "true", "much"])
def test_a_risk_is_a_probability(key: str, value: str) -> None:
    with pytest.raises(RecipeError, match=f"evaluation.{key} must be a number above 0 and below 1"):
        dactcli.plan("tiny.yaml", [f"evaluation.{key}={value}"])


def test_the_defaults_are_written_once() -> None:
    assert (EvaluationSection().risk, EvaluationSection().delta) == (RISK, DELTA)
    assert RiskRequest(RISK).delta == DELTA
