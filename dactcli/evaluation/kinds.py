"""What an evaluation measures of each kind of answer: metrics, plain answers to hold them against, and each class.

E examples, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dactcli.evaluation.label_sets import (
    LABEL_SETS,
    Booleans,
    as_booleans,
    by_label,
    majority_set,
    set_metrics,
    set_name,
    tally_sets,
)
from dactcli.evaluation.measures import (
    CLEAR,
    RESAMPLES,
    Truth,
    agreement,
    by_class,
    constant_answer,
    not_above_constant,
    not_above_sentence,
)
from dactcli.evaluation.metrics import CLASSIFICATION, Array, classification_metrics, regression_metrics, tally
from dactcli.results import ClassResult, Reference

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from dactcli.halting.answers import Answers
    from dactcli.halting.decision import Decision

Metrics = dict[str, float | None]


class Measures(ABC):
    """What is measured of one kind of answer.

    Args:
        answers: What the answers are.

    Attributes:
        decided: The metrics that judge decisions alone, as functions of `count`; empty for values.
    """

    decided: dict[str, Callable[[Any], Array]] = {}  # noqa: RUF012

    def __init__(self, answers: Answers) -> None:
        self.answers = answers

    @abstractmethod
    def truth(self, labels: Sequence[Any], classes: int) -> NDArray[Any]:
        """Labels in the form of decisions: classes [E], booleans [E, C] or values [E]."""

    @abstractmethod
    def metrics(self, answer: Tensor, labels: Sequence[Any]) -> Metrics:
        """All metrics of the answers [E, C], by name; an undefined one is None."""

    @abstractmethod
    def count(self, decided: NDArray[Any], labels: NDArray[Any], weights: Array, classes: int) -> Any:
        """What the metrics in `decided` are functions of.

        Args:
            decided: Decisions in several ways [W, E] or [W, E, C].
            labels: As `truth` gives them.
            weights: How often each example counts, for several samples [S, E].
            classes: C.
        """

    @abstractmethod
    def majority(self, labels: NDArray[Any], classes: int) -> NDArray[Any]:
        """The most frequent decision for every example, in the form of `truth`."""

    @abstractmethod
    def constants(self, full: Tensor, truth: Truth, labels: Sequence[Any]) -> dict[str, Reference]:
        """The best constant answers beside full depth [E, C], by their name in `REFERENCES`."""

    @abstractmethod
    def by_class(self, decision: Decision, full: Tensor, truth: Truth) -> dict[str, ClassResult]:
        """Recall, harm and disagreement of each class or label; empty for values."""

    def not_above_constant(self, full: Tensor, truth: Truth) -> str | None:
        """A sentence if full depth [E, C] is not clearly better than the constant answer."""
        return not_above_constant(full, truth)


class ClassMeasures(Measures):
    """One of several classes."""

    decided = CLASSIFICATION

    def truth(self, labels: Sequence[Any], classes: int) -> NDArray[Any]:
        """The classes."""
        return np.asarray(labels)

    def metrics(self, answer: Tensor, labels: Sequence[Any]) -> Metrics:
        """Accuracy, F1 and the Matthews correlation."""
        return classification_metrics(answer.argmax(-1).tolist(), labels, classes=answer.shape[-1])

    def count(self, decided: NDArray[Any], labels: NDArray[Any], weights: Array, classes: int) -> Any:
        """Hits, labels and predictions by class."""
        return tally(decided, labels, weights, classes=classes)

    def majority(self, labels: NDArray[Any], classes: int) -> NDArray[Any]:
        """The most frequent class."""
        return np.full(len(labels), int(constant_answer(labels, classes)))

    def constants(self, full: Tensor, truth: Truth, labels: Sequence[Any]) -> dict[str, Reference]:
        """The most frequent class."""
        names = truth.names or ()
        chosen = int(constant_answer(labels, truth.classes))
        metrics = classification_metrics([chosen] * len(full), labels, classes=len(names))
        same = float((full.argmax(-1) == chosen).double().mean())
        return {"majority": Reference(metrics.get(truth.metric), {**metrics}, same, names[chosen])}

    def by_class(self, decision: Decision, full: Tensor, truth: Truth) -> dict[str, ClassResult]:
        """By class."""
        return by_class(decision, full, truth.labels, truth.names or ())


class LabelSetMeasures(Measures):
    """Any number of labels."""

    decided = LABEL_SETS

    def truth(self, labels: Sequence[Any], classes: int) -> Booleans:
        """The labels as booleans."""
        return as_booleans(labels, classes)

    def metrics(self, answer: Tensor, labels: Sequence[Any]) -> Metrics:
        """Micro and macro F1, subset accuracy and label ranking average precision."""
        return set_metrics(answer.double().numpy(), self._decide(answer), self.truth(labels, answer.shape[-1]))

    def count(self, decided: NDArray[Any], labels: NDArray[Any], weights: Array, classes: int) -> Any:
        """Hits, labels and predictions by label, and whole sets."""
        return tally_sets(decided, labels, weights)

    def majority(self, labels: NDArray[Any], classes: int) -> NDArray[Any]:
        """The most frequent set."""
        return np.broadcast_to(majority_set(labels), labels.shape)

    def constants(self, full: Tensor, truth: Truth, labels: Sequence[Any]) -> dict[str, Reference]:
        """The most frequent set, and no label at all where that is another."""
        known = self.truth(labels, full.shape[-1])
        frequent = majority_set(known)
        found = {"majority": self._constant(frequent, full, truth, known)}
        if frequent.any():
            found["empty"] = self._constant(np.zeros_like(frequent), full, truth, known)
        return found

    def _constant(self, chosen: Booleans, full: Tensor, truth: Truth, labels: Booleans) -> Reference:
        answer = np.broadcast_to(chosen, labels.shape)
        metrics = set_metrics(answer.astype(float), answer, labels)
        same = float((self._decide(full) == chosen).all(-1).mean())
        return Reference(metrics.get(truth.metric), metrics, same, set_name(chosen, truth.names or ()))

    def by_class(self, decision: Decision, full: Tensor, truth: Truth) -> dict[str, ClassResult]:
        """By label."""
        labels = None if truth.labels is None else self.truth(truth.labels, full.shape[-1])
        halted = self._decide(decision.answer)
        return by_label(halted, self._decide(full), labels, decision.exit_layer, truth.names or ())

    def not_above_constant(self, full: Tensor, truth: Truth) -> str | None:
        """A sentence if full depth is not clearly better than always answering the most frequent set."""
        labels = self.truth(truth.labels or (), full.shape[-1])
        metric = truth.metric if truth.metric in LABEL_SETS else "micro_f1"
        frequent = majority_set(labels)
        ways = np.stack([self._decide(full), np.broadcast_to(frequent, labels.shape)])
        drawn = np.random.default_rng(0).multinomial(len(labels), np.full(len(labels), 1 / len(labels)), RESAMPLES)
        weights = np.vstack([np.ones(len(labels)), drawn]).astype(float)
        values = LABEL_SETS[metric](tally_sets(ways, labels, weights))  # [1 + S, 2]
        error = float(np.std(values[1:, 0] - values[1:, 1]))
        value, beside = map(float, values[0])
        if value - beside > CLEAR * error:
            return None
        always = f'"{set_name(frequent, truth.names or ())}"'
        return not_above_sentence(always, metric.replace("_", " "), (value, beside, error), len(labels))

    def _decide(self, answer: Tensor) -> Booleans:
        found: Booleans = self.answers.decide(answer).cpu().numpy()
        return found


class ValueMeasures(Measures):
    """A value within a range."""

    def truth(self, labels: Sequence[Any], classes: int) -> NDArray[Any]:
        """The values."""
        return np.asarray(labels)

    def metrics(self, answer: Tensor, labels: Sequence[Any]) -> Metrics:
        """Correlations and the mean squared error."""
        return regression_metrics(answer[:, 0].tolist(), labels)

    def count(self, decided: NDArray[Any], labels: NDArray[Any], weights: Array, classes: int) -> Any:
        """Not defined: nothing is decided."""
        raise NotImplementedError

    def majority(self, labels: NDArray[Any], classes: int) -> NDArray[Any]:
        """Not defined: nothing is decided."""
        raise NotImplementedError

    def constants(self, full: Tensor, truth: Truth, labels: Sequence[Any]) -> dict[str, Reference]:
        """The mean label; a constant has no correlation with anything."""
        constant = constant_answer(labels, None)
        answer = torch.full_like(full, constant)
        metrics = self.metrics(answer, labels)
        correlations = dict.fromkeys(metrics) | {"mean_squared_error": metrics["mean_squared_error"]}
        same = agreement(answer, full, truth.answers)
        return {"mean": Reference(correlations.get(truth.metric), correlations, same, constant)}

    def by_class(self, decision: Decision, full: Tensor, truth: Truth) -> dict[str, ClassResult]:
        """None: there are no classes."""
        return {}


_KINDS: dict[str, type[Measures]] = {
    "classes": ClassMeasures,
    "multilabel": LabelSetMeasures,
    "regression": ValueMeasures,
}


def measures_of(answers: Answers) -> Measures:
    """What is measured of such answers."""
    return _KINDS[answers.kind](answers)


def answer_metrics(answer: Tensor, labels: Sequence[Any] | None, answers: Answers) -> Metrics:
    """All metrics of the answers, by name; an undefined one is None.

    Args:
        answer: Probabilities [E, C], or values [E, 1].
        labels: Classes, lists of label indices, or values; None gives no metric.
        answers: What the answers are.
    """
    return {} if labels is None else measures_of(answers).metrics(answer, labels)
