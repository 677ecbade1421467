"""Predictions for texts in memory: the class or value, and how many layers it took."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from dactcli.data.batches import by_length, encode, tokens_per_batch
from dactcli.data.labels import label_values
from dactcli.halting.base import Rule
from dactcli.model.engine import run_batches
from dactcli.model.finite import unfinite_error, unfinite_rows
from dactcli.results import Prediction
from dactcli.results.predict import DIGITS, UNFINITE

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase as Tokenizer

    from dactcli.model.dact import DactForSequenceClassification

Batch = tuple[list[int], "dict[str, Tensor]"]


def predict_texts(
    model: DactForSequenceClassification,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    rule: Rule,
    progress: Callable[[int], None] | None = None,
) -> list[Prediction]:
    """Answer texts, each with no more layers than it needs.

    Args:
        model: The model, in evaluation mode.
        tokenizer: Its tokenizer; `model_max_length` is the length that texts are shortened to.
        texts: The texts.
        pairs: Their second halves, for models of pairs.
        rule: When to stop.
        progress: Told after each batch how many texts went into the model.

    Returns:
        One prediction per text, in the given order; one whose answer is not finite says so in `error`.
    """
    if not texts:
        return []
    encoded = encode(tokenizer, texts, pairs, max_length=tokenizer.model_max_length, long_texts=model.config.long_texts)
    budget = tokens_per_batch(model.device)
    batches = by_length(tokenizer, encoded, len(texts), model.device, tokens=budget)
    if progress is not None:
        batches = _told(batches, progress)
    out = run_batches(model, rule, batches, len(texts), regroup=budget // 2)
    answers = out.answer.float().cpu()
    found = _TOLD[model.answers.kind](model, answers, out.exit_layer)
    for row in unfinite_rows(answers):
        found[row] = Prediction.failed(UNFINITE)
    return found


def check(answers: Sequence[Prediction], place: Callable[[int], str]) -> None:
    """Refuse answers that are none.

    Args:
        answers: The predictions.
        place: Where each text stands, by its position.

    Raises:
        ArtefactError: Some are not finite; names their places.
    """
    if failed := [position for position, answer in enumerate(answers) if answer.error is not None]:
        raise unfinite_error([place(position) for position in failed])


def _told(batches: Iterable[Batch], progress: Callable[[int], None]) -> Iterator[Batch]:
    """The batches, with word of each that went through."""
    done = 0
    for positions, batch in batches:
        yield positions, batch
        done += len(positions)
        progress(done)


def _values(model: DactForSequenceClassification, answers: Tensor, exits: Tensor) -> list[Prediction]:
    return [
        Prediction(value, None, [], layer) for value, layer in zip(answers[:, 0].tolist(), exits.tolist(), strict=True)
    ]


def _classes(model: DactForSequenceClassification, answers: Tensor, exits: Tensor) -> list[Prediction]:
    names = _names(model)
    return [
        Prediction(names[label], label, _rounded(shares), layer, names=names)
        for label, shares, layer in zip(answers.argmax(-1).tolist(), answers.tolist(), exits.tolist(), strict=True)
    ]


def _label_sets(model: DactForSequenceClassification, answers: Tensor, exits: Tensor) -> list[Prediction]:
    names = _names(model)
    chosen = [row.nonzero()[:, 0].tolist() for row in model.answers.decide(answers)]
    return [
        Prediction([names[label] for label in labels], labels, _rounded(shares), layer, names=names)
        for labels, shares, layer in zip(chosen, answers.tolist(), exits.tolist(), strict=True)
    ]


def _names(model: DactForSequenceClassification) -> list[str | int]:
    return label_values([model.config.id2label[index] for index in range(model.classes)])


def _rounded(shares: list[float]) -> list[float]:
    return [round(share, DIGITS) for share in shares]


_TOLD = {"classes": _classes, "multilabel": _label_sets, "regression": _values}
