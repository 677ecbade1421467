"""Adaptive inference: after each layer finished rows leave, and the next layer runs on live rows only.

B batch, N layers, C classes. One engine serves training's evaluation, eval, inspect, profile and the model's own
`forward`. Results come back in the caller's order. Nothing is copied while nobody leaves; the one device
synchronisation per layer is the question whether anybody does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dactcli.model.encoders import Encoder
from dactcli.model.heads import Pooling, UnitOutput, Units, pool
from dactcli.model.rules import Full, Rule
from dactcli.model.state import HaltingState


class Adaptive(Protocol):
    """What the engine needs of a model."""

    units: Units
    mixes: bool
    pooling: Pooling
    classes: int

    @property
    def adapter(self) -> Encoder:
        """The encoder, layer by layer."""

    def layer_answer(self, logits: Tensor) -> Tensor:
        """y_n from a unit's logits."""


@dataclass
class Trace:
    """What every layer that ran said of each row; NaN where it did not run.

    Attributes:
        layer_answers: y_n [B, N, C].
        halting: h_n [B, N].
        remaining: p_n [B, N].
        answers: a_n [B, N, C].
        scores: The rule's score, on the CPU [B, N].
    """

    layer_answers: Tensor
    halting: Tensor
    remaining: Tensor
    answers: Tensor
    scores: Tensor

    @classmethod
    def empty(cls, batch: int, layers: int, classes: int, like: Tensor) -> Trace:
        """A trace in which no layer ran yet."""

        def blank(*shape: int) -> Tensor:
            return like.new_full(shape, torch.nan)

        return cls(
            layer_answers=blank(batch, layers, classes),
            halting=blank(batch, layers),
            remaining=blank(batch, layers),
            answers=blank(batch, layers, classes),
            scores=torch.full((batch, layers), torch.nan, dtype=torch.float64),
        )

    def record(self, state: HaltingState, halting: Tensor, rule: Rule) -> None:
        """Write down the layer that just ran."""
        at = (state.rows, state.layer - 1)
        self.layer_answers[at] = state.layer_answer
        self.halting[at] = halting
        self.remaining[at] = state.remaining
        self.answers[at] = rule.answer(state)
        self.scores[state.rows.cpu(), state.layer - 1] = rule.score(state).cpu()


class EngineOutput(NamedTuple):
    """Results in the caller's order.

    Attributes:
        exit_layer: The layer after which each row stopped [B].
        answer: Probabilities [B, C], or values [B, 1] for regression.
        trace: Layer by layer, when asked for.
    """

    exit_layer: Tensor
    answer: Tensor
    trace: Trace | None


@torch.no_grad()
def run_adaptive(
    model: Adaptive,
    rule: Rule,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    token_type_ids: Tensor | None = None,
    *,
    trace: bool = False,
) -> EngineOutput:
    """Run a batch, each row only as deep as the rule asks.

    Args:
        model: The model.
        rule: When a row may stop.
        input_ids: [B, T].
        attention_mask: 1 for real tokens [B, T].
        token_type_ids: [B, T].
        trace: Whether to keep what every layer said.

    Returns:
        Where each row stopped and what it answers.
    """
    encoder, layers, batch = model.adapter, model.units.layers, input_ids.shape[0]
    encoded = encoder.embed(input_ids, attention_mask, token_type_ids)
    like = torch.empty(0, dtype=torch.float32, device=input_ids.device)
    state = HaltingState.start(batch, model.classes, layers=layers, mixes=model.mixes, like=like)
    exit_layer = torch.full((batch,), layers, dtype=torch.long, device=input_ids.device)
    answer = like.new_empty(batch, model.classes)
    kept = Trace.empty(batch, layers, model.classes, like) if trace else None
    for layer in range(1, layers + 1):
        encoded = encoder.run(layer, encoded)
        if isinstance(rule, Full) and not model.mixes and kept is None and layer < layers:
            state.layer += 1  # nobody reads what this layer's unit would say
            continue
        said: UnitOutput = model.units.one(layer, pool(encoder.output(encoded), encoded.attention_mask, model.pooling))
        halting = torch.sigmoid(said.halting_logits)
        certainty = None if said.certainty_logits is None else torch.sigmoid(said.certainty_logits)
        state.step(model.layer_answer(said.logits), halting, certainty)
        if kept is not None:
            kept.record(state, halting, rule)
        if layer == layers:
            answer[state.rows] = rule.answer(state)
            break
        if isinstance(rule, Full):
            continue
        stops = rule.halts(state)
        leaving = stops.nonzero().squeeze(-1)
        if not len(leaving):
            continue
        rows = state.rows[leaving]
        answer[rows] = rule.answer(state)[leaving]
        exit_layer[rows] = layer
        staying = (~stops).nonzero().squeeze(-1)
        if not len(staying):
            break
        state.select(staying)
        encoded = encoder.select(encoded, staying)
    return EngineOutput(exit_layer, answer, kept)
