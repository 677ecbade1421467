"""Floating point operations of encoder layers, units and heads: counted, not assumed.

One multiply-add is two operations; norms, biases and softmax are left out, attention is counted. E examples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from dactcli.model.dact import DactForSequenceClassification

# Tokens at which a layer is counted; two points determine linear * T + quadratic * T^2. Every model takes four.
SHORT, LONG = 2, 4


@dataclass(frozen=True)
class LayerFlops:
    """Operations of one layer, or one unit, for one example of T tokens: constant + linear * T + quadratic * T^2.

    `shared` stands beside them: what a batch takes once, whichever examples it holds.
    """

    linear: float
    quadratic: float
    constant: float = 0.0
    shared: float = 0.0

    def at(self, lengths: Tensor) -> Tensor:
        """For examples of these many tokens, float64 [E]."""
        tokens = lengths.double()
        return self.constant + self.linear * tokens + self.quadratic * tokens**2


def count(run: Callable[[], object]) -> int:
    """Operations of whatever `run` runs."""
    from torch.utils import flop_counter

    shapes: Any = flop_counter.sdpa_flop_count

    def attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return int(shapes(query, key, value))

    # the counter knows the attention kernels of CUDA only
    known: Any = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}
    with flop_counter.FlopCounterMode(display=False, custom_mapping=known) as counter, torch.no_grad():
        run()
    return int(counter.get_total_flops())


def layer_flops(model: DactForSequenceClassification) -> list[LayerFlops]:
    """Operations of the encoder's layers 1..N.

    Args:
        model: The model; its layers run on one row at two lengths, and on two rows.
    """
    adapter, found = model.adapter, []
    ids = torch.ones(2, LONG, dtype=torch.long, device=model.device)
    with torch.no_grad():
        states = [adapter.embed(some, None, None) for some in (ids[:1, :SHORT], ids[:1], ids[:, :SHORT])]
    for layer in range(1, model.exit_heads.layers + 1):
        few, many, twice = (count(partial(adapter.run, layer, state)) for state in states)
        shared = 2 * few - twice
        quadratic = ((many - shared) / LONG - (few - shared) / SHORT) / (LONG - SHORT)
        found.append(LayerFlops((few - shared) / SHORT - quadratic * SHORT, quadratic, shared=shared))
    return found


def embedding_flops(model: DactForSequenceClassification) -> LayerFlops:
    """Operations before layer 1: where embeddings are narrower than the hidden states, they are projected."""
    ids = torch.ones(1, SHORT, dtype=torch.long, device=model.device)
    return LayerFlops(count(lambda: model.adapter.embed(ids, None, None)) / SHORT, 0.0)


def unit_flops(model: DactForSequenceClassification) -> list[LayerFlops]:
    """Operations of the units of layers 1..N: by token (pooling), and once per example."""
    width, like = model.config.encoder_config.hidden_size, model.exit_heads.dense_weight
    hidden = torch.zeros(1, SHORT, width, device=model.device, dtype=like.dtype)
    pooled = model.exit_heads.pool(1, hidden, None)
    by_token = count(lambda: model.exit_heads.pool(1, hidden, None)) / SHORT
    once = float(count(lambda: model.exit_heads.outputs(1, pooled)))
    kept = 0.0 if model.kept is None else float(count(partial(model.kept, hidden, None)))
    return [LayerFlops(by_token, 0.0, once)] * (model.exit_heads.layers - 1) + [LayerFlops(by_token, 0.0, once + kept)]


def head_flops(stock: Any, parts: Sequence[LayerFlops]) -> float:
    """Operations per example of what a stock classifier has beside these parts: pooler and classifier.

    Args:
        stock: The stock classifier.
        parts: The embeddings and the layers.
    """
    ids = torch.ones(1, SHORT, dtype=torch.long, device=stock.device)
    counted = sum(float(part.at(torch.tensor(SHORT))) + part.shared for part in parts)
    return max(count(lambda: stock(input_ids=ids)) - counted, 0.0)


def examples_flops(layers: Sequence[LayerFlops], lengths: Tensor, depths: Tensor | None = None) -> Tensor:
    """Operations of the layers, or units, that ran, each example at its own length.

    Args:
        layers: Operations of each.
        lengths: Tokens per example [E].
        depths: Layers run per example [E]; None for all.

    Returns:
        float64 [E].
    """
    each = torch.stack([layer.at(lengths) for layer in layers]).cumsum(0)  # [N, E]
    if depths is None:
        return each[-1]
    return each.gather(0, (depths - 1).unsqueeze(0)).squeeze(0)


def shared_flops(layers: Sequence[LayerFlops], batches: Sequence[Sequence[int]], depths: Tensor | None = None) -> float:
    """What the batches take once each, whichever examples they hold, summed over the layers that run and over batches.

    Args:
        layers: Operations of each.
        batches: The positions of the examples of each batch.
        depths: Layers run per example [E]; None for all.
    """
    deepest = [len(layers) if depths is None else int(depths[list(positions)].max()) for positions in batches]
    return sum(layer.shared for depth in deepest for layer in layers[:depth])


def share_of_full(layers: Sequence[LayerFlops], lengths: Tensor, depths: Tensor) -> float:
    """Operations of the layers that ran over those of all layers."""
    ran, whole = examples_flops(layers, lengths, depths), examples_flops(layers, lengths)
    return float(ran.sum() / whole.sum())
