"""MPNet: BERT's layers with a learned bias of attention by distance; eager attention only."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from dactcli.model.encoders.base import EncoderState
from dactcli.model.encoders.bert import BertEncoder


class MPNetEncoder(BertEncoder):
    """As BERT, with layers that take a position bias; the library's embeddings pass over token types."""

    sizes: ClassVar[dict[str, tuple[int, int]]] = {"relative_attention_num_buckets": (1, 10_000)}
    token_axes: ClassVar[dict[str, tuple[int, ...]]] = {"mask": (2, 3), "position_bias": (2, 3)}

    @classmethod
    def longest(cls, config: Any) -> int:
        """Positions are counted from 2, whatever the padding id."""
        return super().longest(config) - 2

    @classmethod
    def counted_from(cls, config: Any) -> int:
        """The library's own, whatever the configuration says."""
        return 1

    def context(self, hidden: Tensor, attention_mask: Tensor | None) -> dict[str, Tensor]:
        """The mask, and the position bias [1, K, T, T] of K heads."""
        # the library repeats the bias for every row; one row of it gives the same sums
        bias = self.model.encoder.compute_position_bias(hidden[:1])
        return {**super().context(hidden, attention_mask), "position_bias": bias}

    def run(self, layer: int, state: EncoderState) -> EncoderState:
        """One transformer layer."""
        mask, bias = state.context.get("mask"), state.context["position_bias"]
        state.hidden = self.layers[layer - 1](state.hidden, mask, bias)[0]
        return state
