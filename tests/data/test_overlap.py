"""Repeated examples are counted, by what is in them."""

from __future__ import annotations

from typing import Any

from dactcli.data.examples import Examples
from dactcli.data.overlap import overlaps


def examples(texts: list[str], **columns: list[Any]) -> Examples:
    return Examples(texts, list(range(1, len(texts) + 1)), **columns)


def test_repeated_examples_are_counted() -> None:
    splits = {
        "train": examples(["a", "b", "a", "a", "c"], labels=[0, 1, 0, 1, 1]),
        "validation": examples(["d", "b", "c"], labels=[0, 0, 1]),
        "test": examples(["d", "e"]),
    }
    assert overlaps(splits) == [
        "train: 2 of 5 examples repeat an earlier one, 1 of them with different labels",
        "validation: 2 of 3 examples also occur in train",
    ]


def test_pairs_are_compared_whole() -> None:
    train = examples(["a", "a"], pairs=["b", "c"], labels=[0, 1])
    assert overlaps({"train": train, "validation": examples(["a"], pairs=["d"], labels=[0])}) == []
    assert overlaps({"validation": examples(["a"], labels=[0])}) == []
