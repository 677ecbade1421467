"""Class weights: what they come to on the data, what they change, and where they are refused."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support import Interrupt, train

from dactcli.errors import RecipeError
from dactcli.recipe.load import load_recipe
from dactcli.runs.load import load_run
from dactcli.training.plan import describe_stages

RARE = 12  # of 120 examples
RECIPE = """
data: {source: files, train: train.jsonl, validation: 0.2, text: text, max_length: 16}
model:
  encoder: {hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 32, dropout: 0.0}
training: {epochs: 2, batch_size: 8, learning_rate: 1e-2, unit_learning_rate: 1e-2, mask_tokens: 0, report_to: []}
output: {name: weighed}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One class in ten rare, and texts that say little about it."""
    words = random.Random(0)
    rows = [
        {
            "text": " ".join(words.choices(("lamp", "key", "door", "roof"), k=6)),
            "label": "rare" if n < RARE else "usual",
        }
        for n in range(120)
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def share_of_rare(run: str) -> float:
    """Mean probability of the rare class, over texts of the same words."""
    loaded = load_run(Path(run))
    batch = loaded.tokenizer(["lamp key door roof lamp key", "roof roof door key lamp lamp"], return_tensors="pt")
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        return float(loaded.model(**inputs, rule="full").logits.exp()[:, 0].mean())


def stages_of(run: str) -> list[str]:
    return describe_stages(load_recipe(Path(run) / "recipe.yaml"))


def test_balanced_weights_have_mean_one_and_lift_the_rare_class(folder: Path) -> None:
    plain = train(folder, RECIPE)
    weighed = train(folder, RECIPE, "training.class_weights=balanced")
    assert not any(line.endswith("; classes weighed") for line in stages_of(plain.run))
    assert all(line.endswith("; classes weighed") for line in stages_of(weighed.run))
    model = load_run(Path(weighed.run)).model
    rare, usual = model.config.halting.class_weights
    train_rare = round(RARE * 0.8)  # the draw takes each class in its share
    assert rare * train_rare + usual * (96 - train_rare) == pytest.approx(96)
    assert rare * train_rare == pytest.approx(usual * (96 - train_rare))
    assert load_run(Path(plain.run)).model.config.halting.class_weights is None
    assert share_of_rare(weighed.run) > share_of_rare(plain.run) + 0.15
    assert model.loss_settings.class_weights == (rare, usual)  # exact after saving and loading
    summary = json.loads((Path(weighed.run) / "summary.json").read_text())
    assert summary["stages"][0]["class_weights"] == [rare, usual]


def test_only_the_proportions_of_given_weights_count(folder: Path) -> None:
    runs = [train(folder, RECIPE, f"training.class_weights=[{a}, {b}]").run for a, b in ((9, 1), (18, 2))]
    first, second = (load_file(Path(run) / "model.safetensors") for run in runs)
    assert all(torch.equal(first[name], second[name]) for name in first)
    # what a run keeps is what the user wrote, so that it can be run again
    assert load_run(Path(runs[1])).recipe.training.class_weights == [18.0, 2.0]  # type: ignore[union-attr]


def test_a_resumed_run_goes_on_with_its_weights_and_no_others(folder: Path) -> None:
    balanced, often = "training.class_weights=balanced", "training.save_steps=9"
    whole = train(folder, RECIPE, balanced, often)
    with pytest.raises(KeyboardInterrupt):
        train(folder, RECIPE, balanced, often, "output.name=cut", listener=Interrupt(1, 11))
    cut = folder / "runs" / "cut-1"
    with pytest.raises(RecipeError, match='training.class_weights was "balanced" and is null'):
        train(folder, RECIPE, often, "output.name=cut", resume=cut)
    resumed = train(folder, RECIPE, balanced, often, "output.name=cut", resume=cut)
    first, second = (load_file(Path(one.run) / "model.safetensors") for one in (whole, resumed))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["training.class_weights=[1, 2, 3]"],
            "training.class_weights: the weights are 3 and the classes 2; give one for each of rare, usual, in this order, "
            "or write balanced",
        ),
        (
            ["training.class_weights=balanced", "task={metric: pearson}", "data.label=size"],
            "training.class_weights: is set, but this task is a regression; remove it",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_before_training(folder: Path, overrides: list[str], sentence: str) -> None:
    path = folder / "train.jsonl"
    rows = [json.loads(line) | {"size": number} for number, line in enumerate(path.read_text().splitlines())]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(RecipeError) as caught:
        train(folder, RECIPE, *overrides)
    assert caught.value.sentence == sentence
    assert not (folder / "runs" / "weighed-1").exists()
