"""From a stream of rows to a file of predictions, in order, in bounded memory, and resumable.

Predictions are appended to `OUTPUT.part` as JSON lines, beside `OUTPUT.part.json`, which says what they were made of;
when all are there they become OUTPUT in one move. An output that bears its name is therefore complete.
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from dactcli.data.files import describe
from dactcli.data.stream import RowStream
from dactcli.errors import DataError, UsageError, did_you_mean
from dactcli.results import Prediction
from dactcli.storage import sync_folder, write_json

WINDOW = 4096  # rows that are in memory at a time
FORMATS = ("jsonl", "csv", "parquet")
ADDED = ("label", "label_name", "probabilities", "exit_layer")

Answer = Callable[[list[str], "list[str] | None"], Sequence[Prediction]]


def lines_of(
    stream: RowStream, answer: Answer, *, text: str, pair: str | None, skip: int = 0
) -> Iterator[list[dict[str, Any]]]:
    """The rows of a stream with their predictions, a window at a time.

    Args:
        stream: The rows.
        answer: Predicts texts and, for models of pairs, their second halves.
        text: Column of the text.
        pair: Column of the second text, for models of pairs.
        skip: Rows at the start that are left out, because they were answered before.

    Yields:
        Rows of the input with the columns of ADDED; one that had such a name is called `input_<name>`.

    Raises:
        DataError: A column or a text is missing; names the row.
    """
    rows = itertools.islice(stream, skip, None)
    while window := list(itertools.islice(rows, WINDOW)):
        texts = [_text(place, row, text) for place, row in window]
        pairs = [_text(place, row, pair) for place, row in window] if pair is not None else None
        found = answer(texts, pairs)
        yield [{**_kept(row), **asdict(one)} for (_, row), one in zip(window, found, strict=True)]


def _kept(row: dict[str, Any]) -> dict[str, Any]:
    return {f"input_{name}" if name in ADDED else name: value for name, value in row.items()}


def _text(place: str, row: dict[str, Any], column: str) -> str:
    if column not in row:
        near = did_you_mean(column, row)
        raise DataError(
            f"there is no column {column} among: {', '.join(row)}",
            place=place,
            remedy=near if near.endswith("?") else "name it with --text (and --pair-column)",
        )
    value = row[column]
    if not isinstance(value, str):
        raise DataError(
            f"{column} is {describe(value)}, not text", place=place, remedy="write a string, which may be empty"
        )
    return value


def write_lines(windows: Iterable[list[dict[str, Any]]], file: TextIO) -> int:
    """Write predictions as JSON lines, each window as soon as it is there; returns how many."""
    written = 0
    for window in windows:
        file.writelines(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in window)
        file.flush()
        written += len(window)
    return written


class Output:
    """A file of predictions that is written now and complete later.

    Args:
        path: Its name; the extension says jsonl, csv or parquet.
        facts: What the predictions are made of; a resumed output must be made of the same.

    Raises:
        UsageError: The extension is none of those.
    """

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        self.path, self.facts = path, facts
        self.kind = path.suffix.lower().lstrip(".")
        if self.kind not in FORMATS:
            raise UsageError(
                f"extension .{self.kind} is unknown" if self.kind else "has no extension",
                place=f"--output {path}",
                remedy=did_you_mean(self.kind, FORMATS),
            )
        self.part = path.with_name(f"{path.name}.part")
        self.note = path.with_name(f"{path.name}.part.json")

    def begin(self, *, resume: bool, overwrite: bool) -> int:
        """Make ready to append.

        Args:
            resume: Whether to go on with what an earlier call wrote.
            overwrite: Whether to begin again where there is something.

        Returns:
            How many predictions are there already.

        Raises:
            UsageError: Something is there and neither was asked for, or it was made of something else.
        """
        if self.path.exists() and not overwrite:
            raise UsageError("is there already", place=f"--output {self.path}", remedy="add --overwrite")
        begun = self.part.exists() and self.part.stat().st_size > 0  # what failed at its first row left nothing
        if resume and begun:
            return self._complete_lines()
        if begun and not overwrite:
            raise UsageError(
                "an interrupted output is there",
                place=str(self.part),
                remedy="add --resume to go on with it, or --overwrite to begin again",
            )
        if not self.path.parent.is_dir():
            raise UsageError(
                "its folder is not there", place=f"--output {self.path}", remedy=f"make {self.path.parent} first"
            )
        self.part.write_bytes(b"")
        write_json(self.note, self.facts)
        return 0

    def _complete_lines(self) -> int:
        """How many whole lines there are; a torn one at the end is cut off."""
        try:
            before = json.loads(self.note.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            before = {}
        changed = [name for name, value in self.facts.items() if before.get(name) != value]
        if changed:
            raise UsageError(
                f"was begun with another {' and '.join(changed)}",
                place=str(self.part),
                remedy="add --overwrite instead of --resume to begin again",
            )
        count = whole = 0
        with self.part.open("r+b") as file:
            for line in file:
                if line.endswith(b"\n"):
                    count, whole = count + 1, whole + len(line)
            file.truncate(whole)
        return count

    def append(self) -> TextIO:
        """The file that JSON lines are appended to."""
        return self.part.open("a", encoding="utf-8")

    def finish(self) -> None:
        """Give the predictions their form and their name."""
        if self.kind == "jsonl":
            fresh = self.part
        else:
            fresh = self.path.with_name(f".{self.path.name}.form")
            (_write_csv if self.kind == "csv" else _write_parquet)(self.part, fresh)
        fresh.replace(self.path)
        sync_folder(self.path.parent)
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def _rows(part: Path) -> Iterator[dict[str, Any]]:
    with part.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def _columns(part: Path) -> list[str]:
    """All columns, those of the prediction last; JSON lines may each have their own."""
    names = dict.fromkeys(name for row in _rows(part) for name in row)
    return [*(name for name in names if name not in ADDED), *ADDED]


def _write_csv(part: Path, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _columns(part), restval="")
        writer.writeheader()
        for row in _rows(part):
            writer.writerow({**row, "probabilities": json.dumps(row["probabilities"])})


def _write_parquet(part: Path, path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    names = _columns(part)

    def tables(schema: Any = None) -> Iterator[Any]:
        rows = ({name: row.get(name) for name in names} for row in _rows(part))
        while block := list(itertools.islice(rows, WINDOW)):
            yield pyarrow.Table.from_pylist(block, schema=schema)

    try:
        schemas = [table.schema for table in tables()]
        schema = pyarrow.unify_schemas(schemas, promote_options="permissive") if schemas else pyarrow.schema([])
        with pyarrow.parquet.ParquetWriter(path, schema) as writer:
            for table in tables(schema):
                writer.write_table(table)
    except pyarrow.ArrowException as error:
        raise DataError(
            f"the columns do not fit into parquet: {str(error).splitlines()[0]}",
            place=str(path),
            remedy="write .jsonl instead (--overwrite)",
        ) from None
