"""An encoder as (embed, layer 1..N): the interface, and what all families share.

B batch, T tokens, H hidden size. An adapter wraps one transformers encoder and runs it layer by layer on an
`EncoderState`, giving exactly the library's own hidden states. What the layers take beside them - a mask, and in some
families positions - is the state's `context`: it is made from the mask when a batch begins and when batches are
joined, and cut down with the rows and tokens that stay.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from dactcli.errors import UsageError

# Token ids [B, T] or word embeddings [B, T, E], one of them None, and position ids, by the names that transformers'
# embeddings know them by.
Words = dict[str, Tensor | None]


class Span(NamedTuple):
    """The real tokens of a row: columns `first` to `last` (exclusive), `solid` when none between is padding."""

    first: int
    last: int
    solid: bool


def spans_of(attention_mask: Tensor, *, keep_first: bool) -> list[Span]:
    """Where each row's real tokens lie; the one question to the device that trimming needs.

    Args:
        attention_mask: [B, T].
        keep_first: Whether column 0 counts as real in every row, because the units pool it.
    """
    real = (attention_mask != 0).int()
    width = real.shape[1]
    if keep_first:
        real[:, 0] = 1
    ends = [real.argmax(1), width - real.flip(1).argmax(1), attention_mask.ne(0).sum(1)]
    found: list[list[int]] = torch.stack(ends, 1).tolist()
    return [Span(first, last, count == last - first) for first, last, count in found]


def at_least_one(attention_mask: Tensor) -> Tensor:
    """The mask in which a row of padding alone has one token that counts: the first.

    Such a row is an empty text, by a tokenizer that adds no special tokens. It means the same alone and beside others:
    one padding token (`dactcli.data.batches.encode`).

    Args:
        attention_mask: 1 for real tokens, 0 for padding [B, T], T at least 1.

    Returns:
        [B, T].
    """
    first = attention_mask[:, 0]
    kept = torch.where((attention_mask != 0).any(1), first, torch.ones_like(first))
    return torch.cat([kept.unsqueeze(1), attention_mask[:, 1:]], dim=1)


@dataclass
class EncoderState:
    """What travels from layer to layer.

    Attributes:
        hidden: [B, T, H].
        attention_mask: 1 for real tokens [B, T]; None when nothing is padded.
        context: What the layers take beside the hidden states, as `Encoder.context` made it.
        spans: Where each row's real tokens lie, known without asking the device; None when no mask was given.
    """

    hidden: Tensor
    attention_mask: Tensor | None
    context: dict[str, Tensor]
    spans: list[Span] | None = None


class Encoder(ABC):
    """One encoder family, run layer by layer.

    Args:
        model: The transformers encoder.
    """

    # How AutoModel is asked for the bare encoder, without parts that no unit reads.
    build: ClassVar[dict[str, Any]] = {}
    # Which axes of an entry of `context` count tokens; what does not stand here has none.
    token_axes: ClassVar[dict[str, tuple[int, ...]]] = {"mask": (2, 3)}
    # What config.json calls things here, by the names that most families have for them.
    names: ClassVar[dict[str, str]] = {}
    # Sizes in config.json that only this family has, or has otherwise: the least and the most that they may be.
    sizes: ClassVar[dict[str, tuple[int, int]]] = {}
    # The configuration's key for the dropout on what a classifier sees; a unit takes the same.
    dropout: ClassVar[str] = "hidden_dropout_prob"
    # Keys of config.json, besides numbers, that decide how much a layer computes.
    geometry: ClassVar[tuple[str, ...]] = ()

    def __init__(self, model: nn.Module) -> None:
        self.model: Any = model

    @classmethod
    def longest(cls, config: Any) -> int:
        """The most tokens that an encoder of this configuration takes."""
        return int(config.max_position_embeddings)

    @classmethod
    def counted_from(cls, config: Any) -> int | None:
        """The padding id on which positions depend: tokens of this id have none; None where every column has one."""
        return None

    @property
    def positions(self) -> int | None:
        """The most tokens that have a position; None where texts may be of any length."""
        return self.longest(self.model.config)

    @classmethod
    def cut(cls, config: Any, layers: int) -> None:
        """Make the configuration that of the first layers only.

        Raises:
            ArtefactError: The family cannot be cut there.
        """
        config.num_hidden_layers = layers

    @classmethod
    def fewest_weights(cls, config: Mapping[str, int]) -> int:
        """A number of weights that an encoder of these sizes exceeds.

        Args:
            config: The sizes in config.json, by the names that most families have for them; 1 for what is not said.
        """
        width, inner = config.get("hidden_size", 1), config.get("intermediate_size", 1)
        embeddings = config.get("vocab_size", 1) * config.get("embedding_size", width)
        return embeddings + config.get("num_hidden_layers", 1) * (4 * width * width + 2 * width * inner)

    @property
    @abstractmethod
    def layers(self) -> Sequence[nn.Module]:
        """The modules of layers 1..N."""

    @abstractmethod
    def embeddings(self, words: Words, attention_mask: Tensor | None, token_type_ids: Tensor | None) -> Tensor:
        """What layer 1 takes [B, T, H], from words, mask [B, T] and token types [B, T]."""

    @abstractmethod
    def run(self, layer: int, state: EncoderState) -> EncoderState:
        """Run layer n (from 1) on the rows of the state."""

    def context(self, hidden: Tensor, attention_mask: Tensor | None) -> dict[str, Tensor]:
        """What the layers take beside the hidden states; families with more than a mask extend it, and `token_axes`.

        It may depend on where tokens stand only through the distance between them: rows are trimmed and joined.

        Args:
            hidden: [B, T, H]; for its shape, type and device.
            attention_mask: 1 for real tokens [B, T]; None when nothing is padded.

        Returns:
            Tensors whose first axis is B, or 1 where all rows have the same.
        """
        mask = padding_mask(self.model.config, hidden, attention_mask)
        return {} if mask is None else {"mask": mask}

    def output(self, state: EncoderState) -> Tensor:
        """The hidden states [B, T, H] that a unit pools; families with a final norm apply it here."""
        return state.hidden

    def embed(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        token_type_ids: Tensor | None,
        position_ids: Tensor | None = None,
    ) -> EncoderState:
        """The state before layer 1.

        Args:
            input_ids: [B, T]; or word embeddings in their place [B, T, E].
            attention_mask: 1 for real tokens [B, T]; None when nothing is padded.
            token_type_ids: [B, T].
            position_ids: [B, T] or [1, T]; None for the tokens' order.

        Raises:
            UsageError: The texts are longer than the encoder has positions.
        """
        if position_ids is None:
            self._check_length(input_ids)
        words: Words = {"input_ids": None, "inputs_embeds": None, "position_ids": position_ids}
        words["input_ids" if input_ids.dim() == 2 else "inputs_embeds"] = input_ids
        hidden = self.embeddings(words, attention_mask, token_type_ids)
        return EncoderState(hidden, attention_mask, self.context(hidden, attention_mask))

    def _check_length(self, input_ids: Tensor) -> None:
        most, tokens = self.positions, input_ids.shape[1]
        if most is None or tokens <= most:
            return
        padding = self.counted_from(self.model.config)
        if padding is not None and input_ids.dim() == 2 and len(input_ids):
            tokens = int(input_ids.ne(padding).sum(1).max())  # padding takes no position here
        if tokens > most:
            raise UsageError(
                f"a text has {tokens} tokens, and this model takes at most {most}",
                remedy="cut texts: give truncation=True to the tokenizer or pipeline",
            )

    def select(self, state: EncoderState, keep: list[int]) -> EncoderState:
        """The state of the rows at the positions `keep`, without padding that none of them needs."""
        spans = None if state.spans is None else [state.spans[row] for row in keep]
        rows = torch.tensor(keep, device=state.hidden.device)
        first, last = 0, state.hidden.shape[1]
        if spans is not None:
            first, last = min(span.first for span in spans), max(span.last for span in spans)
        trimmed = state if last - first == state.hidden.shape[1] else self.trim(state, first, last)
        kept = EncoderState(
            trimmed.hidden.index_select(0, rows),
            None if trimmed.attention_mask is None else trimmed.attention_mask.index_select(0, rows),
            {
                name: values if len(values) == 1 else values.index_select(0, rows)
                for name, values in trimmed.context.items()
            },
            None if spans is None else [Span(span.first - first, span.last - first, span.solid) for span in spans],
        )
        if kept.attention_mask is not None and spans and all(span == (first, last, True) for span in spans):
            kept.attention_mask, kept.context = None, self.context(kept.hidden, None)  # nothing is padded any more
        return kept

    def trim(self, state: EncoderState, first: int, last: int) -> EncoderState:
        """The state with the tokens `first` to `last` (exclusive) only."""
        context = {}
        for name, values in state.context.items():
            for axis in self.token_axes.get(name, ()):
                # an axis of length 1 serves all tokens
                values = values if values.shape[axis] == 1 else values.narrow(axis, first, last - first)
            context[name] = values
        attention = None if state.attention_mask is None else state.attention_mask[:, first:last]
        return EncoderState(state.hidden[:, first:last], attention, context, state.spans)

    def join(self, states: list[EncoderState]) -> EncoderState:
        """One state from several at the same depth, padded on the right to the longest."""
        if len(states) == 1:
            return states[0]
        width = max(state.hidden.shape[1] for state in states)
        hidden = torch.cat([_widen(state.hidden, width) for state in states])
        spans = [span for state in states for span in state.spans or _whole(state.hidden)]
        attention = None
        if any(span != (0, width, True) for span in spans):
            masks = [
                state.hidden.new_ones(state.hidden.shape[:2], dtype=torch.long)
                if state.attention_mask is None
                else state.attention_mask.long()
                for state in states
            ]
            attention = torch.cat([_widen(mask, width) for mask in masks])
        return EncoderState(hidden, attention, self.context(hidden, attention), spans)


def _widen(values: Tensor, width: int) -> Tensor:
    """[B, T, ...] with zeros on the right up to T = width."""
    missing = width - values.shape[1]
    if not missing:
        return values
    return torch.cat([values, values.new_zeros(values.shape[0], missing, *values.shape[2:])], dim=1)


def _whole(hidden: Tensor) -> list[Span]:
    """The spans of rows without any padding."""
    return [Span(0, hidden.shape[1], True)] * len(hidden)


def padding_mask(config: Any, hidden: Tensor, attention_mask: Tensor | None, *, sliding: bool = False) -> Tensor | None:
    """The mask in the form that transformers' layers take, by the library's own code.

    Args:
        config: The encoder's configuration (its attention implementation decides the form).
        hidden: [B, T, H].
        attention_mask: [B, T] or None.
        sliding: Whether a token sees only those inside the configuration's window.

    Returns:
        None when every token sees every other, else [B, 1, T, T].
    """
    from transformers import masking_utils

    make = (
        masking_utils.create_bidirectional_sliding_window_mask if sliding else masking_utils.create_bidirectional_mask
    )
    made = make(config=config, inputs_embeds=hidden, attention_mask=attention_mask)
    return made if made is None or isinstance(made, torch.Tensor) else torch.as_tensor(made)
