"""Operations are counted, and the count is the analytic figure; memory is what the allocator gave."""

from __future__ import annotations

import pytest
import torch
from support import FAMILIES, small_model
from torch import nn

from dactcli.profiling.flops import (
    LayerFlops,
    count,
    examples_flops,
    head_flops,
    layer_flops,
    share_of_full,
    unit_flops,
)
from dactcli.profiling.memory import MIB, peak_memory_mib
from dactcli.profiling.ways import stock_classifier

HIDDEN, INNER = 32, 48  # of the small models


def analytic(tokens: int) -> int:
    """Projections 8 T H^2, feed-forward 4 T H I, attention 4 T^2 H."""
    return tokens * (8 * HIDDEN * HIDDEN + 4 * HIDDEN * INNER) + 4 * tokens * tokens * HIDDEN


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_layers_are_counted_as_on_paper(family: str, attention: str) -> None:
    model = small_model(family)
    model.encoder.config._attn_implementation = attention
    layers = layer_flops(model)
    lengths = torch.tensor([2, 7, 31])
    assert len(layers) == 4
    for layer in layers:
        assert layer.at(lengths).tolist() == [analytic(tokens) for tokens in (2, 7, 31)]


def test_the_stock_classifier_is_its_layers_and_a_head() -> None:
    model = small_model()
    stock, layers = stock_classifier(model), layer_flops(model)
    head = 2 * HIDDEN * HIDDEN + 2 * HIDDEN * 3
    assert head_flops(stock, layers) == head
    whole = count(lambda: stock(input_ids=torch.ones(5, 11, dtype=torch.long)))
    assert whole == 5 * (4 * analytic(11) + head)


def test_a_unit_is_a_dense_layer_a_classifier_and_a_halting_output() -> None:
    once = 2 * HIDDEN * HIDDEN + 2 * HIDDEN * 3 + 2 * HIDDEN
    assert unit_flops(small_model()) == LayerFlops(0, 0, once)
    pooled_by_token = 2 * 4 * HIDDEN + 2 * HIDDEN  # four heads' scores, and the average of all slices
    attends = unit_flops(small_model(pooling="attention"))
    assert attends == LayerFlops(pooled_by_token, 0, once + 2 * HIDDEN * HIDDEN)


def test_each_example_counts_at_its_own_length_and_depth() -> None:
    layers = layer_flops(small_model())
    lengths, depths = torch.tensor([4, 10]), torch.tensor([1, 3])
    ran = examples_flops(layers, lengths, depths).tolist()
    assert ran == [analytic(4), 3 * analytic(10)]
    share = (analytic(4) + 3 * analytic(10)) / (4 * analytic(4) + 4 * analytic(10))
    assert share_of_full(layers, lengths, depths) == pytest.approx(share)
    assert share_of_full(layers, lengths, torch.tensor([4, 4])) == 1


def test_peak_memory_is_weights_and_the_most_that_was_held_at_once() -> None:
    shared = nn.Linear(512, 512, bias=False)  # 1 MiB
    cpu = torch.device("cpu")

    def in_turn() -> None:
        first = torch.empty(8 * MIB, dtype=torch.uint8)
        del first
        torch.empty(4 * MIB, dtype=torch.uint8)

    def at_once() -> None:
        first = torch.empty(8 * MIB, dtype=torch.uint8)
        second = torch.empty(4 * MIB, dtype=torch.uint8)
        del first, second

    assert peak_memory_mib(in_turn, [shared], cpu) == pytest.approx(9, rel=0.02)
    assert peak_memory_mib(at_once, [shared, shared], cpu) == pytest.approx(13, rel=0.02)
    assert peak_memory_mib(in_turn, [shared], torch.device("meta")) is None
