"""Confidence calibrated by layer: the fit, and the rule that reads it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import random_batch, small_model

from dactcli.errors import UsageError
from dactcli.evaluation.certified_layers import certified_layers
from dactcli.evaluation.comparison import Entrant
from dactcli.evaluation.comparison import _certified as compared_layers
from dactcli.evaluation.threshold_sweep import ThresholdSweep, full_decisions
from dactcli.halting.agreement import fit_agreement
from dactcli.halting.rules import Agreement, MaxProb, make_rule
from dactcli.runs.outputs import LayerOutputs


def test_the_fit_finds_the_numbers_that_made_the_data() -> None:
    generator = torch.Generator().manual_seed(0)
    scale, offset = torch.tensor([0.5, 2.0, 1.0]), torch.tensor([1.0, -0.5, 0.0])
    sureness = 4 * torch.rand(20_000, 3, generator=generator)
    same = torch.rand(20_000, 3, generator=generator) < torch.sigmoid(scale * sureness + offset)
    fit = fit_agreement(sureness, same)
    torch.testing.assert_close(fit.scale.float(), scale, atol=0.1, rtol=0)
    torch.testing.assert_close(fit.offset.float(), offset, atol=0.15, rtol=0)
    torch.testing.assert_close(fit.changes(sureness), 1 - torch.sigmoid(scale * sureness + offset), atol=0.03, rtol=0)


@pytest.mark.parametrize("always", [True, False])
def test_a_layer_that_always_decides_alike_has_finite_numbers(always: bool) -> None:
    fit = fit_agreement(torch.rand(50, 2) * 9, torch.full((50, 2), always))
    assert torch.isfinite(torch.stack(fit)).all()
    chance = fit.changes(torch.tensor([[3.0, 3.0]]))
    assert bool((chance < 0.05).all() if always else (chance > 0.5).all())


def drawn(examples: int = 4000) -> LayerOutputs:
    """Two classes; the first layer is sure and wrong, the second unsure and right."""
    generator = torch.Generator().manual_seed(1)
    truth = torch.rand(examples, generator=generator) < 0.5
    sign = truth.float() * 2 - 1
    wrong = torch.where(torch.rand(examples, generator=generator) < 0.3, -sign, sign)
    odds = torch.stack([3 * wrong, 1.0 * sign, 4.0 * sign], 1)
    y = torch.sigmoid(torch.stack([-odds, odds], -1))
    return LayerOutputs(y, torch.zeros(examples, 3), objective="layers")


def test_it_knows_which_layer_to_trust_where_one_threshold_does_not() -> None:
    outputs = drawn()
    fitted = outputs.with_agreement(outputs.fit_agreement())

    def cheapest(rule: Agreement | MaxProb, seen: LayerOutputs) -> float:
        sweep = ThresholdSweep(rule, rule.grid(3, 2), seen)
        differing = (sweep.classes != sweep.full).mean(1)
        return float(sweep.layers_mean[differing <= 0.01].min())

    assert cheapest(Agreement(), fitted) == 2  # the second layer, at once
    assert cheapest(MaxProb(), outputs) == 3


def test_live_inference_stops_where_kept_outputs_do() -> None:
    model = small_model(halting_inputs="answer", agreement=True, halting={"tau": None, "objective": "layers"})
    batch = random_batch(model, [4, 9, 15, 6, 12, 5, 8, 3])
    with torch.no_grad():
        y, h, _ = model.layer_outputs(**batch)
    for threshold in (0.2, 0.5, 0.8, 0.95):
        rule = model.rule(f"agreement:{threshold}")
        kept = LayerOutputs(y, h, objective="layers").decide(rule)
        live = model.adaptive(rule, batch)
        assert torch.equal(live.exit_layer, kept.exit_layer)
        assert torch.equal(live.answer.argmax(-1), kept.answer.argmax(-1))


def test_a_comparison_certifies_against_the_models_own_full_depth() -> None:
    generator = torch.Generator().manual_seed(2)
    y, h = torch.rand(300, 3, 2, generator=generator).softmax(-1), torch.rand(300, 3, generator=generator)
    outputs = LayerOutputs(y, h)  # it mixes
    one = Entrant("run", "a", outputs, outputs, np.zeros(300), np.zeros(300), outputs, np.arange(300))
    fitted = outputs.with_agreement(outputs.fit_agreement())
    assert not np.array_equal(full_decisions(fitted), full_decisions(outputs))
    sweep = ThresholdSweep(Agreement(), Agreement().grid(3, 2), fitted, outputs)
    wanted = certified_layers(sweep.losses("disagreement", None), np.arange(300), sweep.layers_mean, 0.01, otherwise=3)
    found = compared_layers("agreement", [replace(one, calibration=fitted)], [one])
    assert found["0.01"] == wanted


def test_a_model_without_fitted_units_refuses_it() -> None:
    with pytest.raises(UsageError, match=r"fitted to agreement.*model\.agreement: true"):
        make_rule("agreement:0.9", objective="layers", has=())
    with pytest.raises(UsageError, match="certainty head"):
        make_rule("learned:0.9", objective="layers", has=["agreement"])
