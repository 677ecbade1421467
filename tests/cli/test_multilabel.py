"""Label sets from end to end, by every command: a file of lists, trained, judged, certified, inspected, published."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.parquet
import pytest
import torch
from sklearn.metrics import f1_score
from support import dact
from transformers import AutoModelForSequenceClassification, pipeline

from dactcli.evaluation.examples import run_examples
from dactcli.evaluation.label_sets import as_booleans
from dactcli.halting.rules import Full
from dactcli.runs.load import load_run
from dactcli.runs.outputs import cached_outputs

WORDS = {"billing": ["invoice", "refund"], "card": ["card", "pin"], "login": ["password", "account"]}
FILLERS = ["please", "help", "with", "my", "the", "a", "today", "now"]
RECIPE = """
data: {source: files, train: train.jsonl, validation: 0.2, calibration: 0.3, test: test.jsonl, text: text,
       label: topics, max_length: 16}
model: {encoder: {hidden_size: 32, num_hidden_layers: 3, num_attention_heads: 2, intermediate_size: 64, dropout: 0.0}}
training: {epochs: 12, batch_size: 16, learning_rate: 3e-3, unit_learning_rate: 3e-3, report_to: []}
output: {name: topics}
"""


def rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Texts whose words say which topics they have."""
    draw = Random(seed)
    found = []
    for _ in range(count):
        topics = [topic for topic in WORDS if draw.random() < 0.4]
        words = [draw.choice(WORDS[topic]) for topic in topics] + draw.sample(FILLERS, 3)
        draw.shuffle(words)
        found.append({"text": " ".join(words), "topics": topics})
    return found


