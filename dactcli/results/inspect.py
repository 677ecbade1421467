"""What `dact inspect` computes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class ExitTrace:
    """One example, layer by layer; the lists have one entry per layer that ran.

    Attributes:
        text: The text.
        text_pair: Its second half, None without.
        tokens: How many tokens the encoder saw.
        label: Predicted class, or the predicted value.
        label_name: Its name, None for regression.
        probabilities: By class; empty for regression.
        rule: The rule that halted it.
        exit_layer: The last layer that ran.
        layers: N.
        layer_probabilities: y_n.
        halting: h_n.
        remaining: p_n.
        halting_weights: w_n of the answer.
        answers: The answer if the example had stopped after each layer.
        scores: The rule's score after each layer; None where it has none (`full`).
        cut: The score from which on the rule halts.
        notices: What the user should know: empty text, truncation.
        promise: What a calibration promises of the rule; None where there is none.
        expected: The label that was given; None without.
        expected_name: Its name, None for regression.
        full_answer: What full depth says, probabilities or a value; None unless it was run.
        answered_by: What `answers` are: the `mixture` a_n of a DACT model, or the `layer`'s own y_n.
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
        """Largest probability less the second; 0 for regression."""
        top = sorted(self.probabilities, reverse=True)
        return top[0] - top[1] if len(top) > 1 else 0.0

    @property
    def loss(self) -> float | None:
        """Negative log-likelihood of the given label, or the squared error; None without a label."""
        if self.expected is None:
            return None
        if not self.probabilities:
            return (float(self.label) - float(self.expected)) ** 2
        return -math.log(max(self.probabilities[int(self.expected)], 1e-38))

    @property
    def settled(self) -> int:
        """The layer from which on the answer's class stayed what it is at the halt; for regression the halt."""
        if not self.probabilities:
            return self.exit_layer
        classes = [max(range(len(answer)), key=answer.__getitem__) for answer in self.answers]
        other = [layer for layer, found in enumerate(classes, start=1) if found != self.label]
        return min(max(other, default=0) + 1, self.exit_layer)

    @property
    def full_label(self) -> int | None:
        """Full depth's class; None for regression, or unless it was run."""
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
