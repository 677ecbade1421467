"""The one reader of rows: formats, dialects, compression, globs, addresses, pipes; types and places kept."""

from __future__ import annotations

import gzip
import io
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from dactcli.data.formats import Lines
from dactcli.data.inputs import Input, find_inputs
from dactcli.data.rows import Rows, read_tables
from dactcli.data.sources import read_file
from dactcli.errors import DataError

ROWS = [{"sentence": "null", "label": "NA"}, {"sentence": "nan; x", "label": "None"}, {"sentence": "", "label": "ü"}]


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(*names: str, kind: str | None = None) -> list[dict[str, Any]]:
    return [row for chunk in Rows(find_inputs(names, kind)) for row in chunk.to_rows()]


def text_of(kind: str) -> bytes:
    if kind in ("csv", "tsv"):
        sign = "," if kind == "csv" else "\t"
        return "".join(sign.join(row) + "\n" for row in [["sentence", "label"], *map(dict.values, ROWS)]).encode()
    if kind == "json":
        return json.dumps(ROWS, indent=1).encode()
    return "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def packed(content: bytes, ending: str) -> bytes:
    if ending == ".zst":
        return bytes(pyarrow.compress(content, "zstd", asbytes=True))
    return gzip.compress(content) if ending == ".gz" else content


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json"])
@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_every_kind_packed_or_not_serves_everyone(kind: str, ending: str) -> None:
    name = f"a.{kind}{ending}"
    Path(name).write_bytes(packed(text_of(kind), ending))
    assert read(name) == ROWS
    (table,) = read_tables([name])
    assert [dict(zip(table.columns, row, strict=True)) for row in zip(*table.columns.values(), strict=True)] == ROWS
    assert read_file(name, text="sentence").texts == [row["sentence"] for row in ROWS]


def test_a_packed_file_is_known_by_its_bytes() -> None:
    Path("a.csv").write_bytes(gzip.compress(text_of("csv")) + gzip.compress(b"more,1\n"))
    assert read("a.csv") == [*ROWS, {"sentence": "more", "label": "1"}]
    Path("torn.csv.gz").write_bytes(gzip.compress(os.urandom(5000).hex().encode())[:-200])
    with pytest.raises(DataError, match=r"torn\.csv\.gz: cannot be read: Truncated compressed stream"):
        read("torn.csv.gz")
    pyarrow.parquet.write_table(pyarrow.table({"sentence": ["a"]}), "a.parquet")
    Path("b.parquet.gz").write_bytes(gzip.compress(Path("a.parquet").read_bytes()))
    with pytest.raises(DataError, match=r"b\.parquet\.gz: is a compressed parquet file; unpack it"):
        read("b.parquet.gz")


@pytest.mark.parametrize("sign", [",", ";", "\t", "|"])
def test_the_delimiter_of_a_csv_is_found_in_its_header(sign: str) -> None:
    Path("a.csv").write_text(f'sentence{sign}label\n"a{sign} ""b"""{sign}x\n')
    assert read("a.csv") == [{"sentence": f'a{sign} "b"', "label": "x"}]
    Path("b.csv").write_text(f"sentence{sign}label\na{sign}b{sign}c\n")
    with pytest.raises(
        DataError, match=r"b\.csv:2: 3 fields where the header has 2; put double quotes around text that"
    ):
        read("b.csv")


def test_a_tsv_with_another_delimiter_is_named() -> None:
    Path("a.tsv").write_text("sentence,label\na,b\n")
    with pytest.raises(DataError, match=r"a\.tsv:1: there is no column sentence .* the one name holds a comma: is the"):
        read_file("a.tsv", text="sentence")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('[{"a": 1},\n {"b": }]', "a.json:2: invalid JSON: Expecting value (column 8)"),
        ('[{"a": 1},\n 5]', "a.json:2: the array holds a number, not an object"),
        ('[{"a": 1}\n {"b": 2}]', "a.json:1: a comma or ] is missing after the object that begins here"),
        ('[{"a": 1}', "a.json:1: a comma or ] is missing after the object that begins here"),
        ('[{"a": 1},', "a.json:1: invalid JSON: Expecting value"),
        ('[{"a": 1}]\n[', "a.json:2: something follows the array"),
        ('{"data": [\n{"a": 1}]}', "a.json:1: is not an array of objects"),
        ("[" * 100_000, "a.json:1: invalid JSON: maximum recursion depth"),
    ],
)
def test_a_broken_array_is_named_by_its_line(content: str, sentence: str) -> None:
    Path("a.json").write_text(content)
    with pytest.raises(DataError) as caught:
        read("a.json")
    assert str(caught.value).startswith(sentence)


