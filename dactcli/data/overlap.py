"""Examples that stand more than once: within train, and in train as well as in a split that judges what it taught."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import repeat
from typing import Any

from dactcli.data.examples import Examples

Example = tuple[Any, ...]


def overlaps(splits: Mapping[str, Examples]) -> list[str]:
    """What a user should know of repeated examples, with counts; nothing is taken away.

    Args:
        splits: The examples of each split.

    Returns:
        One sentence per finding.
    """
    found: list[str] = []
    train = _inputs(splits["train"]) if "train" in splits else []
    labels: dict[Example, set[Any]] = {}
    for example, label in zip(train, splits["train"].labels or repeat(None) if train else [], strict=False):
        labels.setdefault(example, set()).add(str(label))
    if repeated := len(train) - len(labels) if labels else 0:
        torn = sum(len(several) > 1 for several in labels.values())
        contradictory = f", {torn} of them with different labels" if torn else ""
        found.append(f"train: {repeated:,} of {len(train):,} examples repeat an earlier one{contradictory}")
    for split, examples in splits.items():
        shared = sum(example in labels for example in _inputs(examples)) if split != "train" else 0
        if shared:
            found.append(f"{split}: {shared:,} of {len(examples):,} examples also occur in train")
    return found


def _inputs(examples: Examples) -> list[Example]:
    columns = [examples.texts] if examples.pairs is None else [examples.texts, examples.pairs]
    return list(zip(*columns, strict=True))
