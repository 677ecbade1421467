"""Any text survives the recipe that a run saves."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dactcli.recipe.load import dump_recipe, load_recipe
from dactcli.recipe.yaml12 import YamlReader, dump_yaml

ENDS = [
    "\x85",
    "a\x85b",
    "\u2028",
    "a\u2029 b",
    "\ufeff",
    "\u202e",
    "\x9b",
    "\x07",
    "\n",
    " a\n\nb ",
    "a" * 90 + "\x85 b" * 20,
]
TEXTS = st.text(
    st.sampled_from("\x85\u2028\u2029\ufeff\u202e\x00\n\r\t \\'\"-:#é中\x7f\x9b\U0001f600ab").filter(
        lambda s: s != "\0"
    )
)


def read(text: str) -> object:
    return YamlReader(str, {}).read(text, empty="")


@given(st.lists(TEXTS))
def test_every_text_is_read_as_it_was_written(texts: list[str]) -> None:
    values = {"list": texts, "keys": {text: text for text in texts}}
    assert read(dump_yaml(values)) == values


@pytest.mark.parametrize("text", ENDS)
def test_a_recipe_survives_its_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        dump_yaml({"task": {"name": "own", "labels": [text, "other"]}, "model": {"encoder": "x"},
                   "data": {"source": "files", "train": "a.csv", "validation": "b.csv", "text": f"t{text}"}}),
        encoding="utf-8",
    )  # fmt: skip
    recipe = load_recipe(path)
    assert recipe.task.labels == [text, "other"]
    path.write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe(path).task.labels == [text, "other"]
    assert load_recipe(path).data.text == f"t{text}"
