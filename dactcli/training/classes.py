"""What looks wrong with the classes of a task, though it can be trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dactcli.data.sources import Splits
from dactcli.errors import listed


def class_notices(splits: Splits) -> list[str]:
    """A sentence for each thing that one would want to look at before a training.

    Args:
        splits: The data of a task; a regression has no classes.

    Returns:
        Classes with one example in train; with none, and which splits have some; names that differ by case or blanks.
    """
    names = splits.labels
    if not names:
        return []
    counts = {
        split: Counter(
            label for row in (data.labels or ()) for label in (row if splits.kind == "multilabel" else (row,))
        )
        for split, data in splits.splits.items()
        if data.labels is not None
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
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault("".join(name.split()).casefold(), []).append(name)
    notices += [
        f"{_classes(group)} differ only by case or blanks, and are learned as different classes"
        for group in alike.values()
        if len(group) > 1
    ]
    return notices


def _classes(names: Sequence[str]) -> str:
    return f"{'class' if len(names) == 1 else 'classes'} {listed(repr(name) for name in names)}"
