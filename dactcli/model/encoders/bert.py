"""BERT, RoBERTa and their namesakes: embeddings, then `encoder.layer`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from dactcli.model.encoders.base import Encoder, EncoderState, Words


class BertEncoder(Encoder):
    """Encoders with `embeddings(input_ids, token_type_ids)` and layers that take hidden states and a mask."""

    build: ClassVar[dict[str, Any]] = {"add_pooling_layer": False}

    @property
    def layers(self) -> Sequence[nn.Module]:
        """`encoder.layer`."""
        found: Sequence[nn.Module] = self.model.encoder.layer
        return found

    def embeddings(self, words: Words, attention_mask: Tensor | None, token_type_ids: Tensor | None) -> Tensor:
        """Word, position and type embeddings [B, T, H]."""
        hidden: Tensor = self.model.embeddings(**words, token_type_ids=token_type_ids)
        return hidden

    def run(self, layer: int, state: EncoderState) -> EncoderState:
        """One transformer layer."""
        state.hidden = self.layers[layer - 1](state.hidden, state.context.get("mask"))
        return state
