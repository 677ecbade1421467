"""What predict does with columns that are hard to carry over, with torn or contested outputs, and without streams."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from filelock import FileLock
from support import dact

from dactcli.data.agreement import generate
from dactcli.data.rows import read_tables
from dactcli.prediction.predict import predict_texts

TEXTS = [one.sentence for one in generate(train=60)["train"][:24]]


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def interrupted(monkeypatch: pytest.MonkeyPatch, *call: object, windows: int = 2) -> None:
    """Run a prediction that SIGINT ends after some windows of 8 rows."""
    monkeypatch.setattr("dactcli.prediction.windows.WINDOW", 8)
    monkeypatch.setattr("dactcli.data.rows.CHUNK", 8)
    count = iter(range(1000))

    def predict(*args: Any, **options: Any) -> Any:
        if next(count) == windows:
            signal.raise_signal(signal.SIGINT)
        return predict_texts(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr("dactcli.prediction.predict.predict_texts", predict)
        assert dact(*call).exit_code == 130


STRUCT = pyarrow.StructArray.from_arrays([pyarrow.array([1]), pyarrow.array([2])], ["a", "a"])
VALUES = {
    "date": (pyarrow.array([5_000_000], pyarrow.date32()), 5_000_000),
    "stamp": (pyarrow.array([2**61], pyarrow.timestamp("us")), 2**61),
    "nested": (pyarrow.array([[-(2**40)]], pyarrow.list_(pyarrow.timestamp("s"))), [-(2**40) * 1000]),  # parquet has ms
    "zone": (pyarrow.array([1], pyarrow.timestamp("us", "Foo/Bar")), "1970-01-01T00:00:00.000001+00:00"),
    "duration": (pyarrow.array([2**62], pyarrow.duration("s")), 2**62),
    "time": (pyarrow.array([86_399_999_999_999], pyarrow.time64("ns")), "23:59:59.999999999"),
    "times": (pyarrow.array([[1000, None]], pyarrow.list_(pyarrow.time64("ns"))), ["00:00:00.000001", None]),
    "twins": (STRUCT, [["a", 1], ["a", 2]]),
    "map": (
        pyarrow.array([[("k", 2**62)]], pyarrow.map_(pyarrow.string(), pyarrow.duration("s"))),
        [["k", 2**62]],
    ),
    "object": (
        pyarrow.array([{"t": 86_399_999_999_999}], pyarrow.struct([("t", pyarrow.time64("ns"))])),
        {"t": "23:59:59.999999999"},
    ),
}


def test_values_beyond_python_keep_every_digit(tiny_run: Path) -> None:
    table = pyarrow.table({"sentence": ["the key ."], **{name: array for name, (array, _) in VALUES.items()}})
    pyarrow.parquet.write_table(table, "in.parquet")
    for target in ("out.jsonl", "out.csv", "out.parquet"):
        done = dact("predict", "in.parquet", "--run", tiny_run, "--output", target)
        assert done.exit_code == 0, done.stderr
    (row,) = lines("out.jsonl")
    with Path("out.csv").open(newline="") as file:
        (cells,) = csv.DictReader(file)
    for name, (_, expected) in VALUES.items():
        assert row[name] == expected, name
        assert cells[name] == (expected if isinstance(expected, str) else json.dumps(expected)), name
    assert (
        pyarrow.parquet.read_table("out.parquet")
        .select(table.column_names)
        .equals(pyarrow.parquet.read_table("in.parquet"))
    )
    (read,) = read_tables(["in.parquet"])  # as a training reads it
    assert read.columns["date"] == [5_000_000]


def test_a_header_without_rows_keeps_its_columns(tiny_run: Path) -> None:
    Path("none.csv").write_text("id;sentence\n")
    Path("some.csv").write_text("sentence\nthe key .\n")
    assert dact("predict", "none.csv", "--run", tiny_run, "--output", "out.csv").exit_code == 0
    assert Path("out.csv").read_text().strip() == "id,sentence,label,label_id,probabilities,exit_layer"
    assert dact("predict", "some.csv", "none.csv", "--run", tiny_run, "--output", "both.parquet").exit_code == 0
    assert pyarrow.parquet.read_schema("both.parquet").names[:2] == ["sentence", "id"]
    refused = dact("predict", "none.csv", "--run", tiny_run, "--text", "text")
    assert refused.exit_code == 2
    assert "none.csv:1: there is no column text among: id, sentence" in refused.stderr


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("in.jsonl", '{"sentence": "a"}\n{"sentence": "b", "x": 1, "x": 2}\n', "in.jsonl:2"),
        ("in.jsonl", '{"sentence": "a", "y": [{"x": 1, "x": 2}]}\n', "in.jsonl:1"),
        ("in.json", '[{"sentence": "a"},\n{"sentence": "b", "x": 1, "x": 2}]', "in.json:2"),
    ],
)
def test_a_key_that_stands_twice_loses_no_value(tiny_run: Path, name: str, text: str, place: str) -> None:
    Path(name).write_text(text)
    refused = dact("predict", name, "--run", tiny_run)
    assert refused.exit_code == 2
    assert f"{place}: two keys are called 'x'; rename one" in refused.stderr


@pytest.mark.parametrize("values", [[{"a": 1}, {"a": "b"}], [[2**53 + 1], [0.5]], [2**70, 1], [{}, {}]])
def test_a_column_that_becomes_text_is_told_of(tiny_run: Path, values: list[Any]) -> None:
    Path("in.jsonl").write_text("".join(json.dumps({"sentence": "a", "x": value}) + "\n" for value in values))
    done = dact("predict", "in.jsonl", "--run", tiny_run, "--output", "out.parquet")
    assert "note: column x holds values that no type of parquet holds exactly, so it is written as text" in done.stderr
    assert [json.loads(text) for text in pyarrow.parquet.read_table("out.parquet")["x"].to_pylist()] == values


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize("damage", [b"\0" * 400, b"\xff" * 400, b"{}\t{}\n", b"{}\n", b'{"a": 1}\t[]\n'])
def test_a_damaged_end_is_cut_and_done_again(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, kind: str, damage: bytes
) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"sentence": TEXTS}), "in.parquet")
    call = ("predict", "in.parquet", "--run", tiny_run, "--output", f"out.{kind}")
    interrupted(monkeypatch, *call)
    with Path(f"out.{kind}.part").open("ab") as file:
        file.write(damage)
    done = dact(*call, "--resume")
    assert done.exit_code == 0, done.stderr
    made = lines("out.jsonl") if kind == "jsonl" else pyarrow.parquet.read_table("out.parquet").to_pylist()
    assert [row["sentence"] for row in made] == TEXTS


@pytest.mark.parametrize("option", ["--resume", "--overwrite"])
def test_a_signal_before_an_interrupted_output_goes_on_keeps_it(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    Path("in.txt").write_text("\n".join(TEXTS))
    call = ("predict", "in.txt", "--run", tiny_run, "--output", "out.jsonl")
    interrupted(monkeypatch, *call)
    before = Path("out.jsonl.part").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("dactcli.api.answering.open_run", lambda *args, **options: signal.raise_signal(signal.SIGTERM))
        stopped = dact(*call, option)
    assert stopped.exit_code == 143
    sentence = "stopped by SIGTERM before the first new prediction; what an earlier call answered is kept"
    assert sentence in stopped.stderr
    assert Path("out.jsonl.part").read_bytes() == before


def test_a_part_without_its_record_is_not_gone_on_with(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("in.txt").write_text("\n".join(TEXTS))
    call = ("predict", "in.txt", "--run", tiny_run, "--output", "out.jsonl")
    interrupted(monkeypatch, *call)
    Path("out.jsonl.part.json").write_text("{")
    refused = dact(*call, "--resume")
    assert refused.exit_code == 2
    assert "nothing says what it was made of, because out.jsonl.part.json is missing or damaged" in refused.stderr


@pytest.mark.parametrize("source", ["in.jsonl", "in.parquet"])
def test_skipped_rows_are_counted_across_calls(tiny_run: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    texts = [None, None, *TEXTS[2:]]
    Path("in.jsonl").write_text("".join(json.dumps({"sentence": text}) + "\n" for text in texts))
    pyarrow.parquet.write_table(pyarrow.table({"sentence": texts}), "in.parquet")
    call = ("predict", source, "--run", tiny_run, "--output", "out.parquet", "--on-error", "skip")
    interrupted(monkeypatch, *call)
    done = dact(*call, "--resume")
    assert "2 rows have no answer (--on-error skip)" in done.stderr
    assert sum(row["error"] is not None for row in pyarrow.parquet.read_table("out.parquet").to_pylist()) == 2


def test_two_calls_do_not_write_one_output(tiny_run: Path) -> None:
    Path("in.txt").write_text("\n".join(TEXTS))
    call = ("predict", "in.txt", "--run", tiny_run, "--output", "out.jsonl", "--overwrite")
    Path("out.jsonl").write_text("theirs\n")
    with FileLock("out.jsonl.part.lock"):
        refused = dact(*call)
    assert refused.exit_code == 5
    assert "--output out.jsonl: another process is writing it; wait for it, or name another file" in refused.stderr
    assert Path("out.jsonl").read_text() == "theirs\n"
    assert dact(*call).exit_code == 0
    assert sorted(os.listdir()) == ["in.txt", "out.jsonl"]


def test_an_output_that_is_a_link_stays_one(tiny_run: Path) -> None:
    Path("in.txt").write_text("the key .\n")
    Path("link.jsonl").symlink_to("target.jsonl")
    Path("loop.jsonl").symlink_to("loop.jsonl")
    call = ("predict", "in.txt", "--run", tiny_run, "--output")
    assert dact(*call, "link.jsonl").exit_code == 0
    assert Path("link.jsonl").is_symlink()
    assert lines("target.jsonl")[0]["text"] == "the key ."
    refused = dact(*call, "loop.jsonl", "--overwrite")
    assert refused.exit_code == 2
    assert "--output loop.jsonl: is a link that leads nowhere; name a file" in refused.stderr


@pytest.mark.skipif(os.name != "posix", reason="the shell closes streams so")
@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ("recipes <&-", 0, ""),
        ("recipes >&-", 0, ""),
        ("predict nowhere.csv <&-", 2, "error: nowhere.csv: there is no such file"),
        ("predict nowhere.csv 2>&-", 2, ""),
        ("predict - --run RUN <&-", 0, ""),
        ("predict in.txt --run RUN >&-", 0, ""),
        ("predict in.txt --run RUN > /dev/full", 5, "error: cannot be written: No space left on device"),
        ("--help > /dev/full", 5, "error: cannot be written: No space left on device"),
        ("predict in.txt --run RUN --output out.jsonl", 5, "error: cannot be written: File too large"),
    ],
)
def test_streams_that_are_closed_or_full_are_no_traceback(
    tiny_run: Path, arguments: str, code: int, sentence: str
) -> None:
    Path("in.txt").write_text("the key .\n" * 200)
    command = f'ulimit -f 4; exec "$0" -m dactcli {arguments.replace("RUN", str(tiny_run))}'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable], capture_output=True, text=True, check=False, timeout=600
    )
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert sentence in done.stderr