def test_a_json_file_of_lines_is_read_as_lines() -> None:
    Path("a.json").write_bytes(text_of("jsonl"))
    assert read("a.json") == ROWS
    Path("b.json").write_text(" []\n")
    assert read("b.json") == []
    with pytest.raises(DataError, match=r"b\.json: has no rows"):
        read_tables(["b.json"])


def test_several_files_and_globs_are_one_stream() -> None:
    Path("logs/deep").mkdir(parents=True)
    for name in ("logs/b.jsonl", "logs/a.jsonl.gz", "logs/deep/c.jsonl"):
        Path(name).write_bytes(packed(json.dumps({"sentence": name}).encode(), ".gz" if name.endswith("gz") else ""))
    Path("x.csv").write_text("sentence\nx\n")
    names = [row["sentence"] for row in read("x.csv", "logs/*.jsonl*", "logs/**/c.jsonl")]
    assert names == ["x", "logs/a.jsonl.gz", "logs/b.jsonl", "logs/deep/c.jsonl"]
    assert [table.source for table in read_tables(["logs/*.jsonl"])] == ["logs/b.jsonl"]
    Path("[1].csv").write_text("sentence\nhere\n")
    assert read("[1].csv") == [{"sentence": "here"}]
    with pytest.raises(DataError, match=r"^logs/\*\.csv: no file matches; "):
        read("logs/*.csv")


