"""Predictions for texts in memory: the class or value, and how many layers it took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dactcli.data.batches import by_length, encode, tokens_per_batch
from dactcli.model.engine import run_batches
from dactcli.model.rules import Rule
from dactcli.results import Prediction

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

    from dactcli.model.dact import DactForSequenceClassification

DIGITS = 7  # of a probability; float32 has no more


def predict_texts(
    model: DactForSequenceClassification,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    rule: Rule,
) -> list[Prediction]:
    """Answer texts, each with no more layers than it needs.

    Args:
        model: The model, in evaluation mode.
        tokenizer: Its tokenizer; `model_max_length` is the length that texts are cut to.
        texts: The texts.
        pairs: Their second halves, for models of pairs.
        rule: When to stop.

    Returns:
        One prediction per text, in the given order.
    """
    if not texts:
        return []
    encoded = encode(tokenizer, texts, pairs, max_length=tokenizer.model_max_length)
    budget = tokens_per_batch(model.device)
    batches = by_length(tokenizer, encoded, len(texts), model.device, tokens=budget)
    out = run_batches(model, rule, batches, len(texts), regroup=budget // 2)
    exits, answers = out.exit_layer.tolist(), out.answer.float().cpu()
    if model.regression:
        return [Prediction(value, None, [], layer) for value, layer in zip(answers[:, 0].tolist(), exits, strict=True)]
    names = model.config.id2label
    return [
        Prediction(label, names[label], [round(share, DIGITS) for share in shares], layer)
        for label, shares, layer in zip(answers.argmax(-1).tolist(), answers.tolist(), exits, strict=True)
    ]
