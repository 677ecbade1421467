"""Inputs in blocks: every row once, in order, with its place in the file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dactcli.data.blocks import cut_into_blocks, placed
from dactcli.data.inputs import Input, find_inputs
from dactcli.data.rows import Rows
from dactcli.errors import DataError


def rows_of(inputs: list[Input]) -> list[dict[str, Any]]:
    return [row for chunk in Rows(inputs) for row in chunk.to_rows()]


def places_of(inputs: list[Input]) -> list[str]:
    """The places of all rows, as errors about them name them."""
    found = []
    for one in inputs:
        for chunk in Rows([one]):
            for row in range(len(chunk)):
                found.append(str(placed(DataError("x", place=chunk.place(row)), one).place))
    return found


def write(path: Path, count: int) -> None:
    """Rows with line breaks, quotes and blanks in their texts, in the form that the name says."""
    made = [{"n": str(n), "text": ["plain", 'two\nlines, "quoted"', "", "ü €"][n % 4]} for n in range(count)]
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(made), path, row_group_size=3)
    elif path.suffix == ".csv":
        lines = ["n,text", *(",".join('"' + value.replace('"', '""') + '"' for value in row.values()) for row in made)]
        path.write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
    elif path.suffix == ".tsv":
        path.write_text("n\ttext\n" + "".join(f"{row['n']}\tword {row['n']}\n" for row in made))
    elif path.suffix == ".txt":
        path.write_text("".join(f"line {row['n']}\n" for row in made))
    elif path.suffix == ".json":
        path.write_text(json.dumps(made))
    else:
        path.write_text("".join(json.dumps(row) + "\n" + "\n" * (n % 3 == 2) for n, row in enumerate(made)))


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.txt", "a.parquet", "a.json"])
@pytest.mark.parametrize(("count", "rows"), [(1, 5), (4, 2), (10, 3), (12, 12), (13, 12), (25, 1)])
def test_every_row_is_in_one_block(name: str, count: int, rows: int, tmp_path: Path) -> None:
    write(tmp_path / name, count)
    whole = find_inputs([str(tmp_path / name)])
    blocks = cut_into_blocks(whole, rows)
    assert rows_of(blocks) == rows_of(whole)
    assert places_of(blocks) == places_of(whole)
    if name == "a.json":
        assert blocks == whole
    elif name != "a.jsonl":  # blank lines are lines too
        most = max(rows, 3) + 2 * (name == "a.parquet")
        assert all(len(rows_of([block])) <= most for block in blocks)
        assert len(blocks) >= count // most


def test_a_compressed_file_is_one_block(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", 10)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    whole = find_inputs([str(tmp_path / "b.jsonl.gz")])
    assert cut_into_blocks(whole, 2) == whole


def test_addresses_are_cut_too(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", 9)
    whole = find_inputs([f"file://{tmp_path}/a.csv"])
    blocks = cut_into_blocks(whole, 4)
    assert [len(rows_of([block])) for block in blocks] == [4, 4, 1]
    assert rows_of(blocks) == rows_of(whole)


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    for name, text in (("a.jsonl", ""), ("a.csv", "n,text\n"), ("a.txt", "")):
        (tmp_path / name).write_text(text)
        assert rows_of(cut_into_blocks(find_inputs([str(tmp_path / name)]), 2)) == []


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.text(alphabet='ab",\n ü', max_size=8), max_size=12),
    rows=st.integers(1, 5),
    crlf=st.booleans(),
)
def test_any_csv(texts: list[str], rows: int, crlf: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    import csv

    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\r\n" if crlf else "\n")
        writer.writerows([["n", "text"], *([n, text] for n, text in enumerate(texts))])
    whole = find_inputs([str(path)])
    blocks = cut_into_blocks(whole, rows)
    assert rows_of(blocks) == rows_of(whole)
    assert places_of(blocks) == places_of(whole)
