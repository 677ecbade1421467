"""Operations are counted, and the count is the analytic figure; memory is what the allocator gave."""

from __future__ import annotations

import pytest
import torch
from support import FAMILIES, small_model
from torch import nn

from dactcli.profiling.flops import (
    LayerFlops,
    count,
    embedding_flops,
    examples_flops,
    head_flops,
    layer_flops,
    share_of_full,
    shared_flops,
    unit_flops,
)
from dactcli.profiling.memory import MIB, peak_memory_mib
from dactcli.profiling.ways import stock_classifier

HIDDEN, INNER, NARROW = 32, 48, 16  # of the small models
DISTANCES = 2 * 8  # of the small DeBERTa, both ways


def analytic(tokens: int, family: str = "bert", layer: int = 1) -> int:
    """Projections 8 T H^2, feed-forward 4 T H I, attention 4 T^2 H, and what a family has beside them."""
    usual = tokens * (8 * HIDDEN * HIDDEN + 4 * HIDDEN * INNER) + 4 * tokens * tokens * HIDDEN
    if family == "modernbert":  # the feed-forward is gated: 6 T H I
        return usual + 2 * tokens * HIDDEN * INNER
    if family == "deberta-v2":  # contents and distances, both ways; a convolution over 3 tokens beside layer 1
        return usual + 4 * tokens * DISTANCES * HIDDEN + (6 * tokens * HIDDEN * HIDDEN if layer == 1 else 0)
    return usual


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_layers_are_counted_as_on_paper(family: str, attention: str) -> None:
    model = small_model(family)
    model.encoder.config._attn_implementation = attention
    layers = layer_flops(model)
    lengths = torch.tensor([2, 7, 31])
    assert len(layers) == 4
    for number, layer in enumerate(layers, start=1):
        assert layer.at(lengths).tolist() == [analytic(tokens, family, number) for tokens in (2, 7, 31)]
        # DeBERTa projects its distances once for a batch, as keys and as queries
        assert layer.shared == (4 * DISTANCES * HIDDEN * HIDDEN if family == "deberta-v2" else 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_embeddings_layers_and_head_are_all_that_a_stock_classifier_computes(family: str) -> None:
    model = small_model(family)
    stock, layers, before = stock_classifier(model), layer_flops(model), embedding_flops(model)
    assert before == LayerFlops(2 * NARROW * HIDDEN if family in ("electra", "albert") else 0, 0)
    head = head_flops(stock, [before, *layers])
    rows, tokens = 5, 11
    lengths = torch.full((rows,), tokens)
    parts = float(examples_flops([before, *layers], lengths).sum()) + shared_flops(layers, [[*range(rows)]])
    whole = count(lambda: stock(input_ids=torch.full((rows, tokens), 7)))
    assert whole == parts + rows * head


def test_what_a_batch_takes_once_is_taken_by_the_layers_that_run() -> None:
    layers = [LayerFlops(0, 0, shared=shared) for shared in (1.0, 10.0, 100.0)]
    assert shared_flops(layers, [[0, 2], [1]]) == 222
    assert shared_flops(layers, [[0, 2], [1]], torch.tensor([1, 3, 2])) == 11 + 111


def test_the_stock_classifier_is_its_layers_and_a_head() -> None:
    model = small_model()
    stock, layers = stock_classifier(model), layer_flops(model)
    head = 2 * HIDDEN * HIDDEN + 2 * HIDDEN * 3
    assert head_flops(stock, layers) == head
    whole = count(lambda: stock(input_ids=torch.ones(5, 11, dtype=torch.long)))
    assert whole == 5 * (4 * analytic(11) + head)


def test_a_unit_is_a_dense_layer_a_classifier_and_a_halting_output() -> None:
    once = 2 * HIDDEN * HIDDEN + 2 * HIDDEN * 3 + 2 * HIDDEN
    assert unit_flops(small_model()) == [LayerFlops(0, 0, once)] * 4
    pooled_by_token = 2 * 4 * HIDDEN + 2 * HIDDEN  # four heads' scores, and the average of all slices
    attends = unit_flops(small_model(pooling="attention"))[0]
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
