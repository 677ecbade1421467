"""Label sets: what the rules score, and that the sound ones keep every label, whatever the later layers answer."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import recursion

from dactcli.halting import base, make_rule
from dactcli.halting.decision import Decision, decide, exit_layers, score_layers
from dactcli.halting.label_sets import LabelSets
from dactcli.halting.rules import Exact, Full, Paper
from dactcli.halting.state import HaltingState

HALF = LabelSets()
OWN = LabelSets((0.2, 0.9, 0.5))


def state(answer: list[list[float]], remaining: list[float], *, layers: int, layer: int) -> HaltingState:
    """The state of rows after a layer."""
    a = torch.tensor(answer)
    found = HaltingState.start(len(a), a.shape[1], layers=layers, mixes=True, like=a)
    found.answer = found.layer_answer = a
    found.remaining, found.layer = torch.tensor(remaining), layer
    return found


@st.composite
def adversarial(draw: st.DrawFn) -> tuple[LabelSets, torch.Tensor, torch.Tensor]:
    """Thresholds, y [B, N, C] and h [B, N]: from some layer on, everything speaks against every label's decision.

    The labels at that layer are near the edge at which `exact` may just let the row go.
    """
    layers, labels, batch = draw(st.integers(2, 48)), draw(st.integers(2, 12)), 64
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    t = 0.02 + 0.96 * rand(labels).double()
    kept_sets = LabelSets(tuple(t.tolist()))
    start = draw(st.integers(0, layers - 2))
    y = torch.sigmoid(torch.randn(batch, layers, labels, generator=generator) * 4)
    h = torch.sigmoid(torch.randn(batch, layers, generator=generator) * 3 + 3)
    p = 10 ** (-draw(st.floats(0.3, 8)) * rand(batch)) / layers  # what the later layers may take is not everything
    h[:, start] = p if not start else h[:, start] * 0 + p
    if start:
        h[:, :start] = 1.0  # so that a_n is y_n, and p_n is h_n
    q = 1 - (1 - h[:, start].double().unsqueeze(-1)) ** (layers - start - 1)
    nudge = 10 ** (-8 + 7 * rand(batch, labels).double()) * (2 * rand(batch, labels).double() - 0.5)
    on, off = t / (1 - q) + nudge, (t - q) / (1 - q) - nudge
    edge = torch.where(rand(batch, labels) < 0.5, on, off).clamp(0, 1).float()
    y[:, start] = torch.where(rand(batch, labels) < draw(st.sampled_from([0.2, 0.9])), edge, y[:, start].round())
    a, _ = recursion(y, h)
    y[:, start + 1 :] = (~kept_sets.decide(a[:, start])).float().unsqueeze(1)
    h[:, start + 1 :] = 1 - 2.0**-24 * (rand(batch, layers - start - 1) < 0.3)
    return kept_sets, y, h


def decided(rule: type[Exact | Paper | Full], answers: LabelSets, y: torch.Tensor, h: torch.Tensor) -> Decision:
    return decide(rule().of(answers), y, h)


@given(adversarial())
@settings(max_examples=300)
def test_sound_rules_keep_every_label_and_exact_is_never_later(
    case: tuple[LabelSets, torch.Tensor, torch.Tensor],
) -> None:
    answers, y, h = case
    full, paper, exact = (decided(rule, answers, y, h) for rule in (Full, Paper, Exact))
    assert (exact.exit_layer <= paper.exit_layer).all()
    logs = answers.logs_of_logits(torch.logit(y.double()).clamp(-1e4, 1e4).float())
    halting = torch.logit(h.double()).clamp(-1e4, 1e4).float()
    in_logs = torch.sigmoid(answers.logits(answers.mix(logs, halting)))
    for early in (paper, exact):
        assert answers.same(early.answer, full.answer).all()
        stopped = early.exit_layer < y.shape[1]
        assert answers.same(early.answer, in_logs)[stopped].all()


def test_without_its_guard_exact_would_flip_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The adversary is strong enough: the bound alone, without room for rounding, lets labels change."""
    monkeypatch.setattr("dactcli.halting.rules.rounding", lambda layers: 0.0)
    generator = torch.Generator().manual_seed(0)
    layers, rows = 24, 20_000
    p = 10 ** (-1 - 6 * torch.rand(rows, generator=generator))
    kept = (1 - p.double()) ** (layers - 1)
    on = torch.rand(rows, generator=generator) < 0.5
    edge = torch.where(on, 0.5 / kept, 1 - 0.5 / kept).float()
    edge += (2.0**-24) * torch.randint(-1, 2, (rows,), generator=generator)
    y = torch.where(edge >= 0.5, 0.0, 1.0).view(-1, 1, 1).expand(-1, layers, 2).clone()
    y[:, 0] = edge.unsqueeze(-1)
    h = torch.ones(rows, layers)
    h[:, 0] = p
    exact, full = decided(Exact, HALF, y, h), decided(Full, HALF, y, h)
    assert (~HALF.same(exact.answer, full.answer)).sum() > 100
    monkeypatch.undo()
    assert base.rounding(layers) > 0
    exact = decided(Exact, HALF, y, h)
    assert HALF.same(exact.answer, full.answer).all()


