"""The metrics of the tasks, by scikit-learn and scipy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def classification_metrics(predicted: Sequence[int], labels: Sequence[int], *, classes: int) -> dict[str, float]:
    """Accuracy, F1 and the Matthews correlation.

    Args:
        predicted: Class of each example.
        labels: Its true class.
        classes: C; F1 is that of class 1 for two classes, the macro average for more.

    Returns:
        The metrics by name; each 0..1 but for the Matthews correlation, -1..1.
    """
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    average = "binary" if classes == 2 else "macro"
    return {
        "accuracy": float(accuracy_score(labels, predicted)),
        "f1": float(f1_score(labels, predicted, average=average, zero_division=0)),
        "matthews_correlation": float(matthews_corrcoef(labels, predicted)),
    }


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
    correlations = (0.0, 0.0) if constant else (float(pearsonr(x, y).statistic), float(spearmanr(x, y).statistic))
    return {
        "pearson": 0.0 if math.isnan(correlations[0]) else correlations[0],
        "spearman": 0.0 if math.isnan(correlations[1]) else correlations[1],
        "mean_squared_error": float(np.mean((x - y) ** 2)),
    }
