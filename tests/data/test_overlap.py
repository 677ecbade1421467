"""Repeated examples are counted, by what is in them."""

from __future__ import annotations

from typing import Any

from dactcli.data.overlap import overlaps


def test_repeated_examples_are_counted() -> None:
    splits: dict[str, dict[str, list[Any]]] = {
        "train": {"text": ["a", "b", "a", "a", "c"], "label": [0, 1, 0, 1, 1]},
        "validation": {"text": ["d", "b", "c"], "label": [0, 0, 1]},
        "test": {"text": ["d", "e"]},
    }
    assert overlaps(splits) == [
        "train: 2 of 5 examples repeat an earlier one, 1 of them with different labels",
        "validation: 2 of 3 examples also occur in train",
    ]


def test_pairs_are_compared_whole() -> None:
    train: dict[str, list[Any]] = {"text": ["a", "a"], "text_pair": ["b", "c"], "label": [0, 1]}
    assert overlaps({"train": train, "validation": {"text": ["a"], "text_pair": ["d"], "label": [0]}}) == []
    assert overlaps({"validation": {"text": ["a"], "label": [0]}}) == []
