"""A regression from end to end: STS-B's recipe on pairs scored 0 to 5, by every command that serves one."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from layouts import write_hub_folder
from support import dact, shared

from dactcli.recipe.bundled import pick

GEOMETRY = "{hidden_size: 16, num_hidden_layers: 3, num_attention_heads: 2, intermediate_size: 32}"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("regression")
    data = write_hub_folder(folder / "stsb", "nyu-mll/glue", "stsb")
    values = [f"data.name={data}", "data.config=stsb", f"model.encoder={GEOMETRY}", "training.max_steps=2"]
    overrides = [word for value in (*values, f"output.dir={folder / 'runs'}") for word in ("--set", value)]
    trained = dact("finetune", pick("stsb").path, *overrides, "--json")
    assert trained.exit_code == 0, trained.stderr
    found = json.loads(trained.stdout)
    assert found["steps"] == 2
    assert list(found["evaluation"]["validation"]["rules"]) == ["full", "tolerance"]
    return shared(Path(found["run"]))


@pytest.fixture
def run(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "run"))


def test_it_is_evaluated_by_tolerance(run: Path) -> None:
    names = ("full", "tolerance", "tolerance:3", "layer:2")
    rules = [word for name in names for word in ("--rule", name)]
    judged = json.loads(dact("eval", run, "--split", "test", *rules, "--json").stdout)
    assert judged["metric"] == "pearson"
    assert set(judged["rules"]["full"]["metrics"]) == {"pearson", "spearman", "mean_squared_error"}
    assert judged["rules"]["tolerance"]["agreement_with_full"] == 1
    assert judged["rules"]["tolerance"]["threshold"] == pytest.approx(0.05)  # a hundredth of the range
    assert judged["rules"]["tolerance:3"]["layers_mean"] < judged["rules"]["full"]["layers_mean"] == 3
    assert judged["rules"]["layer:2"]["depths"] == [0, judged["examples"], 0]


def test_it_is_inspected_and_predicts(run: Path, tmp_path: Path) -> None:
    shown = dact("inspect", "a lamp glows", "--pair", "the key is red", "--run", run, "--rule", "tolerance:3")
    assert shown.exit_code == 0, shown.stderr
    assert "the value can change by at most" in shown.stdout
    (found,) = json.loads(
        dact("inspect", "a lamp glows", "--pair", "the key is red", "--run", run, "--verify", "--json").stdout
    )
    assert 0 < found["label"] < 5
    assert (found["label_name"], found["probabilities"]) == (None, [])
    assert found["answers"][-1] == [found["label"]]
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("sentence1,sentence2,label\na lamp glows,the key is red,2.5\nthe roof,the river,0\n")
    answered = dact("predict", pairs, "--run", run, "--output", tmp_path / "out.csv")
    assert answered.exit_code == 0, answered.stderr
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["2.5", "0"]
    assert all(0 < float(row["predicted_label"]) < 5 and row["label_id"] == "" for row in rows)
    assert float(rows[0]["predicted_label"]) == pytest.approx(found["label"], abs=1e-4)


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["eval", "--rule", "exact"], "rule exact is for classes; use full, tolerance or layer"),
        (["eval", "--rule", "tolerance:-1"], "give a number of at least 0"),
        (["eval", "--calibrate", "budget=2"], "is for classes, and this is a regression; use rule tolerance:T"),
        (["eval", "--compare"], "compares classifiers only; evaluate regressions with --rule"),
        (["inspect", "a lamp", "--run"], "this model takes pairs of texts; give --pair as well"),
    ],
)
def test_what_a_regression_does_not_serve_is_said(run: Path, command: list[str], sentence: str) -> None:
    refused = dact(*command, run)
    assert refused.exit_code == 2
    assert sentence in refused.stderr


def test_its_report_leaves_out_what_needs_classes(run: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    done = dact("report", run, "--split", "test", "--rule", "tolerance:3", "--output", page, "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["confusion_matrix"], found["reliability"], found["curve"], found["disagreeing"]) == (None, [], [], [])
    assert len(found["hardest"]) == 5
    text = page.read_text(encoding="utf-8")
    assert "Confusions" not in text
    assert "pearson is" in text
    assert "tolerance:3" in text
