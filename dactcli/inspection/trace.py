"""The halting trace of examples: which layers ran, what each said, and why they were enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dactcli.data.batches import Encoded, by_length, encode
from dactcli.errors import UsageError
from dactcli.halting.answers import LabelSets
from dactcli.halting.base import Rule
from dactcli.halting.recursion import halting_weights
from dactcli.halting.rules import Full
from dactcli.model.engine import EngineOutput, run_adaptive
from dactcli.model.finite import unfinite_error, unfinite_rows
from dactcli.results import ExitTrace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

    from dactcli.model.dact import DactForSequenceClassification

BATCH_SIZE = 32


def trace(
    model: DactForSequenceClassification,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    rule: Rule,
    labels: Sequence[Any] | None = None,
    verify: bool = False,
    promise: str | None = None,
) -> list[ExitTrace]:
    """Run texts adaptively and keep what every layer said.

    Args:
        model: The model.
        tokenizer: Its tokenizer; `model_max_length` is the length that texts are cut to.
        texts: The texts.
        pairs: Their second halves, for models of pairs.
        rule: When to stop.
        labels: The labels that were given: classes or values.
        verify: Whether full depth is run as well.
        promise: What a calibration promises of the rule.

    Returns:
        One trace per text, in the given order.

    Raises:
        UsageError: There is no text.
        ArtefactError: Answers to some texts are not finite, as where activations overflow.
    """
    if not texts:
        raise UsageError("there is no text to inspect", remedy='write dact inspect "some sentence", or use `file`')
    longest = tokenizer.model_max_length
    encoded = encode(tokenizer, texts, pairs, max_length=longest)
    truncated = set(encoded.truncated)
    traces: list[ExitTrace | None] = [None] * len(texts)
    unfinite: list[int] = []
    for positions, batch in by_length(tokenizer, encoded, BATCH_SIZE, model.device):
        out = run_adaptive(model, rule, **batch, trace=True)
        whole = run_adaptive(model, Full(), **batch, trace=False).answer if verify else out.answer
        full = whole.tolist() if verify else None
        bad = _unfinite(out, whole)
        unfinite += [positions[row] for row in bad]
        for row, position in enumerate(positions):
            if row in bad:
                continue
            notices = []
            if not texts[position].strip():
                notices.append("the text is empty: the answer is what the model says of nothing")
            if position in truncated:
                notices.append(f"longer than {longest} tokens: only the first {longest} were read")
            if model.config.objective == "last":
                notices.append("plain fine-tuning: only the last layer's answer was trained")
            pair = pairs[position] if pairs is not None else None
            tokens = _tokens(encoded, position)
            found = _example(model, rule, out, row, texts[position], pair, tokens, notices)
            traces[position] = replace(
                found,
                promise=promise,
                full_answer=full[row] if full is not None else None,
                **_expected(model, labels[position] if labels is not None else None),
            )
    if unfinite:
        raise unfinite_error([f"text {position + 1:,}" for position in sorted(unfinite)])
    return [found for found in traces if found is not None]


def _unfinite(out: EngineOutput, full: Tensor) -> list[int]:
    """Rows in which the answer, or what a layer that ran said, is not finite; layers that did not run are NaN."""
    if out.trace is None:
        raise ValueError("the engine was run without trace=True")
    ran = torch.arange(1, out.trace.halting.shape[1] + 1, device=full.device) <= out.exit_layer.unsqueeze(1)  # [B, N]
    said = (out.trace.layer_answers, out.trace.answers, out.trace.halting.unsqueeze(-1))
    return unfinite_rows(out.answer, full, *(part.masked_fill(~ran.unsqueeze(-1), 0.0) for part in said))


def _expected(model: DactForSequenceClassification, label: Any) -> dict[str, Any]:
    return {"expected": label, "expected_name": None if label is None else _name(model, label)}


def _name(model: DactForSequenceClassification, label: Any) -> str | list[str] | None:
    """The name of a class, the names of a label set, or None for a value."""
    if model.regression:
        return None
    names = model.config.id2label
    return [names[index] for index in label] if isinstance(label, list) else names[label]


def _tokens(encoded: Encoded, position: int) -> int:
    return len(encoded.inputs["input_ids"][position])


def _example(
    model: DactForSequenceClassification,
    rule: Rule,
    out: EngineOutput,
    row: int,
    text: str,
    pair: str | None,
    tokens: int,
    notices: list[str],
) -> ExitTrace:
    """One row of the engine's output as plain numbers."""
    if out.trace is None:
        raise ValueError("the engine was run without trace=True")
    ran, answer = int(out.exit_layer[row]), out.answer[row]
    halting = out.trace.halting[row, :ran]
    if model.mixes and not rule.own_answer:
        weights = halting_weights(halting.unsqueeze(0))[0]
    else:  # the answer is the last layer's own
        weights = torch.zeros(ran, device=halting.device)
        weights[-1] = 1
    decided = model.answers.decide(answer)
    label: Any = decided.nonzero()[:, 0].tolist() if model.answers.kind == "multilabel" else decided.item()
    return ExitTrace(
        text=text,
        text_pair=pair,
        tokens=tokens,
        label=label,
        label_name=_name(model, label),
        probabilities=[] if model.regression else answer.tolist(),
        rule=str(rule),
        exit_layer=ran,
        layers=model.units.layers,
        layer_probabilities=out.trace.layer_answers[row, :ran].tolist(),
        halting=halting.tolist(),
        remaining=out.trace.remaining[row, :ran].tolist(),
        halting_weights=weights.tolist(),
        answers=out.trace.answers[row, :ran].tolist(),
        scores=[score if math.isfinite(score) else None for score in out.trace.scores[row, :ran].tolist()],
        cut=rule.cut,
        notices=notices,
        thresholds=_thresholds(model),
    )


def _thresholds(model: DactForSequenceClassification) -> list[float] | None:
    """The threshold of each label; None for other kinds of answers."""
    if not isinstance(model.answers, LabelSets):
        return None
    chosen = list(model.answers.thresholds)
    return chosen * model.classes if len(chosen) == 1 else chosen
