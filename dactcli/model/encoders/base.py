"""An encoder as (embed, layer 1..N): the interface, and what all families share.

B batch, T tokens, H hidden size. An adapter wraps one transformers encoder and runs it layer by layer on an
`EncoderState`, giving exactly the library's own hidden states. A family whose layers want more than hidden states and
a mask keeps it in the state: per-row tensors in `per_row` (they leave with their rows), the rest in `shared`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


@dataclass
class EncoderState:
    """What travels from layer to layer.

    Attributes:
        hidden: [B, T, H].
        attention_mask: 1 for real tokens [B, T]; None when none was given.
        mask: The form that the layers take, [B, 1, T, T] or [B, 1, 1, T]; None when nothing is padded.
        per_row: Further tensors whose first axis is B.
        shared: Further tensors without such an axis.
    """

    hidden: Tensor
    attention_mask: Tensor | None
    mask: Tensor | None
    per_row: dict[str, Tensor] = field(default_factory=dict)
    shared: dict[str, Any] = field(default_factory=dict)


class Encoder(ABC):
    """One encoder family, run layer by layer.

    Args:
        model: The transformers encoder.
    """

    # How AutoModel is asked for the bare encoder, without parts that no unit reads.
    build: ClassVar[dict[str, Any]] = {}

    def __init__(self, model: nn.Module) -> None:
        self.model: Any = model

    @abstractmethod
    def embed(self, input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor | None) -> EncoderState:
        """The state before layer 1, from token ids [B, T], mask [B, T] and token types [B, T]."""

    @abstractmethod
    def run(self, layer: int, state: EncoderState) -> EncoderState:
        """Run layer n (from 1) on the rows of the state."""

    def output(self, state: EncoderState) -> Tensor:
        """The hidden states [B, T, H] that a unit pools; families with a final norm apply it here."""
        return state.hidden

    def select(self, state: EncoderState, keep: Tensor) -> EncoderState:
        """The state of the rows at the positions `keep` [B'], without padding that none of them needs."""
        attention = None if state.attention_mask is None else state.attention_mask.index_select(0, keep)
        hidden = state.hidden.index_select(0, keep)
        mask = state.mask if state.mask is None else state.mask.index_select(0, keep)
        per_row = {name: value.index_select(0, keep) for name, value in state.per_row.items()}
        kept = EncoderState(hidden, attention, mask, per_row, state.shared)
        if attention is None or mask is None:
            return kept
        columns = attention.any(0).nonzero()
        first, last = (int(columns[0]), int(columns[-1]) + 1) if len(columns) else (0, 1)
        return kept if last - first == attention.shape[1] else self.trim(kept, first, last)

    def trim(self, state: EncoderState, first: int, last: int) -> EncoderState:
        """The state with the tokens `first` to `last` (exclusive) only; families with more state extend it."""
        mask = state.mask
        if mask is not None:
            queries = slice(first, last) if mask.shape[2] > 1 else slice(None)
            mask = mask[:, :, queries, first:last]
        attention = None if state.attention_mask is None else state.attention_mask[:, first:last]
        return EncoderState(state.hidden[:, first:last], attention, mask, state.per_row, state.shared)


def padding_mask(config: Any, hidden: Tensor, attention_mask: Tensor | None) -> Tensor | None:
    """The mask in the form that transformers' layers take, by the library's own code.

    Args:
        config: The encoder's configuration (its attention implementation decides the form).
        hidden: [B, T, H].
        attention_mask: [B, T] or None.

    Returns:
        None when nothing is padded, else [B, 1, T, T].
    """
    from transformers.masking_utils import create_bidirectional_mask

    made = create_bidirectional_mask(config=config, inputs_embeds=hidden, attention_mask=attention_mask)
    return made if made is None or isinstance(made, torch.Tensor) else torch.as_tensor(made)
