"""Thousands of classes: trained, evaluated, calibrated and compared in memory that grows with C, not with its square."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import dact, shared, train

from dactcli.data.labels import Scale
from dactcli.errors import DataError, UsageError
from dactcli.evaluation.comparison import Entrant, compare
from dactcli.evaluation.metrics import classification_metrics
from dactcli.evaluation.threshold_sweep import ThresholdSweep
from dactcli.halting.rules import RULES, Exact, Full
from dactcli.runs import outputs as outputs_module
from dactcli.runs.load import load_run
from dactcli.runs.outputs import LayerOutputs

CLASSES = 3000
RECIPE = """
data: {source: files, train: train.jsonl, validation: dev.jsonl, calibration: dev.jsonl, text: text, max_length: 16}
model:
  encoder: {hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 32, dropout: 0.0}
training: {max_steps: 2, report_to: []}
output: {name: many}
"""


def random_outputs(examples: int, *, layers: int = 3) -> LayerOutputs:
    generator = torch.Generator().manual_seed(0)
    y = (2 * torch.randn(examples, layers, CLASSES, generator=generator)).softmax(-1)
    return LayerOutputs(y, torch.rand(examples, layers, generator=generator))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, words = tmp_path_factory.mktemp("many"), random.Random(0)
    for name, count in (("train", CLASSES), ("dev", 64)):
        rows = [{"text": f"door {words.randrange(99)} key", "label": f"intent {n:04}"} for n in range(count)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return shared(Path(train(folder, RECIPE, "training.class_weights=balanced").run))


@pytest.fixture
def run(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "run"))


def test_the_commands_serve_a_run_of_many_classes(run: Path) -> None:
    loaded = load_run(run)
    assert loaded.model.config.num_labels == CLASSES
    assert loaded.recipe is not None
    assert len(loaded.recipe.task.labels or ()) == CLASSES
    checked = dact("validate", run / "recipe.yaml")
    assert checked.exit_code == 0, checked.stderr
    assert "and 2994 more" in " ".join(checked.stdout.split())
    judged = dact("eval", run, "--rule", "full", "--rule", "exact", "--rule", "entropy:0.5", "--json")
    assert set(json.loads(judged.stdout)["rules"]["exact"]["metrics"]) == {"accuracy", "f1", "matthews_correlation"}
    found = dact("eval", run, "--calibrate", "budget=1.5")
    assert found.exit_code == 0, found.stderr
    assert len(found.stdout) < 5_000
    shown = dact("inspect", "door 7 key", "--run", run)
    assert shown.exit_code == 0, shown.stderr
    assert "intent" in shown.stdout
    assert len(shown.stdout) < 5_000


def test_metrics_of_many_classes_take_no_square_of_them() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, CLASSES, 5000)
    predicted = np.where(generator.random(5000) < 0.7, labels, generator.integers(0, CLASSES, 5000))
    found = classification_metrics(predicted.tolist(), labels.tolist(), classes=CLASSES)
    assert found["accuracy"] == pytest.approx((predicted == labels).mean())
    assert found["matthews_correlation"] == pytest.approx(found["accuracy"], abs=0.01)  # chance is 1 in 3000


def test_comparing_many_classes_takes_seconds() -> None:
    outputs = random_outputs(200)
    labels = outputs.y[:, -1].argmax(-1).numpy()
    one = Entrant("run", "run", outputs, outputs, labels, labels)
    compared = compare([one], metric="f1", split="test", rules=["exact", "confidence"])
    area = compared.rules["confidence"].area
    assert area is not None
    assert 0 < area.low <= area.high
    with pytest.raises(UsageError, match="the f1 of full depth is 0, so no share of it can be drawn; train longer"):
        compare([replace(one, test_labels=(labels + 1) % CLASSES)], metric="f1", split="test")


def test_rules_decide_part_by_part_as_they_do_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = replace(random_outputs(7), certainty=torch.rand(7, 3))
    rules = [Full(), Exact(), *(RULES[name]() for name in ("entropy", "patience", "learned"))]
    grids = [rule.grid(3, CLASSES) if rule.threshold_name else [None] for rule in rules]

    def all_of_it() -> list[torch.Tensor]:
        decisions = [outputs.decide(rule) for rule in rules[:2]]
        sweeps = [ThresholdSweep(rule, grid, outputs) for rule, grid in zip(rules, grids, strict=True)]
        found = [torch.from_numpy(values) for sweep in sweeps for values in (sweep.exits, sweep.classes)]
        return [*found, *(value for decision in decisions for value in decision)]

    whole = all_of_it()
    monkeypatch.setattr(outputs_module, "PART", 2 * 3 * CLASSES)
    assert all(torch.equal(one, other) for one, other in zip(whole, all_of_it(), strict=True))


def test_a_sentence_names_some_of_many_classes() -> None:
    scale = Scale([f"intent {number:04}" for number in range(CLASSES)])
    with pytest.raises(DataError) as unknown:
        scale.read("zzz")
    with pytest.raises(DataError) as outside:
        scale.read(CLASSES)
    for caught in (unknown, outside):
        assert caught.value.sentence.endswith("intent 0028, intent 0029 and 2,970 more")