@given(st.integers(2, 24), st.integers(1, 23), st.integers(0, 2**32 - 1))
def test_where_exact_does_not_stop_later_layers_can_change_a_label(layers: int, layer: int, seed: int) -> None:
    """Tightness: no sound rule that knows a_n, p_n and d alone stops earlier."""
    layer = min(layer, layers - 1)
    generator = torch.Generator().manual_seed(seed)
    a, p = torch.rand(64, 3, generator=generator), torch.rand(64, generator=generator) ** 3
    found = state(a.tolist(), p.tolist(), layers=layers, layer=layer)
    going = Exact().of(OWN).score(found) < 1 - 2 * base.rounding(layers)
    q = (1 - (1 - p.double()) ** (layers - layer)).unsqueeze(-1)  # what the later layers take if every h is 1
    against = (1 - q) * a.double() + q * (~OWN.decide(a)).double()
    changed = (OWN.decide(against) != OWN.decide(a)).any(-1)
    assert changed[going].all()
    assert not changed[Exact().of(OWN).score(found) >= 1].any()


def test_the_scores_are_what_the_formulas_say() -> None:
    found = state([[0.95, 0.05, 0.9], [0.6, 0.05, 0.9]], [0.1, 0.1], layers=4, layer=2)
    kept, taken = 0.9**2, 1 - 0.1 * 2
    exact, paper = Exact().of(HALF).score(found), Paper().of(HALF).score(found)
    guard = base.rounding(4)
    assert exact.tolist() == pytest.approx([kept * 0.9 - 0.5 + 1 - guard, kept * 0.6 - 0.5 + 1 - guard], abs=1e-6)
    assert paper.tolist() == pytest.approx([taken * 0.9 - 0.5 - guard, taken * 0.6 - 0.5 - guard], abs=1e-6)
    assert Exact().of(HALF).halts(found).tolist() == [True, False]
    with_own = make_rule("confidence:0.1", answers=OWN).score(found)
    assert with_own.tolist() == pytest.approx([min(0.75 / 0.8, 0.85 / 0.9, 0.4 / 0.5), min(0.4 / 0.8, 0.85 / 0.9, 0.8)])
    bits = -0.95 * math.log2(0.95) - 0.05 * math.log2(0.05)
    mean = (2 * bits - 0.9 * math.log2(0.9) - 0.1 * math.log2(0.1)) / 3
    assert make_rule("answer_entropy:1", answers=HALF).score(found)[0].item() == pytest.approx(-mean, abs=1e-6)


def test_slack_0_is_exact() -> None:
    y, h = torch.rand(64, 6, 3), torch.rand(64, 6) ** 2
    slack, exact = decide(make_rule("slack:0", answers=OWN), y, h), decide(make_rule("exact", answers=OWN), y, h)
    assert torch.equal(slack.exit_layer, exact.exit_layer)
    assert (decide(make_rule("slack:100", answers=OWN), y, h).exit_layer == 1).all()


def test_the_grid_of_confidence_ends_at_0_where_every_row_stops_at_once() -> None:
    rule = make_rule("confidence:1", answers=OWN)
    grid = rule.grid(6, 3)
    assert (grid[0], grid[-1]) == (0.999999, 0.0)
    y, h = torch.rand(200, 6, 3), torch.rand(200, 6)
    assert (decide(rule.at(0.0), y, h).exit_layer == 1).all()


def test_patience_waits_for_the_whole_set() -> None:
    sets = [[1, 0], [1, 1], [1, 1], [1, 1]]
    y = torch.tensor([sets]).float() * 0.8 + 0.1
    assert decide(make_rule("patience:2", answers=HALF), y, torch.ones(1, 4)).exit_layer.tolist() == [4]
    assert decide(make_rule("patience:1", answers=HALF), y, torch.ones(1, 4)).exit_layer.tolist() == [3]


def test_a_label_is_there_from_its_threshold_on() -> None:
    a = torch.tensor([[0.2, 0.9, 0.5]], dtype=torch.float64)
    assert OWN.decide(a).tolist() == [[True, True, True]]
    assert OWN.decide(a - 1e-9).tolist() == [[False, False, False]]


def test_scores_of_nan_never_stop_a_row() -> None:
    y = torch.full((1, 3, 2), torch.nan)
    for name in ("exact", "paper", "confidence:0", "max_prob:0"):
        rule = make_rule(name, answers=HALF)
        (exits,) = exit_layers(score_layers(rule, y, torch.ones(1, 3)).scores, torch.tensor([rule.cut]))
        assert exits.tolist() == [3]


def test_a_tolerance_is_refused_and_promises_speak_of_the_set() -> None:
    from dactcli.errors import UsageError

    with pytest.raises(UsageError, match="rule tolerance is for regression"):
        make_rule("tolerance", answers=HALF)
    assert make_rule("exact", answers=HALF).promise == "the label set is that of full depth"
