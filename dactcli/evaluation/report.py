"""The figures of a report that a plain evaluation does not need: confusions, reliability, depth by length, a curve.

E examples, N layers, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from dactcli.evaluation.kinds import measures_of
from dactcli.evaluation.threshold_sweep import ThresholdSweep
from dactcli.halting.answers import top_two
from dactcli.halting.rules import RULES
from dactcli.results import Confusion, CurvePoint, LengthBin, ReliabilityBin

if TYPE_CHECKING:
    from torch import Tensor

    from dactcli.halting.decision import Decision
    from dactcli.runs.outputs import LayerOutputs

Integers = NDArray[np.int64]
BINS, LENGTHS = 10, 5
CONFUSIONS, MATRIX = 20, 50  # most confusions that are listed, and most classes of a matrix


def sweep_curve(outputs: LayerOutputs, name: str, labels: NDArray[Any], metric: str, run: str) -> list[CurvePoint]:
    """The metric against mean layers at every threshold of a rule, by ascending layers.

    Args:
        outputs: The outputs of all layers.
        name: Name of the rule.
        labels: Classes [E], or labels of label sets [E, C].
        metric: Name of the metric; one that judges probabilities has no curve.
        run: Name of the run, for the points.
    """
    measures = measures_of(outputs.answers)
    if metric not in measures.decided:
        return []
    rule = RULES[name]().of(outputs.answers)
    grid: list[float | None] = [*rule.grid(outputs.layers, outputs.classes)]
    swept, ones = ThresholdSweep(rule, grid, outputs), np.ones((1, len(labels)))

    def value(index: int) -> float:
        counted = measures.count(swept.decided(index)[None], labels, ones, outputs.classes)
        return float(measures.decided[metric](counted)[0, 0])

    values = [value(index) for index in range(len(grid))]
    points = {
        (float(layers), value): CurvePoint(run, threshold, float(layers), value)
        for threshold, layers, value in zip(grid, swept.layers_mean, values, strict=True)
    }
    return [points[key] for key in sorted(points)]


def confusion_counts(answers: Integers, labels: Integers, names: Sequence[str]) -> list[Confusion]:
    """Wrong answers by label and answer, the most frequent first.

    Args:
        answers: Answered classes [E].
        labels: True classes [E].
        names: Class names, all different [C].
    """
    wrong = answers != labels
    pairs, counts = np.unique(np.stack([labels[wrong], answers[wrong]]), axis=1, return_counts=True)
    support = np.bincount(labels, minlength=len(names))
    order = np.argsort(-counts, kind="stable")[:CONFUSIONS]
    return [
        Confusion(names[label], names[answer], int(count), float(count / support[label]))
        for (label, answer), count in zip(pairs.T[order].tolist(), counts[order].tolist(), strict=True)
    ]


def confusion_matrix(answers: Integers, labels: Integers, classes: int) -> list[list[int]] | None:
    """Examples by true class (rows) and answered class (columns); None above `MATRIX` classes.

    Args:
        answers: Answered classes [E].
        labels: True classes [E].
        classes: C.
    """
    if classes > MATRIX:
        return None
    counts: list[list[int]] = (
        np.bincount(labels * classes + answers, minlength=classes**2).reshape(classes, -1).tolist()
    )
    return counts


def reliability_bins(answer: Tensor, labels: Integers) -> tuple[list[ReliabilityBin], float]:
    """Accuracy of answers by their confidence, in ten equal ranges of it, and the expected calibration error.

    Args:
        answer: Probabilities [E, C].
        labels: True classes [E].
    """
    sure, answered = (part.numpy() for part in answer.double().max(-1))
    right, places = answered == labels, np.minimum((sure * BINS).astype(int), BINS - 1)
    found = []
    for place in np.unique(places).tolist():
        members = places == place
        means = float(sure[members].mean()), float(right[members].mean())
        found.append(ReliabilityBin(place / BINS, (place + 1) / BINS, int(members.sum()), *means))
    error = sum(one.examples * abs(one.confidence - one.accuracy) for one in found) / len(labels)
    return found, error


def by_length(lengths: Sequence[int], exits: Tensor, right: NDArray[np.bool_] | None) -> list[LengthBin]:
    """Depth and accuracy in up to five groups of examples of similar length and about equal size.

    Args:
        lengths: Tokens of each example [E].
        exits: Exit layers [E].
        right: Which answers are correct [E]; None where nothing is right or wrong.
    """
    tokens, layers = np.asarray(lengths), exits.numpy()
    edges = np.unique(np.quantile(tokens, np.linspace(0, 1, LENGTHS + 1)[1:-1], method="lower"))
    places = np.searchsorted(edges, tokens)  # an example as long as an edge belongs below it
    found = []
    for place in np.unique(places).tolist():
        members = places == place
        found.append(
            LengthBin(
                shortest=int(tokens[members].min()),
                longest=int(tokens[members].max()),
                examples=int(members.sum()),
                layers_mean=float(layers[members].mean()),
                accuracy=None if right is None else float(right[members].mean()),
            )
        )
    return found


def hardest_examples(decision: Decision, count: int) -> list[int]:
    """Positions of the deepest examples; among equals, of the smallest margins.

    Args:
        decision: Where each example stops, and what it answers.
        count: Number of examples.
    """
    order = np.lexsort((_margins(decision.answer), -decision.exit_layer.numpy()))
    return [int(position) for position in order[:count]]


def disagreeing_examples(decision: Decision, same: Tensor, count: int) -> list[int]:
    """Positions of examples whose answer differs from full depth, the largest margins first.

    Args:
        decision: Where each example stops, and what it answers.
        same: Which answers agree with full depth [E].
        count: Number of examples.
    """
    differs = torch.nonzero(~same)[:, 0].numpy()
    order = np.argsort(-_margins(decision.answer)[differs], kind="stable")
    return [int(position) for position in differs[order][:count]]


def _margins(answer: Tensor) -> NDArray[np.float64]:
    """The largest entry minus the second largest [E]; 0 for one entry."""
    if answer.shape[-1] < 2:
        return np.zeros(len(answer))
    top, second = top_two(answer)
    margins: NDArray[np.float64] = (top - second).numpy()
    return margins
