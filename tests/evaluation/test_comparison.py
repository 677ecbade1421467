"""Comparison: areas by hand, envelopes chosen on validation, references, seeds, and the bootstrap's pairing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dactcli.errors import UsageError
from dactcli.evaluation.comparison import STATIC, Contender, area, compare, curve, value_at
from dactcli.evaluation.outputs import LayerOutputs
from dactcli.model.decide import decide
from dactcli.model.rules import make_rule


def contender(
    run: str = "a",
    *,
    seed: int = 0,
    objective: str = "dact",
    layers: int = 6,
    variant: str | None = None,
    examples: int = 300,
) -> Contender:
    """Layers that grow better, on labels shared by all contenders."""
    truth = torch.from_numpy(np.random.default_rng(99).integers(0, 2, 2 * examples))
    torch.manual_seed(seed)
    signal = torch.nn.functional.one_hot(truth, 2).float().unsqueeze(1) * torch.linspace(0.5, 2.5, layers).view(
        1, -1, 1
    )
    y = (signal + torch.randn(2 * examples, layers, 2)).softmax(-1)
    h = torch.sigmoid(torch.randn(2 * examples, layers) * 2 + 3 - torch.arange(1, layers + 1))
    labels = truth.numpy()
    return Contender(
        run=run,
        variant=variant or run,
        layers=layers,
        objective=objective,
        validation=LayerOutputs(y[:examples], h[:examples]),
        test=LayerOutputs(y[examples:], h[examples:]),
        validation_labels=labels[:examples],
        test_labels=labels[examples:],
    )


def test_areas_by_hand() -> None:
    one = np.array([0.5]), np.array([1.0])
    # before the point the layer-1 answer holds, after it the point: (0.25 * 0.8 + 0.5 * 1) / 0.75
    assert area(*one, 0.8, layers=4) == pytest.approx((0.25 * 0.8 + 0.5 * 1.0) / 0.75)
    two = np.array([0.75, 0.25]), np.array([1.0, 0.6])
    assert area(*two, 0.6, layers=4) == pytest.approx((0.5 * 0.8 + 0.25 * 1.0) / 0.75)
    assert area(np.array([1.0]), np.array([0.9]), 0.9, layers=1) == 0.9
    line = curve(*two, 0.6, layers=4)
    assert value_at(line, 0.5) == pytest.approx(0.8)
    assert value_at(line, 0.9) == 1.0
    assert value_at(curve(*one, 0.8, layers=4), 0.4) == 0.8
    assert value_at(curve(*one, 0.8, layers=4), 0.5) == 1.0


def test_points_are_those_of_the_rule_on_the_test_split() -> None:
    one = contender()
    result = compare([one], metric="accuracy", split="test")
    for name in ("exact", "confidence", "entropy", "patience", "layer"):
        for point in result.rules[name].points:
            text = name if point.threshold is None else f"{name}:{point.threshold!r}"
            decision = decide(make_rule(text), one.test.y, one.test.h)
            assert point.layers_mean == pytest.approx(float(decision.exit_layer.double().mean()))
            right = decision.answer.argmax(-1).numpy() == one.test_labels
            assert point.metric == pytest.approx(right.mean())
    layer_one = result.rules["layer"].first_layer_metric
    assert layer_one == pytest.approx((one.test.y[:, 0].argmax(-1).numpy() == one.test_labels).mean())


def test_the_envelope_is_chosen_on_validation() -> None:
    """Where test would choose other thresholds, validation's stand."""
    one = contender()
    swapped = Contender(**{**one.__dict__, "validation": one.test, "validation_labels": one.test_labels})
    honest = {point.threshold for point in compare([one], metric="accuracy", split="test").rules["max_prob"].points}
    peeking = {
        point.threshold for point in compare([swapped], metric="accuracy", split="test").rules["max_prob"].points
    }
    assert honest != peeking


def test_the_reference_is_plain_fine_tuning_where_it_is_given() -> None:
    alone = compare([contender()], metric="accuracy", split="test")
    assert (alone.reference_kind, alone.reference_runs) == ("full depth", ["a"])
    plain = contender("plain", seed=5, objective="last")
    both = compare([contender(), plain], metric="accuracy", split="test")
    assert (both.reference_kind, both.reference_runs) == ("plain fine-tuning", ["plain"])
    full = plain.test.y[:, -1].argmax(-1).numpy() == plain.test_labels
    assert both.reference_metric == pytest.approx(full.mean())
    assert STATIC not in both.rules  # a reference, and no way to run fewer layers


def test_encoders_cut_to_k_layers_make_one_curve() -> None:
    cut = [contender(f"k{k}", layers=k, objective="last", seed=k) for k in (6, 1, 3)]
    result = compare([contender(), *cut], metric="accuracy", split="test")
    one_layer = cut[1].test.y[:, -1].argmax(-1).numpy() == cut[1].test_labels
    assert result.rules[STATIC].first_layer_metric == pytest.approx(one_layer.mean())
    assert result.reference_runs == ["k6"]
    assert {point.layers_mean for point in result.rules[STATIC].points} <= {1.0, 3.0, 6.0}
    assert result.layers == 6


def test_a_sweep_of_runs_gives_exact_several_points() -> None:
    runs = [contender(f"tau{n}", seed=n) for n in range(3)]
    result = compare(runs, metric="matthews_correlation", split="test")
    assert {point.run for point in result.rules["exact"].points} <= {"tau0", "tau1", "tau2"}


def test_seeds_are_averaged_and_resampled() -> None:
    seeds = [contender(f"s{n}", seed=n, variant="same") for n in range(3)]
    together = compare(seeds, metric="accuracy", split="test")
    alone = [compare([one], metric="accuracy", split="test") for one in seeds]
    mean = np.mean([one.reference_metric for one in alone])
    assert together.reference_metric == pytest.approx(mean)
    (point,) = together.rules["exact"].points
    depths = [one.rules["exact"].points[0].layers_mean for one in alone]
    assert point.layers_mean == pytest.approx(np.mean(depths))


def test_differences_are_paired() -> None:
    """A rule differs from itself by nothing, in every sample; the interval of a difference is no wider than unpaired."""
    result = compare([contender()], metric="accuracy", split="test")
    same = result.difference("exact", "exact")
    assert (same.median, same.low, same.high) == (0, 0, 0)
    gap = result.difference("exact", "paper")
    exact, paper = result.rules["exact"].area, result.rules["paper"].area
    assert gap.high - gap.low < (exact.high - exact.low) + (paper.high - paper.low)


def test_runs_on_other_examples_are_refused() -> None:
    with pytest.raises(UsageError, match="b and a have different examples; compare runs of one task"):
        compare([contender("a"), contender("b", examples=200)], metric="accuracy", split="test")
    with pytest.raises(UsageError, match="compares classifiers only"):
        compare([contender()], metric="pearson", split="test")
