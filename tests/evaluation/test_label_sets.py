"""Metrics of label sets against scikit-learn, their references, and what the certificate counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, label_ranking_average_precision_score

from dactcli.errors import UsageError
from dactcli.evaluation.comparison import Entrant, compare
from dactcli.evaluation.evaluate import EvalSplit, judge
from dactcli.evaluation.label_sets import (
    LABEL_SETS,
    as_booleans,
    by_label,
    label_ranking,
    majority_set,
    set_metrics,
    tally_sets,
)
from dactcli.evaluation.threshold_sweep import ThresholdSweep
from dactcli.halting import make_rule
from dactcli.halting.label_sets import LabelSets
from dactcli.runs.outputs import LayerOutputs

SETS = LabelSets()


def sample(rows: int, labels: int, seed: int, *, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and true labels [E, C]; some labels are never true, some rows have none or all."""
    rng = np.random.default_rng(seed)
    scores = rng.random((rows, labels))
    scores = np.round(scores, 1) if ties else scores
    truth = rng.random((rows, labels)) < rng.random(labels) * 0.5
    truth[:, 0] = False
    truth[:3], truth[3:5] = False, True
    truth[5:, 0] = False
    return scores, truth


@pytest.mark.parametrize(("rows", "labels", "ties"), [(40, 5, False), (60, 12, True), (7, 2, True)])
def test_metrics_are_those_of_scikit_learn(rows: int, labels: int, ties: bool) -> None:
    scores, truth = sample(rows, labels, rows, ties=ties)
    found = set_metrics(scores, scores >= 0.7, truth)
    guess = (scores >= 0.7).astype(int)
    assert found["micro_f1"] == pytest.approx(f1_score(truth, guess, average="micro", zero_division=0))
    assert found["macro_f1"] == pytest.approx(f1_score(truth, guess, average="macro", zero_division=np.nan))
    assert found["subset_accuracy"] == pytest.approx(accuracy_score(truth, guess))
    ranking = label_ranking_average_precision_score(truth, scores)
    assert found["label_ranking_average_precision"] == pytest.approx(ranking)


def test_a_tally_of_resamples_is_that_of_repeated_rows() -> None:
    scores, truth = sample(30, 6, 1)
    ways = np.stack([scores >= 0.5, scores >= 0.8])
    weights = np.random.default_rng(2).multinomial(30, np.full(30, 1 / 30), size=4).astype(float)
    counts = tally_sets(ways, truth, weights)
    for s in range(4):
        rows = np.repeat(np.arange(30), weights[s].astype(int))
        for w in range(2):
            alone = tally_sets(ways[w : w + 1, rows], truth[rows], np.ones((1, len(rows))))
            for metric in LABEL_SETS.values():
                assert metric(counts)[s, w] == pytest.approx(metric(alone)[0, 0])


def test_metrics_without_any_label_are_undefined() -> None:
    nothing = np.zeros((4, 3), dtype=bool)
    found = set_metrics(np.zeros((4, 3)), nothing, nothing)
    assert (found["micro_f1"], found["macro_f1"], found["subset_accuracy"]) == (None, None, 1.0)
    assert label_ranking(np.zeros((4, 3)), nothing) == 1.0


def test_the_most_frequent_set() -> None:
    rows = as_booleans([[1], [0, 2], [], [0, 2], [1, 2]], 9)
    assert np.flatnonzero(majority_set(rows)).tolist() == [0, 2]


