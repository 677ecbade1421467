"""Result of `dact inspect`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class ExitTrace:
    """One example, layer by layer. Lists have one entry per layer that ran.

    Attributes:
        text: The text.
        text_pair: The second text; None without one.
        tokens: Number of tokens that the encoder read.
        label: Predicted class, or the predicted value.
        label_name: Name of the predicted class; None for regression.
        probabilities: Probabilities by class; empty for regression.
        rule: The halting rule.
        exit_layer: The last layer that ran.
        layers: N.
        layer_probabilities: y_n, the answer of each layer.
        halting: h_n, the halting output of each layer.
        remaining: p_n, what the layers after n may still contribute.
        halting_weights: w_n, the weight of each layer in the answer.
        answers: The answer if the example had stopped after each layer.
        scores: The rule's score after each layer; None for a rule without scores (`full`).
        cut: The rule halts when the score reaches this value.
        notices: Warnings about the input, such as an empty text or truncation.
        promise: The promise of the rule's calibration; None without one.
        expected: The given label; None without one.
        expected_name: Name of the given label; None for regression.
        full_answer: The answer at full depth, probabilities or a value; None if full depth was not run.
        answered_by: The kind of `answers`: the `mixture` a_n of a DACT model, or the `layer`'s own y_n.
    """

    text: str
    text_pair: str | None
    tokens: int
    label: int | float
    label_name: str | None
    probabilities: list[float]
    rule: str
    exit_layer: int
    layers: int
    layer_probabilities: list[list[float]]
    halting: list[float]
    remaining: list[float]
    halting_weights: list[float]
    answers: list[list[float]]
    scores: list[float | None]
    cut: float
    notices: list[str] = field(default_factory=list)
    promise: str | None = None
    expected: int | float | None = None
    expected_name: str | None = None
    full_answer: list[float] | None = None
    answered_by: str = "mixture"

    @property
    def margin(self) -> float:
        """Largest probability minus the second largest; 0 for regression."""
        top = sorted(self.probabilities, reverse=True)
        return top[0] - top[1] if len(top) > 1 else 0.0

    @property
    def loss(self) -> float | None:
        """Negative log-likelihood of the given label, or squared error for regression; None without a label."""
        if self.expected is None:
            return None
        if not self.probabilities:
            return (float(self.label) - float(self.expected)) ** 2
        return -math.log(max(self.probabilities[int(self.expected)], 1e-38))

    @property
    def settled(self) -> int:
        """The first layer from which the predicted class no longer changes; the exit layer for regression."""
        if not self.probabilities:
            return self.exit_layer
        classes = [max(range(len(answer)), key=answer.__getitem__) for answer in self.answers]
        other = [layer for layer, found in enumerate(classes, start=1) if found != self.label]
        return min(max(other, default=0) + 1, self.exit_layer)

    @property
    def full_label(self) -> int | None:
        """The class at full depth; None for regression, or if full depth was not run."""
        if not self.full_answer or not self.probabilities:
            return None
        return max(range(len(self.full_answer)), key=self.full_answer.__getitem__)

    def to_json(self) -> dict[str, Any]:
        """One entry of `dact inspect --json`."""
        return {**asdict(self), "settled": self.settled}


class Traces(list[ExitTrace]):
    """The traces that a request selects.

    Args:
        shown: The selected traces, in order.
        every: The traces of all texts, for the summary above the selected ones.
        names: Names of the classes; empty for regression.
    """

    def __init__(self, shown: Sequence[ExitTrace], *, every: Sequence[ExitTrace], names: Sequence[str]) -> None:
        super().__init__(shown)
        self.every, self.names = list(every), list(names)

    def to_json(self) -> list[dict[str, Any]]:
        """The document of `dact inspect --json`."""
        return [one.to_json() for one in self]
