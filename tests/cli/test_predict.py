"""`dact predict`: every format in and out, order, streaming, interruption, and what is wrong with the input."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from support import dact

from dactcli.data.agreement import generate
from dactcli.data.inputs import Input
from dactcli.data.rows import Chunk, Rows
from dactcli.prediction import windows
from dactcli.prediction.predict import predict_texts
from dactcli.results import Prediction
from dactcli.runs.load import load_run

TEXTS = [one.sentence for one in generate(train=60)["train"][:40]]


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def table(tmp_path: Path) -> pandas.DataFrame:
    return pandas.DataFrame({"id": range(len(TEXTS)), "sentence": TEXTS, "label": ['x, "y"'] * len(TEXTS)})


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet", "txt"])
@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_every_format_in_and_out(tiny_run: Path, tmp_path: Path, table: pandas.DataFrame, kind: str, form: str) -> None:
    source, target = tmp_path / f"in.{kind}", tmp_path / f"out.{form}"
    if kind == "txt":
        source.write_text("\n".join(TEXTS) + "\n")
    elif kind == "jsonl":
        table.to_json(source, orient="records", lines=True)
    elif kind == "parquet":
        table.to_parquet(source)
    else:
        frame = table if kind == "csv" else table.assign(label="z")
        frame.to_csv(source, index=False, sep="," if kind == "csv" else "\t")
    done = dact("predict", source, "--run", tiny_run, "--output", target)
    assert done.exit_code == 0, done.stderr
    assert f"40 predictions in {target} (rule exact)" in done.stderr
    readers: dict[str, Any] = {"csv": pandas.read_csv, "parquet": pandas.read_parquet}
    read = readers[form](target) if form in readers else pandas.DataFrame(rows(target))
    run = load_run(tiny_run)
    wanted = predict_texts(run, TEXTS, rule=run.model.rule("exact"))
    ours = "label" if kind == "txt" else "predicted_label"
    assert list(read[ours]) == [one.label for one in wanted]
    assert list(read["label_id"]) == [one.label_id for one in wanted]
    assert set(read[ours]) <= {"acceptable", "unacceptable"}
    assert list(read["exit_layer"]) == [one.exit_layer for one in wanted]
    shares = read["probabilities"].map(json.loads) if form == "csv" else read["probabilities"]
    assert [list(one) for one in shares] == [one.probabilities for one in wanted]
    assert list(read["text" if kind == "txt" else "sentence"]) == TEXTS
    if kind != "txt":
        assert read["id"].astype(int).tolist() == list(range(40))
        assert list(read["label"]) == ['x, "y"' if kind != "tsv" else "z"] * len(TEXTS)
        assert "the input has a column label, so the answers' are called predicted_label" in done.stderr
    assert sorted(path.name for path in tmp_path.glob("*out*")) == [target.name]


def test_standard_input_and_output(tiny_run: Path) -> None:
    done = dact("predict", "-", "--run", tiny_run, text="the key is old .\n\nthe keys is .\n")
    assert done.exit_code == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["text"] for line in lines] == ["the key is old .", "", "the keys is ."]
    assert set(lines[0]) == {"text", "label", "label_id", "probabilities", "exit_layer"}
    assert not done.stderr
    line = '{"q": "the keys ."}\n'
    named = dact("predict", "-", "--format", "jsonl", "--text", "q", "--run", tiny_run, text=line)
    assert json.loads(named.stdout)["q"] == "the keys ."


def test_predictions_are_those_of_inspect(tiny_run: Path) -> None:
    looked = json.loads(dact("inspect", *TEXTS[:8], "--run", tiny_run, "--rule", "max_prob:0.6", "--json").stdout)
    run = load_run(tiny_run)
    found = predict_texts(run, TEXTS[:8], rule=run.model.rule("max_prob:0.6"))
    assert [one.exit_layer for one in found] == [entry["exit_layer"] for entry in looked]
    for one, entry in zip(found, looked, strict=True):
        assert one.probabilities == pytest.approx(entry["probabilities"], abs=1e-5)


def test_no_example_runs_more_layers_than_allowed(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("\n".join(TEXTS))
    done = dact("predict", tmp_path / "in.txt", "--run", tiny_run, "--max-layers", "2", "--rule", "max_prob:0.9999")
    assert {json.loads(line)["exit_layer"] for line in done.stdout.splitlines()} == {2}
    assert not done.stderr
    sound = dact("predict", tmp_path / "in.txt", "--run", tiny_run, "--max-layers", "2")
    assert "the promise of exact no longer holds: the class is that of full depth" in sound.stderr


def test_an_interrupted_output_goes_on(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("\n".join(TEXTS))
    monkeypatch.setattr(windows, "WINDOW", 8)
    monkeypatch.setattr("dactcli.data.rows.CHUNK", 8)
    assert dact("predict", source, "--run", tiny_run, "--output", tmp_path / "whole.jsonl").exit_code == 0
    calls = iter(range(100))

    def dies(*args: Any, **options: Any) -> Any:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return predict_texts(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr("dactcli.prediction.predict.predict_texts", dies)
        stopped = dact("predict", source, "--run", tiny_run, "--output", target)
    assert stopped.exit_code == 130
    assert (
        "stopped by SIGINT after 24 predictions; the same command with --resume continues from there" in stopped.stderr
    )
    part = tmp_path / "out.jsonl.part"
    assert len(part.read_text().splitlines()) == 24
    with part.open("a") as file:
        file.write('{"text": "torn')
    again = dact("predict", source, "--run", tiny_run, "--output", target)
    assert again.exit_code == 2
    assert "an interrupted output exists; add --resume to continue it, or --overwrite" in again.stderr
    other = dact("predict", source, "--run", tiny_run, "--output", target, "--resume", "--rule", "full")
    assert "was begun with different rule" in other.stderr
    assert dact("predict", source, "--run", tiny_run, "--output", target, "--resume").exit_code == 0
    assert target.read_text() == (tmp_path / "whole.jsonl").read_text()
    finished = dact("predict", source, "--run", tiny_run, "--output", target)
    assert "out.jsonl: already exists; add --overwrite" in finished.stderr
    assert dact("predict", source, "--run", tiny_run, "--output", target, "--overwrite").exit_code == 0


def test_memory_is_bounded_by_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more rows are read than the window that is being answered."""
    monkeypatch.setattr(windows, "WINDOW", 8)
    monkeypatch.setattr("dactcli.data.rows.CHUNK", 4)
    read, seen = 0, list[int]()

    def chunks() -> Iterator[Chunk]:
        nonlocal read
        for chunk in Rows([Input("-", "txt", pipe=True)], io.BytesIO(b"a\n" * 100)):
            read += len(chunk)
            yield chunk

    def answer(texts: list[str], pairs: object) -> Any:
        seen.append(read)
        return [Prediction("x", 0, [1.0], 1)] * len(texts)

    found = windows.answered(chunks(), answer, windows.Columns("text"), tokens=10**9)
    assert sum(len(window.answers) for window in found) == 100
    assert seen == [*range(8, 97, 8), 100]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("in.csv", b'sentence\na\n"b\n', "in.csv:3: a quote is opened and never closed"),
        ("in.csv", b"sentence,x\na\n", "in.csv:2: 1 field where the header has 2"),
        ("in.csv", b"sentense\na\n", "in.csv:1: there is no column sentence among: sentense; did you mean sentense?"),
        ("in.jsonl", b'{"sentence": "a"}\n[1]\n', "in.jsonl:2: the line is a list, not an object"),
        ("in.jsonl", b'{"sentence": 5}\n', "in.jsonl:1: sentence is a number, not text"),
        ("in.txt", b"a\n\xff\n", "in.txt:2: byte 1 of the line (0xff) is not UTF-8"),
        ("in.txt", b"a\n\x00\n", "in.txt:2: holds a NUL byte"),
        ("in.parquet", b"PAR1", "in.parquet: not a parquet file"),
        ("in.doc", b"a", "in.doc: extension .doc is unknown; "),
    ],
)
def test_broken_input_is_named_by_its_line(
    tiny_run: Path, tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    (tmp_path / name).write_bytes(content)
    done = dact("predict", tmp_path / name, "--run", tiny_run)
    assert done.exit_code == 2
    assert sentence in done.stderr


def test_options_that_do_not_fit(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a\n")
    source = tmp_path / "in.txt"
    assert "--output FILE" in dact("predict", source, "--run", tiny_run, "--resume").stderr
    assert "did you mean csv?" in dact("predict", source, "--run", tiny_run, "--format", "cvs").stderr
    assert "extension .xls" in dact("predict", source, "--run", tiny_run, "--output", tmp_path / "o.xls").stderr
    assert "there is no such file" in dact("predict", tmp_path / "no.csv", "--run", tiny_run).stderr
    assert "did you mean skip?" in dact("predict", source, "--run", tiny_run, "--on-error", "skp").stderr


def test_the_folder_of_an_output_is_made(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("the key is old .\n")
    target = tmp_path / "no" / "such" / "out.csv"
    result = dact("predict", tmp_path / "in.txt", "--run", tiny_run, "--output", target)
    assert result.exit_code == 0, result.stderr
    assert [path.name for path in target.parent.iterdir()] == ["out.csv"]


def test_a_call_that_failed_at_its_first_row_leaves_nothing_in_the_way(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text\nthe key is old .\n")
    call = ("predict", tmp_path / "in.csv", "--run", tiny_run, "--output", tmp_path / "out.jsonl")
    assert "there is no column txt among: text" in dact(*call, "--text", "txt").stderr
    done = dact(*call, "--text", "text")
    assert done.exit_code == 0, done.stderr
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.jsonl"]


def test_a_column_of_plain_lines_is_refused(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("the key is old .\n")
    done = dact("predict", tmp_path / "in.txt", "--run", tiny_run, "--text", "body")
    assert done.exit_code == 2
    assert "--text body: names a column, and plain lines have none; leave it out" in done.stderr


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("id,sentence\n1,the key .\n", "csv"),
        ('"sentence";"id"\na;1\n', "csv"),
        ("sentence\tid\na\t1\n", "tsv"),
        ('{"a": 1}\n', "jsonl"),
    ],
)
def test_rows_that_would_be_answered_as_lines_are_told_apart(tiny_run: Path, text: str, kind: str) -> None:
    done = dact("predict", "-", "--run", tiny_run, text=text)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"-:1: looks like {kind}; add --format {kind}, or --format txt if these are plain lines" in done.stderr
    assert len(dact("predict", "-", "--run", tiny_run, "--format", "txt", text=text).stdout.splitlines()) == text.count(
        "\n"
    )
    assert dact("predict", "-", "--run", tiny_run, text="the sentence, old .\n{a}\n").exit_code == 0


def test_several_inputs_are_one_stream(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id;sentence\n1;the key .\n")
    (tmp_path / "b.jsonl").write_text('{"sentence": "the keys .", "id": 2}\n')
    done = dact("predict", tmp_path / "a.csv", f"{tmp_path}/*.jsonl", "--run", tiny_run)
    assert [(row["id"], row["sentence"]) for row in map(json.loads, done.stdout.splitlines())] == [
        ("1", "the key ."),
        (2, "the keys ."),
    ]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_no_rows_give_no_answers(tiny_run: Path, tmp_path: Path, kind: str, form: str) -> None:
    source = tmp_path / f"in.{kind}"
    frame = pandas.DataFrame({"sentence": pandas.Series([], dtype="str"), "id": pandas.Series([], dtype="int16")})
    frame.to_csv(source, index=False) if kind == "csv" else frame.to_parquet(source)
    done = dact("predict", source, "--run", tiny_run, "--output", tmp_path / f"out.{form}")
    assert done.exit_code == 0, done.stderr
    assert "0 predictions in" in done.stderr
    if (kind, form) == ("parquet", "parquet"):
        read = pandas.read_parquet(tmp_path / "out.parquet")
        assert (len(read), list(read.columns)[:3], str(read["id"].dtype)) == (0, ["sentence", "id", "label"], "int16")


@pytest.mark.parametrize("text", ["x" * 300, "is it old?" * 40, "[" + "x" * 300, "the key is old ."])
def test_a_text_taken_for_an_input_is_a_sentence(tiny_run: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "in.txt").write_text("a\n")
    done = dact("predict", text, "--run", tiny_run)
    assert done.exit_code == 2
    assert text in done.stderr.replace("\n", "")
    named = dact("predict", tmp_path / "in.txt", "--run", tiny_run, "--output", tmp_path / f"{'y' * 300}.csv")
    assert (named.exit_code, "cannot be written: File name too long" in named.stderr) == (5, True)
    away = dact("predict", tmp_path / "in.txt", "--run", tiny_run, "--output", "s3://bucket/out.csv")
    assert "is an address, and outputs are local files" in away.stderr


def test_the_bar_moves_with_every_batch(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dactcli.prediction.predict.tokens_per_batch", lambda device: 64)
    run, seen = load_run(tiny_run), list[int]()
    predict_texts(run, TEXTS, rule=run.model.rule("exact"), progress=seen.append)
    assert len(seen) > 5
    assert seen == sorted(seen)
    assert seen[-1] == len(TEXTS)


def test_windows_of_slow_models_are_short(tiny_run: Path) -> None:
    model = load_run(tiny_run).model
    assert windows.most_tokens(model, 1024) > 1_000_000
    model.units.dense_weight = torch.nn.Parameter(torch.empty(12, 768, 1))
    assert windows.most_tokens(model, 64) < 20_000
