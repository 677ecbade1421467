"""Comparison: areas by hand, envelopes chosen on validation, references, seeds, and the bootstrap's pairing."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from dactcli.errors import UsageError
from dactcli.evaluation.certified_layers import Population, certified_layers, expected_layers
from dactcli.evaluation.comparison import STATIC, Entrant, compare
from dactcli.evaluation.curves import area, curve, value_at
from dactcli.halting.decision import decide
from dactcli.halting.rules import make_rule
from dactcli.runs.outputs import LayerOutputs


def entrant(
    run: str = "a",
    *,
    seed: int = 0,
    objective: str = "dact",
    layers: int = 6,
    variant: str | None = None,
    examples: int = 300,
) -> Entrant:
    """Layers that grow better, on labels shared by all entrants."""
    truth = torch.from_numpy(np.random.default_rng(99).integers(0, 2, 2 * examples))
    torch.manual_seed(seed)
    signal = torch.nn.functional.one_hot(truth, 2).float().unsqueeze(1) * torch.linspace(0.5, 2.5, layers).view(
        1, -1, 1
    )
    y = (signal + torch.randn(2 * examples, layers, 2)).softmax(-1)
    h = torch.sigmoid(torch.randn(2 * examples, layers) * 2 + 3 - torch.arange(1, layers + 1))
    labels = truth.numpy()
    return Entrant(
        run=run,
        variant=variant or run,
        validation=LayerOutputs(y[:examples], h[:examples], objective=objective),
        test=LayerOutputs(y[examples:], h[examples:], objective=objective),
        validation_labels=labels[:examples],
        test_labels=labels[examples:],
    )


def test_areas_by_hand() -> None:
    one = np.array([0.5]), np.array([1.0])
    assert area(*one, 0.5) == pytest.approx(1.0)
    two = np.array([0.75, 0.25]), np.array([1.0, 0.6])
    # from its first point: half the width at 0.8 on the mean, then a quarter at 1
    assert area(*two, 0.25) == pytest.approx((0.5 * 0.8 + 0.25 * 1.0) / 0.75)
    assert area(*two, 0.5) == pytest.approx((0.25 * 0.9 + 0.25 * 1.0) / 0.5)
    assert area(np.array([1.0]), np.array([0.9]), 1.0) == 0.9
    with pytest.raises(ValueError, match="begins at"):
        area(*one, 0.4)
    line = curve(*two)
    assert value_at(line, 0.5) == pytest.approx(0.8)
    assert value_at(line, 0.9) == 1.0
    assert value_at(curve(*one), 0.4) is None
    assert value_at(curve(*one), 0.5) == 1.0


def test_a_rule_has_no_figure_at_budgets_at_which_it_never_runs() -> None:
    """`exact` has one point: below its layers there is nothing to report, and nothing of layer 1's answer."""
    result = compare([entrant()], metric="accuracy", split="test")
    exact, swept = result.rules["exact"], result.rules["confidence"]
    (point,) = exact.points
    assert 3 < point.layers_mean < 5.5
    assert exact.layers_from == point.layers_mean
    assert (exact.metric_at["0.25"], exact.metric_at["0.5"]) == (None, None)
    assert exact.metric_at["0.75"] == (point.metric if point.layers_mean <= 4.5 else None)
    assert exact.area is None
    assert swept.area is not None
    assert swept.layers_from == 1
    assert all(metric is not None for metric in swept.metric_at.values())
    names = list(result.rules)
    assert names.index("exact") > names.index("confidence")
    document = json.loads(json.dumps(result.to_json(), allow_nan=False))
    area = result.rules["confidence"].area
    assert area is not None
    assert document["rules"]["confidence"]["area"] == {"median": area.value, "low": area.low, "high": area.high}
    assert set(document["rules"]["exact"]["area_difference_to_best"]) == {"median", "low", "high", "layers_from"}
    assert document["rules"]["exact"]["area"] is None
    assert document["rules"]["exact"]["metric_at"]["0.25"] is None
    assert "curves" not in document["rules"]["exact"]
    assert "measurements" in document["notices"][0]


