"""A classifier that was made with transformers alone gets early exits, from texts without labels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Told, dact, saved_classifier, shared
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import dactcli
from dactcli.data.agreement import generate
from dactcli.data.batches import encode, padded
from dactcli.errors import ArtefactError, DactError, DataError, UsageError
from dactcli.training.hidden import run_once

COUNT = 400
SMALL = ("training.batch_size=16", "training.max_steps=6")


def written(folder: Path, *, name: str = "log.jsonl", count: int = COUNT, seed: int = 0, **more: Any) -> Path:
    """A file of texts, as a service would log them."""
    rows = [{"text": one.sentence, "at": n, **more} for n, one in enumerate(generate(train=count, seed=seed)["train"])]
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier, its log, and the classifier converted."""
    home = tmp_path_factory.mktemp("conversion")
    saved_classifier(home / "classifier", initializer_range=0.4, id2label={0: "no", 1: "yes"})
    told = Told()
    result = dactcli.convert(
        home / "classifier",
        texts=[written(home)],
        risk=0.05,
        overrides=[f"output.dir={home / 'runs'}", *SMALL],
        recipe_out=home / "conversion.yaml",
        listener=told,
    )
    (home / "notices.json").write_text(json.dumps(told.notices))
    (home / "result.json").write_text(json.dumps(result.to_json()))
    return shared(home)


def run_of(folder: Path) -> Path:
    return folder / "runs" / "classifier-1"


