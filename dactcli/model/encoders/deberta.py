"""DeBERTa v2 and v3: attention to contents and to distances apart; eager attention only."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from dactcli.model.encoders.base import EncoderState, Words
from dactcli.model.encoders.bert import BertEncoder


class DebertaEncoder(BertEncoder):
    """Layers that take a mask always, and distances with the embeddings of these.

    K2 stands for the distances that have an embedding, both ways.
    """

    build: ClassVar[dict[str, Any]] = {}
    token_axes: ClassVar[dict[str, tuple[int, ...]]] = {"mask": (2, 3), "distances": (1, 2)}
    sizes: ClassVar[dict[str, tuple[int, int]]] = {
        "position_buckets": (-1, 100_000),
        "max_relative_positions": (-1, 100_000),
        "conv_kernel_size": (0, 1_000),
        "type_vocab_size": (0, 10_000),
    }
    geometry: ClassVar[tuple[str, ...]] = ("pos_att_type", "norm_rel_ebd")

    @property
    def positions(self) -> int | None:
        """Distances know no last position; embeddings of positions, where the model has them, do."""
        return self.longest(self.model.config) if self.model.embeddings.position_biased_input else None

    def embeddings(self, words: Words, attention_mask: Tensor | None, token_type_ids: Tensor | None) -> Tensor:
        """Word embeddings, with positions and types where the model has them, zero on padding [B, T, H]."""
        hidden: Tensor = self.model.embeddings(**words, token_type_ids=token_type_ids, mask=attention_mask)
        return hidden

    def context(self, hidden: Tensor, attention_mask: Tensor | None) -> dict[str, Tensor]:
        """Which token sees which [B, 1, T, T], distances [1, T, T] and their embeddings [1, K2, H]."""
        encoder = self.model.encoder
        real = _real(hidden, attention_mask)
        context = {"mask": encoder.get_attention_mask(real)}
        if encoder.relative_attention:
            context["distances"] = encoder.get_rel_pos(hidden)
            context["distance_embeddings"] = encoder.get_rel_embedding().unsqueeze(0)
        return context

    def run(self, layer: int, state: EncoderState) -> EncoderState:
        """One transformer layer; the first has a convolution beside it in the larger models."""
        context, before = state.context, state.hidden
        embeddings = context.get("distance_embeddings")
        state.hidden = self.layers[layer - 1](
            before,
            context["mask"],
            relative_pos=context.get("distances"),
            rel_embeddings=None if embeddings is None else embeddings[0],
        )[0]
        if layer == 1 and self.model.encoder.conv is not None:
            state.hidden = self.model.encoder.conv(before, state.hidden, _real(before, state.attention_mask))
        return state


def _real(hidden: Tensor, attention_mask: Tensor | None) -> Tensor:
    """1 for real tokens [B, T], or [1, T] when nothing is padded."""
    return torch.ones_like(hidden[:1, :, 0]) if attention_mask is None else attention_mask