def test_areas_are_compared_over_the_layers_that_both_rules_run() -> None:
    result = compare([entrant()], metric="accuracy", split="test")
    (point,) = result.rules["exact"].points
    gap = result.difference("exact", "confidence")
    assert gap.layers_from == pytest.approx(point.layers_mean)
    swept = result.rules["confidence"].points
    xs = np.array([one.layers_mean / 6 for one in swept])
    ys = np.array([one.metric / result.reference_metric for one in swept])
    theirs = area(xs, ys, point.layers_mean / 6)
    assert gap.value == pytest.approx(point.metric / result.reference_metric - theirs)
    assert gap.low <= gap.value <= gap.high


def test_a_comparison_has_its_measures_beside_it() -> None:
    one = entrant()
    result = compare([one], metric="accuracy", split="test")
    shares = np.bincount(one.test_labels) / len(one.test_labels)
    assert result.majority_metric == pytest.approx(shares.max())
    last = one.test.y[:, -1].argmax(-1).numpy()
    assert result.last_layer_metric == pytest.approx((last == one.test_labels).mean())
    assert compare([one], metric="matthews_correlation", split="test").majority_metric == 0


def test_points_are_those_of_the_rule_on_the_test_split() -> None:
    one = entrant()
    result = compare([one], metric="accuracy", split="test")
    for name in ("exact", "confidence", "entropy", "patience", "layer"):
        for point in result.rules[name].points:
            text = name if point.threshold is None else f"{name}:{point.threshold!r}"
            decision = decide(make_rule(text), one.test.y, one.test.h)
            assert point.layers_mean == pytest.approx(float(decision.exit_layer.double().mean()))
            right = decision.answer.argmax(-1).numpy() == one.test_labels
            assert point.metric == pytest.approx(right.mean())
    first = result.rules["layer"].points[0]
    assert first.metric == pytest.approx((one.test.y[:, 0].argmax(-1).numpy() == one.test_labels).mean())


def test_the_envelope_is_chosen_on_validation() -> None:
    """Where test would choose other thresholds, validation's stand."""
    one = entrant()
    swapped = Entrant(**{**one.__dict__, "validation": one.test, "validation_labels": one.test_labels})
    honest = {point.threshold for point in compare([one], metric="accuracy", split="test").rules["max_prob"].points}
    peeking = {
        point.threshold for point in compare([swapped], metric="accuracy", split="test").rules["max_prob"].points
    }
    assert honest != peeking


def test_the_reference_is_plain_fine_tuning_where_it_is_given() -> None:
    alone = compare([entrant()], metric="accuracy", split="test")
    assert (alone.reference_kind, alone.reference_runs) == ("full depth", ["a"])
    plain = entrant("plain", seed=5, objective="last")
    both = compare([entrant(), plain], metric="accuracy", split="test")
    assert (both.reference_kind, both.reference_runs) == ("plain fine-tuning", ["plain"])
    full = plain.test.y[:, -1].argmax(-1).numpy() == plain.test_labels
    assert both.reference_metric == pytest.approx(full.mean())
    assert STATIC not in both.rules  # a reference, and no way to run fewer layers


def test_encoders_cut_to_k_layers_make_one_curve() -> None:
    cut = [entrant(f"k{k}", layers=k, objective="last", seed=k) for k in (6, 1, 3)]
    result = compare([entrant(), *cut], metric="accuracy", split="test")
    one_layer = cut[1].test.y[:, -1].argmax(-1).numpy() == cut[1].test_labels
    assert result.rules[STATIC].points[0].metric == pytest.approx(one_layer.mean())
    assert result.reference_runs == ["k6"]
    assert {point.layers_mean for point in result.rules[STATIC].points} <= {1.0, 3.0, 6.0}
    assert result.layers == 6


def test_a_sweep_of_runs_gives_exact_several_points() -> None:
    runs = [entrant(f"tau{n}", seed=n) for n in range(3)]
    result = compare(runs, metric="matthews_correlation", split="test")
    assert {point.run for point in result.rules["exact"].points} <= {"tau0", "tau1", "tau2"}