def outputs(rows: int = 300, layers: int = 4, labels: int = 5, seed: int = 0) -> tuple[LayerOutputs, list[list[int]]]:
    """Layers that get better with depth, and the labels that they are about."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(rows, labels, generator=generator) < 0.3
    noise = torch.randn(rows, layers, labels, generator=generator) * torch.tensor([2.0, 1.5, 1.0, 0.5])[:layers, None]
    y = torch.sigmoid((truth.float() * 4 - 2).unsqueeze(1) + noise)
    h = torch.rand(rows, layers, generator=generator) * 0.3
    names = [f"label {index}" for index in range(labels)]
    known = [row.nonzero()[:, 0].tolist() for row in truth]
    return LayerOutputs(y, h, answers=SETS, names=names), known


def test_an_evaluation_has_sets_references_and_labels() -> None:
    made, labels = outputs()
    found = judge(made, [make_rule("full"), make_rule("exact")], labels, EvalSplit("micro_f1"))
    assert found.decision == "label set"
    assert found.rules["exact"].agreement_with_full == 1.0
    truth = as_booleans(labels, 5)
    full = made.decide(make_rule("full")).answer >= 0.5
    assert found.rules["full"].metric == pytest.approx(f1_score(truth, full.numpy(), average="micro"))
    share = float((truth & full.numpy())[:, 2].sum() / truth[:, 2].sum())
    assert found.rules["full"].by_class["label 2"].recall == pytest.approx(share)
    assert found.rules["full"].by_class["label 2"].examples == truth[:, 2].sum()
    assert set(found.references) == {"majority", "last_layer"}
    assert found.references["majority"].answer == "no label"  # the most frequent set is the empty one
    assert found.references["majority"].metrics["subset_accuracy"] == pytest.approx(float((~truth.any(1)).mean()))
    few = [row or [0] for row in labels]
    assert judge(made, [make_rule("full")], few, EvalSplit("micro_f1")).references["empty"].metric == 0.0


def test_full_depth_that_is_no_better_than_the_most_frequent_set_is_told() -> None:
    made, _ = outputs()
    labels = [[0, 1]] * 200 + [[2]] * 100
    (notice,) = judge(made, [make_rule("full")], labels, EvalSplit("subset_accuracy")).notices
    assert 'always answering "label 0, label 1": subset accuracy' in notice


@pytest.mark.parametrize("loss", ["disagreement", "harm"])
def test_losses_are_about_the_whole_set(loss: str) -> None:
    made, labels = outputs()
    truth, rule = as_booleans(labels, 5), make_rule("confidence:0.5")
    sweep = ThresholdSweep(rule, [0.9, 0.3, 0.0], made)
    full = SETS.decide(made.decide(make_rule("full")).answer).numpy()
    for index, threshold in enumerate([0.9, 0.3, 0.0]):
        decision = made.decide(rule.at(threshold))
        here = SETS.decide(decision.answer).numpy()
        assert np.array_equal(sweep.decided(index), here)
        assert sweep.exits[index].tolist() == decision.exit_layer.tolist()
        wanted = (here != full).any(1)
        wanted &= (full == truth).all(1) if loss == "harm" else True
        assert sweep.losses(loss, truth)[index].tolist() == wanted.tolist()
    assert sweep.losses(loss, truth)[2].any()


def test_curves_are_drawn_of_decisions() -> None:
    made, labels = outputs()
    truth = as_booleans(labels, 5)
    one = Entrant("a", "a", made, made, truth, truth)
    found = compare([one], metric="micro_f1", split="test", rules=["confidence", "exact"])
    full = made.decide(make_rule("full")).answer >= 0.5
    assert found.reference_metric == pytest.approx(f1_score(truth, full.numpy(), average="micro"))
    assert found.decision == "label set"
    first = found.rules["confidence"].points[0]
    decided = made.decide(make_rule("confidence:1").at(first.threshold or 0.0)).answer >= 0.5
    assert first.metric == pytest.approx(f1_score(truth, decided.numpy(), average="micro"))
    with pytest.raises(UsageError, match="judges probabilities, and a curve is drawn of decisions"):
        compare([one], metric="label_ranking_average_precision", split="test")


def test_precision_and_f1_of_labels_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import precision_recall_fscore_support

    draw = np.random.default_rng(4)
    labels, halted = draw.random((200, 5)) < 0.3, draw.random((200, 5)) < 0.3
    halted[:, 4] = False  # never answered
    found = by_label(halted, labels, labels, torch.ones(200, dtype=torch.long), list("abcde"))
    wanted = precision_recall_fscore_support(labels, halted, zero_division=np.nan)
    for index, result in enumerate(found.values()):
        ours = (result.precision, result.recall, result.f1, result.examples)
        numbers = [np.nan if value is None else value for value in ours]
        np.testing.assert_allclose(numbers, [column[index] for column in wanted])
    unlabelled = by_label(halted, labels, None, torch.ones(200, dtype=torch.long), list("abcde"))
    assert {(one.precision, one.f1) for one in unlabelled.values()} == {(None, None)}
