"""Invariants 2 and 5: sound rules never change the class, `exact` is never later than `paper`; every rule as defined."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import adversaries, recursion

from dactcli.errors import UsageError
from dactcli.halting.base import Rule
from dactcli.halting.decision import decide, exit_layers, score_layers
from dactcli.halting.limits import AtMost
from dactcli.halting.recursion import log_answer
from dactcli.halting.rules import RULES, Exact, Full, Paper, Tolerance, make_rule
from dactcli.halting.state import HaltingState


def softmax(logits: torch.Tensor) -> torch.Tensor:
    return logits.softmax(-1)


@st.composite
def adversarial(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """y [B, N, C] and h [B, N], many of them near the edge at which a sound rule may just halt."""
    layers, classes = draw(st.integers(1, 24)), draw(st.integers(2, 10))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    batch = 64
    sharpness = draw(st.sampled_from([0.1, 1.0, 10.0, 1000.0]))
    y = softmax(torch.randn(batch, layers, classes, generator=generator) * sharpness)
    steepness = draw(st.sampled_from([0.5, 2.0, 10.0]))
    h = torch.sigmoid(torch.randn(batch, layers, generator=generator) * steepness - draw(st.floats(-3, 8)))
    kind = draw(st.sampled_from(["random", "runner-up", "edge", "zero-one"]))
    if kind == "zero-one":
        h = (h > 0.5).float()
    if kind in ("runner-up", "edge"):  # from some layer on, the runner-up takes all that is left
        start = draw(st.integers(0, layers - 1))
        a, p = recursion(y, h)
        second = a[:, start].topk(2).indices[:, 1]
        y[:, start + 1 :] = torch.nn.functional.one_hot(second, classes).float().unsqueeze(1)
        h[:, start + 1 :] = 1.0
        if kind == "edge":  # p just so that the bound of `exact` is met
            top = a[:, start].topk(2).values
            gap = (top[:, 0] - top[:, 1]).double()
            left = layers - start - 1
            wanted = 1 - (1 + gap) ** (-1 / max(left, 1))
            before = p[:, start - 1] if start else torch.ones(batch)
            h[:, start] = (wanted / before.double()).clamp(0, 1).float()
    return y, h


@given(adversarial())
@settings(max_examples=300)
def test_sound_rules_keep_the_class_and_exact_is_never_later(case: tuple[torch.Tensor, torch.Tensor]) -> None:
    y, h = case
    full, paper, exact = decide(Full(), y, h), decide(Paper(), y, h), decide(Exact(), y, h)
    assert (exact.exit_layer <= paper.exit_layer).all()
    for early in (paper, exact):
        assert torch.equal(early.answer.argmax(-1), full.answer.argmax(-1))
    assert (full.exit_layer == y.shape[1]).all()


def flips(rule: Rule, logits: torch.Tensor, y: torch.Tensor, h: torch.Tensor) -> tuple[int, int]:
    """How many rows stop early, and how many of these have another class at full depth, by either way to compute it."""
    scored = score_layers(rule, y, h)
    (exits,) = exit_layers(scored.scores, torch.tensor([rule.cut], dtype=torch.float64))
    early = exits < y.shape[1]
    classes = scored.answers.argmax(-1)
    stopped = classes[torch.arange(len(y)), exits - 1]
    in_logs = log_answer(logits.log_softmax(-1), torch.logit(h.double()).clamp(-1e4, 1e4).float()).argmax(-1)
    wrong = (stopped != classes[:, -1]) | (stopped != in_logs)
    return int(early.sum()), int((wrong & early).sum())


@pytest.mark.parametrize("name", ["exact", "paper"])
@pytest.mark.parametrize(("layers", "classes"), [(2, 2), (6, 3), (12, 77), (28, 2), (64, 5), (128, 2), (128, 100)])
def test_no_adversary_flips_a_sound_rule_at_any_depth(name: str, layers: int, classes: int) -> None:
    rows = min(40_000, 1_000_000 // (layers * classes))
    early, wrong = flips(make_rule(name), *adversaries(layers, classes, rows, seed=layers * classes))
    assert wrong == 0
    assert early > rows // 100  # the draws do stop


@pytest.mark.slow
@pytest.mark.parametrize("name", ["exact", "paper"])
@pytest.mark.parametrize(
    ("layers", "classes"), [(4, 2), (12, 2), (12, 77), (28, 2), (28, 10), (64, 2), (128, 2), (128, 100)]
)
def test_no_adversary_among_millions_flips_a_sound_rule(name: str, layers: int, classes: int) -> None:
    size = 4_000_000 // (layers * classes)
    drawn = early = wrong = 0
    while drawn < min(1_000_000, 100 * size):
        stopped, flipped = flips(make_rule(name), *adversaries(layers, classes, size, seed=drawn))
        drawn, early, wrong = drawn + size, early + stopped, wrong + flipped
    assert wrong == 0
    assert early > drawn // 100


def test_a_lead_that_float32_loses_over_28_layers_is_not_enough() -> None:
    """p = 1e-6 at layer 1, every later h = 1 and y on the runner-up: in real numbers the class holds, in float32 not."""
    layers = 28
    y = torch.zeros(1, layers, 2)
    y[0, 0] = torch.tensor([0.5000140070915222, 0.4999859929084778])
    y[0, 1:, 1] = 1
    h = torch.ones(1, layers)
    h[0, 0] = 1e-6
    top, second = y[0, 0].double().tolist()
    assert (1 - 1e-6) ** 27 * (1 + top - second) >= 1 + 1e-6  # so a constant guard of 1e-6 lets it stop
    full = decide(Full(), y, h)
    assert full.answer.argmax(-1).tolist() == [1]
    for name in ("exact", "paper", "slack:0"):
        decided = decide(make_rule(name), y, h)
        assert decided.exit_layer.tolist() == [layers]
        assert decided.answer.argmax(-1).tolist() == [1]
    y[0, 0] = torch.tensor([0.50005, 0.49995])  # a lead that outlives the rounding
    decided = decide(Exact(), y, h)
    assert (decided.exit_layer.tolist(), decided.answer.argmax(-1).tolist()) == ([1], [0])
    assert decide(Full(), y, h).answer.argmax(-1).tolist() == [0]


def test_no_rounding_carries_a_regression_beyond_its_tolerance() -> None:
    for layers in (2, 12, 128):
        draw = torch.Generator().manual_seed(layers)
        rows = 200_000 // layers
        low, high = 1000.0, 1001.0
        y = low + (high - low) * torch.rand(rows, layers, 1, generator=draw).round(decimals=1)
        y[:, 1:] = torch.where(torch.rand(rows, 1, 1, generator=draw) < 0.5, low, high)
        h = torch.ones(rows, layers)
        h[:, 0] = 10 ** (-9 * torch.rand(rows, generator=draw))
        h[: rows // 10, 0] = 0.0
        for tolerance in (1e-3, 0.01, 0.3):
            early, full = decide(Tolerance(tolerance, low=low, high=high), y, h), decide(Full(), y, h)
            assert ((early.answer.double() - full.answer.double()).abs() <= tolerance).all()
        assert (early.exit_layer < layers).any()
        assert (decide(Tolerance(0.05, low=0.0, high=5.0), (y - low) * 5, h).exit_layer[: rows // 10] == 1).all()


def test_half_precision_outputs_are_mixed_in_float32() -> None:
    """Kept or foreign outputs in a narrow type: the recursion itself must not round in it."""
    _, y, h = adversaries(12, 2, 2000, seed=1)
    for kind in (torch.float16, torch.bfloat16):
        state = HaltingState.start(2000, 2, layers=12, mixes=True, like=y.to(kind))
        assert state.answer.dtype == state.remaining.dtype == torch.float32
        early, full = decide(Exact(), y.to(kind), h.to(kind)), decide(Full(), y.to(kind), h.to(kind))
        assert torch.equal(early.answer.argmax(-1), full.answer.argmax(-1))


def test_answers_that_are_no_numbers_run_to_the_end_and_leave_the_others_alone() -> None:
    torch.manual_seed(3)
    y, h = softmax(torch.randn(6, 4, 3)), torch.rand(6, 4) ** 4
    bad, off = y.clone(), h.clone()
    bad[1], bad[3, 2:], off[4, 0] = torch.nan, torch.nan, torch.nan
    for text in ("exact", "paper", "confidence:0.9", "max_prob:0.99", "entropy:0.01", "full"):
        rule = make_rule(text)
        before, after = decide(rule, y, h), decide(rule, bad, off)
        assert after.exit_layer[1] == 4
        assert after.answer[1].isnan().all()
        for row in (0, 2, 5):
            assert after.exit_layer[row] == before.exit_layer[row]
            assert torch.equal(after.answer[row], before.answer[row])
    capped = AtMost(Exact(), 2)
    assert decide(capped, bad, off).exit_layer.max() == 2


def test_exact_is_tight() -> None:
    """Just below the bound, the later layers can change the class: no sound rule could have halted."""
    layers, p = 4, 0.2
    gap = (1 - p) ** -(layers - 1) - 1
    for nudge, safe in ((1e-4, True), (-1e-4, False)):
        top = (1 + gap + nudge) / 2
        y = torch.tensor([[[top, 1 - top]] + [[0.0, 1.0]] * (layers - 1)], dtype=torch.float64)
        h = torch.tensor([[p] + [1.0] * (layers - 1)], dtype=torch.float64)
        halted = decide(Exact(), y, h).exit_layer[0] == 1
        changed = decide(Full(), y, h).answer.argmax(-1)[0] == 1
        assert (bool(halted), bool(changed)) == (safe, not safe)


def test_the_proof_in_rational_numbers() -> None:
    """q = 1 - (1 - p)^d is what d layers can take together at most, and is approached."""
    p = Fraction(1, 3)
    for left in range(1, 6):
        kept = Fraction(1)
        remaining = p
        for _ in range(left):
            kept *= 1 - remaining
            remaining *= 1
        assert 1 - kept == 1 - (1 - p) ** left


def reference(name: str, value: float, y: np.ndarray, h: np.ndarray, n: int) -> bool:
    """Whether a rule halts after layer n (from 1) of one example, by the formulas as they are written."""
    layers = len(y)
    p, a, answer, before, answers = 1.0, np.zeros(y.shape[1]), None, 1.0, []
    for m in range(n):
        answer = before * y[m] + (1 - before) * (answer if answer is not None else 0)
        before *= h[m]
        answers.append(answer)
    p, a, d = before, answers[-1], layers - n
    second, top = np.sort(a)[-2:]

    def entropy(q: np.ndarray) -> float:
        return float(-sum(x * math.log(x) for x in q if x > 0) / math.log(len(q)))

    streak = 0
    for m in range(1, n):
        streak = streak + 1 if y[m].argmax() == y[m - 1].argmax() else 0
    halts: dict[str, Callable[[], Any]] = {
        "full": lambda: False,
        "paper": lambda: top * (1 - p) ** d >= second + p * d + layers * 2**-20,
        "exact": lambda: (1 - p) ** d * (1 + top - second) >= 1 + layers * 2**-20,
        "slack": lambda: (1 - p) ** d * (1 + top - second) >= math.exp(-value) + layers * 2**-20,
        "settled": lambda: top >= value or (1 - p) ** d * (1 + top - second) >= 1 + layers * 2**-20,
        "confidence": lambda: top >= value,
        "answer_entropy": lambda: entropy(a) <= value,
        "entropy": lambda: entropy(y[n - 1]) <= value,
        "max_prob": lambda: y[n - 1].max() >= value,
        "patience": lambda: streak >= value,
        "layer": lambda: n >= value,
    }
    return bool(halts[name]())


CASES = [("full", 0), ("paper", 0), ("exact", 0), ("slack", 0.1), ("slack", 0.7), ("confidence", 0.6)]
CASES += [
    ("settled", 0.8),
    ("answer_entropy", 0.7),
    ("entropy", 0.5),
    ("max_prob", 0.7),
    ("patience", 1),
    ("patience", 2),
    ("layer", 3),
]


@pytest.mark.parametrize(("name", "value"), CASES)
def test_every_rule_as_defined(name: str, value: float) -> None:
    torch.manual_seed(1)
    y = softmax(torch.randn(200, 5, 3, dtype=torch.float64) * 2)
    h = torch.rand(200, 5, dtype=torch.float64) ** 3
    rule = make_rule(f"{name}:{value}" if RULES[name].threshold_name else name)
    decided = decide(rule, y, h)
    a, _ = recursion(y, h)
    for row in range(200):
        stops = [n for n in range(1, 5) if reference(name, value, y[row].numpy(), h[row].numpy(), n)]
        wanted = stops[0] if stops else 5
        assert decided.exit_layer[row] == wanted
        own = name in ("entropy", "max_prob", "patience", "layer")
        torch.testing.assert_close(decided.answer[row], (y if own else a)[row, wanted - 1])
    if name != "full":
        assert 1 <= decided.exit_layer.min() < 5


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(2, 9), st.floats(0.0, 1.1))
def test_settled_stops_with_the_first_of_exact_and_confidence_and_errs_where_confidence_does(
    seed: int, layers: int, classes: int, threshold: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    y = softmax(torch.randn(64, layers, classes, generator=generator) * 3)
    h = torch.rand(64, layers, generator=generator) ** 6
    settled, confidence = (decide(make_rule(f"{name}:{threshold}"), y, h) for name in ("settled", "confidence"))
    exact, full = decide(Exact(), y, h), decide(make_rule("full"), y, h)
    assert torch.equal(settled.exit_layer, torch.minimum(exact.exit_layer, confidence.exit_layer))
    wrong = settled.answer.argmax(-1) != full.answer.argmax(-1)
    assert not (wrong & (confidence.answer.argmax(-1) == full.answer.argmax(-1))).any()


def test_settled_is_exact_at_a_threshold_that_no_confidence_reaches() -> None:
    torch.manual_seed(2)
    y, h = softmax(torch.randn(500, 6, 3) * 3), torch.rand(500, 6) ** 4
    one, other = decide(make_rule("settled:1.01"), y, h), decide(Exact(), y, h)
    assert torch.equal(one.exit_layer, other.exit_layer)
    assert torch.equal(one.answer, other.answer)


def test_slack_of_zero_is_exact() -> None:
    torch.manual_seed(2)
    y, h = softmax(torch.randn(500, 6, 2) * 3), torch.rand(500, 6) ** 4
    for a, b in zip(decide(make_rule("slack:0"), y, h), decide(Exact(), y, h), strict=True):
        assert torch.equal(a, b)


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.floats(0.001, 2.0))
def test_tolerance_bounds_the_change(seed: int, layers: int, tolerance: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    y = torch.rand(64, layers, 1, generator=generator) * 5
    h = torch.rand(64, layers, generator=generator) ** 4
    rule = Tolerance(tolerance, low=0.0, high=5.0)
    early, full = decide(rule, y, h), decide(Full(), y, h)
    assert ((early.answer.double() - full.answer.double()).abs() <= tolerance).all()


def test_tolerance_is_one_percent_of_the_range_unless_given() -> None:
    assert make_rule("tolerance", answer_range=(0.0, 5.0)).threshold == pytest.approx(0.05)
    assert make_rule("tolerance:0.2", answer_range=(0.0, 5.0)).threshold == 0.2


def test_edge_cases_are_defined() -> None:
    one_layer = decide(Exact(), softmax(torch.randn(3, 1, 2)), torch.rand(3, 1))
    assert one_layer.exit_layer.tolist() == [1, 1, 1]
    tie = decide(Exact(), torch.full((1, 4, 2), 0.5), torch.zeros(1, 4))
    assert tie.exit_layer.tolist() == [4]  # nothing separates the classes, so nothing is certain
    closed = decide(Exact(), torch.tensor([[[0.6, 0.4], [0.1, 0.9]]]), torch.zeros(1, 2))
    assert closed.exit_layer.tolist() == [1]
    opened = decide(Exact(), torch.tensor([[[0.6, 0.4], [0.1, 0.9]]]), torch.ones(1, 2))
    assert opened.exit_layer.tolist() == [2]
    assert opened.answer.argmax(-1).tolist() == [1]


def test_without_the_dact_loss_every_layer_answers_for_itself() -> None:
    y, h = softmax(torch.randn(20, 4, 3)), torch.rand(20, 4)
    torch.testing.assert_close(decide(Full(), y, h, mixes=False).answer, y[:, -1])
    torch.testing.assert_close(decide(make_rule("layer:2"), y, h, mixes=False).answer, y[:, 1])


def test_learned_halts_by_the_head_that_judges_the_layers() -> None:
    y, h, certainty = softmax(torch.randn(50, 4, 3)), torch.rand(50, 4), torch.rand(50, 4)
    decided = decide(make_rule("learned:0.7"), y, h, certainty)
    for row in range(50):
        stops = [n for n in range(1, 4) if certainty[row, n - 1] >= 0.7]
        wanted = stops[0] if stops else 4
        assert decided.exit_layer[row] == wanted
        assert torch.equal(decided.answer[row], y[row, wanted - 1])


def test_states_drop_rows() -> None:
    state = HaltingState.start(4, 2, layers=3, mixes=True, like=torch.zeros(1))
    y = softmax(torch.randn(4, 2))
    state.step(y, torch.rand(4))
    state.select(torch.tensor([1, 3]))
    assert state.rows.tolist() == [1, 3]
    torch.testing.assert_close(state.answer, y[[1, 3]])


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        ("exakt", {}, "`rule`: rule 'exakt' is unknown; did you mean exact?"),
        ("exact:1", {}, "`rule`: rule exact takes no value; write exact"),
        ("entropy", {}, "`rule`: rule entropy needs a threshold (normalised entropy); write `rule` entropy:VALUE"),
        (
            "patience:1.5",
            {},
            "`rule`: '1.5' is not a threshold for patience (layers in a row); give a whole number of at least 1",
        ),
        (
            "entropy:nan",
            {},
            "`rule`: 'nan' is not a threshold for entropy (normalised entropy); give a number of at least 0",
        ),
        ("max_prob:x", {}, "`rule`: 'x' is not a threshold for max_prob (probability); give a number of at least 0"),
        (
            "learned:0.9",
            {"has": ()},
            "`rule`: rule learned needs a certainty head, which this model does not have; "
            "train it with model.certainty: true",
        ),
        (
            "agreement:0.9",
            {"has": ["certainty"]},
            "`rule`: rule agreement needs halting units that are fitted to agreement with the last layer, which this "
            "model does not have; train it with model.agreement: true",
        ),
        ("tolerance", {}, "`rule`: rule tolerance is for regression; use full or exact"),
        ("exact", {"answer_range": (0, 5)}, "`rule`: rule exact is for classes; use full, tolerance or layer"),
        (
            "exact",
            {"objective": "layers"},
            "`rule`: rule exact reads the halting units, and this model was trained without the DACT loss; "
            "use full, entropy, max_prob, patience or layer, or train it with dact.tau",
        ),
        (
            "entropy:0.1",
            {"objective": "last"},
            "`rule`: rule entropy needs an answer from every layer, and this model was fine-tuned on its last layer "
            "only; use full, or train it with a dact section",
        ),
    ],
)
def test_rules_that_cannot_serve_are_refused(text: str, options: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_rule(text, **options)  # type: ignore[arg-type]
    assert caught.value.sentence == sentence
