"""What a prediction has written so far: rows and their answers, appended window by window, readable up to a torn end.

A part keeps rows and answers apart: the names of the answers' columns are chosen when all input columns are known. JSON
serves every output but one: from parquet to parquet the rows stay Arrow, so that every type survives.
"""

from __future__ import annotations

import io
import json
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dactcli.data.formats import open_parquet
from dactcli.data.inputs import Input
from dactcli.errors import DataError, first_line
from dactcli.prediction.answer_columns import INFERRED, AnswerColumns
from dactcli.prediction.forms import (
    Kinds,
    Notice,
    Row,
    answer_types,
    nested_type,
    write_csv,
    write_parquet,
    write_tables,
)
from dactcli.storage import to_json

if TYPE_CHECKING:
    from dactcli.prediction.windows import Window

_LENGTH = struct.Struct("<Q")


class Part(ABC):
    """A file of windows.

    Args:
        path: The file.
        answers: The answers' columns.

    Attributes:
        columns: The columns of the input so far, in order.
        failed: Rows without an answer that an earlier call left.
    """

    def __init__(self, path: Path, answers: AnswerColumns) -> None:
        self.path, self.answers = path, answers
        self.columns: dict[str, None] = {}
        self.failed = 0

    @abstractmethod
    def check(self, inputs: Sequence[Input]) -> None:
        """Refuse inputs whose columns do not fit together, before they are answered.

        Raises:
            DataError: They do not.
        """

    @abstractmethod
    def resume(self) -> int:
        """How many rows are there; a torn or damaged end is cut off."""

    @abstractmethod
    def append(self, window: Window) -> None:
        """Add a window; it is in the file when this returns."""

    @abstractmethod
    def write(self, kind: str, path: Path, names: Mapping[str, str], notice: Notice) -> None:
        """Write the whole as an output.

        Args:
            kind: One of `forms.FORMATS`.
            path: Where to.
            names: Of the answers' columns, as `free_names` gives them.
            notice: Told of columns whose values change their form.

        Raises:
            DataError: The columns do not fit into it.
        """


class JsonPart(Part):
    """Lines of two JSON objects, the row and its answer, with a tab between them."""

    def check(self, inputs: Sequence[Input]) -> None:
        """Rows without types of their own always fit together."""

    def resume(self) -> int:
        """How many whole lines there are."""
        count = whole = 0
        with self.path.open("r+b") as file:
            for line in file:
                try:
                    row, answer = map(json.loads, line.split(b"\t"))
                    failed = answer["error"] is not None
                except (ValueError, RecursionError, TypeError, KeyError):
                    break
                if not line.endswith(b"\n"):
                    break
                count, whole = count + 1, whole + len(line)
                self.columns |= dict.fromkeys(row)
                self.failed += failed
            file.truncate(whole)
        return count

    def append(self, window: Window) -> None:
        """Add lines."""
        answers = iter(window.answers)
        with self.path.open("a", encoding="utf-8") as file:
            for chunk in window.chunks:
                self.columns |= dict.fromkeys(chunk.columns)
                for row in chunk.to_rows():
                    answer = to_json(self.answers.row(next(answers)), ascii_only=False)
                    file.write(f"{to_json(row, ascii_only=False)}\t{answer}\n")

    def write(self, kind: str, path: Path, names: Mapping[str, str], notice: Notice) -> None:
        """Write the whole as an output."""
        if kind == "csv":
            write_csv(lambda: self._rows(names), [*self.columns, *names.values()], path)
        elif kind == "parquet":
            write_parquet(lambda: self._rows(names), list(self.columns), names, path, notice)
        else:
            with path.open("w", encoding="utf-8") as file:
                file.writelines(joined(row, answer, names) for row, answer in self._pairs())

    def _pairs(self) -> Iterator[tuple[str, str]]:
        with self.path.open(encoding="utf-8", newline="\n") as file:
            for line in file:
                row, _, answer = line.rstrip("\n").partition("\t")
                yield row, answer

    def _rows(self, names: Mapping[str, str]) -> Iterator[Row]:
        for row, answer in self._pairs():
            found = json.loads(answer)
            yield {**json.loads(row), **{used: found[ours] for ours, used in names.items()}}


