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

SHORT, LONG = 8, 16  # tokens at which a layer is counted; two points determine linear * T + quadratic * T^2


@dataclass(frozen=True)
class LayerFlops:
    """Operations of one layer, or one unit, for one example of T tokens: constant + linear * T + quadratic * T^2."""

    linear: float
    quadratic: float
    constant: float = 0.0

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
        model: The model; its layers run on one row at two lengths.
    """
    adapter, found = model.adapter, []
    ids = torch.ones(1, LONG, dtype=torch.long, device=model.device)
    with torch.no_grad():
        short, long = (adapter.embed(ids[:, :tokens], None, None) for tokens in (SHORT, LONG))
    for layer in range(1, model.units.layers + 1):
        few, many = (count(partial(adapter.run, layer, state)) for state in (short, long))
        quadratic = (many / LONG - few / SHORT) / (LONG - SHORT)
        found.append(LayerFlops(few / SHORT - quadratic * SHORT, quadratic))
    return found


def unit_flops(model: DactForSequenceClassification) -> LayerFlops:
    """Operations of one layer's unit: by token (pooling), and once per example."""
    width, like = model.config.encoder_config.hidden_size, model.units.dense_weight
    hidden = torch.zeros(1, SHORT, width, device=model.device, dtype=like.dtype)
    pooled = model.units.pool(1, hidden, None)
    by_token = count(lambda: model.units.pool(1, hidden, None)) / SHORT
    return LayerFlops(by_token, 0.0, float(count(lambda: model.units.one(1, pooled))))


def head_flops(stock: Any, layers: Sequence[LayerFlops]) -> float:
    """Operations per example of what a stock classifier has beside its layers: pooler and classifier."""
    ids = torch.ones(1, SHORT, dtype=torch.long, device=stock.device)
    beside = count(lambda: stock(input_ids=ids)) - sum(float(layer.at(torch.tensor(SHORT))) for layer in layers)
    return max(beside, 0.0)


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


def share_of_full(layers: Sequence[LayerFlops], lengths: Tensor, depths: Tensor) -> float:
    """Operations of the layers that ran over those of all layers."""
    ran, whole = examples_flops(layers, lengths, depths), examples_flops(layers, lengths)
    return float(ran.sum() / whole.sum())
