"""Evaluation: metrics against their definitions, depths, agreement, and the same numbers after saving and loading."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
import torch

from dactcli.data.batches import encode_split
from dactcli.data.sources import load_splits
from dactcli.evaluation.evaluate import evaluate, judge, standard_rules
from dactcli.evaluation.metrics import CLASSIFICATION, classification_metrics, regression_metrics, tally
from dactcli.evaluation.outputs import LayerOutputs, collect
from dactcli.model.checkpoint import load_run, save_model
from dactcli.model.rules import Exact, Full, make_rule


def test_classification_metrics() -> None:
    predicted, labels = [1, 1, 0, 0, 1, 0], [1, 0, 0, 0, 1, 1]
    found = classification_metrics(predicted, labels, classes=2)
    tp, tn, fp, fn = 2, 2, 1, 1
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["f1"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
    matthews = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert found["matthews_correlation"] == pytest.approx(matthews)
    assert classification_metrics([0, 1, 2], [0, 1, 1], classes=3)["f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert classification_metrics([0, 0], [0, 1], classes=2)["matthews_correlation"] == 0


def test_regression_metrics() -> None:
    found = regression_metrics([1.0, 2.0, 4.0], [2.0, 4.0, 8.0])
    assert found["pearson"] == pytest.approx(1)
    assert found["spearman"] == pytest.approx(1)
    assert found["mean_squared_error"] == pytest.approx((1 + 4 + 16) / 3)
    assert regression_metrics([1.0, 1.0], [0.0, 1.0])["pearson"] == 0


def test_what_a_rule_makes_of_outputs() -> None:
    y = torch.tensor([[[0.9, 0.1], [0.2, 0.8]], [[0.6, 0.4], [0.6, 0.4]], [[0.3, 0.7], [0.9, 0.1]]])
    h = torch.tensor([[0.0, 0.5], [1.0, 0.5], [1.0, 0.5]])
    result = judge(
        LayerOutputs(y, h),
        [Full(), Exact(), make_rule("layer:1")],
        labels=[0, 0, 1],
        metric="accuracy",
        mixes=True,
        difficulty=[0, 1, 1],
    )
    full, exact, first = (result.rules[name] for name in ("full", "exact", "layer:1"))
    assert full.depths == [0, 3]
    assert full.metric == pytest.approx(2 / 3)
    assert exact.depths == [1, 2]
    assert exact.layers_mean == pytest.approx(5 / 3)
    assert exact.layers_share == pytest.approx(5 / 6)
    assert exact.agreement_with_full == 1
    assert first.metric == 1
    assert first.agreement_with_full == pytest.approx(2 / 3)
    assert first.threshold == 1
    assert result.depth_by_difficulty["exact"] == pytest.approx({"0": 1, "1": 2, "spearman": 1})
    document = result.to_json()
    assert set(document["rules"]["exact"]) == {
        "metric",
        "metrics",
        "layers_mean",
        "layers_share",
        "depths",
        "agreement_with_full",
        "threshold",
        "certificate",
        "by_class",
    }


def test_saving_loading_and_evaluating_again_gives_the_same_numbers(tiny_run: Path, tmp_path: Path) -> None:
    run = load_run(tiny_run)
    assert run.recipe is not None
    encoded = encode_split(load_splits(run.recipe, only=("test",)).splits["test"], run.tokenizer, 48)
    rules = standard_rules(run.model)

    def result(model: object, tokenizer: object, batch_size: int = 64) -> object:
        return evaluate(model, tokenizer, encoded, rules, metric="accuracy", batch_size=batch_size)  # type: ignore[arg-type]

    first = result(run.model, run.tokenizer)
    save_model(run.model, run.tokenizer, tmp_path)
    again = load_run(tmp_path)
    assert again.recipe is None
    assert result(again.model, again.tokenizer) == first


def test_the_order_of_examples_is_kept(tiny_run: Path) -> None:
    run = load_run(tiny_run)
    assert run.recipe is not None
    split = load_splits(run.recipe, only=("test",)).splits["test"].select(range(50))
    whole = collect(run.model, run.tokenizer, encode_split(split, run.tokenizer, 48), batch_size=7)
    for position in (0, 13, 49):
        one = encode_split(split.select([position]), run.tokenizer, 48)
        alone = collect(run.model, run.tokenizer, one, batch_size=1)
        torch.testing.assert_close(whole.y[position], alone.y[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(whole.h[position], alone.h[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_metrics_equal_scikit_learns(classes: int) -> None:
    generator = np.random.default_rng(classes)
    labels, predicted = generator.integers(0, classes, 60), generator.integers(0, classes, (4, 60))
    predicted[3] = 1  # a constant answer
    samples = generator.integers(0, 3, (5, 60)).astype(float)
    counts = tally(predicted, labels, samples, classes=classes)
    for sample, weights in enumerate(samples):
        for way, guess in enumerate(predicted):
            average = "binary" if classes == 2 else "macro"
            wanted = {
                "accuracy": sklearn.metrics.accuracy_score(labels, guess, sample_weight=weights),
                "f1": sklearn.metrics.f1_score(
                    labels,
                    guess,
                    sample_weight=weights,
                    average=average,
                    labels=None if classes == 2 else range(classes),
                    zero_division=0,
                ),
                "matthews_correlation": sklearn.metrics.matthews_corrcoef(labels, guess, sample_weight=weights),
            }
            for name, metric in CLASSIFICATION.items():
                assert float(metric(counts)[sample, way]) == pytest.approx(wanted[name], abs=1e-9), name
