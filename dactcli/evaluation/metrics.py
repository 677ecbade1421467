"""The metrics of the tasks.

Classification metrics are functions of the confusion matrix, over any leading axes, so that a curve of hundreds of
thresholds and its bootstrap take one call; tests hold them to scikit-learn's. E examples, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def confusion(predicted: NDArray[np.int64], labels: NDArray[np.int64], weights: Array, *, classes: int) -> Array:
    """Confusion matrices.

    Args:
        predicted: Class of each example, for several ways to predict [W, E].
        labels: True class [E].
        weights: How often each example counts, for several samples [S, E].
        classes: C.

    Returns:
        Counts [S, W, C (true), C (predicted)].
    """
    cells = labels * classes + predicted  # [W, E]
    found = np.empty((len(weights), len(cells), classes * classes))
    for way, row in enumerate(cells):
        hot = np.zeros((len(row), classes * classes))
        hot[np.arange(len(row)), row] = 1
        found[:, way] = weights @ hot
    return found.reshape(len(weights), len(cells), classes, classes)


def accuracy(matrix: Array) -> Array:
    """Share of the examples on the diagonal of [..., C, C]."""
    shares: Array = np.trace(matrix, axis1=-2, axis2=-1) / matrix.sum((-2, -1))
    return shares


def f1(matrix: Array) -> Array:
    """F1 of class 1 for two classes, the macro average for more, of [..., C, C]."""
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    both = matrix.sum(-1) + matrix.sum(-2)  # true and predicted counts
    scores: Array = np.divide(2 * hits, both, out=np.zeros_like(both), where=both > 0)
    chosen: Array = scores[..., 1] if matrix.shape[-1] == 2 else scores.mean(-1)
    return chosen


def matthews_correlation(matrix: Array) -> Array:
    """The Matthews correlation, for any number of classes (Gorodkin 2004), of [..., C, C]; 0 where undefined."""
    total, hits = matrix.sum((-2, -1)), np.trace(matrix, axis1=-2, axis2=-1)
    true, guessed = matrix.sum(-1), matrix.sum(-2)
    shared = hits * total - (true * guessed).sum(-1)
    scale = np.sqrt((total**2 - (true**2).sum(-1)) * (total**2 - (guessed**2).sum(-1)))
    found: Array = np.divide(shared, scale, out=np.zeros_like(shared), where=scale > 0)
    return found


CLASSIFICATION: dict[str, Callable[[Array], Array]] = {
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
    matrix = confusion(np.asarray([predicted]), np.asarray(labels), ones, classes=classes)[0, 0]
    return {name: float(metric(matrix)) for name, metric in CLASSIFICATION.items()}


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
