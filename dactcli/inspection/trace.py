"""The halting trace of examples: which layers ran, what each said, and why they were enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dactcli.data.batches import Encoded, by_length, encode
from dactcli.errors import UsageError
from dactcli.halting.base import Rule
from dactcli.halting.label_sets import LabelSets
from dactcli.halting.recursion import halting_weights
from dactcli.halting.rules import Full
from dactcli.model.engine import EngineOutput, Trace
from dactcli.model.finite import unfinite_error, unfinite_rows
from dactcli.results import ExitTrace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

    from dactcli.model.dact import DactForSequenceClassification

BATCH_SIZE = 32


@dataclass(frozen=True)
class Texts:
    """The texts to trace, and what is known of them.

    Attributes:
        texts: The texts.
        pairs: Their second halves, for models of pairs.
        labels: The labels that were given: classes or values.
    """

    texts: Sequence[str]
    pairs: Sequence[str] | None = None
    labels: Sequence[Any] | None = None


@dataclass(frozen=True)
class _Batch:
    """What the engine made of some of the texts.

    Attributes:
        positions: The text of each row.
        out: The engine's output, with its trace.
        layers: That trace.
        full: What full depth answers [B, C]; None unless it was run.
    """

    positions: Sequence[int]
    out: EngineOutput
    layers: Trace
    full: Tensor | None

    def unfinite(self) -> list[int]:
        """Rows whose answer, or what a layer that ran said, is not finite; layers that did not run are NaN."""
        layers, exits = self.layers, self.out.exit_layer
        ran = torch.arange(1, layers.halting.shape[1] + 1, device=exits.device) <= exits.unsqueeze(1)  # [B, N]
        said = (layers.layer_answers, layers.answers, layers.halting.unsqueeze(-1))
        whole = self.out.answer if self.full is None else self.full
        return unfinite_rows(self.out.answer, whole, *(part.masked_fill(~ran.unsqueeze(-1), 0.0) for part in said))


def trace(
    model: DactForSequenceClassification,
    tokenizer: Tokenizer,
    given: Texts,
    *,
    rule: Rule,
    verify: bool = False,
    promise: str | None = None,
) -> list[ExitTrace]:
    """Run texts adaptively and keep what every layer said.

    Args:
        model: The model.
        tokenizer: Its tokenizer; `model_max_length` is the length that texts are shortened to.
        given: The texts.
        rule: When to stop.
        verify: Whether full depth is run as well.
        promise: What a calibration promises of the rule.

    Returns:
        One trace per text, in the given order.

    Raises:
        UsageError: There is no text.
        ArtefactError: Answers to some texts are not finite, as where activations overflow.
    """
    if not given.texts:
        raise UsageError("there is no text to inspect", remedy='write dact inspect "some sentence", or use `file`')
    encoded = encode(
        tokenizer, given.texts, given.pairs, max_length=tokenizer.model_max_length, long_texts=model.config.long_texts
    )
    cut = frozenset(encoded.truncated)
    about = _About(model, rule, given, encoded, cut, tokenizer.model_max_length, promise)
    traces: dict[int, ExitTrace] = {}
    unfinite: list[int] = []
    for positions, inputs in by_length(tokenizer, encoded, BATCH_SIZE, model.device):
        batch = _run(model, rule, positions, inputs, verify=verify)
        bad = batch.unfinite()
        unfinite += [positions[row] for row in bad]
        traces |= {positions[row]: about.example(batch, row) for row in range(len(positions)) if row not in bad}
    if unfinite:
        raise unfinite_error([f"text {position + 1:,}" for position in sorted(unfinite)])
    return [traces[position] for position in range(len(given.texts))]


def _run(
    model: DactForSequenceClassification,
    rule: Rule,
    positions: Sequence[int],
    inputs: dict[str, Tensor],
    *,
    verify: bool,
) -> _Batch:
    """One batch under the rule, and at full depth where that is asked for."""
    out = model.adaptive(rule, inputs, trace=True)
    if out.trace is None:
        raise ValueError("the engine was run without trace=True")
    full = model.adaptive(Full(), inputs).answer if verify else None
    return _Batch(positions, out, out.trace, full)


@dataclass(frozen=True)
class _About:
    """What the traces of all texts share.

    Attributes:
        model: The model.
        rule: When it stops.
        given: The texts.
        encoded: The same as tokens.
        truncated: Positions of the texts that were shortened.
        longest: Tokens that a text is shortened to.
        promise: What a calibration promises of the rule.
    """

    model: DactForSequenceClassification
    rule: Rule
    given: Texts
    encoded: Encoded
    truncated: frozenset[int]
    longest: int
    promise: str | None

    def example(self, batch: _Batch, row: int) -> ExitTrace:
        """One row of the engine's output as plain numbers."""
        model, layers, position = self.model, batch.layers, batch.positions[row]
        ran, answer = int(batch.out.exit_layer[row]), batch.out.answer[row]
        decided = model.answers.decide(answer)
        label: Any = decided.nonzero()[:, 0].tolist() if model.answers.kind == "multilabel" else decided.item()
        expected = self.given.labels[position] if self.given.labels is not None else None
        scores = layers.scores[row, :ran].tolist()
        return ExitTrace(
            text=self.given.texts[position],
            text_pair=self.given.pairs[position] if self.given.pairs is not None else None,
            tokens=len(self.encoded.inputs["input_ids"][position]),
            label=label,
            label_name=self._name(label),
            probabilities=[] if model.regression else answer.tolist(),
            rule=str(self.rule),
            exit_layer=ran,
            layers=model.exit_heads.layers,
            layer_probabilities=layers.layer_answers[row, :ran].tolist(),
            halting=layers.halting[row, :ran].tolist(),
            remaining=layers.remaining[row, :ran].tolist(),
            halting_weights=self._weights(layers.halting[row, :ran]).tolist(),
            answers=layers.answers[row, :ran].tolist(),
            scores=[score if math.isfinite(score) else None for score in scores],
            cut=self.rule.cut,
            notices=self._notices(position),
            promise=self.promise,
            expected=expected,
            expected_name=self._name(expected),
            full_answer=batch.full[row].tolist() if batch.full is not None else None,
            answered_by="mixture" if self._mixes else "layer",
            thresholds=self._thresholds,
        )

    @property
    def _mixes(self) -> bool:
        """Whether the answer is the mixture of the layers' answers, and not the last layer's own."""
        return self.model.mixes and not self.rule.own_answer

    def _weights(self, halting: Tensor) -> Tensor:
        """The halting weights w_n of the answer [n], from h_n of the layers that ran [n]."""
        if self._mixes:
            return halting_weights(halting.unsqueeze(0))[0]
        weights = torch.zeros_like(halting)
        weights[-1] = 1
        return weights

    def _name(self, label: Any) -> str | list[str] | None:
        """The name of a class, the names of a label set, or None for a value."""
        if label is None or self.model.regression:
            return None
        names = self.model.config.id2label
        return [str(names[index]) for index in label] if isinstance(label, list) else str(names[label])

    @property
    def _thresholds(self) -> list[float] | None:
        """The threshold of each label; None for other kinds of answers."""
        if not isinstance(self.model.answers, LabelSets):
            return None
        chosen = list(self.model.answers.thresholds)
        return chosen * self.model.classes if len(chosen) == 1 else chosen

    def _kept(self, position: int) -> str:
        """What was read of a text that is too long."""
        if self.encoded.windows is not None:
            return f"read in {len(self.encoded.windows[position])} windows"
        if self.model.config.long_texts == "cut":
            return f"only the first {self.longest} were read"
        return "only the first and the last tokens were read"

    def _notices(self, position: int) -> list[str]:
        notices = []
        if not self.given.texts[position].strip():
            notices.append("the text is empty")
        if position in self.truncated:
            notices.append(f"longer than {self.longest} tokens: {self._kept(position)}")
        if self.model.config.objective == "last":
            notices.append("plain fine-tuning: only the last layer's answer was trained")
        return notices
