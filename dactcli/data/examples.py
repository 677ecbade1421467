"""The examples of one split in memory: the one form between the reader of rows and the tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Examples:
    """Checked examples, one list per column.

    Attributes:
        texts: The texts.
        rows: Line or row number of each example in its source.
        pairs: Second texts; None for tasks on single texts.
        labels: Class indices, or values for regression; None if unlabelled.
        difficulty: Number of distractors (built-in task only).
    """

    texts: list[str]
    rows: list[int]
    pairs: list[str] | None = None
    labels: list[Any] | None = None
    difficulty: list[int] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def columns(self) -> dict[str, list[Any]]:
        """The columns that are present, as `text`, `text_pair`, `label`, `difficulty` and `row`."""
        found = {
            "text": self.texts,
            "text_pair": self.pairs,
            "label": self.labels,
            "difficulty": self.difficulty,
            "row": self.rows,
        }
        return {name: values for name, values in found.items() if values is not None}

    def select(self, positions: Sequence[int]) -> Examples:
        """The examples at the given positions, in that order."""

        def some(values: list[Any] | None) -> list[Any] | None:
            return None if values is None else [values[position] for position in positions]

        return Examples(
            [self.texts[position] for position in positions],
            [self.rows[position] for position in positions],
            some(self.pairs),
            some(self.labels),
            some(self.difficulty),
        )
