"""The metrics of the tasks.

Classification metrics are functions of a tally, over any leading axes, so that a curve of hundreds of thresholds and
its bootstrap take one call; tests hold them to scikit-learn's. None of them looks at which class was taken for which
other, so three counts a class do for the confusion matrix, whose size is the square of thousands of classes. E
examples, C classes, S samples, W ways to predict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Tally(NamedTuple):
    """Counts for each class.

    Attributes:
        hits: Examples of the class that were predicted so [S, W, C].
        true: Examples of the class [S, W, C].
        predicted: Examples that were predicted so [S, W, C].
    """

    hits: Array
    true: Array
    predicted: Array

    @property
    def examples(self) -> Array:
        """How many examples count [S, W]."""
        total: Array = self.true.sum(-1)
        return total


def tally(predicted: NDArray[np.int64], labels: NDArray[np.int64], weights: Array, *, classes: int) -> Tally:
    """Count hits, labels and predictions by class.

    Args:
        predicted: Class of each example, for several ways to predict [W, E].
        labels: True class [E].
        weights: How often each example counts, for several samples [S, E].
        classes: C.
    """
    shape = (len(weights), len(predicted), classes)
    # [E, S], row by row in memory, as the products want it; free where the weights lie column by column
    columns = np.ascontiguousarray(weights.T)
    everyone = np.ones(len(labels))
    hits, guessed = np.empty(shape), np.empty(shape)
    for way, row in enumerate(predicted):
        guessed[:, way] = _sums(columns, row, everyone, classes)
        hits[:, way] = _sums(columns, labels, (row == labels).astype(float), classes)
    true = np.broadcast_to(_sums(columns, labels, everyone, classes)[:, None], shape)
    return Tally(hits, true, guessed)


def _sums(columns: Array, groups: NDArray[np.int64], counted: Array, classes: int) -> Array:
    """The weights [E, S] of the examples that are counted [E], summed by their class [E]: [S, C]."""
    from scipy.sparse import csr_array

    members = csr_array((counted, groups, np.arange(len(groups) + 1)), shape=(len(groups), classes))
    sums: Array = (members.T @ columns).T
    return sums


def accuracy(counts: Tally) -> Array:
    """Share of the examples that are right [S, W]."""
    shares: Array = counts.hits.sum(-1) / counts.examples
    return shares


def f1(counts: Tally) -> Array:
    """F1 of class 1 for two classes, for more the mean over those that are there [S, W]; 0 where undefined."""
    both = counts.true + counts.predicted
    scores: Array = np.divide(2 * counts.hits, both, out=np.zeros_like(both), where=both > 0)
    if scores.shape[-1] == 2:
        return scores[..., 1]
    average: Array = scores.sum(-1) / np.maximum((both > 0).sum(-1), 1)
    return average


def matthews_correlation(counts: Tally) -> Array:
    """The Matthews correlation, for any number of classes (Gorodkin 2004) [S, W]; 0 where undefined."""
    total, hits = counts.examples, counts.hits.sum(-1)
    shared = hits * total - (counts.true * counts.predicted).sum(-1)
    scale = np.sqrt((total**2 - (counts.true**2).sum(-1)) * (total**2 - (counts.predicted**2).sum(-1)))
    found: Array = np.divide(shared, scale, out=np.zeros_like(shared), where=scale > 0)
    return found


CLASSIFICATION: dict[str, Callable[[Tally], Array]] = {
    "accuracy": accuracy,
    "f1": f1,
    "matthews_correlation": matthews_correlation,
}


# why a metric may have no value
UNDEFINED = {
    "f1": "no example is of class 1 or was predicted as class 1",
    "matthews_correlation": "all labels are of one class",
    "pearson": "all labels or all answers are equal",
    "spearman": "all labels or all answers are equal",
    "micro_f1": "no label is there or was predicted",
    "macro_f1": "no label is there or was predicted",
}


def classification_metrics(predicted: Sequence[int], labels: Sequence[int], *, classes: int) -> dict[str, float | None]:
    """All metrics of one set of predictions.

    Args:
        predicted: Class of each example.
        labels: Its true class.
        classes: C.

    Returns:
        The metrics by name; each 0..1 but for the Matthews correlation, -1..1. None where a metric is undefined: the
        Matthews correlation of labels that are all of one class, and F1 where class 1 of two is nowhere.
    """
    ones = np.ones((1, len(labels)))
    counts = tally(np.asarray([predicted]), np.asarray(labels), ones, classes=classes)
    found: dict[str, float | None] = {name: float(metric(counts)[0, 0]) for name, metric in CLASSIFICATION.items()}
    true, guessed = counts.true[0, 0], counts.predicted[0, 0]
    if np.count_nonzero(true) < 2:
        found["matthews_correlation"] = None
    if classes == 2 and true[1] + guessed[1] == 0:
        found["f1"] = None
    return found


def regression_metrics(predicted: Sequence[float], labels: Sequence[float]) -> dict[str, float | None]:
    """Pearson and Spearman correlation, and the mean squared error.

    Args:
        predicted: Value for each example.
        labels: Its true value.

    Returns:
        The metrics by name; a correlation with a constant is undefined, which is None.
    """
    x, y = np.asarray(predicted, dtype=float), np.asarray(labels, dtype=float)
    return {
        "pearson": correlation(x, y, ranks=False),
        "spearman": correlation(x, y, ranks=True),
        "mean_squared_error": float(np.mean((x - y) ** 2)),
    }


def correlation(x: Sequence[float] | Array, y: Sequence[float] | Array, *, ranks: bool) -> float | None:
    """Pearson's correlation, or Spearman's, which is that of the ranks.

    Args:
        x: Values [E].
        y: Values [E].
        ranks: Whether it is Spearman's.

    Returns:
        -1..1; None where it is undefined, because one side is constant or there is one value only.
    """
    from scipy.stats import pearsonr, spearmanr

    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    found = float((spearmanr if ranks else pearsonr)(x, y).statistic)
    return found if math.isfinite(found) else None


def undefined_notes(metrics: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    """One sentence for every metric that has no value under some rule.

    Args:
        metrics: Metrics by name, by rule.
    """
    notes = []
    for name, why in UNDEFINED.items():
        rules = [rule for rule, found in metrics.items() if name in found and found[name] is None]
        if rules:
            under = "" if len(rules) == len(metrics) else f" under {', '.join(rules)}"
            notes.append(f"{name.replace('_', ' ')} is undefined{under}: {why}")
    return notes
