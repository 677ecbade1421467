"""An answer is a number or an error: activations that overflow, and texts without any token."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import dact, train
from transformers import AutoModelForSequenceClassification, pipeline

from dactcli.errors import ArtefactError
from dactcli.prediction.predict import predict_texts
from dactcli.runs.load import load_run

FAULT = "the model's answer is not a finite number"


def cured(sentence: str) -> str:
    """What stands on the screen, without its line breaks."""
    return " ".join(sentence.split())


@pytest.fixture
def poisoned(tmp_path: Path, tiny_run: Path) -> tuple[Path, list[str]]:
    """A run in which one word is finite and so large that whatever holds it overflows, and its words, that one first."""
    folder = Path(shutil.copytree(tiny_run, tmp_path / "poisoned"))
    shutil.rmtree(folder / "outputs", ignore_errors=True)
    run = load_run(folder)
    words = [word for word in run.tokenizer.get_vocab() if word.isalpha() and len(word) > 2]
    weights = load_file(folder / "model.safetensors")
    weights["encoder.embeddings.word_embeddings.weight"][run.tokenizer.convert_tokens_to_ids(words[0])] = 3e38
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder, words


def rows(words: list[str], count: int, bad: tuple[int, ...]) -> list[dict[str, Any]]:
    """Examples, some of which hold the word that overflows."""
    return [
        {"sentence": f"{words[1 + row % 5]} {words[0] if row in bad else words[7 + row % 3]}", "label": row % 2}
        for row in range(count)
    ]


def without_special_tokens(folder: Path) -> None:
    """Make the tokenizer of a folder one that adds no special tokens."""
    for name, change in (
        ("tokenizer", {"post_processor": None}),
        ("tokenizer_config", {"tokenizer_class": "TokenizersBackend"}),
    ):
        path = folder / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))


def test_eval_names_the_examples_that_have_no_finite_answer(poisoned: tuple[Path, list[str]], tmp_path: Path) -> None:
    run, words = poisoned
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows(words, 60, (3, 41))))
    for options in (["--json"], ["--calibrate", "budget=2"]):
        told = dact("eval", run, "--data", data, *options)
        assert told.exit_code == 3
        assert f"example 4, example 42: {FAULT}" in cured(told.stderr)
        assert told.stdout == ""
    assert not list((run / "outputs").glob("data-*"))  # nothing of it is kept
    assert not (run / "calibration.json").exists()


def test_inspect_names_the_texts_that_have_no_finite_answer(poisoned: tuple[Path, list[str]]) -> None:
    run, words = poisoned
    for options in (["--json"], ["--verify"], ["--rule", "layer:1"]):
        told = dact("inspect", f"{words[1]} {words[2]}", words[0], f"{words[0]} {words[3]}", "--run", run, *options)
        assert told.exit_code == 3
        assert f"text 2, text 3: {FAULT}" in cured(told.stderr)
        assert told.stdout == ""
    assert dact("inspect", words[1], "--run", run, "--json").exit_code == 0


def test_profile_names_the_examples_that_have_no_finite_answer(
    poisoned: tuple[Path, list[str]], tmp_path: Path
) -> None:
    run, words = poisoned
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows(words, 12, (3,))))
    told = dact("profile", run, "--data", data, "--json")
    assert told.exit_code == 3
    assert f"example 4: {FAULT}" in cured(told.stderr)
    assert told.stdout == ""


@pytest.mark.parametrize("rule", [None, "exact", "max_prob:0.9", "layer:2"])
def test_the_auto_classes_name_the_rows_that_have_no_finite_answer(
    poisoned: tuple[Path, list[str]], rule: str | None
) -> None:
    folder, words = poisoned
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), load_run(folder).tokenizer
    batch = tokenizer([words[1], words[0]], padding=True, return_tensors="pt")
    with torch.no_grad(), pytest.raises(ArtefactError, match="row 2 of the batch: the model's answer") as caught:
        model(**batch, rule=rule)
    assert caught.value.exit_code == 3
    with pytest.raises(ArtefactError, match="row 2 of the batch"):
        model(**batch, labels=torch.tensor([0, 1]))
    answer = pipeline("text-classification", model=model, tokenizer=tokenizer)
    assert 0 < answer(words[1])[0]["score"] <= 1
    with pytest.raises(ArtefactError, match="row 1 of the batch"):
        answer(words[0])
    assert model.train()(**batch).logits[1].isnan().any()  # a training has its own error, exit code 4


def test_an_evaluation_between_epochs_names_the_examples(poisoned: tuple[Path, list[str]], tmp_path: Path) -> None:
    run, words = poisoned
    loaded = load_run(run)
    loaded.model.encoder.save_pretrained(tmp_path / "encoder")
    loaded.tokenizer.save_pretrained(tmp_path / "encoder")
    for name, bad in (("train", ()), ("dev", (7,))):
        lines = (json.dumps(row) + "\n" for row in rows(words, 40, bad))
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    text = (
        f"data: {{source: files, train: {tmp_path}/train.jsonl, validation: {tmp_path}/dev.jsonl, max_length: 48}}\n"
        f"model: {{encoder: {tmp_path}/encoder, pooling: first, halting_inputs: features}}\n"
        "training: {epochs: 1, batch_size: 8}\noutput: {name: tiny}\n"
    )
    with pytest.raises(ArtefactError, match=f"example 8: {FAULT}") as caught:
        train(tmp_path, text)
    assert caught.value.exit_code == 3


def test_an_empty_text_is_one_padding_token_whatever_stands_beside_it(tmp_path: Path, tiny_run: Path) -> None:
    """An empty text has no token by a tokenizer that adds no special tokens: alone it crashed, beside others it was NaN."""
    folder = Path(shutil.copytree(tiny_run, tmp_path / "bare"))
    shutil.rmtree(folder / "outputs", ignore_errors=True)
    without_special_tokens(folder)
    run = load_run(folder)
    assert run.tokenizer("")["input_ids"] == []
    words = [word for word in run.tokenizer.get_vocab() if word.isalpha() and len(word) > 2]
    long = " ".join(words[:9])
    for rule in ("full", "exact", "max_prob:0.6", "layer:1"):
        chosen = run.model.rule(rule)
        (alone,) = predict_texts(run, [""], rule=chosen)
        beside = predict_texts(run, [long, "", words[1], " "], rule=chosen)
        for one in (beside[1], beside[3]):
            assert one.probabilities == pytest.approx(alone.probabilities, abs=1e-4)
            assert one.label == alone.label
        assert sum(alone.probabilities or []) == pytest.approx(1, abs=1e-5)
    (alone,) = predict_texts(run, [""], rule=run.model.rule("full"))
    told = json.loads(dact("inspect", "", long, "--run", folder, "--rule", "full", "--json").stdout)
    assert told[0]["probabilities"] == pytest.approx(alone.probabilities, abs=1e-4)
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({"sentence": text, "label": 0}) + "\n" for text in ("", long, words[2])))
    judged = dact("eval", folder, "--data", data, "--json")
    assert judged.exit_code == 0, judged.stderr
    # what a pipeline makes of it: padding that is masked, or no token at all
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        batch = run.tokenizer([long, ""], padding=True, return_tensors="pt")
        beside = (
            model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], rule="full").logits[1].exp()
        )
        nothing = model(**run.tokenizer([""], return_tensors="pt"), rule="full").logits[0].exp()
    assert beside.tolist() == pytest.approx(alone.probabilities, abs=1e-4)
    assert nothing.tolist() == pytest.approx(alone.probabilities, abs=1e-4)


def test_a_training_takes_empty_texts_of_a_tokenizer_without_special_tokens(tmp_path: Path, tiny_run: Path) -> None:
    loaded = load_run(tiny_run)
    folder = tmp_path / "encoder"
    loaded.model.encoder.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    without_special_tokens(folder)
    words = [word for word in loaded.tokenizer.get_vocab() if word.isalpha() and len(word) > 2]
    examples = [
        {"sentence": "" if row % 4 == 0 else f"{words[row % 7]} {words[3]}", "label": row % 2} for row in range(40)
    ]
    for name in ("train", "dev"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in examples))
    text = (
        f"data: {{source: files, train: {tmp_path}/train.jsonl, validation: {tmp_path}/dev.jsonl, max_length: 48}}\n"
        f"model: {{encoder: {folder}, pooling: attention, halting_inputs: features}}\n"
        "training: {epochs: 1, batch_size: 8}\noutput: {name: bare}\n"
    )
    result = train(tmp_path, text)
    assert result.evaluation["validation"].examples == 40
