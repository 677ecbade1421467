"""Altered copies of texts: what they keep of a text, and what training makes of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import words

from dactcli.data.batches import encode
from dactcli.errors import RecipeError
from dactcli.recipe.load import load_recipe
from dactcli.training.copies import with_copies

TEXTS = ["the key to the cabinets is rusty .", "keys", "", "the keys near the door is old ."]


def test_each_text_has_its_copies_in_turn() -> None:
    tokenizer = words("bert")
    encoded = encode(tokenizer, TEXTS * 20, max_length=48, long_texts="cut")
    found = with_copies(encoded, 3, tokenizer, seed=0)
    count = len(encoded.lengths)
    assert len(found.lengths) == 4 * count
    assert found.inputs["input_ids"][:count] == encoded.inputs["input_ids"]
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    for number, row in enumerate(found.inputs["input_ids"]):
        whole = encoded.inputs["input_ids"][number % count]
        assert (row[0], row[-1]) == (first, last)
        assert 2 <= len(row) <= len(whole)
        assert len(row) == len(found.inputs["token_type_ids"][number])
        kind = number // count - 1
        if kind == 0:  # a part of the text
            assert any(row[1:-1] == whole[at : at + len(row) - 2] for at in range(1, len(whole)))
        if kind == 1:  # the text without some tokens
            rest = iter(whole)
            assert all(token in rest for token in row)
    assert sum(len(row) for row in found.inputs["input_ids"]) < 4 * sum(encoded.lengths)
    again = with_copies(encoded, 3, tokenizer, seed=0)
    assert again.inputs == found.inputs
    assert with_copies(encoded, 3, tokenizer, seed=1).inputs != found.inputs


def test_both_halves_of_a_pair_stay() -> None:
    tokenizer = words("bert")
    encoded = encode(tokenizer, TEXTS * 10, TEXTS[::-1] * 10, max_length=48, long_texts="cut")
    found = with_copies(encoded, 3, tokenizer, seed=0)
    for row, types in zip(found.inputs["input_ids"], found.inputs["token_type_ids"], strict=True):
        assert row.count(tokenizer.sep_token_id) == 2
        assert types == sorted(types)


def test_windows_of_copies() -> None:
    tokenizer = words("bert")
    encoded = encode(tokenizer, [" ".join(TEXTS * 3)] * 4, max_length=12, long_texts="window")
    found = with_copies(encoded, 2, tokenizer, seed=0)
    assert found.windows is not None
    assert [sum(sizes) for sizes in found.windows] == found.lengths
    assert [len(sizes) for sizes in found.windows[4:]] == [1] * 8  # a copy of one window
    assert max(size for sizes in found.windows for size in sizes) <= 12


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"training": {"copies": 2}}, "training.copies is for texts without labels"),
        ({"data": {"label": None}}, "texts without labels need a classifier to learn from"),
        ({"data": {"label": None}, "model": {"keep_classifier": True}}, "the DACT loss needs labels"),
        (
            {"data": {"label": None}, "model": {"keep_classifier": True}, "dact": {"tau": None},
             "training": {"class_weights": "balanced"}},
            "training.class_weights needs labels",
        ),
        ({"model": {"agreement": True}}, "model.agreement and the DACT loss both train the halting units"),
        ({"model": {"agreement": True}, "dact": None}, "model.agreement requires an answer of every layer"),
        (
            {"model": {"agreement": True, "halting_inputs": "features"}, "dact": {"tau": None}},
            "model.agreement requires model.halting_inputs: answer",
        ),
    ],
)  # fmt: skip
def test_keys_that_do_not_go_together(keys: dict[str, object], sentence: str, tmp_path: Path) -> None:
    data = {"source": "files", "train": "t.csv", "validation": 0.1}
    recipe: dict[str, object] = {"data": data, "model": {"encoder": "somewhere"}}
    for section, values in keys.items():
        before = recipe.get(section)
        recipe[section] = {**before, **values} if isinstance(before, dict) and isinstance(values, dict) else values
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(recipe))
    with pytest.raises(RecipeError, match=sentence):
        load_recipe(path)
