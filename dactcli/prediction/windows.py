"""From a stream of rows to windows of rows with their answers, in order and in bounded memory."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dactcli.data.formats import TEXT, describe
from dactcli.data.rows import Chunk, missing_column
from dactcli.errors import DataError
from dactcli.model.finite import MOST_ROWS
from dactcli.prediction.predict import check
from dactcli.results import Prediction

if TYPE_CHECKING:
    from dactcli.model.dact import DactForSequenceClassification

WINDOW = 4096  # most rows that are in memory at a time
LARGEST = 1 << 27  # bytes of typed columns that are
BATCHES = 8  # fewest full batches of a window, because survivors are pooled within it
WORK = {"cpu": 5e11, "cuda": 5e13, "mps": 5e12}  # operations in a few seconds, by kind of device
BYTES = 4  # of UTF-8 in a token, roughly
SPECIAL = 3  # tokens that are added to a text

Answer = Callable[[list[str], "list[str] | None"], Sequence[Prediction]]


@dataclass(frozen=True)
class Columns:
    """Where the texts are, and what to do with rows that have none or get no answer.

    Attributes:
        text: Column of the text; plain lines have their own.
        pair: Column of the second text, for models of pairs.
        skip: Whether a faulty row stays without an answer; else it ends the prediction.
    """

    text: str
    pair: str | None = None
    skip: bool = False


@dataclass(frozen=True)
class Window:
    """Rows with their answers.

    Attributes:
        chunks: The rows.
        answers: One for each row.
    """

    chunks: list[Chunk]
    answers: list[Prediction]

    def place(self, row: int) -> str:
        """Where a row of the window stands."""
        for chunk in self.chunks:
            if row < len(chunk):
                return chunk.place(row)
            row -= len(chunk)
        raise IndexError(row)


@dataclass(frozen=True)
class _Asked:
    """A chunk with its texts; a row with a fault has none."""

    chunk: Chunk
    texts: list[list[str]]  # by column, by row
    faults: dict[int, str]

    @property
    def tokens(self) -> int:
        return sum(len(text.encode("utf-8", "replace")) // BYTES + SPECIAL for column in self.texts for text in column)


def most_tokens(model: DactForSequenceClassification, batch: int) -> int:
    """Tokens of a window whose answers take a few seconds, so that they are saved as often.

    It depends on the model and the kind of device and not on the clock: equal calls have equal windows, and with them
    equal answers to the last bit.

    Args:
        model: The model.
        batch: Tokens of a full batch.
    """
    width = model.exit_heads.dense_weight.shape[1]
    operations = 24 * width**2 * model.exit_heads.layers  # of a token: two for each weight of every layer
    return max(BATCHES * batch, int(WORK.get(model.device.type, WORK["cpu"]) / operations))


def answered(
    chunks: Iterable[Chunk],
    answer: Answer,
    columns: Columns,
    *,
    tokens: int,
    skip: int = 0,
) -> Iterator[Window]:
    """The rows of a stream with their answers, a window at a time.

    Args:
        chunks: The rows.
        answer: Predicts texts and, for models of pairs, their second halves.
        columns: Where the texts are.
        tokens: Tokens from which on a window is full; so it is with WINDOW rows, or when no more rows are there yet.
        skip: Rows at the start that are left out, because they were answered before.

    Raises:
        DataError: A column or a text is missing; names the rows.
        ArtefactError: An answer is not finite; names the rows.
    """
    held: list[_Asked] = []
    rows = read = size = 0
    for chunk in _without(chunks, skip):
        held.append(_ask(chunk, columns))
        rows, read, size = rows + len(chunk), read + held[-1].tokens, size + chunk.size
        if rows >= WINDOW or read >= tokens or size >= LARGEST or chunk.pause:
            yield _answer(held, answer, columns)
            held, rows, read, size = [], 0, 0, 0
    if held:
        yield _answer(held, answer, columns)


def columns_of(chunks: Iterable[Chunk], columns: Columns) -> list[str]:
    """The columns of the first rows of a stream; empty where it has no row.

    Raises:
        DataError: They lack the column of the text, or a row of them has no text and faulty rows are not skipped.
    """
    for chunk in chunks:
        if len(chunk):
            _ask(chunk, columns)
            return chunk.columns
    return []


def _without(chunks: Iterable[Chunk], skip: int) -> Iterator[Chunk]:
    for chunk in chunks:
        left = min(skip, len(chunk))
        skip -= left
        if left < len(chunk) or not len(chunk):
            yield chunk.drop(left) if left else chunk


def _ask(chunk: Chunk, columns: Columns) -> _Asked:
    """The texts of a chunk.

    Raises:
        DataError: One is missing, and faulty rows are not skipped.
    """
    text = TEXT if chunk.source.kind == "txt" else columns.text
    _refuse_other_formats(chunk, columns)
    names = [text, columns.pair] if columns.pair is not None else [text]
    found, faults = [_values(chunk, name, columns) for name in names], dict[int, str]()
    for name, values in zip(names, found, strict=True):
        for row, value in enumerate(values):
            if not isinstance(value, str):
                faults.setdefault(row, f"{name} is {describe(value)}, not text")
    if faults and not columns.skip:
        places = [chunk.place(row) for row in sorted(faults)]
        more = f" and {len(places) - MOST_ROWS} more" if len(places) > MOST_ROWS else ""
        raise DataError(
            faults[min(faults)],
            place=", ".join(places[:MOST_ROWS]) + more,
            remedy="write a string, which may be empty, or add `on_error` skip",
        )
    return _Asked(chunk, [[v for row, v in enumerate(values) if row not in faults] for values in found], faults)


def _refuse_other_formats(chunk: Chunk, columns: Columns) -> None:
    """Refuse a pipe that seems to hold rows, and would be answered as lines.

    Raises:
        DataError: Its first line is a JSON object, or names the column of the text.
    """
    if not chunk.source.guessed or chunk.numbers[0] != 1:
        return
    first = chunk.values(TEXT)[0]
    kind = "csv" if len(names := re.split(r'"?[,;|]"?', first.strip('"'))) > 1 and columns.text in names else None
    kind = "tsv" if columns.text in first.split("\t") and "\t" in first else kind
    if first.startswith("{"):
        with suppress(ValueError, RecursionError):
            kind = "jsonl" if isinstance(json.loads(first), dict) else kind
    if kind is not None:
        remedy = f"add `format` {kind}, or `format` txt if these are plain lines"
        raise DataError(f"looks like {kind}", place=chunk.place(0), remedy=remedy)


def _values(chunk: Chunk, name: str, columns: Columns) -> list[Any]:
    try:
        return chunk.values(name)
    except KeyError:
        if columns.skip and len(chunk) == 1 and chunk.source.kind in ("jsonl", "json"):
            return [None]  # objects may each have their own keys; where none has this one, it is misspelt
        remedy = "name it with `text` (and `pair_column`)"
        raise missing_column(name, chunk.columns, chunk.place(0), remedy) from None


def _answer(asked: list[_Asked], answer: Answer, columns: Columns) -> Window:
    texts = [text for one in asked for text in one.texts[0]]
    pairs = [text for one in asked for text in one.texts[1]] if columns.pair is not None else None
    found = iter(answer(texts, pairs) if texts else ())
    answers = [
        Prediction.failed(one.faults[row]) if row in one.faults else next(found)
        for one in asked
        for row in range(len(one.chunk))
    ]
    window = Window([one.chunk for one in asked], answers)
    if not columns.skip:
        check(answers, window.place)
    return window
