"""Result of `dact predict`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

DIGITS = 7  # of a probability; float32 has no more
UNFINITE = "the model's answer is not a finite number"


@dataclass(frozen=True)
class Prediction:
    """The answer to one text, or the reason why it has none.

    Attributes:
        label: The predicted class as the data write it (its name, or its number where all names are whole numbers), a
            list of these for label sets, or the predicted value of a regression. None without an answer.
        label_id: Index of the class, or a list of indices for label sets; None for regression.
        probabilities: Probabilities by class or label; empty for regression, None without an answer.
        exit_layer: Number of layers run; None without an answer.
        error: The reason why there is no answer; None if there is one.
        names: Names of the classes or labels [C], as `label` gives them; empty for regression.
    """

    label: str | int | float | list[str | int] | None
    label_id: int | list[int] | None
    probabilities: list[float] | None
    exit_layer: int | None
    error: str | None = None
    names: Sequence[str | int] = field(default=(), repr=False, compare=False)

    @property
    def score(self) -> float | list[float] | None:
        """Probability of the label, or of each label of the set; None for regression and without an answer."""
        if not self.probabilities or self.label_id is None:
            return None
        if isinstance(self.label_id, list):
            return [self.probabilities[index] for index in self.label_id]
        return self.probabilities[self.label_id]

    @property
    def named_probabilities(self) -> dict[str, float] | None:
        """Probabilities by name; None for regression and without an answer."""
        if not self.probabilities:
            return None
        return {str(name): share for name, share in zip(self.names, self.probabilities, strict=True)}

    def top(self, count: int) -> list[tuple[str | int, float]]:
        """The likeliest classes or labels with their probabilities, the likeliest first.

        Args:
            count: How many at most.
        """
        shares = self.probabilities or []
        order = sorted(range(len(shares)), key=lambda index: -shares[index])
        return [(self.names[index], shares[index]) for index in order[:count]]

    @classmethod
    def decided(
        cls, decision: int | list[int], shares: Sequence[float], layer: int, names: Sequence[str | int]
    ) -> Prediction:
        """Build the answer of a text that is a class or a set of labels.

        Args:
            decision: Index of the class, or indices of the labels.
            shares: Probabilities by class or label [C].
            layer: Number of layers run.
            names: Names of the classes or labels [C].
        """
        label = [names[index] for index in decision] if isinstance(decision, list) else names[decision]
        return cls(label, decision, [round(share, DIGITS) for share in shares], layer, names=names)

    @classmethod
    def failed(cls, error: str) -> Prediction:
        """Build the row of a text without an answer."""
        return cls(None, None, None, None, error)


@dataclass(frozen=True)
class PredictedFile:
    """Result of a prediction to a file or stream.

    Attributes:
        output: The output file; None where the predictions went to a stream.
        rule: The rule that halted the examples; None where nothing was left to do.
        predictions: Predictions in the output; None where nothing was left to do.
        skipped: Rows without an answer.
        already_complete: Whether the output was complete before, so that nothing was left to resume.
    """

    output: str | None
    rule: str | None
    predictions: int | None
    skipped: int = 0
    already_complete: bool = False
