"""transformers' pipeline and Auto class halt early by the run's rule, as the engine does, and can be told not to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support import random_batch, small_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from dactcli.prediction.predict import predict_texts
from dactcli.runs.load import load_run, save_model

TEXTS = [
    "the key is rusty .",
    "near the old boats , the keys to the cabinet of the doctors are rusty .",
    "the keys is old .",
    "the cabinets near the river are old .",
    "the doctor",
    "the key to the cabinets beside the old boats is rusty .",
]


def save(folder: Path, run: Path, **settings: Any) -> Path:
    """A model whose layers disagree, so that texts halt at different layers, with the tokenizer of a run."""
    tokenizer = load_run(run).tokenizer
    tokenizer.model_max_length = 64
    model = small_model(layers=4, seed=0, **settings)
    model.encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    torch.manual_seed(0)
    torch.nn.init.normal_(model.encoder.get_input_embeddings().weight, std=0.3)
    save_model(model, tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def saved(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    return save(folder, trained_run, labels=2, rule="exact", id2label={0: "no", 1: "yes"})


def watched(model: Any, depths: list[list[int] | None]) -> Any:
    """The model, noting the exit layers of every call."""
    model.register_forward_hook(
        lambda _, __, out: depths.append(None if out.exit_layer is None else out.exit_layer.tolist())
    )
    return model


@pytest.mark.parametrize("batch_size", [1, 3, 6])
def test_a_pipeline_halts_as_the_engine_does_and_can_be_told_not_to(saved: Path, batch_size: int) -> None:
    run = load_run(saved)
    engine = predict_texts(run, TEXTS, None, rule=run.model.rule("exact"))
    assert len({one.exit_layer for one in engine}) > 1
    classify = pipeline("text-classification", model=str(saved))
    depths: list[list[int] | None] = []
    watched(classify.model, depths)
    answers = classify(TEXTS, batch_size=batch_size, truncation=True)
    assert [layer for batch in depths for layer in batch or []] == [one.exit_layer for one in engine]
    assert [one["label"] for one in answers] == [one.label for one in engine]
    assert [one["score"] for one in answers] == pytest.approx(
        [max(one.probabilities or []) for one in engine], abs=1e-4
    )
    for rule in ("full", None):
        depths.clear()
        classify.model.config.rule = rule
        full = classify(TEXTS, batch_size=batch_size, truncation=True)
        assert set(depths) == {None}  # every layer ran
        assert [one["label"] for one in full] == [one["label"] for one in answers]  # exact: the class is full depth's
    classify.model.config.rule = "layer:1"
    depths.clear()
    classify(TEXTS, batch_size=batch_size)
    assert {layer for batch in depths for layer in batch or []} == {1}


def test_it_can_be_told_so_from_the_start(saved: Path) -> None:
    classify = pipeline("text-classification", model=str(saved), model_kwargs={"rule": "full"})
    depths: list[list[int] | None] = []
    watched(classify.model, depths)
    classify(TEXTS, batch_size=3)
    assert depths == [None, None]
    assert json.loads((saved / "config.json").read_text())["rule"] == "exact"


def test_the_auto_class_halts_and_a_call_can_be_told_not_to(saved: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(saved)
    inputs = AutoTokenizer.from_pretrained(saved)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        early, full = model(**inputs), model(**inputs, rule="full")
    run = load_run(saved)
    engine = predict_texts(run, TEXTS, None, rule=run.model.rule("exact"))
    assert early.exit_layer.tolist() == [one.exit_layer for one in engine]
    assert early.exit_layer.min() < 4
    assert early.logits.argmax(-1).tolist() == full.logits.argmax(-1).tolist() == [one.label_id for one in engine]
    assert full.layer_logits.shape == (6, 4, 2)
    assert full.exit_layer is None
    assert AutoModelForSequenceClassification.from_pretrained(saved, rule="full").config.rule == "full"


def test_a_pipeline_of_a_regression_gives_the_value(tiny_run: Path, tmp_path: Path) -> None:
    folder = save(tmp_path / "model", tiny_run, labels=1, answer_range=(0.0, 5.0), rule="tolerance:1")
    classify, tokenizer = pipeline("text-classification", model=str(folder)), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        wanted = classify.model(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits[:, 0]
    assert [one["score"] for one in classify(TEXTS, batch_size=2)] == pytest.approx(wanted.tolist(), abs=1e-4)
    assert wanted.max() > 1  # a sigmoid would have cut it


def test_padding_on_either_side_changes_no_depth() -> None:
    model = small_model(layers=4, labels=2, seed=1, rule="exact")
    right, left = (random_batch(model, [3, 9, 5], left=side) for side in (False, True))
    with torch.no_grad():
        depths = [model(**batch).exit_layer.tolist() for batch in (right, left)]
        alone = [
            int(model(input_ids=right["input_ids"][row : row + 1, :length]).exit_layer)
            for row, length in enumerate([3, 9, 5])
        ]
    assert depths[0] == alone
    assert len(depths[1]) == 3
