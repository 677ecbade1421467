"""Evaluation: metrics against their definitions, depths, agreement, and the same numbers after saving and loading."""

from __future__ import annotations

import io
import json
import math
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from dactcli.data.batches import encode_split
from dactcli.data.sources import load_splits
from dactcli.evaluation.evaluate import EvalSplit, evaluate, judge
from dactcli.evaluation.metrics import CLASSIFICATION, classification_metrics, regression_metrics, tally
from dactcli.halting.names import standard_rules
from dactcli.halting.rules import Exact, Full, make_rule
from dactcli.report.evaluation import render_evaluation
from dactcli.report.listings import render_runs
from dactcli.report.sweeps import render_sweep
from dactcli.report.training import summary_line
from dactcli.results import RunFacts
from dactcli.runs.load import load_run, save_model
from dactcli.runs.outputs import LayerOutputs, collect
from dactcli.training.sweeps import front


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
    constant = regression_metrics([1.0, 1.0], [0.0, 1.0])
    assert constant == {"pearson": None, "spearman": None, "mean_squared_error": 0.5}


def test_macro_f1_is_over_the_classes_that_are_there() -> None:
    """Of 77 classes that a model knows, a few examples hold three."""
    found = classification_metrics([0, 1, 2, 2], [0, 1, 2, 2], classes=77)
    assert (found["f1"], found["accuracy"], found["matthews_correlation"]) == (1, 1, 1)
    assert classification_metrics([5, 1, 2, 2], [0, 1, 2, 2], classes=77)["f1"] == pytest.approx(2 / 4)


@given(st.integers(2, 9), st.data())
@settings(max_examples=300)
def test_metrics_of_any_answers_equal_scikit_learns_or_are_undefined(classes: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 12))
    some = st.lists(st.integers(0, classes - 1), min_size=size, max_size=size)
    labels, predicted = data.draw(some), data.draw(some)
    known = data.draw(st.sampled_from([classes, 77]))  # classes that no example has change nothing
    found = classification_metrics(predicted, labels, classes=known)
    assert found["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(labels, predicted))
    if len(set(labels)) == 1:
        assert found["matthews_correlation"] is None
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wanted = sklearn.metrics.matthews_corrcoef(labels, predicted)
        assert found["matthews_correlation"] == pytest.approx(wanted, abs=1e-9)
        if len(set(predicted)) == 1:
            assert found["matthews_correlation"] == 0
    if known == 2 and 1 not in labels + predicted:
        assert found["f1"] is None
    else:
        average = "binary" if known == 2 else "macro"
        wanted = sklearn.metrics.f1_score(labels, predicted, average=average, zero_division=0)
        assert found["f1"] == pytest.approx(wanted, abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=9))
def test_correlations_are_numbers_or_undefined(pairs: list[tuple[int, int]]) -> None:
    x, y = [a / 3 for a, _ in pairs], [b / 7 for _, b in pairs]
    found = regression_metrics(x, y)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert found["pearson"] is None
        assert found["spearman"] is None
    else:
        assert found["pearson"] == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-9)
        assert -1.000001 <= float(found["spearman"] or 0) <= 1.000001


def test_what_is_undefined_is_null_with_one_note_why() -> None:
    y = torch.tensor([[[0.9, 0.1], [0.8, 0.2]], [[0.4, 0.6], [0.6, 0.4]]])
    h = torch.zeros(2, 2)
    split = EvalSplit("matthews_correlation", difficulty=[1, 1])
    result = judge(LayerOutputs(y, h, objective="layers"), [Full(), make_rule("layer:1")], [0, 0], split)
    assert [judged.metric for judged in result.rules.values()] == [None, None]
    assert result.rules["full"].metrics == {"accuracy": 1.0, "f1": None, "matthews_correlation": None}
    assert result.rules["layer:1"].metrics["f1"] == 0
    assert result.depth_by_difficulty["layer:1"] == {"1": 1.0, "spearman": None}
    assert result.notices == [
        "f1 is undefined under full: no example is of class 1 or was predicted as class 1",
        "matthews correlation is undefined: all labels are of one class",
    ]
    document = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert document["rules"]["full"]["metric"] is None
    assert document["notices"] == result.notices
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(render_evaluation(result))
    shown = console.export_text()
    assert len(re.findall(r"^(?:full|layer:1) +undefined ", shown, re.MULTILINE)) == 2
    assert "(Spearman undefined)" in shown
    assert "note: matthews correlation is undefined: all labels are of one class" in " ".join(shown.split())
    assert (
        summary_line(result) == " matthews correlation: full undefined at 2.00 layers, layer:1 undefined at 1.00 layers"
    )


def test_a_sweep_whose_metric_is_undefined_is_shown_and_is_no_best() -> None:
    runs = [
        {"run": f"runs/s/{name}", "values": {}, "rules": {"exact": {"metric": metric, "layers_mean": layers}}}
        for name, metric, layers in (("a", None, 1.0), ("b", 0.4, 2.0), ("c", 0.5, 3.0))
    ]
    assert front(runs, "exact") == ["runs/s/b", "runs/s/c"]
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(render_sweep({"rule": "exact", "runs": runs, "front": front(runs, "exact")}))
    assert "undefined" in console.export_text()
    listed = RunFacts("runs/a", "cola", True, True, "matthews_correlation", None, "exact", 1.0, 2, 0.0, 0.1)
    console.print(render_runs([listed]))
    assert "undefined" in console.export_text()


def test_what_a_rule_makes_of_outputs() -> None:
    y = torch.tensor([[[0.9, 0.1], [0.2, 0.8]], [[0.6, 0.4], [0.6, 0.4]], [[0.3, 0.7], [0.9, 0.1]]])
    h = torch.tensor([[0.0, 0.5], [1.0, 0.5], [1.0, 0.5]])
    split = EvalSplit("accuracy", difficulty=[0, 1, 1])
    result = judge(LayerOutputs(y, h), [Full(), Exact(), make_rule("layer:1")], [0, 0, 1], split)
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
    encoded = encode_split(load_splits(run.recipe, only=("test",)).splits["test"], run.tokenizer, 48, "cut")
    rules = standard_rules(mixes=True, regression=False)

    def result(model: object, tokenizer: object, batch_size: int = 64) -> object:
        return evaluate(model, tokenizer, encoded, rules, EvalSplit("accuracy"), batch_size=batch_size)  # type: ignore[arg-type]

    first = result(run.model, run.tokenizer)
    save_model(run.model, run.tokenizer, tmp_path)
    again = load_run(tmp_path)
    assert again.recipe is None
    assert result(again.model, again.tokenizer) == first


def test_the_order_of_examples_is_kept(tiny_run: Path) -> None:
    run = load_run(tiny_run)
    assert run.recipe is not None
    split = load_splits(run.recipe, only=("test",)).splits["test"].select(range(50))
    whole = collect(run.model, run.tokenizer, encode_split(split, run.tokenizer, 48, "cut"), batch_size=7)
    for position in (0, 13, 49):
        one = encode_split(split.select([position]), run.tokenizer, 48, "cut")
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
                    zero_division=0,
                ),
                "matthews_correlation": sklearn.metrics.matthews_corrcoef(labels, guess, sample_weight=weights),
            }
            for name, metric in CLASSIFICATION.items():
                assert float(metric(counts)[sample, way]) == pytest.approx(wanted[name], abs=1e-9), name
