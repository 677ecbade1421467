"""The units: one layer and all layers agree, pooling ignores padding, and the start is the documented one."""

from __future__ import annotations

import pytest
import torch

from dactcli.model.halting import start_bias
from dactcli.model.heads import Units, pool


def make(*, shared: bool = False, answer_inputs: bool = False) -> Units:
    torch.manual_seed(0)
    units = Units(
        layers=4,
        hidden_size=16,
        classes=3,
        shared=shared,
        answer_inputs=answer_inputs,
        dropout=0.5,
        halting_bias=start_bias(4),
        initializer_range=0.02,
    )
    units.initialise()
    return units.eval()


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("answer_inputs", [False, True])
def test_all_layers_at_once_equal_one_after_the_other(shared: bool, answer_inputs: bool) -> None:
    units = make(shared=shared, answer_inputs=answer_inputs)
    with torch.no_grad():
        for parameter in units.parameters():
            parameter.normal_()
    pooled = torch.randn(4, 7, 16)
    every = units.every(pooled)
    for layer in range(1, 5):
        one = units.one(layer, pooled[layer - 1])
        torch.testing.assert_close(every.logits[layer - 1], one.logits, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(every.halting_logits[layer - 1], one.halting_logits, atol=1e-5, rtol=1e-5)
    assert units.dense_weight.shape[0] == (1 if shared else 4)


def test_the_start() -> None:
    units = make()
    h = torch.sigmoid(units.every(torch.randn(4, 7, 16)).halting_logits)
    torch.testing.assert_close(h.prod(0), torch.full((7,), 0.5))
    assert units.dense_weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert units.dense_bias.abs().sum() == units.halting_weight.abs().sum() == 0


def test_the_answer_that_a_unit_sees_is_detached() -> None:
    units = make(answer_inputs=True)
    torch.nn.init.normal_(units.halting_weight)
    said = units.one(1, torch.randn(5, 16))
    said.halting_logits.sum().backward()
    assert units.classifier_weight.grad is None


def test_units_stay_in_full_precision_where_the_encoder_is_cast() -> None:
    units, pooled = make(), torch.randn(4, 7, 16)
    wanted = units.every(pooled).logits
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(units.every(pooled).logits, wanted)
        assert units.one(2, pooled[1].bfloat16()).logits.dtype == torch.float32


def test_pooling_ignores_padding() -> None:
    hidden = torch.randn(2, 5, 8)
    mask = torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]])
    torch.testing.assert_close(pool(hidden, mask, "mean")[0], hidden[0, :2].mean(0))
    torch.testing.assert_close(pool(hidden, mask, "mean")[1], pool(hidden, None, "mean")[1])
    torch.testing.assert_close(pool(hidden, mask, "first"), hidden[:, 0])
