"""Examples that stand more than once: within train, and in train as well as in a split that judges what it taught."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Example = tuple[Any, ...]


def overlaps(splits: Mapping[str, Mapping[str, list[Any]]]) -> list[str]:
    """What a user should know of repeated examples, with counts; nothing is taken away.

    Args:
        splits: Columns `text`, `text_pair` (pairs only) and `label` (where labelled) of each split.

    Returns:
        One sentence per finding.
    """
    found: list[str] = []
    train = _examples(splits.get("train", {}))
    labels: dict[Example, set[Any]] = {}
    for example, label in zip(train, splits.get("train", {}).get("label", ()), strict=False):
        labels.setdefault(example, set()).add(label)
    if repeated := len(train) - len(labels) if labels else 0:
        torn = sum(len(several) > 1 for several in labels.values())
        contradictory = f", {torn} of them with different labels" if torn else ""
        found.append(f"train: {repeated:,} of {len(train):,} examples repeat an earlier one{contradictory}")
    for split, columns in splits.items():
        shared = sum(example in labels for example in _examples(columns)) if split != "train" else 0
        if shared:
            found.append(f"{split}: {shared:,} of {len(columns['text']):,} examples also occur in train")
    return found


def _examples(columns: Mapping[str, list[Any]]) -> list[Example]:
    texts = [columns[name] for name in ("text", "text_pair") if name in columns]
    return list(zip(*texts, strict=True))
