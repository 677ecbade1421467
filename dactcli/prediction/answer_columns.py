"""Which columns an output has for each answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dactcli.errors import UsageError, did_you_mean
from dactcli.results import Prediction

STANDARD = ("label", "label_id", "probabilities", "exit_layer")
ERROR = "error"  # the column for rows without an answer
NAMED = ("top", "named_probabilities")  # columns that name classes or labels
INFERRED = ("score", *NAMED)  # columns whose type follows from their values
CHOICES = ("label", "label_id", "score", "probabilities", *NAMED, "exit_layer")


@dataclass(frozen=True)
class AnswerColumns:
    """The columns of the answers.

    Attributes:
        names: Some of `CHOICES`, in order.
        top: How many classes or labels the column `top` holds.
    """

    names: tuple[str, ...] = STANDARD
    top: int = 0

    @classmethod
    def chosen(cls, names: Sequence[str] | None, top: int | None) -> AnswerColumns:
        """The columns that a user asks for.

        Args:
            names: Some of `CHOICES`; None for the standard ones, with `top` in the place of the probabilities if it is
                asked for.
            top: How many classes or labels the column `top` holds; None without that column.

        Raises:
            UsageError: A name is unknown, there is none, or `top` is among them without a number.
        """
        if names is None:
            standard = tuple("top" if name == "probabilities" and top else name for name in STANDARD)
            return cls(standard, top or 0)
        place = "`columns`"
        for name in names:
            if name not in CHOICES:
                raise UsageError(f"{name!r} is unknown", place=place, remedy=did_you_mean(name, CHOICES))
        if not names:
            raise UsageError("names no column", place=place, remedy=f"choose from {', '.join(CHOICES)}")
        if "top" in names and top is None:
            raise UsageError("column top needs a number", place=place, remedy="add `top` 3, or another number")
        return cls(tuple(dict.fromkeys([*names, *(["top"] if top else [])])), top or 0)

    @property
    def fact(self) -> list[str | int] | None:
        """What a resumed output must have in common with the one that it continues; None for the standard columns."""
        return None if self == AnswerColumns() else [*self.names, self.top]

    def check(self, *, regression: bool) -> None:
        """Refuse columns that a model cannot fill.

        Args:
            regression: Whether the model answers with a value.

        Raises:
            UsageError: It answers with a value, and a column names classes.
        """
        wrong = [name for name in self.names if name in NAMED]
        if regression and wrong:
            raise UsageError(
                "is for classes and labels, and this model answers with a value",
                place="`top`" if wrong == ["top"] else f"`columns` {wrong[0]}",
                remedy="leave it out",
            )

    def row(self, answer: Prediction, names: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The columns of one answer.

        Args:
            answer: The answer.
            names: What each column is called; None for its own name, with `error` as the last column.
        """
        used = names if names is not None else {name: name for name in (*self.names, ERROR)}
        return {called: _VALUES[name](answer, self.top) for name, called in used.items()}


def _top(answer: Prediction, count: int) -> list[dict[str, Any]] | None:
    if answer.probabilities is None:
        return None
    return [{"label": label, "score": score} for label, score in answer.top(count)]


_VALUES: dict[str, Callable[[Prediction, int], Any]] = {
    "label": lambda answer, _: answer.label,
    "label_id": lambda answer, _: answer.label_id,
    "score": lambda answer, _: answer.score,
    "probabilities": lambda answer, _: answer.probabilities,
    "top": _top,
    "named_probabilities": lambda answer, _: answer.named_probabilities,
    "exit_layer": lambda answer, _: answer.exit_layer,
    ERROR: lambda answer, _: answer.error,
}