class ArrowPart(Part):
    """Pairs of blocks with their lengths before them: a table of rows as an Arrow stream, and their answers as JSON."""

    def __init__(self, path: Path, answers: AnswerColumns) -> None:
        super().__init__(path, answers)
        self.labels = Kinds()

    def check(self, inputs: Sequence[Input]) -> None:
        """Refuse inputs with a column that has two types."""
        schemas: dict[Any, None] = {}
        for one in inputs if len(inputs) > 1 else ():
            with one.open() as (file, _), open_parquet(one.name, file) as parquet:
                schemas[parquet.schema_arrow] = None
        if schemas:
            _together(schemas)

    def resume(self) -> int:
        """How many rows whole pairs hold."""
        import pyarrow

        count = whole = 0
        with suppress(pyarrow.ArrowException, OSError, ValueError, OverflowError, MemoryError):
            for table, answers, end in self._pairs():
                count, whole = count + len(answers), end
                self._see(table, answers)
                self.failed += sum(row["error"] is not None for row in answers)
        with self.path.open("r+b") as file:
            file.truncate(whole)
        return count

    def append(self, window: Window) -> None:
        """Add a pair of blocks, or several where the rows are of several schemas."""
        import pyarrow

        start = 0
        with self.path.open("ab") as file:
            for chunks in _alike(window):
                table = pyarrow.Table.from_batches([chunk.batch for chunk in chunks])
                answers = [self.answers.row(one) for one in window.answers[start : start + len(table)]]
                start += len(table)
                self._see(table, answers)
                sink = io.BytesIO()
                with pyarrow.ipc.new_stream(sink, table.schema) as writer:
                    writer.write_table(table)
                file.write(b"".join(_LENGTH.pack(len(b)) + b for b in (sink.getvalue(), to_json(answers).encode())))

    def write(self, kind: str, path: Path, names: Mapping[str, str], notice: Notice) -> None:
        """Write the whole as parquet."""
        import pyarrow

        schema = _together(dict.fromkeys(table.schema for table, _, _ in self._pairs()))
        inferred = {name: nested_type(self._values(name)) for name in names if name in INFERRED}
        types = answer_types(self.labels, names, inferred)
        for used, kind_of_values in types.items():
            schema = schema.append(pyarrow.field(used, kind_of_values))

        def tables() -> Iterator[Any]:
            for table, answers, _ in self._pairs():
                arrays = [_column(table, field) for field in list(schema)[: len(schema) - len(names)]]
                arrays += [pyarrow.array([row[ours] for row in answers], types[used]) for ours, used in names.items()]
                yield pyarrow.Table.from_arrays(arrays, schema=schema)

        write_tables(tables(), schema, path)

    def _see(self, table: Any, answers: list[Row]) -> None:
        self.columns |= dict.fromkeys(table.schema.names)
        for row in answers:
            self.labels.add(row.get("label"))

    def _values(self, name: str) -> Iterator[list[Any]]:
        """A column of the answers, block by block."""
        return ([row[name] for row in answers] for _, answers, _ in self._pairs())

    def _pairs(self) -> Iterator[tuple[Any, list[Row], int]]:
        """The whole pairs, each with the place in the file where it ends."""
        import pyarrow

        with self.path.open("rb") as file:
            while True:
                blocks = [_block(file.read) for _ in range(2)]
                if None in blocks:
                    return
                with pyarrow.ipc.open_stream(blocks[0]) as reader:
                    table = reader.read_all()
                yield table, json.loads(blocks[1] or b""), file.tell()


def joined(row: str, answer: str, names: Mapping[str, str]) -> str:
    """One JSON line of a row and its answer, with the answers' columns under their names."""
    found = json.loads(answer)
    if list(names.items()) != [(name, name) for name in found]:
        answer = to_json({used: found[ours] for ours, used in names.items()}, ascii_only=False)
    return f"{answer}\n" if row == "{}" else f"{row[:-1]}, {answer[1:]}\n"


def _block(read: Callable[[int], bytes]) -> bytes | None:
    """The next block; None at the end of the file, torn or not."""
    start = read(_LENGTH.size)
    if len(start) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(start)
    block = read(length)
    return block if len(block) == length else None


def _alike(window: Window) -> Iterator[list[Any]]:
    """The chunks of a window, those of one schema together."""
    held: list[Any] = []
    for chunk in window.chunks:
        if held and chunk.batch.schema != held[0].batch.schema:
            yield held
            held = []
        held.append(chunk)
    yield held


def _column(table: Any, field: Any) -> Any:
    """A column of a table as a wider schema has it; nulls where the table lacks it."""
    import pyarrow

    if field.name not in table.schema.names:
        return pyarrow.nulls(len(table), field.type)
    column = table.column(field.name)
    return column if column.type == field.type else pyarrow.nulls(len(table), field.type)  # it was of nulls alone


def _together(schemas: Iterable[Any]) -> Any:
    """One schema of all columns; no column may have two types.

    Raises:
        DataError: One has.
    """
    import pyarrow

    found = list(schemas)
    try:
        return found[0] if len(found) == 1 else pyarrow.unify_schemas(found)
    except pyarrow.ArrowException as error:
        reason = first_line(error)
        remedy = "write .jsonl instead, or predict the files one by one"
        raise DataError(f"the inputs do not fit together ({reason})", remedy=remedy) from None
