"""Keys of a recipe for texts without labels, and those that contradict them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dactcli.errors import RecipeError
from dactcli.recipe.load import load_recipe


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
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
