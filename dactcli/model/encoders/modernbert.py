"""ModernBERT: rotary positions, and layers that see all tokens or only those near; a norm before every unit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dactcli.errors import UsageError
from dactcli.model.encoders.base import Encoder, EncoderState, Words, padding_mask


class ModernBertEncoder(Encoder):
    """Layers of two kinds, `full_attention` and `sliding_attention`, each with a mask and rotations of its own."""

    dropout: ClassVar[str] = "classifier_dropout"
    sizes: ClassVar[dict[str, tuple[int, int]]] = {
        "local_attention": (1, 10_000_000),
        "global_attn_every_n_layers": (1, 1_000),
    }
    geometry: ClassVar[tuple[str, ...]] = ("layer_types",)
    token_axes: ClassVar[dict[str, tuple[int, ...]]] = {
        "full_attention": (2, 3),
        "sliding_attention": (2, 3),
        "full_attention rotations": (1,),
        "sliding_attention rotations": (1,),
    }

    @property
    def positions(self) -> None:
        """Rotations know no last position."""
        return

    @classmethod
    def cut(cls, config: Any, layers: int) -> None:
        """Keep the kinds of the layers that stay."""
        config.layer_types = config.layer_types[:layers]
        super().cut(config, layers)

    @property
    def layers(self) -> Sequence[nn.Module]:
        """`layers`."""
        found: Sequence[nn.Module] = self.model.layers
        return found

    def embeddings(self, words: Words, attention_mask: Tensor | None, token_type_ids: Tensor | None) -> Tensor:
        """Word embeddings [B, T, H]."""
        if words["position_ids"] is not None:
            raise UsageError("ModernBERT takes positions from the tokens' order", remedy="leave out position_ids")
        hidden: Tensor = self.model.embeddings(input_ids=words["input_ids"], inputs_embeds=words["inputs_embeds"])
        return hidden

    def context(self, hidden: Tensor, attention_mask: Tensor | None) -> dict[str, Tensor]:
        """By kind of layer the mask [B, 1, T, T], if any, and cosines and sines [1, T, 2, D] of heads of width D."""
        config, context = self.model.config, {}
        positions = torch.arange(hidden.shape[1], device=hidden.device).unsqueeze(0)
        for kind in sorted(set(config.layer_types)):
            mask = padding_mask(config, hidden, attention_mask, sliding=kind == "sliding_attention")
            if mask is not None:
                context[kind] = mask
            rotations = self.model.rotary_emb(hidden, positions, kind)
            context[f"{kind} rotations"] = torch.stack(rotations, dim=2)
        return context

    def run(self, layer: int, state: EncoderState) -> EncoderState:
        """One transformer layer."""
        module: Any = self.layers[layer - 1]
        kind = module.attention_type
        state.hidden = module(
            state.hidden,
            attention_mask=state.context.get(kind),
            position_embeddings=state.context[f"{kind} rotations"].unbind(2),
        )
        return state

    def output(self, state: EncoderState) -> Tensor:
        """The hidden states after the final norm [B, T, H]."""
        normed: Tensor = self.model.final_norm(state.hidden)
        return normed
