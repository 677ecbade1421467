"""A DACT model in the place of any sequence classifier: the standard calls of transformers work or say what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from support import random_batch, small_config, small_model, words
from torch.nn import functional
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
    pipeline,
)

from dactcli.errors import UsageError
from dactcli.model import DactConfig, DactForSequenceClassification, encoders
from dactcli.model.loss import certainty_loss
from dactcli.runs.load import load_run, save_model

# transformers 5.23 calls it activation checkpointing, and still knows the name that others know it by
OLD_NAME = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is deprecated:FutureWarning")
every_family = pytest.mark.parametrize("name", encoders.FAMILIES)
LENGTHS = [4, 9, 6]
LABELS = torch.tensor([0, 2, 1])
TEXTS = ["the key is rusty .", "the keys near the cabinets of the old doctors are rusty .", "the doctor"]


@every_family
@torch.no_grad()
def test_hidden_states_are_the_encoders_own(name: str) -> None:
    model, batch = small_model(name), random_batch(small_model(name), LENGTHS)
    plain = model(**batch)
    out = model(**batch, output_hidden_states=True)
    wanted = model.encoder(**batch, output_hidden_states=True).hidden_states
    assert len(out.hidden_states) == len(wanted) == 5
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(out.hidden_states, wanted, strict=True))
    assert torch.equal(out.logits, plain.logits)
    assert plain.hidden_states is None
    model.config.output_hidden_states = True
    assert len(model(**batch).hidden_states) == 5
    assert len(small_model(name, objective="last")(**batch, output_hidden_states=True).hidden_states) == 5
    with pytest.raises(
        UsageError, match="rule exact stops early, and hidden_states need every layer; give rule='full'"
    ):
        model(**batch, rule="exact")


@torch.no_grad()
def test_the_tuple_is_that_of_a_plain_classifier() -> None:
    model, batch = small_model(), random_batch(small_model(), LENGTHS)
    out = model(**batch, labels=LABELS, output_hidden_states=True)
    loss, logits, hidden = model(**batch, labels=LABELS, output_hidden_states=True, return_dict=False)
    assert torch.equal(loss, out.loss)
    assert torch.equal(logits, out.logits)
    assert torch.equal(hidden[-1], out.hidden_states[-1])
    assert out[0] is out.loss  # and the output itself counts as one
    assert out[1] is out.logits
    assert out[2] is out.hidden_states
    (alone,) = model(**batch, return_dict=False, rule="exact")
    assert torch.equal(alone, model(**batch, rule="exact").logits)
    model.config.return_dict = False
    assert isinstance(model(**batch), tuple)
    assert model(**batch, return_dict=True).halting is not None


@torch.no_grad()
def test_attention_weights_are_refused_and_the_remedy_gives_them() -> None:
    model, batch = small_model(), random_batch(small_model(), LENGTHS)
    with pytest.raises(
        UsageError, match=r"attention weights are not kept; call model.encoder\(\.\.\., output_attentions"
    ):
        model(**batch, output_attentions=True)
    model.set_attn_implementation("eager")
    assert len(model.encoder(**batch, output_attentions=True).attentions) == 4


@every_family
@torch.no_grad()
def test_word_embeddings_stand_for_token_ids(name: str) -> None:
    model, batch = small_model(name), random_batch(small_model(name), LENGTHS)
    given = {
        "inputs_embeds": model.get_input_embeddings()(batch["input_ids"]),
        "attention_mask": batch["attention_mask"],
    }
    # families that count positions from the padding on cannot see it in embeddings; it is on the right here
    torch.testing.assert_close(model(**given).logits, model(**batch).logits, atol=1e-5, rtol=0)
    early = model(**given, rule="exact")
    assert torch.equal(early.exit_layer, model(**batch, rule="exact").exit_layer)
    for wrong in ({**batch, **given}, {"attention_mask": batch["attention_mask"]}):
        with pytest.raises(UsageError, match="a call takes either input_ids or inputs_embeds"):
            model(**wrong)


def test_gradients_reach_word_embeddings_for_attribution() -> None:
    model, batch = small_model(rule="exact"), random_batch(small_model(), LENGTHS)
    embeddings = model.get_input_embeddings()(batch["input_ids"]).detach().requires_grad_()
    model(inputs_embeds=embeddings, attention_mask=batch["attention_mask"], rule="full").logits[:, 0].sum().backward()
    assert embeddings.grad is not None
    assert (embeddings.grad.abs().sum(-1) > 0).equal(batch["attention_mask"] == 1)


@every_family
@torch.no_grad()
def test_position_ids_are_taken_at_full_depth(name: str) -> None:
    model, batch = small_model(name), random_batch(small_model(name), [7, 7])
    if name == "modernbert":
        with pytest.raises(
            UsageError, match="ModernBERT takes positions from the tokens' order; leave out position_ids"
        ):
            model(**batch, position_ids=torch.arange(7).unsqueeze(0))
        return
    first = {"roberta": 2, "xlm-roberta": 2, "camembert": 2, "mpnet": 2}.get(name, 0)
    positions = first + torch.arange(7).unsqueeze(0)
    plain = model(**batch)
    assert torch.equal(model(**batch, position_ids=positions).logits, plain.logits)
    wanted = model.encoder(**batch, position_ids=positions + 3).last_hidden_state
    moved = model(**batch, position_ids=positions + 3, output_hidden_states=True)
    assert torch.equal(moved.hidden_states[-1], wanted)
    with pytest.raises(UsageError, match="rule exact stops early, and position_ids need every layer"):
        model(**batch, position_ids=positions, rule="exact")


def test_the_fourth_argument_by_place_is_never_taken_for_another() -> None:
    """In BERT it is position_ids, in DistilBERT something else; a guess would be silent."""
    batch = random_batch(small_model(), LENGTHS)
    with pytest.raises(TypeError):
        small_model()(batch["input_ids"], batch["attention_mask"], None, torch.arange(9).unsqueeze(0))


def test_a_mask_by_pairs_of_tokens_is_refused() -> None:
    batch = random_batch(small_model(), LENGTHS)
    with pytest.raises(UsageError, match="attention_mask has 3 axes; give 1 for real tokens and 0 for padding"):
        small_model()(batch["input_ids"], torch.ones(3, 9, 9))


def test_a_text_without_any_token_is_one_padding_token() -> None:
    model = small_model()
    empty = model(torch.zeros(2, 0, dtype=torch.long)).logits
    padding = torch.full((2, 1), model.encoder.config.pad_token_id)
    torch.testing.assert_close(empty, model(padding, torch.ones_like(padding)).logits)
    with pytest.raises(UsageError, match="a text has no token; leave empty texts out, or give them one token"):
        model(inputs_embeds=torch.zeros(2, 0, 32))


@torch.no_grad()
def test_classes_may_be_replaced_on_loading(tmp_path: Path) -> None:
    model = small_model()
    model.save_pretrained(tmp_path)
    load = AutoModelForSequenceClassification.from_pretrained
    again = load(tmp_path, num_labels=5, ignore_mismatched_sizes=True)
    assert again(**random_batch(model, LENGTHS)).logits.shape == (3, 5)
    assert again.units.classifier_weight.std() < 0.05  # fresh ones; what fits stays
    assert torch.equal(again.units.dense_weight, model.units.dense_weight)
    assert torch.equal(again.units.halting_bias, model.units.halting_bias)


@every_family
@OLD_NAME
def test_layers_are_computed_again_for_the_gradient(name: str) -> None:
    model, batch = small_model(name, detach=False).train(), random_batch(small_model(name), LENGTHS)
    without_dropout(model)
    if name in ("albert", "mpnet"):
        with pytest.raises(UsageError, match=f"encoders of type '{name}' cannot compute layers again; train without"):
            model.gradient_checkpointing_enable()
        return
    wanted = gradients(model, batch)
    calls: list[int] = []
    inside = next(module for module in model.adapter.layers[1].modules() if isinstance(module, torch.nn.Linear))
    inside.register_forward_pre_hook(lambda *_: calls.append(1))
    # the library hands DeBERTa's distances over in a way that the older of torch's two ways does not bear
    for options in ({"use_reentrant": False}, {"use_reentrant": True})[: 1 if name == "deberta-v2" else 2]:
        calls.clear()
        model.gradient_checkpointing_enable(options)
        for key, found in gradients(model, batch).items():
            torch.testing.assert_close(found, wanted[key], atol=1e-5, rtol=1e-4)
        assert len(calls) == 2  # forward, and again for the gradient
    model.gradient_checkpointing_disable()
    calls.clear()
    gradients(model, batch)
    assert len(calls) == 1


def without_dropout(model: Any) -> Any:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def gradients(model: Any, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(**batch, labels=LABELS).loss.backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


SETTINGS: list[dict[str, Any]] = [
    {},
    {"answer_loss": "error", "class_weights": [0.5, 1.0, 2.0], "distill": 0.3},
    {"objective": "layers", "certainty": True, "layer_loss": "depth"},
    {"objective": "last", "class_weights": [0.5, 1.0, 2.0]},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_labels_in_every_usual_form_give_the_same_loss(settings: dict[str, Any]) -> None:
    model, batch = small_model(**settings), random_batch(small_model(), LENGTHS)
    wanted = model(**batch, labels=LABELS)
    hard = functional.one_hot(LABELS, 3).float()
    for labels in (LABELS[:, None], LABELS.int(), hard, hard.half(), hard.double()):
        out = model(**batch, labels=labels)
        torch.testing.assert_close(out.loss, wanted.loss, check_dtype=False)
        assert torch.equal(out.logits, wanted.logits)


def test_soft_labels_are_what_they_are_worth() -> None:
    model, batch = small_model(objective="layers", layer_loss="equal"), random_batch(small_model(), LENGTHS)
    soft = torch.tensor([[0.7, 0.2, 0.1], [0.0, 0.5, 0.5], [0.1, 0.1, 0.8]])
    out = model(**batch, labels=soft)
    wanted = [functional.cross_entropy(out.layer_logits[:, layer], soft) for layer in range(4)]
    torch.testing.assert_close(out.loss, torch.stack(wanted).mean())
    mixed = small_model(layer_loss="none", tau=0.0, answer_loss="error")(**batch, labels=soft)
    torch.testing.assert_close(mixed.loss, (soft * (1 - mixed.logits.exp())).sum(-1).mean())
    early = small_model(rule="exact")(**batch, labels=soft)
    torch.testing.assert_close(early.loss, functional.cross_entropy(early.logits, soft), check_dtype=False)


def test_a_certainty_head_learns_how_probable_its_layers_class_is() -> None:
    certainty, y = torch.randn(2, 3), torch.randn(2, 3, 4).log_softmax(-1)
    soft = torch.rand(2, 4).softmax(-1)
    right = torch.stack([soft[row, y[row].argmax(-1)] for row in range(2)])
    wanted = functional.binary_cross_entropy_with_logits(certainty, right)
    torch.testing.assert_close(certainty_loss(certainty, y, soft), wanted)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("rule", ["full", "max_prob:0.4"])
def test_rows_labelled_minus_100_do_not_count(settings: dict[str, Any], rule: str) -> None:
    model, batch = small_model(**settings), random_batch(small_model(), LENGTHS)
    rule = "full" if settings.get("objective") == "last" else rule
    out = model(**batch, labels=torch.tensor([0, -100, 1]), rule=rule)
    some = model(**{key: value[[0, 2]] for key, value in batch.items()}, labels=torch.tensor([0, 1]), rule=rule)
    torch.testing.assert_close(out.loss, some.loss)
    assert out.logits.shape == (3, 3)
    if rule == "full":
        none = model(**batch, labels=torch.full((3,), -100))
        assert none.loss == 0
        none.loss.backward()
        assert all(value.grad is None or value.grad.abs().sum() == 0 for value in model.parameters())
    else:
        assert model(**batch, labels=torch.full((3,), -100), rule=rule).loss == 0


@pytest.mark.parametrize(
    ("labels", "fault"),
    [
        (torch.tensor([0, 1]), "there are 2 labels for 3 examples; give each example one label"),
        (torch.tensor([0, 3, 1]), "label 3 is none of the model's 3 classes; give numbers from 0 to 2, or -100"),
        (torch.tensor([0, -1, 1]), "label -1 is none of the model's 3 classes"),
        (torch.tensor([-100, -1, 1]), "label -1 is none of the model's 3 classes"),
        (
            torch.tensor([0.0, 1.0, 2.0]),
            r"labels of shape \[3\] and type torch.float32 do not fit .* whole class numbers",
        ),
        (torch.tensor([[0, 1, 0]] * 3), r"labels of shape \[3, 3\] and type torch.int64 do not fit this model"),
        (torch.tensor([[1.0, 1.0, 0.0]] * 3), "soft labels are probabilities, and a row of these does not sum to 1"),
        (torch.tensor([[2.0, -1.0, 0.0]] * 3), "soft labels are probabilities"),
        (torch.ones(3, 2), r"labels of shape \[3, 2\]"),
    ],
)
@pytest.mark.parametrize("rule", ["full", "exact"])
def test_labels_that_fit_no_class_are_refused(labels: torch.Tensor, fault: str, rule: str) -> None:
    with pytest.raises(UsageError, match=fault):
        small_model(rule=rule)(**random_batch(small_model(), LENGTHS), labels=labels)


def test_values_of_a_regression_come_in_one_column_or_none() -> None:
    model = small_model(labels=1, answer_range=[0.0, 5.0])
    batch, values = random_batch(model, LENGTHS), torch.tensor([0.0, 2.5, 5.0])
    wanted = model(**batch, labels=values).loss
    assert torch.equal(model(**batch, labels=values[:, None]).loss, wanted)
    early = model(**batch, labels=values[:, None], rule="tolerance:0.5")
    torch.testing.assert_close(early.loss, ((early.logits[:, 0] - values) ** 2).mean())
    with pytest.raises(UsageError, match=r"give values \[B\]"):
        model(**batch, labels=torch.zeros(3, 3))


@every_family
def test_an_empty_batch_gives_empty_answers(name: str) -> None:
    model = small_model(name)
    empty = {key: value[:0] for key, value in random_batch(model, LENGTHS).items()}
    for rule in ("full", "exact"):
        out = model(**empty, rule=rule, labels=torch.zeros(0, dtype=torch.long))
        assert out.logits.shape == (0, 3)
        assert out.loss == 0
    assert out.exit_layer.shape == (0,)
    model.train()(**empty, labels=torch.zeros(0, dtype=torch.long)).loss.backward()


def test_no_loss_of_an_early_exit_is_trained_by() -> None:
    model, batch = small_model(rule="exact"), random_batch(small_model(), LENGTHS)
    loss = model(**batch, labels=LABELS).loss
    assert loss.item() > 0
    with pytest.raises(UsageError, match=r"an early exit, which has no gradient; call model.train\(\) before training"):
        loss.backward()
    model(**batch, labels=LABELS, rule="full").loss.backward()


@every_family
@torch.no_grad()
def test_embeddings_are_resized_and_saved_with_their_new_size(name: str, tmp_path: Path) -> None:
    model, batch = small_model(name, rule="exact"), random_batch(small_model(name), LENGTHS)
    before = model(**batch).logits
    assert model.get_input_embeddings().num_embeddings == model.config.vocab_size == 120
    model.resize_token_embeddings(131, mean_resizing=False)
    assert model.config.vocab_size == model.config.encoder_config.vocab_size == 131
    assert torch.equal(model(**batch).logits, before)
    model.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert again.get_input_embeddings().num_embeddings == 131
    assert torch.equal(again(**batch).logits, before)
    table = torch.nn.Embedding(120, model.get_input_embeddings().embedding_dim)
    model.set_input_embeddings(table)
    assert model.encoder.get_input_embeddings() is table


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_answers_as_full_precision_does(dtype: torch.dtype, tmp_path: Path) -> None:
    model, batch = small_model(rule="exact"), random_batch(small_model(), LENGTHS)
    model.save_pretrained(tmp_path)
    half = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=dtype)
    assert half.dtype == dtype
    for rule in ("full", "exact"):
        found = half(**batch, labels=LABELS, rule=rule)
        torch.testing.assert_close(found.logits.exp(), model(**batch, rule=rule).logits.exp(), atol=0.1, rtol=0)
        assert found.loss.isfinite()
    assert torch.equal(model.to(dtype)(**batch, rule="full").logits, half(**batch, rule="full").logits)


def test_what_is_saved_again_says_the_same(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "pooling": "attention",
        "halting_inputs": "answer",
        "rule": "confidence:0.9",
        "certainty": True,
    }
    model = small_model(tau=0.3, id2label={0: "a", 1: "b", 2: "c"}, class_weights=[1.0, 2.0, 3.0], **settings)
    model.save_pretrained(tmp_path / "one")
    AutoModelForSequenceClassification.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "two")
    one, two = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("one", "two"))
    for config in (one, two):
        config["encoder_config"].pop("dtype")  # which transformers fills in while it loads
    assert one == two
    assert {key: one[key] for key in settings} == settings
    assert (one["halting"]["tau"], one["halting"]["class_weights"]) == (0.3, [1.0, 2.0, 3.0])
    assert (model.num_labels, model.config.id2label) == (3, {0: "a", 1: "b", 2: "c"})


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (
            {"problem_type": "multi_label_classification"},
            "problem_type 'multi_label_classification' with 3 labels is not",
        ),
        ({"problem_type": "regression"}, "'regression' with 3 labels is not supported without answer_range"),
        ({"labels": 1}, "with 1 labels is not supported without answer_range"),
        ({"answer_range": [0.0, 5.0]}, "'regression' with 3 labels is not supported; name one of two or more classes"),
        ({"class_weights": [1.0, 2.0]}, "class_weights has 2 numbers for 3 classes"),
    ],
)
def test_a_task_that_the_units_do_not_answer_is_refused(settings: dict[str, Any], fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        small_model(**settings)
    small_model(problem_type="single_label_classification")


def test_a_model_of_another_type_is_not_taken_for_one(tmp_path: Path) -> None:
    AutoModel.from_config(small_config("bert", layers=1)).save_pretrained(tmp_path)
    for load in (DactForSequenceClassification.from_pretrained, DactConfig.from_pretrained):
        with pytest.raises(UsageError, match="this is a model of type 'bert', not a DACT model; fine-tune it first"):
            load(tmp_path)


# The Trainer of a user


def data(model: Any) -> Dataset:
    batch = random_batch(model, [7] * 8)
    return Dataset.from_dict({"input_ids": batch["input_ids"].tolist(), "labels": [0, 1, 2, 0, 1, 2, 0, 1]})


def trainer(model: Any, folder: Path, **options: Any) -> Trainer:
    arguments = TrainingArguments(
        str(folder), per_device_train_batch_size=4, per_device_eval_batch_size=3, max_steps=3, use_cpu=True,
        report_to=[], disable_tqdm=True, save_strategy="no", logging_strategy="no", learning_rate=1e-2, **options,
    )  # fmt: skip
    return Trainer(model, arguments, train_dataset=data(model), eval_dataset=data(model))


@pytest.mark.parametrize("rule", [None, "exact"])
@pytest.mark.parametrize("return_dict", [True, False])
def test_the_trainer_evaluates_and_predicts_by_the_models_rule(
    rule: str | None, return_dict: bool, tmp_path: Path
) -> None:
    model = small_model(rule=rule)
    model.config.return_dict = return_dict
    with torch.no_grad():
        wanted = model(torch.tensor(data(model)["input_ids"][:]), return_dict=True)
    judge = trainer(model, tmp_path)
    judge.compute_metrics = lambda found: {"accuracy": float((found.predictions.argmax(-1) == found.label_ids).mean())}
    found = judge.predict(data(model))
    unlabelled = judge.predict(data(model).remove_columns("labels"))
    for predictions in (found.predictions, unlabelled.predictions):
        assert predictions.shape == (8, 3)
        assert predictions == pytest.approx(wanted.logits.numpy(), abs=1e-4)
    figures = judge.evaluate()
    assert figures["eval_accuracy"] == found.metrics["test_accuracy"]
    if rule is not None:
        assert (wanted.exit_layer < 4).any()
        nll = functional.nll_loss(wanted.logits, torch.tensor(data(model)["labels"][:]))
        assert figures["eval_loss"] == pytest.approx(float(nll), abs=1e-4)


@OLD_NAME
@pytest.mark.parametrize(
    "options", [{}, {"gradient_checkpointing": True}, {"bf16": True}, {"gradient_accumulation_steps": 2}]
)
def test_the_trainer_trains_a_published_model_on(options: dict[str, Any], tmp_path: Path) -> None:
    model = small_model(rule="exact")
    before = {name: value.clone() for name, value in model.named_parameters()}
    result = trainer(model, tmp_path, **options).train()
    assert result.training_loss > 0
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert any(name.startswith("encoder.") for name in moved)
    assert {"units.classifier_weight", "units.halting_bias"} <= moved


def test_label_smoothing_trains_the_answer_and_says_what_it_leaves_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    monkeypatch.setattr("dactcli.model.dact.logger.warning_once", heard.append)
    model = without_dropout(small_model(rule="exact"))
    train = trainer(model, tmp_path, label_smoothing_factor=0.1)
    batch = {"input_ids": torch.tensor(data(model)["input_ids"][:]), "labels": torch.tensor(data(model)["labels"][:])}
    loss = train.compute_loss(model.train(), dict(batch)).detach()
    logits = model.eval()(batch["input_ids"], rule="full").logits.detach()
    wanted = functional.cross_entropy(logits, batch["labels"], label_smoothing=0.1)
    torch.testing.assert_close(loss, wanted, atol=1e-4, rtol=0)
    assert train.train().training_loss > 0
    assert "eval_loss" in train.evaluate()
    assert {text.partition(":")[0] for text in heard} == {"A training step without labels"}


def test_frozen_units_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr("dactcli.model.dact.logger.warning_once", heard.append)
    model, batch = small_model().train(), random_batch(small_model(), LENGTHS)
    model(**batch, labels=LABELS)
    assert not heard
    model.units.requires_grad_(False)
    model(**batch, labels=LABELS)
    assert heard[0].startswith("The exit heads after the layers are frozen")


# Pipelines


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, tokenizer = tmp_path_factory.mktemp("dropin") / "model", words("bert")
    tokenizer.model_max_length = 64
    model = small_model(rule="exact", id2label={0: "a", 1: "b", 2: "c"})
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    save_model(model, tokenizer, folder)
    return folder


def test_a_pipeline_names_every_class_and_pads_batches(saved: Path) -> None:
    classify = pipeline("text-classification", model=str(saved))
    alone = [classify(text, top_k=None) for text in TEXTS]
    assert [[one["label"] for one in sorted(found, key=lambda one: one["label"])] for found in alone] == [
        ["a", "b", "c"]
    ] * 3
    assert all(sum(one["score"] for one in found) == pytest.approx(1) for found in alone)
    together = classify(TEXTS, top_k=2, batch_size=3)
    for found, wanted in zip(together, alone, strict=True):
        assert [one["label"] for one in found] == [one["label"] for one in wanted[:2]]
        assert [one["score"] for one in found] == pytest.approx([one["score"] for one in wanted[:2]], abs=1e-4)
    assert classify({"text": TEXTS[0], "text_pair": TEXTS[1]})["label"] in "abc"
    half = pipeline("text-classification", model=str(saved), dtype=torch.bfloat16)
    assert half.model.dtype == torch.bfloat16
    assert half(TEXTS[0])[0]["score"] == pytest.approx(classify(TEXTS[0])[0]["score"], abs=0.1)


def test_a_text_beyond_the_models_positions_is_a_sentence(saved: Path) -> None:
    classify, long = pipeline("text-classification", model=str(saved)), "the key " * 60
    with pytest.raises(
        UsageError, match="a text has 122 tokens, and this model takes at most 64; cut texts: give trunc"
    ):
        classify(long)
    cut = load_run(saved).tokenizer(long, truncation=True, return_tensors="pt")
    with torch.no_grad():
        wanted = classify.model(**cut).logits.exp().max()
    assert classify(long, truncation=True)[0]["score"] == pytest.approx(float(wanted), abs=1e-5)


@pytest.mark.parametrize("name", ["modernbert", "deberta-v2"])
@torch.no_grad()
def test_families_without_a_last_position_take_longer_texts(name: str) -> None:
    model = small_model(name)
    assert model(**random_batch(model, [100])).logits.isfinite().all()


@torch.no_grad()
def test_padding_beyond_the_positions_takes_none() -> None:
    model = small_model("roberta")
    batch = random_batch(model, [62, 8])
    wider = {
        "input_ids": functional.pad(batch["input_ids"], (0, 10), value=1),
        "attention_mask": functional.pad(batch["attention_mask"], (0, 10)),
    }
    torch.testing.assert_close(model(**wider).logits, model(**batch).logits, atol=1e-5, rtol=0)


def test_a_saved_tokenizer_carries_nothing_of_its_last_call(saved: Path, tmp_path: Path) -> None:
    run = load_run(saved)
    calls: list[dict[str, Any]] = [{"truncation": True, "max_length": 9}, {"padding": "max_length", "max_length": 30}]
    for number, call in enumerate(calls):
        run.tokenizer(TEXTS, **call)
        save_model(run.model, run.tokenizer, tmp_path / str(number))
        document = json.loads((tmp_path / str(number) / "tokenizer.json").read_text())
        assert document["truncation"] is None
        assert document["padding"] is None
        again = AutoTokenizer.from_pretrained(tmp_path / str(number))
        assert again.model_max_length == 64
        assert not {"max_length", "stride", "truncation_strategy", "pad_to_multiple_of"} & set(again.init_kwargs)
        assert again(TEXTS)["input_ids"] == words("bert")(TEXTS)["input_ids"]


# PEFT, where it is installed


@OLD_NAME
@pytest.mark.parametrize("task", [None, "SEQ_CLS"])
def test_peft_adapts_the_encoder_and_trains_the_units(task: str | None, saved: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    model = AutoModelForSequenceClassification.from_pretrained(saved)
    config = peft.LoraConfig(target_modules=["query", "value"], modules_to_save=["units"], task_type=task)
    adapted = peft.get_peft_model(model, config)
    trained = {name for name, value in adapted.named_parameters() if value.requires_grad}
    assert any("lora_A" in name for name in trained)
    assert any("units" in name for name in trained)
    train = trainer(adapted, tmp_path, gradient_checkpointing=True)
    assert train.train().training_loss > 0
    predictions = train.predict(data(model)).predictions
    assert predictions.shape == (8, 3)
    adapted.save_pretrained(tmp_path / "adapter")
    fresh = AutoModelForSequenceClassification.from_pretrained(saved)
    again = peft.PeftModel.from_pretrained(fresh, tmp_path / "adapter")
    assert trainer(again, tmp_path).predict(data(model)).predictions == pytest.approx(predictions, abs=1e-5)
    merged = again.merge_and_unload()
    assert isinstance(merged, DactForSequenceClassification)
    assert trainer(merged, tmp_path).predict(data(model)).predictions == pytest.approx(predictions, abs=1e-4)
