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
from dactcli.results.predict import UNFINITE

if TYPE_CHECKING:
    from torch import Tensor

    from dactcli.model.dact import DactForSequenceClassification
    from dactcli.runs.load import Run

Batch = tuple[list[int], "dict[str, Tensor]"]


def predict_texts(
    run: Run,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    rule: Rule,
    tokens: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Prediction]:
    """Answer texts, each with no more layers than it needs.

    Args:
        run: The model, in evaluation mode, and its tokenizer, whose `model_max_length` texts are shortened to.
        texts: The texts.
        pairs: Their second halves, for models of pairs.
        rule: When to stop.
        tokens: Most tokens of a batch, padding included; one text may have more. Default: by the device.
        progress: Told after each batch how many texts went into the model.

    Returns:
        One prediction per text, in the given order; one whose answer is not finite says so in `error`.
    """
    if not texts:
        return []
    model, tokenizer = run.model, run.tokenizer
    encoded = encode(tokenizer, texts, pairs, max_length=tokenizer.model_max_length, long_texts=model.config.long_texts)
    budget = tokens or tokens_per_batch(model.device)
    batches = by_length(tokenizer, encoded, len(texts), model.device, tokens=budget)
    if progress is not None:
        batches = _told(batches, progress)
    out = run_batches(model, rule, batches, len(texts), regroup=budget // 2)
    answers = out.answer.float().cpu()
    found = _predictions(model, answers, out.exit_layer)
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


def _predictions(model: DactForSequenceClassification, answers: Tensor, exits: Tensor) -> list[Prediction]:
    """The answers [B, C] and exit layers [B] in the form that users see."""
    decided, layers = model.answers.decide(answers), exits.tolist()
    if model.regression:
        return [Prediction(value, None, [], layer) for value, layer in zip(decided.tolist(), layers, strict=True)]
    names = label_values([model.config.id2label[index] for index in range(model.classes)])
    several = model.answers.kind == "multilabel"
    decisions = [row.nonzero()[:, 0].tolist() for row in decided] if several else decided.tolist()
    rows = zip(decisions, answers.tolist(), layers, strict=True)
    return [Prediction.decided(decision, shares, layer, names) for decision, shares, layer in rows]
