"""What a metric is compared with: the constant answer, each class by itself, and warnings about misleading figures.

E examples, N layers, C classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from dactcli.evaluation.metrics import CLASSIFICATION, Array, tally
from dactcli.halting.recursion import halting_weights
from dactcli.results import ClassResult

if TYPE_CHECKING:
    from torch import Tensor

    from dactcli.halting.decision import Decision
    from dactcli.runs.outputs import LayerOutputs

RESAMPLES = 200  # of the examples, for the standard error of a difference of metrics
PART = 2**20  # most counts of resamples in one go: with thousands of classes they would fill the memory
CLEAR = 1.645  # standard errors: a chance of 5% where there is no difference
# A collapsed model keeps a few examples for other layers: on CoLA, the papers' own form gives layer 1 a weight of 0.986
# to 0.994 and 99.4% to 99.8% of full depth's answers. Models whose depth follows the example stay below 0.8.
ALONE, SAME = 0.9, 0.99
FEWEST = 100  # examples; fewer cannot tell 99% from all


@dataclass(frozen=True)
class Truth:
    """What answers are compared with.

    Attributes:
        labels: Classes or values [E]; None when unlabelled.
        metric: Name of the task's metric.
        names: Names of the classes, all different; None for regression.
        answer_range: Lowest and highest answer of a regression, None for classes.
    """

    labels: Sequence[Any] | None
    metric: str
    names: Sequence[str] | None
    answer_range: tuple[float, float] | None = None

    @property
    def classes(self) -> int | None:
        """C; None for regression."""
        return None if self.names is None else len(self.names)


def unique_names(names: Sequence[str] | None, classes: int) -> list[str]:
    """A different name for each class; its number if there are no names.

    Args:
        names: The model's class names.
        classes: C.
    """
    plain = [str(name) for name in names] if names is not None else [str(index) for index in range(classes)]
    counts = Counter(plain)
    return [name if counts[name] == 1 else f"{name} ({index})" for index, name in enumerate(plain)]


def constant_answer(labels: Sequence[Any] | NDArray[Any], classes: int | None) -> float:
    """The best constant answer: the most frequent class, or the mean label.

    Args:
        labels: Classes or values [E].
        classes: C; None for regression.
    """
    if classes is None:
        return float(np.mean(labels))
    return int(np.bincount(np.asarray(labels), minlength=classes).argmax())


def agreement(answer: Tensor, full: Tensor, answer_range: tuple[float, float] | None) -> float:
    """Share of the examples with the answer of full depth: the same class, or a value within 1% of the range.

    Args:
        answer: Probabilities [E, C], or values [E, 1].
        full: The answers at full depth, likewise.
        answer_range: Lowest and highest answer of a regression, None for classes.
    """
    if answer_range is not None:
        low, high = answer_range
        same = (answer - full).abs()[:, 0] <= 0.01 * (high - low)
    else:
        same = answer.argmax(-1) == full.argmax(-1)
    return float(same.double().mean())


def by_class(
    decision: Decision, full: Tensor, labels: Sequence[Any] | None, names: Sequence[str]
) -> dict[str, ClassResult]:
    """Precision, recall, F1, harm, disagreement and depth of each class that has examples.

    Args:
        decision: Where each example stops, and what it answers.
        full: The answers at full depth [E, C].
        labels: Classes [E]; without them, examples are grouped by the class at full depth.
        names: Class names, all different [C].
    """
    halted, deep = decision.answer.argmax(-1), full.argmax(-1)
    groups = deep if labels is None else torch.as_tensor(labels)
    counts = torch.bincount(groups, minlength=len(names))

    def share(chosen: Tensor) -> list[float]:
        return (torch.bincount(groups, weights=chosen.double(), minlength=len(names)) / counts).tolist()

    right, deep_right = halted == groups, deep == groups
    recall, full_recall, harm = share(right), share(deep_right), share(deep_right & ~right)
    differs, layers = share(halted != deep), share(decision.exit_layer)
    hits = torch.bincount(groups[right], minlength=len(names)).tolist()
    answered = torch.bincount(halted, minlength=len(names)).tolist()
    return {
        name: ClassResult(
            examples=int(counts[index]),
            recall=None if labels is None else recall[index],
            full_recall=None if labels is None else full_recall[index],
            harm=None if labels is None else harm[index],
            disagreement=differs[index],
            layers_mean=layers[index],
            **({} if labels is None else precision_and_f1(hits[index], int(counts[index]), answered[index])),
        )
        for index, name in enumerate(names)
        if counts[index]
    }


def precision_and_f1(hits: int, examples: int, answered: int) -> dict[str, float | None]:
    """The fields `precision` and `f1` of a class.

    Args:
        hits: Number of its examples that are answered with it.
        examples: Number of its examples, at least 1.
        answered: Number of all examples that are answered with it.
    """
    return {"precision": hits / answered if answered else None, "f1": 2 * hits / (examples + answered)}


def not_above_constant(full: Tensor, truth: Truth) -> str | None:
    """A sentence if full depth is not clearly better than the constant answer; None if it is, or if nothing could be.

    The comparison uses the task's metric, or the mean squared error for regression. The difference has to exceed 1.645
    of its standard errors over the draw of the examples.

    Args:
        full: The answers at full depth [E, C], or [E, 1].
        truth: The labels and the metric.
    """
    labels = np.asarray(truth.labels)
    if len(np.unique(labels)) < 2:
        return None
    constant = constant_answer(labels, truth.classes)
    if truth.names is None:
        measured, always = "mean squared error", f"the mean label, {constant:.4g}"
        value, beside, error = _error_beside(full[:, 0].double().numpy(), constant, labels)
        better = beside - value
    else:
        metric = truth.metric if truth.metric in CLASSIFICATION else "accuracy"
        measured, always = metric.replace("_", " "), f'"{truth.names[int(constant)]}"'
        value, beside, error = _metric_beside(full.argmax(-1).numpy(), int(constant), labels, metric, len(truth.names))
        better = value - beside
    if better > CLEAR * error:
        return None
    return (
        f"full depth is not clearly better than always answering {always}: {measured} {value:.4f} against {beside:.4f} "
        f"on {len(labels):,} examples (standard error of the difference: {error:.4f})"
    )


def _error_beside(predicted: Array, constant: float, labels: Array) -> tuple[float, float, float]:
    """The mean squared error of predictions and of a constant, and the standard error of their difference."""
    errors = (predicted - labels) ** 2, (constant - labels) ** 2
    return float(errors[0].mean()), float(errors[1].mean()), float(np.std(errors[1] - errors[0]) / len(labels) ** 0.5)


def _metric_beside(
    predicted: NDArray[np.int64], constant: int, labels: NDArray[np.int64], metric: str, classes: int
) -> tuple[float, float, float]:
    """The metric of predictions and of a constant class, and the standard error of their difference.

    The examples are resampled as counts of (label, prediction), so that the cost does not grow with E.
    """
    pairs, counts = np.unique(np.stack([labels, predicted]), axis=1, return_counts=True)
    ways = np.stack([pairs[1], np.full(len(counts), constant)])

    def metrics(weights: Array) -> Array:
        return np.nan_to_num(CLASSIFICATION[metric](tally(ways, pairs[0], weights, classes=classes)))

    generator, shares = np.random.default_rng(0), counts / len(labels)
    rows = max(PART // (2 * classes + len(counts)), 1)
    sizes = [min(rows, RESAMPLES - first) for first in range(0, RESAMPLES, rows)]
    drawn = np.concatenate(
        [metrics(generator.multinomial(len(labels), shares, size=size).astype(float)) for size in sizes]
    )
    value, beside = metrics(counts[None].astype(float))[0]
    return float(value), float(beside), float(np.std(drawn[:, 0] - drawn[:, 1]))


def one_layer_alone(outputs: LayerOutputs, full: Tensor) -> str | None:
    """A sentence if the mixture a_N is practically one layer's own answer; None if it is not or nothing is mixed.

    Args:
        outputs: The outputs of all layers.
        full: a_N [E, C].
    """
    layers = outputs.layers
    if layers == 1 or not outputs.mixes or len(full) < FEWEST:
        return None
    weights = halting_weights(outputs.h.double()).mean(0)
    layer = int(weights.argmax())
    same = agreement(outputs.y[:, layer], full, outputs.answer_range)
    if weights[layer] < ALONE or same < SAME:
        return None
    then = (
        "so the sound rules cannot stop early"
        if layer == layers - 1
        else "so agreement with full depth says nothing about the layers above it"
    )
    return (
        f"full depth is practically layer {layer + 1} alone: that layer has {weights[layer]:.1%} of the halting weight "
        f"and the same answer on {same:.2%} of the examples, {then}"
    )
