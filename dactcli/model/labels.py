"""Labels as a training loop may give them, checked and brought into one form before any layer runs.

B batch, C classes, K rows that count.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dactcli.errors import UsageError
from dactcli.halting.answers import Kind

IGNORED = -100  # as for torch's cross entropy
SUM_TOLERANCE = 0.01  # half precision rounds the probabilities of many classes


class Targets(NamedTuple):
    """What the rows of a batch should have answered.

    Attributes:
        values: Classes [K], probabilities of the classes or of the labels [K, C], or values [K] for regression.
        rows: Positions in the batch of the rows that count [K]; None when all do.
    """

    values: Tensor
    rows: Tensor | None


def read_labels(labels: Tensor, *, batch: int, classes: int, kind: Kind) -> Targets:
    """Check labels and leave out rows that are to be ignored.

    Asks the device once what the labels are, so that a wrong one is a sentence there too.

    Args:
        labels: Class numbers [B] or [B, 1], where -100 ignores a row; probabilities of the classes [B, C], floating;
            values [B] or [B, 1] for regression, or 0 and 1 by label [B, C] for label sets.
        batch: B.
        classes: C.
        kind: What the model answers with.

    Raises:
        UsageError: The labels are none of these.
    """
    flat = labels.reshape(-1) if labels.dim() == 0 or labels.shape[1:] == (1,) else labels
    if len(flat) != batch:
        raise UsageError(f"there are {len(flat)} labels for {batch} examples", remedy="give each example one label")
    regression = kind == "regression"
    if kind == "multilabel":
        return Targets(_label_sets(labels, classes), None)
    if regression and flat.dim() == 1:
        return Targets(flat, None)
    if not regression and flat.is_floating_point() and flat.shape[1:] == (classes,):
        return Targets(_probabilities(flat), None)
    if regression or flat.is_floating_point() or flat.dim() != 1:
        raise UsageError(
            f"labels of shape {list(labels.shape)} and type {labels.dtype} do not fit this model",
            remedy="give values [B]"
            if regression
            else f"give whole class numbers [B], or probabilities [B, {classes}]",
        )
    return _classes(flat.long(), classes)


def _classes(labels: Tensor, classes: int) -> Targets:
    """Class numbers [B], without those that are ignored."""
    if not len(labels):
        return Targets(labels, None)
    low, high = torch.stack(labels.aminmax()).tolist()
    rows = None
    if low == IGNORED:
        rows = (labels != IGNORED).nonzero().squeeze(-1)
        labels = labels[rows]
        low = int(labels.min()) if len(labels) else 0
    if low < 0 or high >= classes:
        raise UsageError(
            f"label {low if low < 0 else high} is none of the model's {classes} classes",
            remedy=f"give numbers from 0 to {classes - 1}, or {IGNORED} for examples that do not count",
        )
    return Targets(labels, rows)


def _label_sets(labels: Tensor, classes: int) -> Tensor:
    """0 and 1 by label, or probabilities between them, as floats [B, C]."""
    if labels.shape[1:] != (classes,):
        raise UsageError(
            f"labels of shape {list(labels.shape)} do not fit a model of label sets",
            remedy=f"give 0 or 1 for each label [B, {classes}]",
        )
    found = labels if labels.is_floating_point() else labels.float()
    if not ((found >= 0) & (found <= 1)).all():
        raise UsageError("a label is neither 0 nor 1, nor between", remedy="give 1 for each label that a text has")
    return found


def _probabilities(labels: Tensor) -> Tensor:
    """Soft labels [B, C], each row of them a distribution."""
    if len(labels) and not ((labels >= 0).all() & ((labels.sum(-1) - 1).abs() <= SUM_TOLERANCE).all()):
        raise UsageError(
            "soft labels are probabilities, and a row of these does not sum to 1",
            remedy="give one class or one distribution for each example; a model of label sets has "
            'problem_type "multi_label_classification"',
        )
    return labels
