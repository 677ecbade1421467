"""Calibration: the certificate holds on populations of known risk, a wrong procedure does not, and small cases by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from certificate import DELTA, allowed, boldest, certified, simulate
from scipy.stats import binom

from dactcli.errors import UsageError
from dactcli.evaluation.calibration import Sweep, calibrate_budget, calibrate_risk, last_certified, thresholds
from dactcli.evaluation.outputs import LayerOutputs
from dactcli.model.decide import decide
from dactcli.model.rules import make_rule

FACTS = {"weights_sha256": "w", "dtype": "float32", "max_length": 48, "split": "calibration", "data_fingerprint": "d"}
THRESHOLDED = ["confidence", "answer_entropy", "entropy", "max_prob", "slack", "patience", "layer"]


def outputs(examples: int = 400, layers: int = 6, classes: int = 2, seed: int = 0) -> LayerOutputs:
    """Layers that grow surer, and units that grow more closed."""
    torch.manual_seed(seed)
    truth = torch.randn(examples, 1, classes) * 6
    depth = torch.arange(1, layers + 1).view(1, -1, 1)
    y = (truth * depth / layers + torch.randn(examples, layers, classes) * (1 - depth / (layers + 1))).softmax(-1)
    h = torch.sigmoid(torch.randn(examples, layers) * 2 + 4 - depth[..., 0])
    return LayerOutputs(y, h)


def test_the_smallest_sample_that_certifies_one_percent() -> None:
    """No disagreement certifies epsilon = 0.01 at delta = 0.05 from 299 examples on."""
    assert last_certified(np.array([0]), 298, epsilon=0.01, delta=0.05) == -1
    assert last_certified(np.array([0]), 299, epsilon=0.01, delta=0.05) == 0


def test_testing_stops_at_the_first_failure() -> None:
    most = max(k for k in range(1000) if binom.cdf(k, 1000, 0.05) <= 0.05)
    counts = np.array([[0, most, most + 1, 0], [most + 1, 0, 0, 0], [0, 0, 0, most]])
    assert last_certified(counts, 1000, epsilon=0.05, delta=0.05).tolist() == [1, -1, 3]


@pytest.mark.parametrize("name", THRESHOLDED)
def test_a_sweep_is_the_rule_at_every_threshold_from_cautious_to_bold(name: str) -> None:
    data = outputs(60)
    rule = make_rule(f"{name}:1")
    grid = thresholds(rule, layers=6, classes=2)
    sweep = Sweep(rule, grid, data, mixes=True)
    assert (np.diff(sweep.layers_mean) <= 0).all()
    assert len(grid) >= (300 if name not in ("patience", "layer") else 5)
    for index in {0, len(grid) // 3, len(grid) // 2, len(grid) - 1}:
        decision = decide(make_rule(f"{name}:{grid[index]!r}"), data.y, data.h)
        assert decision.exit_layer.tolist() == sweep.exits[index].tolist()
        assert decision.answer.argmax(-1).tolist() == sweep.classes[index].tolist()


def populations() -> dict[str, np.ndarray]:
    """Losses [T, P] built to break a promise: just above epsilon everywhere, a cliff, and independent thresholds."""
    generator = np.random.default_rng(1)
    members, epsilon = 4000, 0.05
    grid = 300
    uniform = generator.random(members)
    above = int(members * epsilon) + 1  # the smallest risk above epsilon
    everywhere = np.tile(np.argsort(uniform) < above, (grid, 1))
    cliff = np.vstack([np.zeros((grid // 2, members), bool), everywhere[: grid // 2]])
    independent = np.array([generator.permutation(members) < above for _ in range(grid)])
    rising = np.array([uniform < 0.2 * step / grid for step in range(grid)])
    return {"everywhere": everywhere, "cliff": cliff, "independent": independent, "rising": rising}


@pytest.mark.parametrize("name", ["everywhere", "cliff", "independent", "rising"])
@pytest.mark.parametrize("size", [300, 1000])
def test_the_certificate_holds_on_worst_cases_and_the_wrong_procedure_fails(name: str, size: int) -> None:
    losses, draws = populations()[name], 1000
    depths = np.ones(len(losses) + 1)
    broken, _ = simulate(losses, depths, size, 0.05, draws, certified)
    assert broken <= allowed(draws)
    if name != "rising":
        assert broken > 0  # the case does tempt
    wrong, _ = simulate(losses, depths, size, 0.05, draws, boldest)
    assert wrong > 3 * allowed(draws)


def test_a_certificate_says_what_it_promises() -> None:
    data = outputs(2000)
    found = calibrate_risk(
        data,
        [make_rule("confidence:1")],
        labels=None,
        loss="disagreement",
        epsilon=0.05,
        delta=DELTA,
        mixes=True,
        facts=FACTS,
    )
    assert found.certified
    assert found.promise == (
        "with probability at least 0.95 over the draw of the calibration sample, a fresh example from the same "
        "distribution is answered differently from full depth with probability at most 0.05"
    )
    decision = decide(make_rule(found.rule), data.y, data.h)
    assert float(decision.exit_layer.double().mean()) == found.layers_mean
    differ = decision.answer.argmax(-1) != decide(make_rule("full"), data.y, data.h).answer.argmax(-1)
    assert int(differ.sum()) == found.observed
    assert found.layers_mean < float(decide(make_rule("exact"), data.y, data.h).exit_layer.double().mean())


def test_several_rules_share_delta_and_the_shallowest_wins() -> None:
    data = outputs(2000)
    rules = [make_rule(f"{name}:1") for name in ("confidence", "slack", "max_prob")]

    def certify(*chosen: object) -> object:
        return calibrate_risk(
            data, list(chosen), labels=None, loss="disagreement", epsilon=0.05, delta=DELTA, mixes=True, facts=FACTS
        )  # type: ignore[arg-type]

    together = certify(*rules)
    assert together.rules_tried == ["confidence", "slack", "max_prob"]  # type: ignore[attr-defined]
    alone = [one.layers_mean for one in map(certify, rules) if one.certified]  # type: ignore[attr-defined]
    assert together.layers_mean >= min(alone)  # type: ignore[attr-defined]
    assert together.layers_mean == pytest.approx(min(alone), abs=0.1)  # type: ignore[attr-defined]


def test_where_nothing_can_be_certified_a_sound_rule_stands_in() -> None:
    data = outputs(100)
    found = calibrate_risk(
        data,
        [make_rule("confidence:1")],
        labels=None,
        loss="disagreement",
        epsilon=0.01,
        delta=DELTA,
        mixes=True,
        facts=FACTS,
    )
    assert (found.rule, found.certified, found.threshold) == ("exact", False, None)
    assert found.promise == (
        "no threshold of confidence can be certified for a risk of 0.01 with 100 examples; exact is used instead, "
        "which never changes the class"
    )


def test_harm_counts_only_what_full_depth_had_right() -> None:
    data = outputs(500)
    rule = make_rule("max_prob:1")
    sweep = Sweep(rule, thresholds(rule, layers=6, classes=2), data, mixes=True)
    labels = torch.randint(0, 2, (500,)).tolist()
    harm = sweep.losses("harm", labels)
    assert (harm <= sweep.losses("disagreement", None)).all()
    right = sweep.full == np.asarray(labels)
    assert (harm[-1] == (right & (sweep.classes[-1] != np.asarray(labels)))).all()
    with pytest.raises(UsageError, match="loss=harm needs labels"):
        sweep.losses("harm", None)


@pytest.mark.parametrize("budget", [1.0, 2.5, 4.0])
def test_a_budget_is_met_as_closely_as_the_grid_allows(budget: float) -> None:
    data = outputs(2000)
    found = calibrate_budget(data, make_rule("confidence:1"), budget=budget, mixes=True, facts=FACTS)
    assert found.layers_mean == pytest.approx(budget, abs=0.15)
    assert "promises nothing" in found.promise
    with pytest.raises(UsageError, match="a budget of 7 layers does not fit a model of 6"):
        calibrate_budget(data, make_rule("confidence:1"), budget=7, mixes=True, facts=FACTS)


def test_rules_without_a_threshold_are_refused() -> None:
    with pytest.raises(UsageError, match="rule exact has no threshold to choose"):
        thresholds(make_rule("exact"), layers=6, classes=2)
