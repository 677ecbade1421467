"""Classes that look wrong are told before a training, and by `dact validate`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import Silence, dact, train

RECIPE = """
data: {source: files, train: train.jsonl, validation: validation.jsonl, text: text, max_length: 6}
model:
  encoder: {hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 32, dropout: 0.0}
training: {max_steps: 1, batch_size: 8, mask_tokens: 0, report_to: []}
task: {name: own, labels: [Pos, "pos ", rare, gone, never]}
output: {name: classes}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    def write(name: str, labels: list[str]) -> None:
        rows = [{"text": f"word{n % 7} door key", "label": label} for n, label in enumerate(labels)]
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    write("train.jsonl", ["Pos", "pos "] * 8 + ["rare"])
    write("validation.jsonl", ["Pos", "pos ", "gone"])
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path / "recipe.yaml"


EXPECTED = [
    "train: only one example of class 'rare'",
    "train: no example of classes 'gone', 'never'; there are some in validation",
    "classes 'Pos', 'pos ' differ only by case or blanks, and are learned as different classes",
]


def test_validate_and_finetune_say_what_looks_wrong(recipe: Path) -> None:
    checked = dact("validate", recipe)
    assert checked.exit_code == 0, checked.stderr
    listener = Silence()
    train(recipe.parent, RECIPE, listener=listener)
    notices = [value for what, value in listener.heard if what == "notice"]
    for sentence in EXPECTED:
        assert f"note: {sentence}\n" in checked.stderr
        assert sentence in notices


def test_classes_that_are_well_are_not_talked_about(recipe: Path) -> None:
    checked = dact(
        "validate", recipe, "--set", "task={name: agreement}", "--set", "data={source: builtin, examples: 64}"
    )
    assert checked.exit_code == 0, checked.stderr
    assert "class" not in checked.stderr


def test_lengths_are_those_before_cutting(recipe: Path) -> None:
    long = [{"text": "door " * n, "label": "ab"[n % 2]} for n in range(1, 41)]
    (recipe.parent / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in long))
    (recipe.parent / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in long[:3]))
    recipe.write_text(RECIPE.replace('labels: [Pos, "pos ", rare, gone, never]', "labels: [a, b]"))
    document = json.loads(dact("validate", recipe, "--json").stdout)
    train_split = document["splits"]["train"]
    assert (train_split["tokens_p50"], train_split["tokens_p95"], train_split["tokens_max"]) == (23, 41, 42)
    assert train_split["cut"] == 36
    assert document["splits"]["validation"]["tokens_max"] == 5


def drawn(folder: Path, labels: list[str]) -> Path:
    """A recipe whose validation and calibration are drawn from train."""
    rows = [{"text": f"word{n % 7} door key", "label": label} for n, label in enumerate(labels)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = RECIPE.replace(', labels: [Pos, "pos ", rare, gone, never]', "")
    text = text.replace("validation: validation.jsonl", "validation: 0.1, calibration: 0.5")
    (folder / "recipe.yaml").write_text(text)
    return folder / "recipe.yaml"


def test_a_class_that_a_draw_misses_is_told_by_validate_and_finetune(tmp_path: Path) -> None:
    path = drawn(tmp_path, ["a"] * 200 + ["b"] * 100 + ["rare"] * 3)
    sentence = (
        "validation: the draw from train gives no example of class 'rare', so validation says nothing about it; "
        "enlarge data.validation, or name a file"
    )
    checked = dact("validate", path)
    assert checked.exit_code == 0, checked.stderr
    assert checked.stderr.count("the draw from train gives no example") == 1, "calibration has one"
    assert f"note: {sentence}\n" in checked.stderr
    listener = Silence()
    train(tmp_path, path.read_text(), listener=listener)
    assert [value for what, value in listener.heard if what == "notice"].count(sentence) == 1


def test_an_imbalance_is_counted_and_class_weights_are_suggested(tmp_path: Path) -> None:
    path = drawn(tmp_path, ["a"] * 400 + ["b"] * 20)
    checked = dact("validate", path, "--json")
    assert checked.exit_code == 0, checked.stderr
    split = json.loads(checked.stdout)["splits"]["train"]
    counts = split["counts"]
    assert sum(counts.values()) == split["examples"]
    assert counts["a"] > 10 * counts["b"] > 0
    assert split["imbalance"] == pytest.approx(counts["a"] / counts["b"])
    assert split["labels"]["a"] == pytest.approx(counts["a"] / split["examples"])
    assert (
        f"note: train: class 'b' has {counts['b']} examples and 'a' {counts['a']}, {counts['a'] / counts['b']:.0f} "
        "times as many; training.class_weights: balanced gives rare classes more weight\n"
    ) in checked.stderr
    weighted = dact("validate", path, "--set", "training.class_weights=balanced")
    assert weighted.exit_code == 0, weighted.stderr
    assert "times as many" not in weighted.stderr
    assert f"labels of train: a {counts['a']} (" in weighted.stdout


def test_an_imbalance_of_less_than_ten_is_not_talked_about(tmp_path: Path) -> None:
    checked = dact("validate", drawn(tmp_path, ["a"] * 180 + ["b"] * 20))
    assert checked.exit_code == 0, checked.stderr
    assert "times as many" not in checked.stderr
