"""The exit heads: one layer and all layers agree, pooling ignores padding, and the start is the documented one."""

from __future__ import annotations

import math

import pytest
import torch

from dactcli.model.heads import SLOPE, ExitHeads, HeadSizes, attention_pool, log_odds, mean_pool
from dactcli.recipe.settings import HaltingInputs, Pooling


def make(*, halting_inputs: HaltingInputs = "features", pooling: Pooling = "mean") -> ExitHeads:
    torch.manual_seed(0)
    sizes = HeadSizes(layers=4, hidden_size=16, classes=3, attention_heads=4, dropout=0.5)
    heads = ExitHeads(sizes, pooling=pooling, halting_inputs=halting_inputs)
    heads.initialise()
    return heads.eval()


@pytest.mark.parametrize("halting_inputs", ["answer", "features"])
def test_all_layers_at_once_equal_one_after_the_other(halting_inputs: HaltingInputs) -> None:
    heads = make(halting_inputs=halting_inputs)
    with torch.no_grad():
        for parameter in heads.parameters():
            parameter.normal_()
    pooled = torch.randn(4, 7, 16)
    all_heads = heads.all_outputs(pooled)
    for layer in range(1, 5):
        one_head = heads.outputs(layer, pooled[layer - 1])
        torch.testing.assert_close(all_heads.logits[layer - 1], one_head.logits, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(all_heads.halting_logits[layer - 1], one_head.halting_logits, atol=1e-5, rtol=1e-5)
    assert heads.dense_weight.shape[0] == 4


def test_the_start() -> None:
    heads = make()
    h = torch.sigmoid(heads.all_outputs(torch.randn(4, 7, 16)).halting_logits)
    torch.testing.assert_close(h.prod(0), torch.full((7,), 0.5))
    assert heads.dense_weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert heads.dense_bias.abs().sum() == heads.halting_weight.abs().sum() == 0


def test_a_unit_that_sees_the_answer_alone_closes_at_its_threshold() -> None:
    heads = make(halting_inputs="answer")
    with torch.no_grad():
        heads.classifier_weight.normal_()
        heads.halting_bias.copy_(SLOPE * torch.tensor([0.5, 1.0, 1.5, 2.0]))
    output = heads.all_outputs(torch.randn(4, 7, 16) * 20)
    top = output.logits.softmax(-1).amax(-1).double()
    odds = torch.log(top / (1 - top))
    wanted = SLOPE * (torch.tensor([0.5, 1.0, 1.5, 2.0], dtype=torch.float64).unsqueeze(-1) - odds)
    torch.testing.assert_close(output.halting_logits.double(), wanted, atol=1e-3, rtol=1e-3)
    assert (output.halting_logits > 0).any()
    assert (output.halting_logits < 0).any()


def test_log_odds_stay_finite_where_probabilities_are_rounded_to_1() -> None:
    logits = torch.tensor([[0.0, 100.0, -300.0], [2.0, 2.0, 2.0]])
    torch.testing.assert_close(log_odds(logits), torch.tensor([100.0, -math.log(2)]))


def test_the_answer_that_a_unit_sees_is_detached() -> None:
    heads = make(halting_inputs="answer")
    torch.nn.init.normal_(heads.halting_weight)
    output = heads.outputs(1, torch.randn(5, 16))
    torch.autograd.backward(output.halting_logits.sum())
    assert heads.classifier_weight.grad is None


def test_heads_stay_in_full_precision_where_the_encoder_is_cast() -> None:
    heads, pooled = make(), torch.randn(4, 7, 16)
    wanted = heads.all_outputs(pooled).logits
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(heads.all_outputs(pooled).logits, wanted)
        assert heads.outputs(2, pooled[1].bfloat16()).logits.dtype == torch.float32


@pytest.mark.parametrize("pooling", ["mean", "first", "attention"])
def test_pooling_ignores_padding(pooling: Pooling) -> None:
    heads = make(pooling=pooling)
    with torch.no_grad():
        for parameter in heads.parameters():
            parameter.normal_()
    hidden = torch.randn(2, 5, 16)
    mask = torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]])
    pooled = heads.pool(3, hidden, mask)
    torch.testing.assert_close(pooled[:1], heads.pool(3, hidden[:1, :2], None))
    torch.testing.assert_close(pooled[1:], heads.pool(3, hidden[1:], None))
    if pooling == "mean":
        torch.testing.assert_close(pooled[0], hidden[0, :2].mean(0))
    if pooling == "first":
        torch.testing.assert_close(pooled, hidden[:, 0])


def test_attention_begins_as_the_mean_and_the_maximum_and_follows_its_query() -> None:
    heads, hidden = make(pooling="attention"), torch.randn(3, 6, 16)
    torch.testing.assert_close(heads.pool(1, hidden, None), torch.cat([hidden.mean(1), hidden.amax(1)], -1))
    assert heads.query_weight is not None
    with torch.no_grad():
        heads.query_weight[1, 2] = 1e4 * hidden[0, 4]  # layer 2, slice 2: all eyes on the token most like this one
    best = (hidden[0] @ hidden[0, 4]).argmax()
    pooled = heads.pool(2, hidden, None)
    torch.testing.assert_close(pooled[0, 8:12], hidden[0, best, 8:12])
    torch.testing.assert_close(pooled[0, :8], hidden[0, :, :8].mean(0))
    assert not heads.pool(1, hidden, torch.zeros(3, 6)).isnan().any()  # no token at all


HALF = (torch.float16, torch.bfloat16)


@pytest.mark.parametrize("kind", HALF)
def test_pooling_in_half_precision_neither_overflows_nor_sees_the_neighbours(kind: torch.dtype) -> None:
    """130 * 512 is more than fp16 holds; and a row has one mean, whether a neighbour is padded or not."""
    hidden = torch.full((2, 512, 4), 130.0, dtype=kind)
    mask = torch.ones(2, 512, dtype=torch.long)
    mask[1, -1] = 0
    query = torch.zeros(2, 4, dtype=kind)
    assert torch.equal(mean_pool(hidden, mask), torch.full((2, 4), 130.0))
    torch.testing.assert_close(attention_pool(hidden, mask, query), torch.full((2, 8), 130.0), atol=1e-3, rtol=0)
    torch.manual_seed(0)
    hidden, query = (torch.randn(2, 512, 32) * 50).to(kind), torch.randn(4, 32).to(kind)
    for pool in (mean_pool, lambda values, mask: attention_pool(values, mask, query)):
        alone, beside = pool(hidden[:1], None), pool(hidden, mask)
        assert alone.dtype == torch.float32
        torch.testing.assert_close(beside[:1], alone, atol=1e-4, rtol=1e-5)
        exact = pool(hidden[:1].double(), None)
        torch.testing.assert_close(alone.double(), exact, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_autocast_does_not_narrow_what_is_pooled(pooling: Pooling) -> None:
    heads = make(pooling=pooling)
    hidden, mask = torch.randn(3, 40, 16) * 30, torch.ones(3, 40, dtype=torch.long)
    mask[1, 7:] = 0
    wanted = heads.pool(1, hidden, mask)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(heads.pool(1, hidden, mask), wanted)


@pytest.mark.parametrize("kind", HALF)
def test_heads_in_a_narrow_type_answer_in_float32(kind: torch.dtype) -> None:
    heads = make(halting_inputs="answer").to(kind)
    output = heads.all_outputs(torch.randn(4, 7, 16))
    assert output.logits.dtype == output.halting_logits.dtype == torch.float32
