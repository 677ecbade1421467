"""Calibration: the certificate holds on populations of known risk, a wrong procedure does not, and small cases by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from certificate import allowed, boldest, certified, distinct_alone, heavy, rows_alone, simulate
from scipy.stats import binom

from dactcli.errors import UsageError
from dactcli.evaluation.calibrate import Measured, calibrate_budget, calibrate_risk
from dactcli.evaluation.certificate import Evidence, distinct_losses, evidence, last_certified, smallest_sample
from dactcli.evaluation.certified_layers import DELTA, Population
from dactcli.evaluation.requests import BudgetRequest, RiskRequest
from dactcli.evaluation.threshold_sweep import ThresholdSweep
from dactcli.halting.decision import decide
from dactcli.halting.rules import make_rule
from dactcli.results import Calibration
from dactcli.runs.outputs import LayerOutputs

FACTS: dict[str, Any] = {
    **dict.fromkeys(("weights_sha256", "config_sha256", "tokenizer_sha256", "data_fingerprint"), "x"),
    "dtype": "float32",
    "max_length": 48,
    "split": "calibration",
    "screened": ["train", "validation"],
}
THRESHOLDED = ["confidence", "answer_entropy", "entropy", "max_prob", "slack", "patience", "layer"]


def outputs(examples: int = 400, layers: int = 6, classes: int = 2, seed: int = 0) -> LayerOutputs:
    """Layers that grow surer, and units that grow more closed."""
    torch.manual_seed(seed)
    truth = torch.randn(examples, 1, classes) * 6
    depth = torch.arange(1, layers + 1).view(1, -1, 1)
    y = (truth * depth / layers + torch.randn(examples, layers, classes) * (1 - depth / (layers + 1))).softmax(-1)
    h = torch.sigmoid(torch.randn(examples, layers) * 2 + 4 - depth[..., 0])
    return LayerOutputs(y, h, names=[f"class {number}" for number in range(classes)])


def measured(data: LayerOutputs, labels: list[int] | None = None, inputs: list[int] | None = None) -> Measured:
    """A sample of distinct inputs, unless they are given."""
    numbers = np.arange(len(data.y)) if inputs is None else np.asarray(inputs)
    return Measured(data, numbers, labels)


def certify(sample: Measured, *rules: str, epsilon: float = 0.05, **request: Any) -> Calibration:
    """Certify the first attempt with all of delta."""
    made = [make_rule(f"{rule}:1") for rule in rules or ("confidence",)]
    return calibrate_risk(sample, made, RiskRequest(epsilon, DELTA, **request), delta=DELTA, facts=FACTS)


def test_the_smallest_sample_that_certifies_one_percent() -> None:
    """No disagreement certifies epsilon = 0.01 from 299 examples on at 0.05, and from 368 on at half of it."""
    for delta, smallest in ((0.05, 299), (0.025, 368)):
        assert smallest_sample(epsilon=0.01, delta=delta) == smallest
        for examples, index in ((smallest - 1, -1), (smallest, 0)):
            test = Evidence(np.array([0]), examples)
            assert last_certified([test], epsilon=0.01, delta=delta) == index


def test_testing_stops_at_the_first_failure() -> None:
    most = max(k for k in range(1000) if binom.cdf(k, 1000, 0.05) <= 0.05)
    counts = np.array([[0, most, most + 1, 0], [most + 1, 0, 0, 0], [0, 0, 0, most]])
    assert last_certified([Evidence(counts, 1000)], epsilon=0.05, delta=0.05).tolist() == [1, -1, 3]


def test_a_threshold_has_to_pass_every_test() -> None:
    loose, tight = Evidence(np.array([0, 0, 0]), 1000), Evidence(np.array([0, 0, 900]), 1000)
    assert last_certified([loose], epsilon=0.05, delta=0.05) == 2
    assert last_certified([loose, tight], epsilon=0.05, delta=0.05) == 1
    assert last_certified([loose, Evidence(np.array([0, 0, 0]), 10)], epsilon=0.05, delta=0.05) == -1


def test_copies_count_once_in_the_second_test_and_each_in_the_first() -> None:
    losses = np.array([[False, True, False, False], [True, True, False, True]])
    inputs = np.array([7, 7, 2, 9])
    assert distinct_losses(losses, inputs).tolist() == [[False, True, False], [False, True, True]]  # 2, 7, 9
    rows, distinct = evidence(losses, inputs)
    assert (rows.losses.tolist(), rows.examples) == ([1, 3], 4)
    assert (distinct.losses.tolist(), distinct.examples) == ([1, 2], 3)


@pytest.mark.parametrize("name", THRESHOLDED)
def test_a_sweep_is_the_rule_at_every_threshold_from_cautious_to_bold(name: str) -> None:
    data = outputs(60)
    rule = make_rule(f"{name}:1")
    grid = rule.grid(6, 2)
    sweep = ThresholdSweep(rule, grid, data)
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
    grid = 100
    uniform = generator.random(members)
    above = int(members * epsilon) + 1  # the smallest risk above epsilon
    everywhere = np.tile(np.argsort(uniform) < above, (grid, 1))
    cliff = np.vstack([np.zeros((grid // 2, members), bool), everywhere[: grid // 2]])
    independent = np.array([generator.permutation(members) < above for _ in range(grid)])
    rising = np.array([uniform < 0.2 * step / grid for step in range(grid)])
    return {"everywhere": everywhere, "cliff": cliff, "independent": independent, "rising": rising}


def population(losses: np.ndarray, copies: int = 1) -> Population:
    """Members that are equally likely and all distinct."""
    members = losses.shape[1]
    return Population(
        losses, np.arange(members), np.full(members, 1 / members), np.ones(len(losses) + 1), copies=copies
    )


@pytest.mark.parametrize("name", ["everywhere", "cliff", "independent", "rising"])
@pytest.mark.parametrize("size", [300, 1000])
def test_the_certificate_holds_on_worst_cases_and_the_wrong_procedure_fails(name: str, size: int) -> None:
    everyone, draws = population(populations()[name]), 500
    broken, _ = simulate(everyone, size, 0.05, draws, certified)
    assert broken <= allowed(draws)
    if name != "rising":
        # the case does tempt: the test on all rows alone is at its bound
        assert simulate(everyone, size, 0.05, draws, rows_alone)[0] > 0
    wrong, _ = simulate(everyone, size, 0.05, draws, boldest)
    assert wrong > 3 * allowed(draws)


def test_copies_of_few_texts_certify_nothing() -> None:
    """Four texts, a hundred times each, say nothing of other texts."""
    losses = populations()["rising"]
    few, draws = population(losses, copies=100), 500
    assert simulate(few, 400, 0.05, draws, certified)[0] == 0
    assert simulate(few, 400, 0.05, draws, rows_alone)[0] > 3 * allowed(draws)
    some = population(losses, copies=4)
    assert simulate(some, 1000, 0.05, draws, certified)[0] <= allowed(draws)
    assert simulate(some, 1000, 0.05, draws, rows_alone)[0] > 2 * allowed(draws)


def test_a_frequent_text_that_disagrees_is_not_counted_once() -> None:
    everyone = heavy(population(populations()["rising"]), 0.05)
    draws = 500
    assert simulate(everyone, 1000, 0.05, draws, certified)[0] <= allowed(draws)
    assert simulate(everyone, 1000, 0.05, draws, distinct_alone)[0] > 3 * allowed(draws)


def test_four_texts_a_hundred_times_are_not_certified() -> None:
    data = outputs(4)
    copied = replace(data, y=data.y.repeat(100, 1, 1), h=data.h.repeat(100, 1))
    found = certify(measured(copied, inputs=[0, 1, 2, 3] * 100), epsilon=0.01)
    assert (found.certified, found.examples, found.distinct) == (False, 400, 4)
    assert "400 examples (4 distinct inputs)" in found.promise


def test_a_certificate_says_what_it_promises() -> None:
    data = outputs(2000)
    found = certify(measured(data))
    assert found.certified
    assert found.promise == (
        "with probability at least 0.95 over the draw of the calibration sample, a fresh example from the same "
        "distribution is answered differently from full depth with probability at most 0.05"
    )
    decision = decide(make_rule(found.rule), data.y, data.h)
    assert float(decision.exit_layer.double().mean()) == found.layers_mean
    differ = decision.answer.argmax(-1) != decide(make_rule("full"), data.y, data.h).answer.argmax(-1)
    assert (
        int(differ.sum())
        == found.observed
        == round(sum(one.disagreement * one.examples for one in found.classes.values()))
    )
    assert found.layers_mean < float(decide(make_rule("exact"), data.y, data.h).exit_layer.double().mean())


def test_a_promise_by_class_holds_in_each_and_names_the_small_ones() -> None:
    """One class holds all disagreements: the risk over all examples passes, in that class it does not."""
    examples = 4000
    full = torch.arange(examples) % 2  # classes 0 and 1 at full depth
    full[:8] = 2
    y = torch.nn.functional.one_hot(full, 3).float().unsqueeze(1).repeat(1, 6, 1) * 0.98 + 0.01
    late = (full == 1).nonzero()[:60, 0]  # these are quite sure of class 0 until the last layer
    y[late, :-1] = torch.tensor([0.97, 0.02, 0.01])
    sample = measured(LayerOutputs(y, torch.ones(examples, 6), names=["class 0", "class 1", "class 2"]))
    whole = certify(sample, "max_prob", epsilon=0.02)
    assert (whole.certified, whole.layers_mean, whole.observed) == (True, 1, 60)
    assert {name: round(one.disagreement * one.examples) for name, one in whole.classes.items()} == {
        "class 0": 0,
        "class 1": 60,
        "class 2": 0,
    }
    each = certify(sample, "max_prob", epsilon=0.02, by_class=True)
    assert (each.certified, each.observed, each.small_classes) == (True, 0, ["class 2"])
    assert (
        "a fresh example of every class at full depth (but class 2: too few examples), drawn from that class's "
        "distribution, is answered differently"
    ) in each.promise


def test_harm_and_recall_by_class_stand_beside_the_promise() -> None:
    data = outputs(1000)
    labels = decide(make_rule("full"), data.y, data.h).answer.argmax(-1).tolist()
    found = certify(measured(data, labels), loss="harm")
    for one in found.classes.values():
        assert one.full_recall == 1
        assert one.harm == one.disagreement
        assert one.recall == pytest.approx(1 - one.disagreement)


def test_what_training_used_is_named_in_the_promise() -> None:
    data = outputs(2000)
    found = certify(measured(data))
    used = Calibration(**{**found.__dict__, "left_out": {"train": 3}})
    assert "a fresh example from the same distribution whose input was not used in training is answered" in used.promise
    unknown = Calibration(**{**found.__dict__, "screened": []})
    assert unknown.promise.startswith("provided that no calibration example was used in training, with probability")


def test_several_rules_share_delta_and_the_shallowest_wins() -> None:
    sample = measured(outputs(2000))
    names = ("confidence", "slack", "max_prob")
    together = certify(sample, *names)
    assert together.rules_tried == [*names]
    alone = [one.layers_mean for one in (certify(sample, name) for name in names) if one.certified]
    assert together.layers_mean is not None
    assert together.layers_mean >= min(mean for mean in alone if mean is not None)
    assert together.layers_mean == pytest.approx(min(mean for mean in alone if mean is not None), abs=0.1)


def test_where_nothing_can_be_certified_a_sound_rule_stands_in() -> None:
    found = certify(measured(outputs(100)), epsilon=0.01)
    assert (found.rule, found.certified, found.threshold) == ("exact", False, None)
    assert found.promise == (
        "no threshold of confidence can be certified for a risk of 0.01 with 100 examples (100 distinct inputs); "
        "exact is used instead, which never changes the class"
    )


def test_the_sound_rule_wins_where_it_runs_no_more_layers() -> None:
    """Halting that closes at once proves every answer after layer 1; no threshold can do better."""
    data = outputs(2000)
    closed = LayerOutputs(data.y, torch.zeros_like(data.h))
    found = certify(measured(closed), "confidence")
    assert (found.rule, found.certified, found.layers_mean) == ("exact", False, 1.0)
    assert found.outdone is not None
    assert found.outdone.startswith("confidence:")
    assert found.promise == (
        "exact never changes the class and runs 1.00 layers on the mean of the calibration sample; "
        f"{found.outdone}, which can be certified (disagreement at most 5%, delta 0.05), runs "
        f"{found.outdone_layers_mean:.2f}, so exact promises more and costs no more"
    )


@pytest.mark.parametrize("name", THRESHOLDED)
def test_thresholds_are_short_enough_to_be_typed(name: str) -> None:
    grid = make_rule(f"{name}:1").grid(6, 2)
    assert len(set(grid)) == len(grid)
    assert all(len(repr(threshold)) <= 10 for threshold in grid)


def test_harm_counts_only_what_full_depth_had_right() -> None:
    data = outputs(500)
    rule = make_rule("max_prob:1")
    sweep = ThresholdSweep(rule, rule.grid(6, 2), data)
    labels = torch.randint(0, 2, (500,)).tolist()
    harm = sweep.losses("harm", labels)
    assert (harm <= sweep.losses("disagreement", None)).all()
    right = sweep.full == np.asarray(labels)
    assert (harm[-1] == (right & (sweep.classes[-1] != np.asarray(labels)))).all()
    with pytest.raises(UsageError, match="loss=harm needs labels"):
        sweep.losses("harm", None)


@pytest.mark.parametrize("budget", [1.0, 2.5, 4.0])
def test_a_budget_is_met_as_closely_as_the_grid_allows(budget: float) -> None:
    sample = measured(outputs(2000))
    found = calibrate_budget(sample, make_rule("confidence:1"), BudgetRequest(budget), facts=FACTS)
    assert found.layers_mean == pytest.approx(budget, abs=0.15)
    assert "promises nothing" in found.promise


@pytest.mark.parametrize("name", THRESHOLDED)
def test_one_layer_is_calibrated_like_any_other_number(name: str) -> None:
    sample = measured(outputs(500, layers=1))
    found = certify(sample, name)
    assert (found.rule, found.layers_mean, found.outdone_layers_mean) == ("exact", 1, 1)  # exact costs no more
    assert (found.outdone or "").startswith(f"{name}:")
    assert calibrate_budget(sample, make_rule(f"{name}:1"), BudgetRequest(1.0), facts=FACTS).layers_mean == 1


def test_rules_without_a_threshold_are_refused() -> None:
    with pytest.raises(UsageError, match="rule exact has no threshold to choose"):
        make_rule("exact").grid(6, 2)


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (lambda: RiskRequest(1.5), "risk is 1.5; give a number between 0 and 1"),
        (lambda: RiskRequest(0.1, 0.0), "delta is 0; give a number between 0 and 1"),
        (lambda: RiskRequest(0.1, loss="harmful"), "loss 'harmful' is unknown; did you mean harm"),
        (lambda: BudgetRequest(float("nan")), "budget is nan; give a number above 0"),
        (lambda: BudgetRequest(2, ("confidence", "slack")), "a budget is met by one rule"),
    ],
)
def test_requests_that_do_not_fit_are_refused(request_: Any, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        request_()
