"""The measures beside a metric: the constant answer, the last layer, single classes, and sentences that warn."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
import torch

from dactcli.evaluation.evaluate import EvalSplit, judge
from dactcli.evaluation.measures import Truth, by_class, not_above_constant, one_layer_alone, unique_names
from dactcli.halting.decision import Decision
from dactcli.halting.rules import Full, make_rule
from dactcli.results import EvalResult, RuleResult
from dactcli.runs.outputs import LayerOutputs

NAMES = ["other", "same"]


def one_hot(classes: list[int] | np.ndarray, count: int = 2) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.as_tensor(classes), count).float()


def pairs(minority: int, found: int, false: int, majority: int = 700) -> tuple[torch.Tensor, list[int]]:
    """Answers that find some of a small class 0, and take some of class 1 for it."""
    labels = [0] * minority + [1] * majority
    answers = [0] * found + [1] * (minority - found) + [0] * false + [1] * (majority - false)
    return one_hot(answers), labels


def test_the_model_that_looked_excellent_is_told_so() -> None:
    """14% recall of the smaller class, one point above the constant answer, everything at layer 1."""
    answers, labels = pairs(300, found=42, false=32)
    y = answers.unsqueeze(1).repeat(1, 4, 1)
    y[:, 1:] = one_hot([1] * len(labels)).unsqueeze(1)
    h = torch.full((len(labels), 4), 1e-4)
    outputs = LayerOutputs(y, h, names=NAMES)
    result = judge(outputs, [Full(), make_rule("exact")], labels, EvalSplit("accuracy"))
    exact = result.rules["exact"]
    assert (exact.layers_mean, exact.agreement_with_full) == (1, 1)
    assert exact.metric == pytest.approx(0.71)
    assert exact.by_class["other"].recall == pytest.approx(0.14)
    majority, last = result.references["majority"], result.references["last_layer"]
    assert (majority.metric, majority.answer, last.metric) == (0.7, "same", 0.7)
    assert majority.agreement_with_full == last.agreement_with_full == pytest.approx(0.926)
    constant, collapse = result.notices
    assert constant.startswith(
        'full depth is not clearly better than always answering "same": accuracy 0.7100 against 0.7000'
    )
    assert "practically layer 1 alone" in collapse
    assert "100.00% of the examples" in collapse
    document = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert set(document["references"]) == {"majority", "last_layer"}
    assert document["full_depth"] == "mixture"
    assert document["rules"]["exact"]["by_class"]["other"]["recall"] == pytest.approx(0.14)


@pytest.mark.parametrize(
    ("found", "false", "metric", "told"),
    [
        (42, 32, "accuracy", True),
        (200, 20, "accuracy", False),
        (0, 0, "accuracy", True),
        # below the constant answer in accuracy, and well above it in the task's own metric
        (200, 250, "accuracy", True),
        (200, 250, "matthews_correlation", False),
        (90, 210, "matthews_correlation", True),  # as often class 0 among both: nothing learned
    ],
)
def test_which_models_are_above_the_majority(found: int, false: int, metric: str, told: bool) -> None:
    answers, labels = pairs(300, found=found, false=false)
    assert (not_above_constant(answers, Truth(labels, metric, NAMES)) is not None) == told


def test_one_class_alone_says_nothing_about_the_model() -> None:
    assert not_above_constant(one_hot([1, 1, 0]), Truth([1, 1, 1], "accuracy", NAMES)) is None


def test_the_constant_answer_of_a_regression_is_the_mean() -> None:
    labels = [1.0, 2.0, 3.0, 4.0] * 50
    y = torch.tensor(labels).view(-1, 1, 1).repeat(1, 2, 1)
    noise = torch.from_numpy(np.random.default_rng(0).permutation(labels)).float().view(-1, 1, 1).repeat(1, 2, 1)
    h = torch.full((200, 2), 0.5)

    def result(answers: torch.Tensor) -> EvalResult:
        return judge(LayerOutputs(answers, h, answer_range=(0.0, 5.0)), [Full()], labels, EvalSplit("pearson"))

    good, bad = result(y), result(noise)
    mean = good.references["mean"]
    assert (mean.answer, mean.metric, mean.metrics["mean_squared_error"]) == (2.5, None, 1.25)
    assert good.notices == []
    assert "always answering the mean label, 2.5: mean squared error" in bad.notices[0]
    assert good.rules["full"].by_class == {}


def test_without_labels_only_the_last_layer_stands_beside() -> None:
    y = one_hot([0, 1, 1, 0]).unsqueeze(1).repeat(1, 3, 1)
    y[0, :2] = one_hot([1])
    outputs = LayerOutputs(y, torch.full((4, 3), 0.9), objective="layers", names=NAMES)
    result = judge(outputs, [Full(), make_rule("layer:1")], None, EvalSplit("accuracy"))
    assert set(result.references) == {"last_layer"}
    assert result.references["last_layer"].metric is None
    assert (result.by_class_of, result.full_depth, result.notices) == ("full_depth", "last_layer", [])
    first = result.rules["layer:1"].by_class["other"]
    assert (first.examples, first.recall, first.harm, first.disagreement, first.layers_mean) == (2, None, None, 0.5, 1)


def test_recall_harm_and_disagreement_by_class() -> None:
    labels = [0, 0, 0, 0, 1, 1]
    full = one_hot([0, 0, 1, 1, 1, 0], 3)
    halted = Decision(torch.tensor([1, 2, 1, 2, 3, 3]), one_hot([0, 1, 0, 1, 1, 0], 3))
    found = by_class(halted, full, labels, ["a", "b", "c"])
    assert set(found) == {"a", "b"}
    a, b = found["a"], found["b"]
    assert (a.examples, a.recall, a.full_recall, a.harm, a.disagreement, a.layers_mean) == (4, 0.5, 0.5, 0.25, 0.5, 1.5)
    assert (b.examples, b.recall, b.full_recall, b.harm, b.disagreement, b.layers_mean) == (2, 0.5, 0.5, 0.0, 0.0, 3.0)


def test_classes_of_one_name_are_kept_apart() -> None:
    assert unique_names(["a", "b", "a"], 3) == ["a (0)", "b", "a (2)"]
    assert unique_names(None, 2) == ["0", "1"]


def halted_at(layer: int, layers: int = 4, *, strays: int = 0) -> LayerOutputs:
    """A thousand examples that all end at a layer, but for some that end at the next."""
    h = torch.ones(1000, layers)
    h[:, layer - 1] = 1e-3
    if strays:
        h[:strays, layer - 1], h[:strays, layer] = 1.0, 1e-3
    classes = np.random.default_rng(0).integers(0, 2, (1000, layers))
    return LayerOutputs(one_hot(classes.ravel()).view(1000, layers, 2), h)


@pytest.mark.parametrize(
    ("outputs", "told"),
    [
        (halted_at(1), "practically layer 1 alone"),
        (halted_at(2, strays=10), "practically layer 2 alone"),
        (halted_at(3, strays=200), None),
        (halted_at(4), "so the sound rules cannot stop early"),
        (halted_at(1, layers=1), None),
    ],
)
def test_a_mixture_that_is_one_layers_own(outputs: LayerOutputs, told: str | None) -> None:
    found = one_layer_alone(outputs, outputs.decide(Full()).answer)
    assert found is None if told is None else told in (found or "")


def test_a_few_examples_tell_nothing_about_the_model() -> None:
    """One text that halts at one layer is no collapse."""
    outputs = halted_at(1)
    few = LayerOutputs(outputs.y[:5], outputs.h[:5])
    assert one_layer_alone(few, few.decide(Full()).answer) is None


def test_layers_that_agree_are_no_collapse() -> None:
    """On an easy task all layers answer alike, and the weights are spread."""
    y = one_hot([0, 1] * 50).unsqueeze(1).repeat(1, 4, 1)
    outputs = LayerOutputs(y, torch.full((100, 4), 0.5))
    assert one_layer_alone(outputs, outputs.decide(Full()).answer) is None


def test_of_many_classes_the_worst_are_shown() -> None:
    labels = np.repeat(np.arange(20), 10)
    wrong = labels.copy()
    wrong[70:76] = 0  # class 7 loses six of ten, class 3 loses two
    wrong[30:32] = 0
    decision = Decision(torch.ones(200, dtype=torch.long), one_hot(wrong, 20))
    found = by_class(decision, one_hot(labels, 20), labels.tolist(), [str(n) for n in range(20)])
    shown = RuleResult(None, {}, 1, 1, [1], 1.0, by_class=found).classes_shown
    assert shown[:2] == ["7", "3"]
    assert len(shown) == 5
    few = {name: found[name] for name in ("3", "0", "7")}
    assert RuleResult(None, {}, 1, 1, [1], 1.0, by_class=few).classes_shown == ["3", "0", "7"]


def test_thousands_of_classes_take_little_memory() -> None:
    """Counts of all resamples at once would be several times that."""
    classes, examples = 10_000, 5_000
    labels = np.random.default_rng(0).integers(0, classes, examples)
    answers = torch.zeros(examples, classes, dtype=torch.bool)
    answers[torch.arange(examples), torch.from_numpy(labels)] = True
    answers[: examples // 2] = False
    truth = Truth(labels.tolist(), "accuracy", [str(n) for n in range(classes)])
    tracemalloc.start()
    assert not_above_constant(answers.byte(), truth) is None
    assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    tracemalloc.stop()


def test_precision_recall_and_f1_by_class_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import precision_recall_fscore_support

    draw = np.random.default_rng(3)
    labels, answers = draw.integers(0, 5, 400), draw.integers(0, 4, 400)  # class 4 is never answered
    exits = torch.from_numpy(draw.integers(1, 7, 400))
    found = by_class(Decision(exits, one_hot(answers, 6)), one_hot(labels, 6), labels.tolist(), list("abcdef"))
    wanted = precision_recall_fscore_support(labels, answers, labels=range(5), zero_division=np.nan)
    assert list(found) == list("abcde")
    for index, result in enumerate(found.values()):
        ours = (result.precision, result.recall, result.f1, result.examples)
        numbers = [np.nan if value is None else value for value in ours]
        np.testing.assert_allclose(numbers, [column[index] for column in wanted])
        assert result.layers_mean == pytest.approx(float(exits[labels == index].double().mean()))
    assert (found["e"].precision, found["e"].f1) == (None, 0.0)
    unlabelled = by_class(Decision(exits, one_hot(answers, 6)), one_hot(labels, 6), None, list("abcdef"))
    assert {(one.precision, one.f1) for one in unlabelled.values()} == {(None, None)}