def texts_of(folder: Path) -> list[str]:
    return [json.loads(line)["text"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_full_depth_is_the_classifier_bit_for_bit(folder: Path) -> None:
    stock = AutoModelForSequenceClassification.from_pretrained(folder / "classifier").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "classifier")
    model = dactcli.open_run(run_of(folder), device="cpu").model
    batch = tokenizer(texts_of(folder)[:40], padding=True, return_tensors="pt")
    with torch.no_grad():
        wanted = stock(**batch).logits
        found = model(**batch, rule="full")
    assert torch.equal(found.layer_logits[:, -1], wanted)
    assert 0 < int(wanted.argmax(-1).sum()) < 40  # it knows both classes
    assert [one.label for one in dactcli.predict(texts_of(folder)[:40], run=run_of(folder), rule="full")] == [
        ("no", "yes")[index] for index in wanted.argmax(-1)
    ]


def test_the_run_is_certified_against_the_classifier(folder: Path) -> None:
    result = json.loads((folder / "result.json").read_text())
    assert result["calibration"]["rule"].startswith("agreement:")
    judged = dactcli.evaluate(run_of(folder))
    assert judged.full_depth == "last_layer"
    for rule in judged.rules.values():
        assert rule.metric is None
        assert rule.agreement_with_full is not None
    assert list(judged.rules) == ["full", result["calibration"]["rule"]]
    with pytest.raises(UsageError, match="reads the halting units"):
        dactcli.evaluate(run_of(folder), rules=["exact"])


def test_labels_of_other_data_give_the_metric(folder: Path, tmp_path: Path) -> None:
    answers = dactcli.predict(texts_of(folder)[:30], run=run_of(folder), rule="full")
    rows = [{"text": text, "gold": one.label} for text, one in zip(texts_of(folder), answers, strict=False)]
    data, run = tmp_path / "labelled.jsonl", tmp_path / "run"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shutil.copytree(run_of(folder), run)
    judged = dactcli.evaluate(run, rules=["full"], data=data, label="gold")
    assert judged.rules["full"].metric == 1.0


def test_what_the_user_is_told(folder: Path) -> None:
    notices = json.loads((folder / "notices.json").read_text())
    assert notices[0] == "of 400 texts 147 train the exit heads, 133 fit the halting and 120 certify it"
    assert f"the promise holds if {folder / 'classifier'} was not trained on the texts that certify" in notices[1]


def test_the_recipe_does_the_same_again(folder: Path, tmp_path: Path) -> None:
    result = dactcli.fit(folder / "conversion.yaml", overrides=[f"output.dir={tmp_path}", *SMALL])
    one, other = (dactcli.open_run(run, device="cpu").model for run in (run_of(folder), result.run))
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    planned = dactcli.plan(folder / "conversion.yaml")
    assert any("fits the halting units to agreement with the last layer" in line for line in planned.stages)


def test_a_finished_conversion_is_not_done_again(folder: Path) -> None:
    told = Told()
    again = dactcli.convert(
        folder / "classifier",
        texts=[folder / "log.jsonl"],
        risk=0.05,
        overrides=[f"output.dir={folder / 'runs'}", *SMALL],
        resume=True,
        listener=told,
    )
    assert again.already_finished
    assert any("nothing to resume" in text for text in told.notices)


def test_it_is_estimated_without_training(folder: Path) -> None:
    found = dactcli.validate(folder / "conversion.yaml")
    assert found.splits["train"].labels == {}
    assert found.splits["calibration"].examples == 120


def test_kept_outputs_train_the_same_heads(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def heads(name: str) -> dict[str, torch.Tensor]:
        result = dactcli.fit(folder / "conversion.yaml", overrides=[f"output.dir={tmp_path / name}", *SMALL])
        return dict(dactcli.open_run(result.run, device="cpu").model.exit_heads.state_dict())

    kept = dactcli.open_run(run_of(folder), device="cpu").model.exit_heads.state_dict()
    monkeypatch.setattr("dactcli.training.hidden.MEMORY", 0)
    on_disk = heads("disk")
    assert all(torch.equal(value, on_disk[name]) for name, value in kept.items())
    assert not list((tmp_path / "disk").rglob("hidden.bin"))  # it is gone with the checkpoints
    monkeypatch.setattr("dactcli.training.hidden.DISK", 0)
    told = Told()
    dactcli.fit(folder / "conversion.yaml", overrides=[f"output.dir={tmp_path / 'told'}", *SMALL], listener=told)
    assert any("the encoder runs in every epoch" in text for text in told.notices)
    assert set(heads("none")) == set(kept)


def test_the_heads_see_the_kept_outputs(folder: Path) -> None:
    run = dactcli.open_run(run_of(folder), device="cpu")
    encoded = encode(run.tokenizer, texts_of(folder)[:12], max_length=48, long_texts="cut")
    once = run_once(run.model, run.tokenizer, encoded, None, batch_size=5)
    assert once is not None
    some = [7, 2, 11]
    batch = padded(run.tokenizer, encoded, some)
    with torch.no_grad():
        wanted = run.model(**batch, labels=once.answers[some], rule="full")
        exact = run.model(**batch, labels=once.answers[some], rule="full", layer_hidden=run.model.layer_hidden(**batch))
        found = run.model(**batch, labels=once.answers[some], rule="full", layer_hidden=once.batch(some))
    assert torch.equal(exact.layer_logits, wanted.layer_logits)
    assert torch.equal(exact.loss, wanted.loss)
    torch.testing.assert_close(found.layer_logits, wanted.layer_logits, atol=0.01, rtol=0.01)  # half precision
    torch.testing.assert_close(once.answers[some], wanted.layer_logits[:, -1].softmax(-1))


def test_a_classifier_of_label_sets(tmp_path: Path) -> None:
    classifier = saved_classifier(
        tmp_path / "tags", problem_type="multi_label_classification", initializer_range=0.4, id2label={0: "a", 1: "b"}
    )
    result = dactcli.convert(
        classifier, texts=[written(tmp_path)], risk=0.05, overrides=[f"output.dir={tmp_path}", *SMALL]
    )
    run = dactcli.open_run(result.run, device="cpu")
    assert run.model.answers.kind == "multilabel"
    stock = AutoModelForSequenceClassification.from_pretrained(classifier).eval()
    batch = run.tokenizer(texts_of(tmp_path)[:10], padding=True, return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(run.model(**batch, rule="full").layer_logits[:, -1], stock(**batch).logits)
    assert result.calibration is not None


@pytest.mark.parametrize(
    ("fields", "kind", "sentence"),
    [
        ({"texts": ["two.jsonl"]}, DataError, "has 2 columns of texts, question, answer"),
        ({"texts": ["none.jsonl"]}, DataError, "has no column of texts"),
        ({"texts": ["two.jsonl"], "text": "question"}, DataError, "5 texts, of which 0 stand there once, are too few"),
        ({"texts": ["gone.jsonl"]}, DataError, "there is no such file"),
        ({"texts": []}, UsageError, "is missing"),
        ({"texts": ["two.jsonl"], "risk": 1.5}, UsageError, "is 1.5"),
        ({"texts": ["two.jsonl"], "epochs": 0}, UsageError, "`epochs`: is 0"),
        ({"texts": ["same.jsonl"], "risk": 0.05}, DataError, "of which 0 stand there once, are too few"),
        ({"texts": ["null.jsonl"], "risk": 0.5}, DataError, "text is missing, not text"),
        ({"texts": "two.jsonl"}, UsageError, "is one text"),
    ],
)
def test_what_cannot_be_converted(
    fields: dict[str, Any], kind: type[DactError], sentence: str, folder: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("two.jsonl").write_text('{"question": "a", "answer": "b"}\n' * 5)
    Path("same.jsonl").write_text('{"text": "the same again"}\n' * 500)
    Path("null.jsonl").write_text("".join(f'{{"text": "number {n}"}}\n' for n in range(50)) + '{"text": null}\n')
    Path("none.jsonl").write_text('{"number": 1}\n')
    with pytest.raises(kind, match=sentence):
        dactcli.convert(folder / "classifier", **fields)
    assert not list(Path("runs").glob("*"))


def test_addresses_and_hub_names_stay_as_they_are(tmp_path: Path) -> None:
    from dactcli.api.convert import _address

    assert _address("s3://logs/*.jsonl") == "s3://logs/*.jsonl"
    assert _address("org/model") == "org/model"
    assert _address(str(tmp_path)) == str(tmp_path)


def test_shares_of_many_texts() -> None:
    from dactcli.recipe.conversion import Conversion

    made = Conversion(
        classifier="c", name="c", texts=["t"], examples=70_000_000, text="text", pair=None, calibration=None,
        held_back=1000, max_length=128, risk=0.01, delta=0.05, epochs=1,
    ).recipe()["data"]  # fmt: skip
    assert round(made["calibration"] * 70_000_000) == 1000
    assert round(made["validation"] * 70_000_000) == 2000


def test_a_model_that_is_no_classifier_is_refused(tmp_path: Path) -> None:
    value = saved_classifier(tmp_path / "value", problem_type="regression", id2label={0: "value"})
    with pytest.raises(ArtefactError, match="answers with a value"):
        dactcli.convert(value, texts=[written(tmp_path)])
    with pytest.raises(ArtefactError, match="cannot be loaded"):
        dactcli.convert(tmp_path / "gone", texts=[tmp_path / "log.jsonl"])


def test_the_command(folder: Path, tmp_path: Path) -> None:
    fresh = written(tmp_path, name="fresh.jsonl", count=150, seed=7)
    done = dact(
        "convert", folder / "classifier", "--texts", folder / "log.jsonl", "--calibration", fresh, "--risk", "0.05",
        "--set", f"output.dir={tmp_path}", "--set", "training.max_steps=2", "--output", tmp_path / "out.json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "of 400 texts 267 train the exit heads and 133 fit the halting" in done.stderr
    assert json.loads((tmp_path / "out.json").read_text())["calibration"]["examples"] <= 150
    missing = dact("convert", folder / "classifier")
    assert missing.exit_code == 2
    assert "--texts: is missing" in missing.stderr


def test_the_card_says_what_it_was_made_from(folder: Path, tmp_path: Path) -> None:
    dactcli.publish(run_of(folder), to=tmp_path / "published")
    card = (tmp_path / "published" / "README.md").read_text()
    assert "the classifier's own answers" in card
    assert "without labels" in card
