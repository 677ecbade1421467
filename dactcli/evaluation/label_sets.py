"""The metrics of label sets, and what they are compared with: the most frequent set, no label, each label by itself.

As in `dactcli.evaluation.metrics`, the metrics that judge decisions are functions of a tally over any leading axes.
Tests hold all of them to scikit-learn's. E examples, C labels, S samples, W ways to predict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dactcli.evaluation.measures import precision_and_f1
from dactcli.evaluation.metrics import Array
from dactcli.results import NO_LABEL, ClassResult

if TYPE_CHECKING:
    from torch import Tensor

Booleans = NDArray[np.bool_]
RANKING = "label_ranking_average_precision"


class SetTally(NamedTuple):
    """Counts for each label, and whole sets.

    Attributes:
        hits: Examples of the label that were predicted so [S, W, C].
        true: Examples of the label [S, W, C].
        predicted: Examples that were predicted so [S, W, C].
        exact: Share of the examples whose whole set is right [S, W].
    """

    hits: Array
    true: Array
    predicted: Array
    exact: Array


def tally_sets(predicted: Booleans, labels: Booleans, weights: Array) -> SetTally:
    """Count hits, labels and predictions by label.

    Args:
        predicted: Labels of each example, for several ways to predict [W, E, C].
        labels: True labels [E, C].
        weights: How often each example counts, for several samples [S, E].
    """
    true = (weights @ labels)[:, None]
    ways = [weights @ np.stack([row, row & labels], 1).reshape(len(labels), -1).astype(float) for row in predicted]
    guessed, hits = np.stack(ways, 1).reshape(len(weights), len(predicted), 2, -1).transpose(2, 0, 1, 3)
    right = (predicted == labels).all(-1)  # [W, E]
    exact = weights @ right.T.astype(float) / weights.sum(1, keepdims=True)
    return SetTally(hits, np.broadcast_to(true, hits.shape), guessed, exact)


def micro_f1(counts: SetTally) -> Array:
    """F1 over all labels of all examples [S, W]; 0 where undefined."""
    return _ratio(2 * counts.hits.sum(-1), (counts.true + counts.predicted).sum(-1))


def macro_f1(counts: SetTally) -> Array:
    """The mean F1 of the labels that are there or were predicted [S, W]; 0 where undefined."""
    both = counts.true + counts.predicted
    average: Array = _ratio(2 * counts.hits, both).sum(-1) / np.maximum((both > 0).sum(-1), 1)
    return average


def subset_accuracy(counts: SetTally) -> Array:
    """Share of the examples whose whole set is right [S, W]."""
    return counts.exact


def _ratio(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)


LABEL_SETS: dict[str, Callable[[SetTally], Array]] = {
    "micro_f1": micro_f1,
    "macro_f1": macro_f1,
    "subset_accuracy": subset_accuracy,
}


def label_ranking(scores: Array, labels: Booleans) -> float:
    """Label ranking average precision: the share of true labels among those ranked as high as each true one.

    Args:
        scores: Probability of each label [E, C].
        labels: True labels [E, C]; an example without any, or with all, counts 1.
    """
    from scipy.stats import rankdata

    ranks = rankdata(-scores, method="max", axis=1)
    among = rankdata(np.where(labels, -scores, np.inf), method="max", axis=1)  # of the true labels alone
    counts = labels.sum(1)
    precision = np.where(labels, among / ranks, 0).sum(1) / np.maximum(counts, 1)
    return float(np.where((counts == 0) | (counts == labels.shape[1]), 1.0, precision).mean())


def set_metrics(scores: Array, predicted: Booleans, labels: Booleans) -> dict[str, float | None]:
    """All metrics of one set of predictions.

    Args:
        scores: Probability of each label [E, C].
        predicted: The predicted labels [E, C].
        labels: The true ones [E, C].

    Returns:
        The metrics by name, 0..1; None for the F1 of a sample in which no label is there or was predicted.
    """
    counts = tally_sets(predicted[None], labels, np.ones((1, len(labels))))
    found: dict[str, float | None] = {name: float(metric(counts)[0, 0]) for name, metric in LABEL_SETS.items()}
    if not labels.any() and not predicted.any():
        found["micro_f1"] = found["macro_f1"] = None
    return {**found, RANKING: label_ranking(scores, labels)}


def as_booleans(labels: Sequence[Any], classes: int) -> Booleans:
    """Lists of label indices as booleans [E, C].

    Args:
        labels: A list for each example [E].
        classes: C.
    """
    found = np.zeros((len(labels), classes), dtype=bool)
    for row, indices in enumerate(labels):
        found[row, list(indices)] = True
    return found


def majority_set(labels: Booleans) -> Booleans:
    """The most frequent label set [C]; of equally frequent ones the first."""
    counts = Counter(map(bytes, np.packbits(labels, axis=1)))
    first = max(counts, key=lambda key: counts[key])
    found: Booleans = np.unpackbits(np.frombuffer(first, np.uint8), count=labels.shape[1]).astype(bool)
    return found


def set_name(chosen: Booleans, names: Sequence[str]) -> str:
    """A label set in words: `card, new`, or `no label`.

    Args:
        chosen: Its labels [C].
        names: Names of the labels.
    """
    return ", ".join(name for name, there in zip(names, chosen.tolist(), strict=True) if there) or NO_LABEL


def by_label(
    halted: Booleans, full: Booleans, labels: Booleans | None, exits: Tensor, names: Sequence[str]
) -> dict[str, ClassResult]:
    """Recall, harm and disagreement of each label that has examples; all of them on the examples that have it.

    Args:
        halted: The labels that a rule answers [E, C].
        full: Those of full depth [E, C].
        labels: The true ones [E, C]; without them, a label's examples are those that have it at full depth.
        exits: Exit layer of each example [E].
        names: Names of the labels, all different [C].
    """
    groups = full if labels is None else labels
    counts, told = groups.sum(0), labels is not None
    known = np.maximum(counts, 1)

    def share(chosen: Booleans) -> list[float]:
        shares: list[float] = ((chosen & groups).sum(0) / known).tolist()
        return shares

    recall, full_recall, harm = share(halted), share(full), share(full & ~halted)
    hits, answered = (halted & groups).sum(0), halted.sum(0)
    differs, layers = share(halted != full), (exits.double().numpy() @ groups / known).tolist()
    return {
        names[index]: ClassResult(
            examples=int(counts[index]),
            recall=recall[index] if told else None,
            full_recall=full_recall[index] if told else None,
            harm=harm[index] if told else None,
            disagreement=differs[index],
            layers_mean=layers[index],
            **(precision_and_f1(int(hits[index]), int(counts[index]), int(answered[index])) if told else {}),
        )
        for index in np.flatnonzero(counts).tolist()
    }
