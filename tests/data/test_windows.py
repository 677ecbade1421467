"""Long texts in windows: which tokens stand in which window, and that a text is one example everywhere."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import TINY, dact, train, words

import dactcli
from dactcli.data.batches import encode, padded, single
from dactcli.data.long_texts import OVERLAP, long_notice, windowed_tokens
from dactcli.errors import UsageError
from dactcli.halting import make_rule
from dactcli.halting.decision import decide
from dactcli.model.calls import number_of_texts
from dactcli.model.dact import DactForSequenceClassification
from dactcli.model.engine import run_adaptive, run_batches
from dactcli.model.heads import text_means

WORDS = "the key is old . the keys are old ."
LONG = "the key near the old keys is old . the keys near the key are old ."
TEXTS = ["the key", LONG, WORDS, "a key is old .", f"{WORDS} {LONG}", "the keys are near ."]


def windows_of(tokenizer: Any, encoded: Any, row: int) -> list[str]:
    tokens, found = tokenizer.convert_ids_to_tokens(encoded.inputs["input_ids"][row]), []
    for size in encoded.windows[row]:
        found.append(" ".join(tokens[:size]))
        tokens = tokens[size:]
    assert not tokens
    return found


def test_a_long_text_is_read_in_windows_that_overlap() -> None:
    tokenizer = words("bert")
    encoded = encode(tokenizer, ["the key", WORDS], max_length=7, long_texts="window")
    assert windows_of(tokenizer, encoded, 0) == ["[CLS] the key [SEP]"]
    assert windows_of(tokenizer, encoded, 1) == [
        "[CLS] the key is old . [SEP]",
        "[CLS] old . the key ##s [SEP]",
        "[CLS] key ##s are old . [SEP]",
    ]
    assert encoded.truncated == [1]
    assert encoded.lengths == [4, 21]
    assert long_notice(encoded, 7, "window") == "1 of 2 texts are longer than 7 tokens and are read in 3 windows"


def test_the_shorter_text_of_a_pair_stands_in_every_window() -> None:
    tokenizer = words("bert")
    encoded = encode(tokenizer, [WORDS], ["is a key"], max_length=12, long_texts="window")
    found = windows_of(tokenizer, encoded, 0)
    assert found == [
        "[CLS] the key is old . the [SEP] is a key [SEP]",
        "[CLS] the key ##s are old . [SEP] is a key [SEP]",
    ]
    assert encoded.inputs["token_type_ids"][0][:12] == [0] * 8 + [1] * 4


@given(st.integers(0, 60), st.integers(0, 60), st.integers(4, 30))
def test_windows_cover_the_longer_text(first: int, second: int, longest: int) -> None:
    parts = [None, *[0] * first, None, *[1] * second, None]
    if len(parts) <= longest:
        return
    places = windowed_tokens(parts, longest)
    assert len(places) % longest == 0
    windows = [places[start : start + longest] for start in range(0, len(places), longest)]
    longer = range(1, 1 + first) if first > second else range(first + 2, first + 2 + second)
    moving = [[place for place in window if place in longer] for window in windows]
    for window, own in zip(windows, moving, strict=True):
        assert window == sorted(set(window))
        assert {0, first + 1, len(parts) - 1} <= set(window)
        assert own == list(range(own[0], own[-1] + 1))
        assert [place for place in window if place not in longer] == [p for p in windows[0] if p not in longer]
    assert {place for own in moving for place in own} == set(longer)
    for before, after in pairwise(moving):
        assert before[0] < after[0]
        assert len(set(before) & set(after)) >= len(before) // OVERLAP


def test_texts_are_the_means_of_their_windows() -> None:
    values = torch.arange(12.0).view(2, 3, 2)
    found = text_means(values, torch.tensor([0, 0, 1]))
    torch.testing.assert_close(found, torch.stack([values[:, :2].mean(1), values[:, 2]], 1))
    assert text_means(values, None) is values
    many = torch.full((3000, 1), 1.01, dtype=torch.bfloat16)  # a sum in bfloat16 would stop at 512
    assert text_means(many, torch.zeros(3000, dtype=torch.long)).item() == many[0].item()


@pytest.mark.parametrize(
    ("texts", "said"),
    [([0, 0], "is \\[2\\]"), ([1, 1, 2], "count from 0"), ([0, 2, 2], "count from 0"), ([0, 1, 0], "0")],
)
def test_texts_that_do_not_number_the_rows_are_refused(texts: list[int], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        number_of_texts(torch.zeros(3, 4), torch.tensor(texts))


@pytest.fixture(scope="module")
def windowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that reads texts in windows of 8 tokens."""
    text = TINY.replace("max_length: 48", "max_length: 8, long: window")
    return Path(train(tmp_path_factory.mktemp("windows"), text).run)


@pytest.fixture(scope="module")
def model(windowed: Path) -> DactForSequenceClassification:
    found = DactForSequenceClassification.from_pretrained(windowed).eval()
    assert isinstance(found, DactForSequenceClassification)
    return found


@pytest.fixture
def batch(windowed: Path) -> dict[str, torch.Tensor]:
    tokenizer = dactcli.open_run(windowed).tokenizer
    encoded = encode(tokenizer, TEXTS, max_length=8, long_texts="window")
    return padded(tokenizer, encoded, range(len(TEXTS)))


