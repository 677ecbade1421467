"""A classifier that someone else fine-tuned answers after the last layer exactly as it always did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support import FAMILIES, pretrained, random_batch, saved_classifier, small_config, train
from transformers import AutoModelForSequenceClassification

from dactcli.errors import ArtefactError, RecipeError
from dactcli.halting.rules import make_rule
from dactcli.model.construction import from_encoder
from dactcli.model.engine import run_adaptive
from dactcli.model.kept import KeptClassifier
from dactcli.runs.load import load_run

LENGTHS = [4, 15, 6, 9, 15]
RECIPE = """
task: {name: agreement}
data: {source: builtin, max_length: 48, examples: 64}
model: {encoder: ENCODER, keep_classifier: true}
training: {max_steps: 2, batch_size: 8}
output: {name: tiny}
"""


def classifier(name: str, **settings: Any) -> Any:
    """A random classifier as transformers makes it."""
    torch.manual_seed(3)
    config = small_config(name, layers=4, id2label={0: "a", 1: "b", 2: "c"}, **settings)
    return AutoModelForSequenceClassification.from_config(config).eval()


def converted(stock: Any) -> Any:
    encoder = stock.base_model
    return from_encoder(encoder, kept=KeptClassifier(stock), num_labels=3, pooling="attention").eval()


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_the_last_layer_answers_as_the_classifier_did(name: str, left: bool) -> None:
    stock = classifier(name)
    model = converted(classifier(name))
    batch = random_batch(model, LENGTHS, left=left)
    wanted = stock(**batch).logits
    assert torch.equal(model(**batch, rule="full").layer_logits[:, -1], wanted)
    model.config.objective = "layers"
    last = run_adaptive(model, make_rule("full", objective="layers"), batch)
    torch.testing.assert_close(last.answer, wanted.softmax(-1), atol=1e-6, rtol=1e-6)
    # rows that leave take their padding along, and the answer stays
    stops = make_rule("max_prob:0.34", objective="layers")
    early = run_adaptive(model, stops, batch)
    assert early.exit_layer.min() < 4


@torch.no_grad()
def test_windows_of_a_text_are_answered_by_the_mean_of_the_classifiers_logits() -> None:
    stock, model = classifier("bert"), converted(classifier("bert"))
    batch, texts = random_batch(model, LENGTHS), torch.tensor([0] * (len(LENGTHS) - 1) + [1])
    logits = stock(**batch).logits
    wanted = torch.stack([logits[:-1].mean(0), logits[-1]])
    torch.testing.assert_close(model(**batch, texts=texts, rule="full").layer_logits[:, -1], wanted)
    last = run_adaptive(model, make_rule("layer:4"), {**batch, "texts": texts})
    torch.testing.assert_close(last.answer, wanted.softmax(-1), atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_a_classifier_that_pools_the_mean_ignores_padding() -> None:
    stock, model = (
        classifier("modernbert", classifier_pooling="mean"),
        converted(classifier("modernbert", classifier_pooling="mean")),
    )
    batch = random_batch(model, LENGTHS)
    assert torch.equal(model(**batch, rule="full").layer_logits[:, -1], stock(**batch).logits)
    alone = {name: value[:1, :4] for name, value in batch.items()}
    answer = run_adaptive(model, make_rule("layer:4", objective="dact"), batch).answer[:1]
    torch.testing.assert_close(answer, stock(**alone).logits.softmax(-1), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_classifier_that_pools_the_mean_does_not_overflow_in_half_precision() -> None:
    kept = KeptClassifier(classifier("modernbert", classifier_pooling="mean"))
    hidden, mask = torch.full((2, 1024, 32), 130.0) + torch.randn(32), torch.ones(2, 1024, dtype=torch.long)
    mask[1, 100:] = 0
    wanted = kept(hidden, mask)
    found = kept.half()(hidden.half(), mask)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, atol=0.01, rtol=0.01)
    assert found.isfinite().all()


def test_training_leaves_encoder_and_classifier_bit_for_bit(tmp_path: Path) -> None:
    folder = saved_classifier(tmp_path / "classifier")
    result = train(tmp_path / "run", RECIPE.replace("ENCODER", str(folder)))
    stock = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    run = load_run(Path(result.run))
    encoded = run.tokenizer(
        ["the key is rusty .", "the keys near the door is old ."], padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        assert torch.equal(run.model(**encoded, rule="full").layer_logits[:, -1], stock(**encoded).logits)
        again = AutoModelForSequenceClassification.from_pretrained(result.run).eval()
        assert torch.equal(again(**encoded, rule="full").layer_logits[:, -1], stock(**encoded).logits)
    before = stock.base_model.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in run.model.encoder.state_dict().items())
    fresh = train(tmp_path / "other", RECIPE.replace("ENCODER", str(folder)), "training.max_steps=1")
    assert not torch.equal(load_run(Path(fresh.run)).model.units.dense_weight, run.model.units.dense_weight)
    for rule in ("exact", "full"):
        assert result.evaluation["validation"].rules[rule].agreement_with_full == 1


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("training.stages=[{name: joint}]", "leaves encoder and classifier as they are"),
        ("model.layers=2", "goes with the encoder's last layer"),
        ("dact=null", "leaves nothing to train"),
        ("model.encoder={hidden_size: 32}", "a fresh encoder has none"),
    ],
)
def test_what_does_not_go_with_a_kept_classifier(override: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=f"model.keep_classifier: {sentence}"):
        train(tmp_path, RECIPE.replace("ENCODER", str(tmp_path)), override)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"id2label": {0: "a", 1: "b", 2: "c"}}, "the classifier knows 3 classes and the data 2"),
        ({"id2label": {0: "acceptable", 1: "unacceptable"}}, "the classifier's classes are acceptable, unacceptable"),
        ({"problem_type": "multi_label_classification"}, "the classifier is made for multi_label_classification"),
    ],
)
def test_classifiers_of_another_task_are_refused(settings: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    folder = saved_classifier(tmp_path / "classifier", **settings)
    with pytest.raises((RecipeError, ArtefactError), match=sentence):
        train(tmp_path / "run", RECIPE.replace("ENCODER", str(folder)))


def test_a_bare_encoder_has_no_classifier_to_keep(tmp_path: Path) -> None:
    folder = pretrained("bert", tmp_path / "bare")
    with pytest.raises(ArtefactError, match="is not a sequence classifier: its config.json names BertModel"):
        train(tmp_path / "run", RECIPE.replace("ENCODER", str(folder)))


@torch.no_grad()
def test_a_multi_label_classifier_answers_with_its_own_probabilities() -> None:
    kind = "multi_label_classification"
    stock, kept = classifier("bert", problem_type=kind), classifier("bert", problem_type=kind)
    encoder = kept.base_model
    model = from_encoder(encoder, kept=KeptClassifier(kept), num_labels=3, problem_type=kind).eval()
    batch = random_batch(model, LENGTHS)
    last = run_adaptive(model, make_rule("layer:4", answers=model.answers), batch)
    torch.testing.assert_close(last.answer, stock(**batch).logits.sigmoid(), atol=1e-6, rtol=1e-6)


def test_a_kept_classifier_of_another_kind_of_answer_is_refused(tmp_path: Path) -> None:
    folder = saved_classifier(tmp_path / "classifier", problem_type="multi_label_classification")
    with pytest.raises(RecipeError, match="is made for multi_label_classification, and this task is classes"):
        train(tmp_path, RECIPE.replace("ENCODER", str(folder)))
