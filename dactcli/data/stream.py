"""Rows of a file or of standard input, read as they are asked for, so that the whole need not fit into memory."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from dactcli.data.files import delimited, objects, open_parquet, read_error, refuse_unreadable
from dactcli.errors import DataError, did_you_mean

KINDS = ("csv", "tsv", "jsonl", "parquet", "txt")
TEXT = "text"  # the column of plain lines
PARQUET_ROWS = 1024


class RowStream:
    """The rows of one source.

    Args:
        name: As the user wrote it, for errors.
        kind: One of KINDS; `txt` is one text a line.
        file: Its bytes, from the start.

    Attributes:
        columns: Names of the columns; None for jsonl, where each row has its own.
        size: Bytes in all; None for a pipe.
        done: Bytes read so far.
    """

    def __init__(self, name: str, kind: str, file: BinaryIO) -> None:
        self.name, self.kind, self.file = name, kind, file
        self.size = _size(file)
        self.done = 0
        self.columns: list[str] | None = None
        self.rows = self._read()

    def _read(self) -> Iterator[tuple[str, dict[str, Any]]]:
        if self.kind == "parquet":
            return self._parquet()
        if self.kind == "jsonl":
            return ((f"{self.name}:{line}", row) for line, row in objects(self.name, self._lines()))
        if self.kind == "txt":
            self.columns = [TEXT]
            lines = enumerate(self._lines(), start=1)
            return ((f"{self.name}:{number}", {TEXT: line.rstrip("\r\n")}) for number, line in lines)
        records = delimited(self.name, self._lines(), self.kind)
        header = next(records, None)
        if header is None:
            return iter(())
        self.columns = columns = header[1]
        return ((f"{self.name}:{line}", dict(zip(columns, row, strict=True))) for line, row in records)

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each row with its place, `FILE:LINE`."""
        return self.rows

    def _lines(self) -> Iterator[str]:
        for number, raw in enumerate(self.file, start=1):
            self.done += len(raw)
            line = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                fault = f"byte {error.start + 1} of the line (0x{line[error.start]:02x}) is not UTF-8"
                raise DataError(fault, place=f"{self.name}:{number}", remedy="convert the file to UTF-8") from None
            if "\0" in text:
                place = f"{self.name}:{number}"
                raise DataError("holds a NUL byte", place=place, remedy="save the file as UTF-8 text")
            yield text

    def _parquet(self) -> Iterator[tuple[str, dict[str, Any]]]:
        with open_parquet(self.name) as file:
            self.columns = list(file.schema_arrow.names)
            total, number = max(file.metadata.num_rows, 1), 0
            for batch in file.iter_batches(PARQUET_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    self.done = (self.size or 0) * number // total
                    yield f"{self.name}: row {number}", row


@contextmanager
def open_stream(name: str, kind: str | None, standard_input: BinaryIO) -> Iterator[RowStream]:
    """A stream of a file, or of standard input.

    Args:
        name: The file, or `-`.
        kind: One of KINDS; None takes the file's extension, and plain lines for standard input.
        standard_input: What `-` reads.

    Raises:
        DataError: There is no such file, or its kind is not known.
    """
    if name == "-":
        if kind == "parquet":
            raise DataError("parquet cannot be read from a pipe", place="-", remedy="name the file")
        yield RowStream("-", kind or "txt", standard_input)
        return
    path = Path(name)
    refuse_unreadable(path)
    extension = kind or path.suffix.lower().lstrip(".")
    if extension not in KINDS:
        fault = f"extension .{extension} is unknown" if extension else "the file has no extension"
        raise DataError(fault, place=name, remedy=f"{did_you_mean(extension, KINDS)}; --format says what it is")
    try:
        file = path.open("rb")
    except OSError as error:
        raise read_error(name, error) from error
    with file:
        yield RowStream(name, extension, file)


def _size(file: BinaryIO) -> int | None:
    try:
        return file.seek(0, 2) - file.seek(0) if file.seekable() else None
    except (OSError, ValueError):
        return None
