"""Choose the probability from which on a label is there, on validation, for label sets.

A threshold maximises F1: one for all labels their micro F1, one for each label the label's own. It is chosen on the
full-depth answer as it is: after the stages, and again once the halting thresholds, which depend on it, are learned.

E examples, C labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from dactcli.data.batches import Encoded, label_tensor
from dactcli.halting.rules import Full
from dactcli.runs.outputs import collect

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

    from dactcli.model.dact import DactForSequenceClassification

NARROWEST = 1e-6  # between a threshold and 0 or 1
DIGITS = 6


def choose_label_thresholds(
    model: DactForSequenceClassification,
    tokenizer: Tokenizer,
    encoded: Encoded,
    wish: Literal["one", "per_label"] | float,
    *,
    batch_size: int,
) -> float | list[float]:
    """The thresholds of the labels, by which the model decides from now on.

    Args:
        model: The model; `label_thresholds` of its configuration is set.
        tokenizer: Its tokenizer.
        encoded: Labelled held-out examples.
        wish: `one` for all labels, one `per_label`, or the number itself.
        batch_size: Examples per batch.

    Raises:
        ArtefactError: Answers to some examples are not finite.
    """
    chosen: float | list[float]
    if isinstance(wish, float):
        chosen = wish
    else:
        outputs = collect(model, tokenizer, encoded, batch_size=batch_size)
        scores = outputs.decide(Full()).answer.double().numpy()
        labels = label_tensor(encoded.labels or [], "multilabel", model.classes).bool().numpy()
        chosen = best_threshold(scores.ravel(), labels.ravel())
        if wish == "per_label":
            # a label that validation lacks has no F1 to maximise
            pairs = zip(scores.T, labels.T, strict=True)
            chosen = [best_threshold(score, known) if known.any() else chosen for score, known in pairs]
    model.config.label_thresholds = chosen
    return chosen


def best_threshold(scores: NDArray[np.float64], labels: NDArray[Any]) -> float:
    """The threshold with the largest F1, halfway to the next lower score; of equally good ones the highest.

    Args:
        scores: Probabilities [E].
        labels: Whether each is true [E].

    Returns:
        A number between 0 and 1; 0.5 where nothing is true.
    """
    if not labels.any():
        return 0.5
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    hits = np.cumsum(labels[order])
    f1 = 2 * hits / (np.arange(1, len(ordered) + 1) + hits[-1])
    below = np.append(ordered[1:], 0.0)
    f1[ordered == below] = -1.0  # no threshold lies between equal scores
    best = int(f1.argmax())
    low, high = float(below[best]), float(ordered[best])
    middle = min(max((low + high) / 2, NARROWEST), 1 - NARROWEST)
    short = round(middle, DIGITS)
    # close scores leave no room for a short number, or for any between them
    return next((one for one in (short, middle) if low < one <= high), min(max(high, NARROWEST), 1 - NARROWEST))
