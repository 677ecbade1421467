"""What looks wrong with the classes of a task, though it can be trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from dactcli.data.sources import Splits
from dactcli.errors import listed
from dactcli.recipe.schema import Kind, Recipe

IMBALANCED = 10  # times as many examples of the most frequent class as of the rarest


def class_notices(splits: Splits, recipe: Recipe) -> list[str]:
    """A sentence for each thing that one would want to look at before a training.

    Args:
        splits: The data of a task; a regression has no classes.
        recipe: Its recipe.

    Returns:
        Classes with one example in train; with none, and which splits have some; those that a split drawn from train
        missed; names that differ by case or blanks.
    """
    names = splits.labels
    if not names or splits.splits["train"].labels is None:
        return []
    counts = {
        split: _counts(labels, splits.kind)
        for split, data in splits.splits.items()
        if (labels := data.labels) is not None
    }
    train = counts["train"]
    notices = []
    single = [name for index, name in enumerate(names) if train[index] == 1]
    if single:
        notices.append(f"train: only one example of {_classes(single)}")
    missing = [index for index in range(len(names)) if not train[index]]
    if missing:
        there = [split for split, found in counts.items() if any(found[index] for index in missing)]
        elsewhere = f"; there are some in {' and '.join(there)}" if there else ""
        notices.append(f"train: no example of {_classes([names[index] for index in missing])}{elsewhere}")
    for split, found in counts.items():
        missed = [name for index, name in enumerate(names) if train[index] and not found[index]]
        if missed and isinstance(getattr(recipe.data, split), float):
            notices.append(
                f"{split}: the draw from train gives no example of {_classes(missed)}, so {split} says nothing about "
                f"{'it' if len(missed) == 1 else 'them'}; enlarge data.{split}, or name a file"
            )
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault("".join(name.split()).casefold(), []).append(name)
    notices += [
        f"{_classes(group)} differ only by case or blanks, and are learned as different classes"
        for group in alike.values()
        if len(group) > 1
    ]
    return notices


def imbalance_notices(splits: Splits, recipe: Recipe) -> list[str]:
    """A sentence about classes of very different frequency in train, unless the recipe weighs them.

    Args:
        splits: The data of a task; its answers are classes, label sets or values.
        recipe: Its recipe.
    """
    labels = splits.splits["train"].labels
    if splits.kind != "classes" or labels is None or recipe.training.class_weights is not None:
        return []
    counts = _counts(labels, splits.kind)
    most, rarest = max(counts, key=lambda label: counts[label]), min(counts, key=lambda label: counts[label])
    if counts[most] < IMBALANCED * counts[rarest]:
        return []
    examples = "example" if counts[rarest] == 1 else "examples"
    return [
        f"train: class {splits.labels[rarest]!r} has {counts[rarest]:,} {examples} and {splits.labels[most]!r} "
        f"{counts[most]:,}, {counts[most] / counts[rarest]:,.0f} times as many; training.class_weights: balanced gives "
        "rare classes more weight"
    ]


def _counts(labels: Sequence[Any], kind: Kind) -> Counter[int]:
    """Examples of each class, or with each label."""
    return Counter(label for row in labels for label in (row if kind == "multilabel" else (row,)))


def _classes(names: Sequence[str]) -> str:
    return f"{'class' if len(names) == 1 else 'classes'} {listed(repr(name) for name in names)}"
