"""Adaptive inference: after each layer finished rows leave, and the next layer runs on live rows only.

B batch, N layers, C classes, E examples. One engine serves single batches (`run_adaptive`: inspect, profile and the
model's own `forward`) and whole data sets (`run_batches`), where survivors of several batches run on together.
Results come back in the caller's order. Nothing is copied while no row leaves. A batch synchronises with the device
once for its padding, and once per layer for the rows that leave.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dactcli.halting.answers import Answers
from dactcli.halting.base import Rule
from dactcli.halting.rules import Full
from dactcli.halting.state import HaltingState
from dactcli.model.calls import number_of_texts
from dactcli.model.encoders import Encoder, EncoderState
from dactcli.model.encoders.base import at_least_one, spans_of
from dactcli.model.heads import ExitHeads, ExitOutput


class Adaptive(Protocol):
    """What the engine needs of a model."""

    mixes: bool
    classes: int
    reads_first_token: bool

    @property
    def answers(self) -> Answers:
        """Kind of its answers."""

    @property
    def exit_heads(self) -> ExitHeads:
        """The exit heads of all layers."""

    @property
    def adapter(self) -> Encoder:
        """The encoder, layer by layer."""

    def exit_outputs(
        self, layer: int, hidden: Tensor, attention_mask: Tensor | None, texts: Tensor | None = None
    ) -> ExitOutput:
        """The output of the exit head after a layer, from hidden states [B, T, H]."""


@dataclass
class Trace:
    """The outputs of every layer for each row; NaN where the layer did not run.

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
        """Record the layer that just ran."""
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
        answer: Probabilities [B, C], or values [B, 1] for regression; NaN where activations overflowed, for the
            caller to find (`dactcli.model.finite`). Such a row stops like any other, at the last layer if not before.
        trace: Layer by layer, when asked for.
    """

    exit_layer: Tensor
    answer: Tensor
    trace: Trace | None


@dataclass
class Live:
    """Rows that still run, all after the same layer.

    Attributes:
        encoded: Input of the encoder's next layer.
        state: The halting state of the texts; its `rows` are positions in the caller's order.
        texts: The text of each row, ascending from 0 [B], where rows are windows; None where every row is a text.
    """

    encoded: EncoderState
    state: HaltingState
    texts: Tensor | None = None

    @property
    def tokens(self) -> int:
        """Number of tokens, padding included, that the next layer runs."""
        rows, width = self.encoded.hidden.shape[:2]
        return rows * width


class Engine:
    """Runs rows layer by layer and stores the results of those that leave.

    Args:
        model: The model.
        rule: When a row may stop.
        examples: How many rows there are in all, E.
        device: Where they run.
        trace: Whether to keep what every layer head.
    """

    def __init__(
        self, model: Adaptive, rule: Rule, examples: int, *, device: torch.device, trace: bool = False
    ) -> None:
        self.model, self.rule = model, rule.of(model.answers)
        self.encoder, self.layers = model.adapter, model.exit_heads.layers
        self.like = torch.empty(0, dtype=torch.float32, device=device)
        self.exit_layer = torch.full((examples,), self.layers, dtype=torch.long, device=device)
        self.answer = self.like.new_empty(examples, model.classes)
        self.trace = Trace.empty(examples, self.layers, model.classes, self.like) if trace else None
        # earlier exit heads are not needed when only the last layer's answer counts
        self.last_only = isinstance(rule, Full) and not model.mixes and not trace

    def start(self, batch: Mapping[str, Tensor | None], rows: Tensor) -> Live:
        """A batch before layer 1.

        Args:
            batch: `input_ids`, `attention_mask`, `token_type_ids` [B, T], and where rows are windows `texts` [B].
            rows: Positions of the texts in the caller's order, one for each text.
        """
        input_ids, attention_mask, texts = batch["input_ids"], batch.get("attention_mask"), batch.get("texts")
        assert input_ids is not None
        spans = None
        if attention_mask is not None:
            attention_mask = at_least_one(attention_mask)
            spans = spans_of(attention_mask, keep_first=self.model.reads_first_token)
            if all(span == (0, input_ids.shape[1], True) for span in spans):
                attention_mask = None  # nothing is padded
        encoded = self.encoder.embed(input_ids, attention_mask, batch.get("token_type_ids"))
        encoded.spans = spans
        state = HaltingState.start(
            len(rows),
            self.model.classes,
            layers=self.layers,
            mixes=self.model.mixes,
            like=self.like,
            streaks=self.rule.streaks,
        )
        state.rows = rows.to(state.rows.device)
        return Live(encoded, state, texts)

    def advance(self, live: Live) -> Live | None:
        """Run one layer; rows that may stop leave, and the rest, if any, come back."""
        encoder, state, layer = self.encoder, live.state, live.state.layer + 1
        live.encoded = encoded = encoder.run(layer, live.encoded)
        if self.last_only and layer < self.layers:
            state.layer = layer
            return live
        head = self.model.exit_outputs(layer, encoder.output(encoded), encoded.attention_mask, live.texts)
        halting = torch.sigmoid(head.halting_logits)
        certainty = None if head.certainty_logits is None else torch.sigmoid(head.certainty_logits)
        state.step(self.model.answers.read(head.logits), halting, certainty)
        if self.trace is not None:
            self.trace.record(state, halting, self.rule)
        if layer == self.layers:
            self.answer[state.rows] = self.rule.answer(state)
            return None
        return live if isinstance(self.rule, Full) else self._leave(live)

    def _leave(self, live: Live) -> Live | None:
        """Store the rows that stop here. Finding them is the one device synchronisation of a layer."""
        state = live.state
        stops: list[bool] = self.rule.halts(state).tolist()
        if not any(stops):
            return live
        answer = self.rule.answer(state)
        if all(stops):
            self.answer[state.rows], self.exit_layer[state.rows] = answer, state.layer
            return None
        staying = [row for row, stop in enumerate(stops) if not stop]
        leaving = torch.tensor([row for row, stop in enumerate(stops) if stop], device=answer.device)
        gone = state.rows.index_select(0, leaving)
        self.answer[gone], self.exit_layer[gone] = answer.index_select(0, leaving), state.layer
        kept = torch.tensor(staying, device=answer.device)
        state.select(kept)
        if live.texts is None:
            return Live(self.encoder.select(live.encoded, staying), state)
        numbers = kept.new_full((len(stops),), -1).index_put((kept,), torch.arange(len(kept), device=kept.device))
        texts = numbers[live.texts]  # -1 for the windows of texts that leave
        windows: list[int] = (texts >= 0).nonzero()[:, 0].tolist()
        return Live(self.encoder.select(live.encoded, windows), state, texts[texts >= 0])

    def join(self, parts: list[Live]) -> Live:
        """One batch of several after the same layer."""
        first, rest = parts[0], parts[1:]
        texts = joined_texts(parts)
        if rest:
            first.state.join([part.state for part in rest])
        return Live(self.encoder.join([part.encoded for part in parts]), first.state, texts)

    def results(self) -> EngineOutput:
        """The results of all rows."""
        return EngineOutput(self.exit_layer, self.answer, self.trace)


def joined_texts(parts: Sequence[Live]) -> Tensor | None:
    """The text of each row of several batches together; None where every row is a text."""
    if all(part.texts is None for part in parts):
        return None
    numbers, before = [], 0
    for part in parts:
        own = torch.arange(len(part.state.rows), device=part.state.rows.device) if part.texts is None else part.texts
        numbers.append(own + before)
        before += len(part.state.rows)
    return torch.cat(numbers)


@torch.no_grad()
def run_adaptive(
    model: Adaptive,
    rule: Rule,
    batch: Mapping[str, Tensor | None],
    *,
    trace: bool = False,
) -> EngineOutput:
    """Run a batch, each row, or the windows of each text together, only as deep as the rule asks.

    Args:
        model: The model.
        rule: When a row may stop.
        batch: `input_ids` [B, T], and with them what there is of `attention_mask`, `token_type_ids` [B, T], and `texts`
            [B], the text of each row where rows are windows of longer texts.
        trace: Whether to keep what every layer head.

    Returns:
        Where each row stopped and what it answers.
    """
    tokens = batch["input_ids"]
    assert tokens is not None
    examples = number_of_texts(tokens, batch.get("texts"))
    engine = Engine(model, rule, examples, device=tokens.device, trace=trace)
    live: Live | None = engine.start(batch, torch.arange(examples, device=tokens.device))
    while live is not None:
        live = engine.advance(live)
    return engine.results()


@torch.no_grad()
def run_batches(
    model: Adaptive,
    rule: Rule,
    batches: Iterable[tuple[Sequence[int], Mapping[str, Tensor]]],
    examples: int,
    *,
    regroup: int,
    trace: bool = False,
) -> EngineOutput:
    """Run many batches; survivors of several are pooled by depth, so that deep layers still run on full batches.

    A batch runs on while it has `regroup` tokens. Its survivors then wait for the survivors of other batches after
    the same layer, until together they have that many tokens, or no further batch comes. At most N * `regroup`
    tokens wait at any time.

    Args:
        model: The model.
        rule: When a row may stop.
        batches: Positions of the texts in the caller's order, and `input_ids`, `attention_mask`, `token_type_ids`
            [B, T], and where rows are windows `texts` [B]. Neighbours should be of like length: joined rows are padded
            to the longest.
        examples: How many positions there are, E.
        regroup: Fewest tokens, padding included, for a layer to run on; 0 never pools.
        trace: Whether to keep what every layer head.

    Returns:
        Where each example stopped and what it answers, in the caller's order [E].
    """
    device = model.exit_heads.dense_weight.device
    engine = Engine(model, rule, examples, device=device, trace=trace)
    waiting: list[list[Live]] = [[] for _ in range(engine.layers)]  # by layers run

    def run_on(live: Live | None, fewest: int) -> None:
        while live is not None:
            live = engine.advance(live)
            if live is None or live.tokens >= fewest:
                continue
            pool = waiting[live.state.layer]
            pool.append(live)
            live = None
            if sum(part.tokens for part in pool) >= fewest:
                live = engine.join(pool)
                waiting[live.state.layer] = []

    for positions, batch in batches:
        run_on(engine.start(batch, torch.as_tensor(positions, device=device)), regroup)
    for depth, parts in enumerate(waiting):
        if parts:
            # one layer at a time: what is left joins those that wait one layer further on
            left = engine.advance(engine.join(parts))
            if left is not None:
                waiting[depth + 1].append(left)
    return engine.results()