def write(path: Path, found: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("multilabel")
    write(made / "train.jsonl", rows(600, 0))
    write(made / "test.jsonl", rows(120, 1))
    (made / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    trained = dact("finetune", folder / "recipe.yaml", "--set", f"output.dir={folder / 'runs'}", "--json")
    assert trained.exit_code == 0, trained.stderr
    assert "labels are there from a probability of" in trained.stderr
    found = json.loads(trained.stdout)
    assert found["evaluation"]["validation"]["metric"] == "micro_f1"
    assert found["evaluation"]["validation"]["rules"]["full"]["metric"] > 0.9
    return Path(found["run"])


def test_validate_counts_labels(folder: Path) -> None:
    seen = dact("validate", folder / "recipe.yaml")
    assert seen.exit_code == 0, seen.stderr
    assert "labels of an example: 1." in seen.stdout
    assert "majority label set: always answering it is right on" in seen.stdout
    found = json.loads(dact("validate", folder / "recipe.yaml", "--json").stdout)["splits"]["test"]
    known = [row["topics"] for row in rows(120, 1)]
    assert found["labels"]["card"] == pytest.approx(sum("card" in one for one in known) / 120)
    assert found["labels_mean"] == pytest.approx(sum(map(len, known)) / 120)
    assert found["majority"] == pytest.approx(max(known.count(one) for one in known) / 120)


def test_the_recipe_of_the_run_says_what_was_found(run: Path) -> None:
    loaded = load_run(run)
    recipe = loaded.recipe
    assert recipe is not None
    assert (recipe.task.kind, recipe.task.metric, recipe.task.labels) == ("multilabel", "micro_f1", list(WORDS))
    config = json.loads((run / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    assert 0 < config["label_thresholds"] < 1
    encoded, _ = run_examples(loaded, "validation", None, lambda text: None)
    scores = cached_outputs(loaded, encoded, "validation", batch_size=64).decide(Full()).answer.numpy()
    known = as_booleans(encoded.labels or [], 3)
    best = max(f1_score(known, scores >= t, average="micro", zero_division=0) for t in scores.ravel())
    chosen = f1_score(known, scores >= config["label_thresholds"], average="micro")
    assert chosen == pytest.approx(best, abs=0.01)  # of the mixture, although that depends on the threshold
    mean = sum(len(row["topics"]) for row in rows(600, 0)) / 600
    assert config["halting"]["tau_unit"] == pytest.approx(2 * mean / 3, rel=0.1)


def test_eval_judges_sets(run: Path, folder: Path) -> None:
    judged = json.loads(dact("eval", run, "--split", "test", "--json").stdout)
    full, exact = judged["rules"]["full"], judged["rules"]["exact"]
    assert set(full["metrics"]) == {"micro_f1", "macro_f1", "subset_accuracy", "label_ranking_average_precision"}
    assert exact["agreement_with_full"] == 1.0
    assert exact["metric"] == full["metric"]
    assert exact["layers_mean"] < 3
    assert set(full["by_class"]) == set(WORDS)
    assert {"majority", "empty", "last_layer"} >= set(judged["references"]) > {"last_layer"}
    shown = dact("eval", run, "--data", folder / "test.jsonl")
    assert shown.exit_code == 0, shown.stderr
    assert "examples answered with the label set of" in " ".join(shown.stdout.split())
    assert "by label under exact" in shown.stdout


def test_a_threshold_is_certified_for_sets_and_refused_by_class(run: Path) -> None:
    refused = dact("eval", run, "--calibrate", "risk=0.1,by=class")
    assert refused.exit_code == 2
    assert "by_class needs one class for each text, and this is a model of label sets" in refused.stderr
    found = dact("eval", run, "--calibrate", "risk=0.1", "--json")
    assert found.exit_code == 0, found.stderr
    certificate = json.loads(found.stdout)
    assert certificate["decision"] == "label set"
    assert certificate["certified"] or certificate["outdone"]
    budget = dact("eval", run, "--calibrate", "budget=1.5", "--replace", "--json")
    assert set(json.loads(budget.stdout)["classes"]) == set(WORDS)
    harm = dact("eval", run, "--calibrate", "risk=0.1,loss=harm", "--replace", "--json")
    assert json.loads(harm.stdout)["loss"] == "harm", harm.stderr


def test_rules_are_compared_by_micro_f1(run: Path) -> None:
    found = json.loads(dact("eval", run, "--compare", "--json").stdout)
    assert (found["metric"], found["decision"]) == ("micro_f1", "label set")
    assert {"confidence", "max_prob", "entropy", "patience", "exact", "layer"} <= set(found["rules"])


def test_inspect_shows_sets(run: Path, folder: Path) -> None:
    (found,) = json.loads(dact("inspect", "my pin and password", "--run", run, "--verify", "--json").stdout)
    assert found["label"] == [1, 2]
    assert found["label_name"] == ["card", "login"]
    assert len(found["thresholds"]) == 3
    shown = dact("inspect", "please help", "my pin", "--run", run)
    assert "no label" in shown.stdout
    assert "card" in shown.stdout
    ordered = dact("inspect", "--file", folder / "test.jsonl", "--run", run, "--sort", "loss", "--limit", 2, "--verify")
    assert ordered.exit_code == 0, ordered.stderr
    assert "labelled" in ordered.stdout
    wrong = json.loads(
        dact("inspect", "--file", folder / "test.jsonl", "--run", run, "--only", "wrong", "--json").stdout
    )
    assert all(one["expected"] != one["label"] for one in wrong)


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_predict_writes_lists(run: Path, folder: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"out.{ending}"
    answered = dact("predict", folder / "test.jsonl", "--run", run, "--output", out)
    assert answered.exit_code == 0, answered.stderr
    if ending == "jsonl":
        found = [json.loads(line) for line in out.read_text().splitlines()]
    elif ending == "parquet":
        found = pyarrow.parquet.read_table(out).to_pylist()
    else:
        import csv

        with out.open(newline="") as file:
            read = list(csv.DictReader(file))
        found = [{**row, **{name: json.loads(row[name]) for name in ("topics", "label", "label_id")}} for row in read]
    guess = [[int(name in row["label"]) for name in WORDS] for row in found]
    known = [[int(name in row["topics"]) for name in WORDS] for row in found]
    assert f1_score(known, guess, average="micro") > 0.85
    assert all([list(WORDS)[index] for index in row["label_id"]] == row["label"] for row in found)
    assert any(row["label"] == [] for row in found)


def test_profile_measures_it(run: Path) -> None:
    found = dact("profile", run, "--examples", 4, "--repeats", 2, "--warmup", 0, "--json")
    assert found.exit_code == 0, found.stderr
    assert json.loads(found.stdout)["cases"]


def test_a_published_model_is_a_multi_label_pipeline(run: Path, tmp_path: Path) -> None:
    done = dact("publish", run, "--to", tmp_path / "model")
    assert done.exit_code == 0, done.stderr
    card = (tmp_path / "model" / "README.md").read_text()
    assert "A multi-label text classifier" in card
    assert "top_k=None" in card
    classify = pipeline("text-classification", model=str(tmp_path / "model"), top_k=None)
    (scores,) = classify(["my pin and password"])
    told = {one["label"]: one["score"] for one in scores}
    (own,) = json.loads(dact("inspect", "my pin and password", "--run", run, "--json").stdout)
    assert [told[name] for name in WORDS] == pytest.approx(own["probabilities"], abs=1e-4)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    assert model.config.problem_type == "multi_label_classification"
    assert torch.is_tensor(model(torch.tensor([[2, 7, 8, 3]])).logits)


def test_plain_fine_tuning_of_label_sets(folder: Path) -> None:
    values = ["dact=null", "training.stages=[{name: encoder}]", "training.epochs=2", "task.thresholds=per_label"]
    words = [word for value in [*values, f"output.dir={folder / 'plain'}"] for word in ("--set", value)]
    trained = dact("finetune", folder / "recipe.yaml", *words, "--json")
    assert trained.exit_code == 0, trained.stderr
    found = load_run(Path(json.loads(trained.stdout)["run"]))
    assert found.model.config.objective == "last"
    assert len(found.model.config.label_thresholds) == 3


def test_class_weights_are_refused(folder: Path) -> None:
    refused = dact("finetune", folder / "recipe.yaml", "--set", "training.class_weights=balanced")
    assert refused.exit_code == 2
    assert "training.class_weights: is set, but this task is multilabel; remove it" in refused.stderr


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"label_thresholds": [0.5]}, "label_thresholds is [0.5]; give one number between 0 and 1, or 3 of them"),
        ({"label_thresholds": 7}, "label_thresholds is 7; give one number between 0 and 1"),
        ({"problem_type": None}, "label_thresholds is for label sets"),
        ({"rule": "tolerance"}, "rule tolerance is for regression"),
    ],
)
def test_a_damaged_configuration_is_refused(run: Path, tmp_path: Path, change: dict[str, Any], fault: str) -> None:
    import shutil

    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, **change}))
    refused = dact("inspect", "a pin", "--run", copy)
    assert refused.exit_code == 3
    assert fault in refused.stderr


def test_its_report_has_labels_and_no_confusions(run: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    done = dact("report", run, "--output", page, "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["confusion_matrix"], found["reliability"]) == (None, [])
    assert found["curve"]
    assert all(one["accuracy"] is not None for one in found["by_length"])
    labels = next(iter(found["evaluation"]["rules"].values()))["by_class"]
    assert all(one["f1"] is not None for one in labels.values())
    assert set(labels) <= set(found["model"]["names"])
    assert "labels, any number of them" in page.read_text(encoding="utf-8")