def test_the_answer_of_a_text_is_the_mean_of_its_windows_log_answers(
    model: DactForSequenceClassification, batch: dict[str, torch.Tensor]
) -> None:
    y, _, _ = model.layer_outputs(**batch)
    rows = {name: values for name, values in batch.items() if name != "texts"}
    alone, _, _ = model.layer_outputs(**rows)
    logs = alone.log()
    for text in range(len(TEXTS)):
        pooled = logs[batch["texts"] == text].mean(0).softmax(-1)
        torch.testing.assert_close(y[text], pooled, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("rule", ["exact", "confidence:0.7", "layer:2", "full"])
def test_windows_of_a_text_stop_together_and_live_equals_kept(
    model: DactForSequenceClassification, batch: dict[str, torch.Tensor], rule: str
) -> None:
    y, h, _ = model.layer_outputs(**batch)
    chosen = make_rule(rule)
    kept, live = decide(chosen, y, h), run_adaptive(model, chosen, batch)
    assert torch.equal(live.exit_layer, kept.exit_layer)
    torch.testing.assert_close(live.answer, kept.answer, atol=1e-5, rtol=1e-4)
    called = model(**batch, rule=chosen)
    torch.testing.assert_close(called.logits.softmax(-1), kept.answer, atol=1e-5, rtol=1e-4)


def test_survivors_of_batches_with_and_without_windows_are_pooled(windowed: Path) -> None:
    run = dactcli.open_run(windowed)
    encoded = encode(run.tokenizer, TEXTS, max_length=8, long_texts="window")
    chosen = make_rule("confidence:0.8")
    batches = [(list(part), padded(run.tokenizer, encoded, part)) for part in ([0, 3], [1, 2], [4, 5])]
    assert ["texts" in one for _, one in batches] == [False, True, True]
    together = run_batches(run.model, chosen, batches, len(TEXTS), regroup=1000)
    apart = run_adaptive(run.model, chosen, padded(run.tokenizer, encoded, range(len(TEXTS))))
    assert torch.equal(together.exit_layer, apart.exit_layer)
    torch.testing.assert_close(together.answer, apart.answer, atol=1e-5, rtol=1e-4)


def test_the_loss_is_that_of_texts(model: DactForSequenceClassification, batch: dict[str, torch.Tensor]) -> None:
    labels = torch.tensor([0, 1, 1, 0, 1, 1])
    whole = model(**batch, labels=labels).loss
    ones = [model(**single({**batch, "labels": labels}, number)).loss for number in range(len(TEXTS))]
    torch.testing.assert_close(whole, torch.stack(ones).mean(), atol=1e-5, rtol=1e-4)


def test_plain_fine_tuning_reads_windows_too(tmp_path: Path) -> None:
    text = TINY.replace("max_length: 48", "max_length: 8, long: window")
    quick = ["dact=null", "training.stages=[{name: encoder}]", "training.max_steps=3", "data.examples=64"]
    run = dactcli.open_run(train(tmp_path, text, *quick).run)
    encoded = encode(run.tokenizer, TEXTS, max_length=8, long_texts="window")
    batch = padded(run.tokenizer, encoded, range(len(TEXTS)))
    rows = {name: values for name, values in batch.items() if name != "texts"}
    logs = run.model(**rows).logits.log_softmax(-1)
    wanted = torch.stack([logs[batch["texts"] == text].mean(0) for text in range(len(TEXTS))]).softmax(-1)
    torch.testing.assert_close(run.model(**batch).logits.softmax(-1), wanted, atol=1e-5, rtol=1e-4)


def test_exact_keeps_the_answer_of_full_depth(windowed: Path) -> None:
    exact = dactcli.predict(TEXTS, run=windowed, rule="exact")
    full = dactcli.predict(TEXTS, run=windowed, rule="full")
    assert [one.label for one in exact] == [one.label for one in full]
    assert [one.exit_layer for one in full] == [full[0].exit_layer] * len(TEXTS)


def test_every_command_takes_a_text_as_one_example(windowed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(windowed, run)
    assert json.loads((run / "config.json").read_text())["long_texts"] == "window"
    judged = dactcli.evaluate(run, split="test")
    assert judged.examples == sum(judged.rules["exact"].depths)
    (seen,) = dactcli.inspect([LONG], run=run, rule="full", verify=True)
    assert seen.tokens == 32
    assert seen.notices == ["longer than 8 tokens: read in 4 windows"]
    assert seen.probabilities == pytest.approx(dactcli.predict([LONG], run=run, rule="full")[0].probabilities)
    dactcli.publish(run, to=tmp_path / "public")
    assert "all tokens are read, in windows that overlap" in (tmp_path / "public" / "README.md").read_text()
    dactcli.write_report(dactcli.report_run(run, split="test"), tmp_path / "report.html")
    assert "at most 8 tokens at once, and longer texts in windows" in (tmp_path / "report.html").read_text()
    for option in ((), ("--train",)):
        result = dact("profile", str(run), "--examples", "8", "--repeats", "2", "--warmup", "1", "--json", *option)
        assert result.exit_code == 0, result.stderr
    data = tmp_path / "fresh.jsonl"
    data.write_text("".join(json.dumps({"sentence": f"{LONG} {word}"}) + "\n" for word in ("is", "of", "a")))
    found = dactcli.calibrate(run, dactcli.RiskRequest(0.5, delta=0.5), data=data)
    assert found.examples == 3
