"""Inputs in blocks of rows that can be read apart, on any machine.

Text is cut between records, parquet between row groups. What cannot be read from its middle (a compressed file, a JSON
array) is one block. A block is an `Input` of its own; the places of its rows count from its start, and `placed` turns
them into those of the file.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import BinaryIO

from dactcli.data.formats import Lines, open_parquet, records
from dactcli.data.inputs import Input, Span
from dactcli.errors import DactError

READ = 1 << 20  # bytes read at a time
SHOWN = re.compile(r"(: row |:)(\d+)(?=, | and |$)")  # and no port of an address


def cut_into_blocks(inputs: Sequence[Input], rows: int) -> list[Input]:
    """The blocks of inputs, in order.

    Args:
        inputs: Files or addresses; no pipes.
        rows: Rows of a block; of parquet, the fewest, since its row groups stay whole.

    Raises:
        DataError: An input cannot be read, or a csv record is broken before its last block.
    """
    return [block for one in inputs for block in _blocks(one, rows)]


def placed(error: DactError, block: Input) -> DactError:
    """An error about rows of a block, with their places in the whole file.

    Args:
        error: As reading or answering the block raised it.
        block: The block.
    """
    if block.span is None or error.place is None:
        return error
    before = block.span.before
    place = SHOWN.sub(lambda match: f"{match[1]}{int(match[2]) + before}", error.place)
    return type(error)(error.fault, place=place, remedy=error.remedy)


def _blocks(one: Input, rows: int) -> Iterator[Input]:
    if one.kind == "parquet":
        yield from _row_groups(one, rows)
        return
    with one.open() as (file, raw):
        if file is not raw or one.kind == "json":
            yield one
            return
        spans = list(_records(one, file, rows) if one.kind in ("csv", "tsv") else _lines(file, rows))
    yield from (replace(one, span=span) for span in spans)


def _row_groups(one: Input, rows: int) -> Iterator[Input]:
    with one.open() as (file, _), open_parquet(one.name, file) as parquet:
        sizes = [parquet.metadata.row_group(group).num_rows for group in range(parquet.metadata.num_row_groups)]
    held: list[int] = []
    before = taken = 0
    for group, size in enumerate(sizes):
        held, taken = [*held, group], taken + size
        if taken >= rows or group + 1 == len(sizes):
            yield replace(one, span=Span(before=before, groups=tuple(held)))
            held, before, taken = [], before + taken, 0


def _lines(file: BinaryIO, rows: int) -> Iterator[Span]:
    """Spans of so many lines each, whose ends are found without looking at the records."""
    start = offset = lines = before = 0
    while chunk := file.read(READ):
        position = 0
        while (end := chunk.find(b"\n", position)) >= 0:
            position, lines = end + 1, lines + 1
            if lines == rows:
                yield Span(start, offset + position, before=before)
                start, before, lines = offset + position, before + rows, 0
        offset += len(chunk)
    if offset > start:
        yield Span(start, offset, before=before)


class _Counted:
    """Lines, with how many were taken and how many bytes they have."""

    def __init__(self, lines: Lines) -> None:
        self.lines, self.taken, self.bytes = lines, 0, 0

    def __iter__(self) -> Iterator[str]:
        for line in self.lines:
            self.taken, self.bytes = self.taken + 1, self.bytes + len(line.encode())
            yield line


def _records(one: Input, file: BinaryIO, rows: int) -> Iterator[Span]:
    """Spans of so many records each; a quoted field may hold line breaks."""
    marked = len(codecs.BOM_UTF8) if file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8 else 0
    file.seek(0)
    counted = _Counted(Lines(one, file))
    _, found = records(one, counted)
    lines, start = counted.taken, counted.bytes + marked
    with one.open() as (again, _):
        header = again.read(start)
    before, number = 0, 0
    for number, _ in enumerate(found, start=1):
        if number % rows == 0:
            end = counted.bytes + marked
            yield Span(start, end, header, before)
            start, before = end, counted.taken - lines
    if number % rows or not number:
        yield Span(start, counted.bytes + marked, header, before)
