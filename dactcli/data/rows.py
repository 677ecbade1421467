"""The one reader of rows, for training, evaluation and prediction: a stream of typed chunks, or whole tables.

A chunk knows the place of each of its rows, which errors name, and keeps the types of its source: parquet stays Arrow,
JSON stays JSON, and every value of csv, tsv and plain lines is text ("null" and "NA" too).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from dactcli.data.formats import DELIMITERS, Lines, Record, open_parquet, records
from dactcli.data.inputs import LABELLED, Input, find_inputs
from dactcli.data.plain import plain_values
from dactcli.errors import DataError, did_you_mean

CHUNK = 64  # rows that come together
PARQUET_ROWS, PARQUET_BYTES = 1024, 1 << 26  # of parquet that are decoded together
LINE, ROW = ":", ": row "  # what joins the name of a source and the number of a line or row


@dataclass(frozen=True)
class Chunk:
    """Rows of one source that follow one another.

    Attributes:
        source: The input.
        numbers: 1-based line of each row, or its row number where the source has no lines.
        rows: The rows by column name, where the source has no types of its own.
        batch: The same as a pyarrow.RecordBatch, for parquet; then `rows` is None.
        pause: Whether nothing more of the source is there yet.
        header: Column names that are known although there is no row.
    """

    source: Input
    numbers: Sequence[int]
    rows: list[dict[str, Any]] | None = None
    batch: Any = None
    pause: bool = False
    header: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def columns(self) -> list[str]:
        """The names of its columns, in order; rows of JSON may each have their own."""
        if self.rows is None:
            return list(self.batch.schema.names)
        return list(dict.fromkeys([*self.header, *(name for row in self.rows for name in row)]))

    @property
    def size(self) -> int:
        """Bytes of typed columns; 0 for others, whose texts are counted in tokens."""
        return 0 if self.batch is None else int(self.batch.nbytes)

    def place(self, index: int) -> str:
        """Where row `index` stands: `dev.csv:17`, `dev.parquet: row 16`."""
        if not len(self):
            return f"{self.source.name}{LINE}1" if self.header else self.source.name
        return f"{self.source.name}{LINE if self.rows is not None else ROW}{self.numbers[index]}"

    def values(self, column: str) -> list[Any]:
        """The values of a column; None where a row lacks it.

        Raises:
            KeyError: No row has it.
        """
        if self.rows is None:
            return plain_values(self.batch.column(column))
        if column not in self.header and not any(column in row for row in self.rows):
            raise KeyError(column)
        return [row.get(column) for row in self.rows]

    def to_rows(self) -> list[dict[str, Any]]:
        """The rows as plain values."""
        if self.rows is not None:
            return self.rows
        columns = [plain_values(column) for column in self.batch.columns]
        return [dict(zip(self.batch.schema.names, row, strict=True)) for row in zip(*columns, strict=True)]

    def drop(self, number: int) -> Chunk:
        """Without its first rows."""
        rows = self.rows[number:] if self.rows is not None else None
        batch = self.batch.slice(number) if self.batch is not None else None
        return Chunk(self.source, self.numbers[number:], rows, batch, self.pause)


class Rows:
    """The rows of inputs, one after the other.

    Args:
        inputs: As `find_inputs` gives them.
        standard_input: What `-` reads.
    """

    def __init__(self, inputs: Sequence[Input], standard_input: BinaryIO | None = None) -> None:
        self.inputs, self.standard_input = list(inputs), standard_input
        sizes = [one.size for one in self.inputs]
        self.size: int | None = None if None in sizes else sum(size or 0 for size in sizes)
        self._before, self._position = 0, 0

    @property
    def name(self) -> str:
        """For the screen: the first input, and how many more."""
        more = f" and {len(self.inputs) - 1:,} more" if len(self.inputs) > 1 else ""
        return f"{self.inputs[0].name}{more}"

    @property
    def done(self) -> int:
        """Bytes read so far, as they lie in the inputs."""
        return self._before + self._position

    @property
    def typed(self) -> bool:
        """Whether all inputs bring Arrow types of their own."""
        return all(one.kind == "parquet" for one in self.inputs)

    def __iter__(self) -> Iterator[Chunk]:
        """The chunks, as they are asked for.

        Raises:
            DataError: An input or a row cannot be read; names its place.
        """
        for source in self.inputs:
            with source.open(self.standard_input) as (file, raw):
                yield from self._parquet(source, file) if source.kind == "parquet" else self._text(source, file, raw)
            self._before, self._position = self._before + (source.size or 0), 0

    def _text(self, source: Input, file: BinaryIO, raw: BinaryIO) -> Iterator[Chunk]:
        lines = Lines(source, file)
        held: list[Record] = []
        header, found = records(source, lines)
        if header:
            yield Chunk(source, [], [], header=header)
        for record in found:
            held.append(record)
            pause = lines.waits()
            if pause or len(held) == CHUNK:
                if not source.pipe:
                    self._position = raw.tell()
                yield _chunk(source, held, pause)
                held = []
        if held:
            yield _chunk(source, held, False)

    def _parquet(self, source: Input, file: BinaryIO) -> Iterator[Chunk]:
        import pyarrow

        with open_parquet(source.name, file) as parquet:
            total, number = parquet.metadata.num_rows, 0
            groups = source.span.groups if source.span is not None else None
            if not total:
                yield Chunk(source, [], batch=pyarrow.RecordBatch.from_pylist([], parquet.schema_arrow))
            for batch in parquet.iter_batches(_rows_at_once(parquet.metadata), row_groups=groups):
                for start in range(0, batch.num_rows, CHUNK):
                    part = batch.slice(start, CHUNK)
                    numbers = range(number + 1, number + 1 + part.num_rows)
                    number += part.num_rows
                    self._position = (source.size or 0) * number // total
                    yield Chunk(source, numbers, batch=part)


def _rows_at_once(metadata: Any) -> int:
    """Rows of a parquet file to decode together: fewer where rows are large."""
    size = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    return max(1, min(PARQUET_ROWS, PARQUET_BYTES * int(metadata.num_rows) // max(int(size), 1)))


def _chunk(source: Input, held: list[Record], pause: bool) -> Chunk:
    return Chunk(source, [number for number, _ in held], [row for _, row in held], pause=pause)


@dataclass(frozen=True)
class Table:
    """The columns of one source; each row knows the place that an error about it names.

    Attributes:
        source: The file as the user wrote it, or the data set and split.
        columns: Equally long lists of values by column name.
        numbers: 1-based line of each row, or its row number where the source has no lines.
        mark: What joins source and number: `:` before a line, `: row ` before a row.
        labels: Class names that the source itself declares, if it does.
    """

    source: str
    columns: dict[str, list[Any]]
    numbers: Sequence[int]
    mark: str = ROW
    labels: list[str] | None = None

    def place(self, index: int) -> str:
        """Where row `index` stands: `dev.csv:17`, `dev.parquet: row 16`."""
        return f"{self.source}{self.mark}{self.numbers[index]}"

    @property
    def head(self) -> str:
        """Where the column names stand."""
        return f"{self.source}:1" if self.mark == LINE else self.source


def read_tables(names: Sequence[str]) -> list[Table]:
    """Read whole files.

    Args:
        names: Files, globs or addresses of csv, tsv, jsonl, json or parquet, packed or not.

    Returns:
        A table for each file, with all its columns. A value of csv or tsv is a string; a key that a JSON object lacks
        is None.

    Raises:
        DataError: A file is missing, empty, of an unknown kind, or broken in some line.
    """
    return [_table(source) for source in find_inputs(names, kinds=LABELLED)]


def _table(source: Input) -> Table:
    chunks = [chunk for chunk in Rows([source]) if len(chunk)]
    if not chunks:
        raise _empty(source)
    names = dict.fromkeys(name for chunk in chunks for name in chunk.columns)
    if chunks[0].rows is not None:
        rows = [row for chunk in chunks for row in chunk.to_rows()]
        columns = {name: [row.get(name) for row in rows] for name in names}
    else:
        columns = {name: [value for chunk in chunks for value in chunk.values(name)] for name in names}
    numbers = [number for chunk in chunks for number in chunk.numbers]
    return Table(source.name, columns, numbers, LINE if chunks[0].rows is not None else ROW)


def _empty(source: Input) -> DataError:
    if source.kind == "parquet":
        return DataError("has no rows", place=source.name, remedy="at least one example is needed")
    with source.open() as (file, _):
        blank = not any(line.strip() for line in Lines(source, file))
    if blank or source.kind not in ("csv", "tsv"):
        fault = "the file is empty" if blank else "has no rows"
        return DataError(fault, place=source.name, remedy="at least one example is needed")
    return DataError("there are no rows under the header", place=source.name, remedy="at least one is needed")


def missing_column(name: str, columns: Collection[str], place: str, remedy: str) -> DataError:
    """The error of a column that is not there.

    Args:
        name: The column.
        columns: Those that are there.
        place: Where the names stand.
        remedy: What to do where no name is near.
    """
    near = did_you_mean(name, columns)
    glued = next((sign for sign in DELIMITERS for column in columns if len(columns) == 1 and sign in column), None)
    if glued is not None:
        near = f"the one name holds a {DELIMITERS[glued]}: is the file named by another format than it has?"
    fault = f"there is no column {name} among: {', '.join(columns)}"
    return DataError(fault, place=place, remedy=near if near.endswith("?") else remedy)