def test_a_folder_says_what_to_write() -> None:
    import datasets

    Path("logs").mkdir()
    Path("logs/a.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match=r"^logs: is a folder; name the files in it: logs/\*\.jsonl$"):
        read("logs")
    datasets.Dataset.from_dict({"sentence": ["a"]}).save_to_disk("saved")
    with pytest.raises(DataError, match=r"^saved: is a folder that datasets' save_to_disk wrote; write it as parquet"):
        read("saved")


@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_addresses_are_read_where_they_are(scheme: str, tmp_path: Path) -> None:
    import fsspec

    base = f"memory://rows-{tmp_path.name}" if scheme == "memory" else f"file://{tmp_path}"
    pyarrow.parquet.write_table(pyarrow.table({"sentence": ["p"]}), "p.parquet")
    for name, content in {
        "a.csv": text_of("csv"),
        "b.jsonl.gz": packed(text_of("jsonl"), ".gz"),
        "p.parquet": Path("p.parquet").read_bytes(),
    }.items():
        with fsspec.open(f"{base}/{name}", "wb") as file:
            file.write(content)
    assert read(f"{base}/a.csv", f"{base}/b.json*", f"{base}/p.parquet") == [*ROWS, *ROWS, {"sentence": "p"}]
    # a Path takes one slash away
    (table,) = read_tables([str(Path(f"{base}/a.csv"))])
    assert table.place(0) == f"{base}/a.csv:2"
    with pytest.raises(DataError, match="there is no such file; check the address"):
        read(f"{base}/none.csv")
    with pytest.raises(DataError, match=r"is a folder; name its files: "):
        read(base)
    (one,) = find_inputs([f"{base}/a.csv"])
    before = one.digest()
    time.sleep(0.01)
    with fsspec.open(f"{base}/a.csv", "wb") as file:
        file.write(text_of("csv") + b"new,1\n")
    assert before != one.digest()


@pytest.mark.parametrize("name", ["s3://bucket/a.csv", "gs://bucket/a.csv", "nosuch://x/a.csv"])
def test_an_address_that_cannot_be_reached_is_a_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(DataError) as caught:
        find_inputs([name])
    assert str(caught.value).startswith(f"{name}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("encoding", "mark", "name"),
    [
        ("utf-16", True, "UTF-16"),
        ("utf-16-le", False, "UTF-16LE"),
        ("utf-16-be", False, "UTF-16BE"),
        ("utf-32", True, "UTF-32"),
    ],
)
def test_another_unicode_is_called_by_its_name(encoding: str, mark: bool, name: str) -> None:
    Path("a.csv").write_bytes("sentence,label\nthe key,1\n".encode(encoding))
    with pytest.raises(DataError) as caught:
        read("a.csv")
    assert str(caught.value) == (
        f"a.csv:1: the text is {name[:6]}, and UTF-8 is read; "
        f"convert it, for instance: iconv -f {name} -t UTF-8 a.csv > NEW"
    )


def test_parquet_keeps_its_types() -> None:
    table = pyarrow.table({"sentence": ["a", "b"] * 50, "n": pyarrow.array(range(100), pyarrow.int16())})
    pyarrow.parquet.write_table(table, "a.parquet")
    chunks = list(Rows(find_inputs(["a.parquet"])))
    assert [len(chunk) for chunk in chunks] == [64, 36]
    assert {chunk.batch.schema.field("n").type for chunk in chunks} == {pyarrow.int16()}
    assert chunks[1].place(0) == "a.parquet: row 65"
    assert chunks[1].drop(10).place(0) == "a.parquet: row 75"


def test_an_endless_line_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dactcli.data.formats.LONGEST", 1 << 20)

    class Endless(io.RawIOBase):
        given = 0

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            Endless.given += size
            return b"y" * size

    with pytest.raises(DataError, match="-:1: the line is longer than 1 MiB"):
        list(Lines(Input("-", "txt", pipe=True), Endless()))  # type: ignore[arg-type]
    assert Endless.given < 1 << 21


def test_a_pipe_that_pauses_gives_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dactcli.data.formats.PATIENCE", 0.05)
    reading, writing = os.pipe()
    go_on = threading.Event()

    def write() -> None:
        with os.fdopen(writing, "wb", buffering=0) as file:
            file.write(b"one\ntwo\n")
            go_on.wait(10)
            file.write(b"three\n")

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(reading, "rb") as file:
        chunks = iter(Rows(find_inputs(["-"]), file))
        first = next(chunks)
        assert ([row["text"] for row in first.to_rows()], first.pause) == (["one", "two"], True)
        go_on.set()
        assert [row["text"] for chunk in chunks for row in chunk.to_rows()] == ["three"]
    writer.join(60)
    assert not writer.is_alive()


def test_a_named_pipe_is_read() -> None:
    os.mkfifo("pipe")
    writer = threading.Thread(target=lambda: Path("pipe").write_bytes(text_of("csv")))
    writer.start()
    assert read("pipe", kind="csv") == ROWS
    writer.join(60)
    assert not writer.is_alive()


def test_a_recipe_takes_globs_and_addresses() -> None:
    from dactcli.data.sources import load_splits
    from dactcli.recipe.load import load_recipe

    Path("data").mkdir()
    Path("data/a.csv").write_text("sentence;label\nnull;1\n")
    for number in range(2):
        Path(f"data/part-{number}.jsonl.gz").write_bytes(gzip.compress(b'{"sentence": "b%d", "label": 0}' % number))
    Path("data/r.yaml").write_text(
        "data: {source: files, train: [a.csv, 'part-*.jsonl.gz'], validation: a.csv, test: 's3://bucket/x.csv'}\nmodel: {encoder: tiny}\n"
    )
    recipe = load_recipe(Path("data/r.yaml"))
    assert recipe.data.test == "s3://bucket/x.csv"
    train = load_splits(recipe, only=["train"]).splits["train"]
    assert (train.texts, train.labels) == (["null", "b0", "b1"], [1, 0, 0])
