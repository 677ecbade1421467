"""One path from files to batches: what training reads is what the texts alone give."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import words

from dactcli.data.batches import encode, encode_split
from dactcli.data.examples import Examples
from dactcli.data.sources import read_file

# no surrogates, which no file holds, and no NUL, which csv refuses
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=12)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["left", "right", "stars"], quoting=csv.QUOTE_ALL)
            writer.writeheader()
            writer.writerows(rows)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5))
def test_every_format_gives_the_same_batches(tmp_path: Path, kind: str, texts: list[tuple[str, str]]) -> None:
    rows = [{"left": left, "right": right, "stars": float(index)} for index, (left, right) in enumerate(texts)]
    write(tmp_path / f"rows.{kind}", rows)
    read = read_file(str(tmp_path / f"rows.{kind}"), text="left", text_pair="right", label="stars")
    tokenizer = words("bert")
    direct = encode(
        tokenizer, [left for left, _ in texts], [right for _, right in texts], max_length=16, long_texts="cut"
    )
    encoded = encode_split(read, tokenizer, 16, "cut")
    assert encoded.inputs == direct.inputs
    assert encoded.truncated == direct.truncated
    assert encoded.labels == [row["stars"] for row in rows]


def test_examples_are_selected_with_all_their_columns() -> None:
    whole = Examples(["a", "b", "c"], [2, 3, 4], pairs=["x", "y", "z"], labels=[0, 1, 0])
    assert whole.select([2, 0]).columns() == {
        "text": ["c", "a"],
        "text_pair": ["z", "x"],
        "label": [0, 0],
        "row": [4, 2],
    }
    assert len(Examples([], [])) == 0
