"""Result of `dact predict`."""

from __future__ import annotations

from dataclasses import dataclass

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
    """

    label: str | int | float | list[str | int] | None
    label_id: int | list[int] | None
    probabilities: list[float] | None
    exit_layer: int | None
    error: str | None = None

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
