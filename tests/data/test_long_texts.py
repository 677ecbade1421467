"""Texts longer than the model reads: which tokens are kept, and that every command keeps the same ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import TINY, dact, train, words
from transformers import BertTokenizerFast

import dactcli
from dactcli.data.batches import encode
from dactcli.data.long_texts import kept_tokens, long_notice, shares

WORDS = "the key is old . the keys are old ."


@pytest.fixture(scope="module")
def tokenizer() -> BertTokenizerFast:
    return words("bert")


def tokens(tokenizer: BertTokenizerFast, encoded: Any, row: int = 0) -> str:
    return " ".join(tokenizer.convert_ids_to_tokens(encoded.inputs["input_ids"][row]))


def test_head_and_tail_are_kept_with_the_special_tokens(tokenizer: BertTokenizerFast) -> None:
    encoded = encode(tokenizer, ["the key", WORDS], max_length=7, long_texts="head+tail")
    assert tokens(tokenizer, encoded) == "[CLS] the key [SEP]"
    assert tokens(tokenizer, encoded, 1) == "[CLS] the key is old . [SEP]"
    assert encoded.truncated == [1]
    assert long_notice(encoded, 7, "head+tail") == (
        "1 of 2 texts are longer than 7 tokens, and only the first and the last tokens of these are read"
    )


def test_both_texts_of_a_pair_keep_their_ends(tokenizer: BertTokenizerFast) -> None:
    encoded = encode(tokenizer, [WORDS], ["is a key the old"], max_length=10, long_texts="head+tail")
    assert tokens(tokenizer, encoded) == "[CLS] the key old . [SEP] is a old [SEP]"
    assert encoded.inputs["token_type_ids"] == [[0, 0, 0, 0, 0, 0, 1, 1, 1, 1]]


@given(st.integers(0, 40), st.integers(0, 40), st.integers(4, 30))
def test_as_many_tokens_are_kept_as_fit(first: int, second: int, longest: int) -> None:
    parts = [None, *[0] * first, None, *[1] * second, None]
    kept = kept_tokens(parts, longest)
    assert len(kept) == min(longest, len(parts))
    assert kept == sorted(set(kept))
    assert {0, first + 1, len(parts) - 1} <= set(kept)
    for start, size in ((1, first), (first + 2, second)):
        own = [place - start for place in kept if start <= place < start + size]
        head = (len(own) + 1) // 2
        assert own == [*range(head), *range(size - len(own) // 2, size)]


@given(st.integers(1, 30), st.integers(1, 30), st.integers(5, 40))
def test_a_pair_is_shortened_as_the_tokenizer_cuts_it(first: int, second: int, longest: int) -> None:
    cut = words("bert")(["a " * first], ["a " * second], truncation=True, max_length=longest)
    parts = cut.sequence_ids(0)
    assert shares(first, second, longest - 3) == (parts.count(0), parts.count(1))


@pytest.fixture(scope="module")
def both_ends(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that reads 8 tokens of every text: 3 at its beginning and 3 at its end."""
    text = TINY.replace("max_length: 48", "max_length: 8, long: head+tail")
    return Path(train(tmp_path_factory.mktemp("long"), text).run)


def test_a_run_reads_texts_as_its_recipe_says(both_ends: Path) -> None:
    assert json.loads((both_ends / "config.json").read_text())["long_texts"] == "head+tail"
    opened = dactcli.open_run(both_ends)
    long, short = "the key near the old keys is old .", "the key near is old ."
    (seen, direct) = dactcli.inspect([long, short], run=opened, rule="full")
    assert seen.tokens == direct.tokens == 8
    assert seen.notices == ["longer than 8 tokens: only the first and the last tokens were read"]
    assert seen.probabilities == direct.probabilities
    assert direct.notices == []
    answers = dactcli.predict([long, short], run=opened)
    assert answers[0] == answers[1]


def test_evaluation_report_and_publication_say_what_is_read(both_ends: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(both_ends, run)
    result = dact("eval", str(run), "--split", "test")
    assert "only the first and the last tokens of these are read" in " ".join(result.stderr.split())
    report = dactcli.report_run(run, split="test")
    dactcli.write_report(report, tmp_path / "report.html")
    assert "at most 8 tokens; of a longer text, the first and the last ones" in (tmp_path / "report.html").read_text()
    dactcli.publish(run, to=tmp_path / "public")
    assert json.loads((tmp_path / "public" / "config.json").read_text())["long_texts"] == "head+tail"
    assert "only the first and the last tokens are read" in (tmp_path / "public" / "README.md").read_text()


def test_a_changed_setting_voids_the_certificate(both_ends: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(both_ends, run)
    data = tmp_path / "fresh.jsonl"
    data.write_text("".join(json.dumps({"sentence": f"the key {word} {WORDS}"}) + "\n" for word in ("is", "of", "a")))
    dactcli.calibrate(run, goal=dactcli.BudgetRequest(2.0), data=data)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"long_texts": "cut"}))
    result = dact("eval", str(run))
    assert "the calibration is void, because config.json changed" in " ".join(result.stderr.split())


def test_validate_suggests_it(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(TINY.replace("max_length: 48", "max_length: 8"))
    result = dact("validate", str(recipe), "--json")
    said = " ".join(json.loads(result.stdout)["notices"])
    assert "data.long: head+tail reads the end of long texts too" in said
    result = dact("validate", str(recipe), "--json", "--set", "data.long=head+tail")
    assert "data.long" not in " ".join(json.loads(result.stdout)["notices"])