def test_seeds_are_averaged_and_resampled() -> None:
    seeds = [entrant(f"s{n}", seed=n, variant="same") for n in range(3)]
    together = compare(seeds, metric="accuracy", split="test")
    alone = [compare([one], metric="accuracy", split="test") for one in seeds]
    mean = np.mean([one.reference_metric for one in alone])
    assert together.reference_metric == pytest.approx(mean)
    (point,) = together.rules["exact"].points
    depths = [one.rules["exact"].points[0].layers_mean for one in alone]
    assert point.layers_mean == pytest.approx(np.mean(depths))


def test_differences_are_paired() -> None:
    """A rule differs from itself by nothing, in every sample; the interval of a difference is no wider than unpaired."""
    result = compare([entrant()], metric="accuracy", split="test")
    same = result.difference("exact", "exact")
    assert (same.value, same.low, same.high) == (0, 0, 0)
    gap = result.difference("max_prob", "confidence")
    mine, theirs = result.rules["max_prob"].area, result.rules["confidence"].area
    assert mine is not None
    assert theirs is not None
    assert gap.high - gap.low < (mine.high - mine.low) + (theirs.high - theirs.low)


def test_runs_on_other_examples_are_refused() -> None:
    with pytest.raises(UsageError, match="b and a have different examples; compare runs of one task"):
        compare([entrant("a"), entrant("b", examples=200)], metric="accuracy", split="test")
    with pytest.raises(UsageError, match="compares classifiers only"):
        compare([entrant()], metric="pearson", split="test")


def test_runs_that_cannot_stop_early_have_no_curve() -> None:
    with pytest.raises(UsageError, match="plain cannot stop early, so there is no curve to draw; add a run with exits"):
        compare([entrant("plain", objective="last")], metric="accuracy", split="test")


def test_certified_layers_are_those_of_certified_thresholds() -> None:
    inputs = np.arange(300)
    calibrated = [
        replace(one, calibration=one.validation, inputs=inputs)
        for one in (entrant("a"), entrant("b", seed=1, variant="a"))
    ]
    found = compare(calibrated, metric="accuracy", split="test", rules=["max_prob", "exact", "layer"])
    for name, rule in found.rules.items():
        assert list(rule.certified_layers) == ["0.01", "0.02"]
        assert rule.certified_layers["0.02"] <= rule.certified_layers["0.01"] <= 6, name
    exact = np.mean([one.validation.decide(make_rule("exact")).exit_layer.double().mean() for one in calibrated])
    assert found.rules["exact"].certified_layers["0.01"] == pytest.approx(exact)
    # 300 examples certify 1% only where none disagrees, which no shallower layer reaches
    assert found.rules["layer"].certified_layers["0.01"] == 6
    assert found.to_json()["rules"]["layer"]["certified_layers"]["0.01"] == 6
    other = replace(entrant("c", seed=2), calibration=entrant("c", seed=2).validation, inputs=inputs)
    assert compare([*calibrated, other], metric="accuracy", split="test").rules["max_prob"].certified_layers == {}


def test_a_rule_that_never_errs_runs_the_layers_of_its_boldest_threshold() -> None:
    never, depths = np.zeros((3, 400), dtype=bool), np.array([5.0, 3.0, 2.0])
    wrong = never.copy()
    wrong[2, :40] = True  # the boldest threshold errs on a tenth
    different, copies = np.arange(400), np.arange(400) // 2
    assert certified_layers(never, different, depths, 0.01, otherwise=6) == 2
    assert certified_layers(wrong, different, depths, 0.01, otherwise=6) == 3
    assert certified_layers(never, copies, depths, 0.01, otherwise=6) == 6  # 200 distinct inputs are too few
    assert expected_layers(Population.even(never, depths, otherwise=6), 0.01, size=400, draws=50) == 2
    assert expected_layers(Population.even(never, depths, otherwise=6), 0.01, size=298, draws=50) == 6
    assert expected_layers(Population.even(wrong, depths, otherwise=6), 0.02, size=400, draws=50) == 3
