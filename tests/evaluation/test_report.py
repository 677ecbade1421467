"""The figures of a report on random answers, held to scikit-learn's and to counts by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix as sklearn_matrix

from dactcli.evaluation.report import (
    by_length,
    confusion_counts,
    confusion_matrix,
    disagreeing_examples,
    hardest_examples,
    reliability_bins,
)
from dactcli.halting.decision import Decision
from dactcli.results import LengthBin

DRAW = np.random.default_rng(5)
LABELS, ANSWERS = DRAW.integers(0, 4, 300), DRAW.integers(0, 4, 300)


def test_confusions_are_those_of_scikit_learn() -> None:
    wanted = sklearn_matrix(LABELS, ANSWERS)
    assert confusion_matrix(ANSWERS, LABELS, 4) == wanted.tolist()
    assert confusion_matrix(ANSWERS, LABELS, 51) is None
    found = confusion_counts(ANSWERS, LABELS, "abcd")
    assert len(found) == 12
    for one in found:
        row = wanted["abcd".index(one.label)]
        assert (one.examples, one.share) == (row["abcd".index(one.answer)], one.examples / row.sum())
    assert [one.examples for one in found] == sorted((one.examples for one in found), reverse=True)
    assert confusion_counts(LABELS, LABELS, "abcd") == []


def test_of_many_confusions_the_most_frequent_are_listed() -> None:
    labels = np.repeat(np.arange(100), 2)
    answers = (labels + 1) % 100
    answers[:4] = [5, 5, 5, 6]
    found = confusion_counts(answers, labels, [str(n) for n in range(100)])
    assert len(found) == 20
    assert (found[0].label, found[0].answer, found[0].examples, found[0].share) == ("0", "5", 2, 1.0)


def test_reliability_by_hand() -> None:
    sure = torch.tensor([0.55, 0.59, 0.95, 1.0, 0.75])
    bins, error = reliability_bins(torch.stack([sure, 1 - sure], 1), np.array([0, 1, 0, 0, 1]))
    spans = [(round(one.low, 1), round(one.high, 1), one.examples) for one in bins]
    assert spans == [(0.5, 0.6, 2), (0.7, 0.8, 1), (0.9, 1.0, 2)]
    assert [one.accuracy for one in bins] == [0.5, 0.0, 1.0]
    assert error == pytest.approx((abs(1.14 - 1) + abs(0.75 - 0) + abs(1.95 - 2)) / 5)


def test_groups_of_length_do_not_overlap() -> None:
    exits, right = torch.tensor([1, 2, 3, 4, 5, 6]), np.array([True, True, False, True, False, False])
    found = by_length([5, 5, 5, 9, 9, 40], exits, right)
    assert found == [LengthBin(5, 5, 3, 2.0, 2 / 3), LengthBin(9, 9, 2, 4.5, 0.5), LengthBin(40, 40, 1, 6.0, 0.0)]
    assert by_length([7, 7], exits[:2], None) == [LengthBin(7, 7, 2, 1.5)]


def test_hardest_and_disagreeing() -> None:
    sure = torch.tensor([0.9, 0.6, 0.8, 0.7])
    decision = Decision(torch.tensor([2, 3, 1, 3]), torch.stack([sure, 1 - sure], 1))
    assert hardest_examples(decision, 3) == [1, 3, 0]
    assert disagreeing_examples(decision, torch.tensor([False, True, False, False]), 2) == [0, 2]
    assert disagreeing_examples(decision, torch.ones(4, dtype=torch.bool), 2) == []
    values = Decision(torch.tensor([1, 2]), torch.tensor([[0.1], [4.0]]))
    assert hardest_examples(values, 5) == [1, 0]
