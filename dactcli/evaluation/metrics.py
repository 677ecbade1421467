"""The metrics of the tasks.

Classification metrics are functions of a tally, over any leading axes, so that a curve of hundreds of thresholds and
its bootstrap take one call; tests hold them to scikit-learn's. None of them looks at which class was taken for which
other, so three counts a class do for the confusion matrix, whose size is the square of thousands of classes. E
examples, C classes, S samples, W ways to predict.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    """F1 of class 1 for two classes, the macro average for more [S, W]."""
    both = counts.true + counts.predicted
    scores: Array = np.divide(2 * counts.hits, both, out=np.zeros_like(both), where=both > 0)
    chosen: Array = scores[..., 1] if scores.shape[-1] == 2 else scores.mean(-1)
    return chosen


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


def classification_metrics(predicted: Sequence[int], labels: Sequence[int], *, classes: int) -> dict[str, float]:
    """All metrics of one set of predictions.

    Args:
        predicted: Class of each example.
        labels: Its true class.
        classes: C.

    Returns:
        The metrics by name; each 0..1 but for the Matthews correlation, -1..1.
    """
    ones = np.ones((1, len(labels)))
    counts = tally(np.asarray([predicted]), np.asarray(labels), ones, classes=classes)
    return {name: float(metric(counts)[0, 0]) for name, metric in CLASSIFICATION.items()}


def regression_metrics(predicted: Sequence[float], labels: Sequence[float]) -> dict[str, float]:
    """Pearson and Spearman correlation, and the mean squared error.

    Args:
        predicted: Value for each example.
        labels: Its true value.

    Returns:
        The metrics by name; a correlation with a constant is 0.
    """
    from scipy.stats import pearsonr, spearmanr

    x, y = np.asarray(predicted, dtype=float), np.asarray(labels, dtype=float)
    constant = len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0
    return {
        "pearson": 0.0 if constant else float(pearsonr(x, y).statistic),
        "spearman": 0.0 if constant else float(spearmanr(x, y).statistic),
        "mean_squared_error": float(np.mean((x - y) ** 2)),
    }
