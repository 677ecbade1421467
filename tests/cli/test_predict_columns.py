"""`dact predict`: which columns the answers have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas
import pytest
from support import dact

from dactcli import predict, predict_files
from dactcli.errors import UsageError
from dactcli.prediction import windows

TEXTS = ["the key is old .", "the keys is old .", "the key near the boats are rusty .", "the keys are rusty ."] * 5
NAMES = ("unacceptable", "acceptable")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    pandas.DataFrame({"id": range(len(TEXTS)), "sentence": TEXTS}).to_csv(tmp_path / "in.csv", index=False)
    return tmp_path / "in.csv"


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        rows: list[dict[str, Any]] = pandas.read_csv(path).to_dict("records")
        nested = ("top", "named_probabilities", "probabilities")
        return [{name: json.loads(v) if name in nested else v for name, v in row.items()} for row in rows]
    if path.suffix == ".parquet":
        import pyarrow.parquet

        return list(pyarrow.parquet.read_table(path).to_pylist())
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_chosen_columns_are_the_answer_of_the_model(
    tiny_run: Path, source: Path, tmp_path: Path, kind: str, form: str
) -> None:
    pandas.read_csv(source).to_parquet(tmp_path / "in.parquet")
    target = tmp_path / f"out.{form}"
    columns = "score,label,top,named_probabilities"
    options = ("--run", tiny_run, "--output", target, "--columns", columns, "--top", "1")
    done = dact("predict", source.with_suffix(f".{kind}"), *options)
    assert done.exit_code == 0, done.stderr
    found, wanted = read(target), predict(TEXTS, run=tiny_run)
    assert list(found[0]) == ["id", "sentence", "score", "label", "top", "named_probabilities"]
    for row, answer in zip(found, wanted, strict=True):
        assert answer.probabilities is not None
        assert row["label"] == answer.label
        assert row["score"] == answer.score == max(answer.probabilities)
        assert row["top"] == [{"label": answer.label, "score": answer.score}]
        assert row["named_probabilities"] == dict(zip(NAMES, answer.probabilities, strict=True))


def test_top_stands_in_the_place_of_the_probabilities_and_is_sorted(tiny_run: Path, source: Path) -> None:
    done = dact("predict", source, "--run", tiny_run, "--top", "9")
    assert done.exit_code == 0, done.stderr
    for line, answer in zip(done.stdout.splitlines(), predict(TEXTS, run=tiny_run), strict=True):
        row = json.loads(line)
        assert list(row) == ["id", "sentence", "label", "label_id", "top", "exit_layer"]
        assert [one["score"] for one in row["top"]] == sorted(answer.probabilities or [], reverse=True)
        assert {one["label"] for one in row["top"]} == set(NAMES)


def test_a_column_of_the_input_keeps_its_name(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("sentence,score\nthe key is old .,7\n")
    done = dact("predict", tmp_path / "in.csv", "--run", tiny_run, "--columns", "score")
    row = json.loads(done.stdout)
    assert row["score"] == "7"
    assert 0.5 <= row["predicted_score"] <= 1


def test_rows_without_an_answer_have_empty_columns(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"sentence": null}\n{"sentence": "the key is old ."}\n')
    target = tmp_path / "out.parquet"
    options = ("--on-error", "skip", "--columns", "score,top,named_probabilities", "--top", "2", "--output", target)
    assert dact("predict", tmp_path / "in.jsonl", "--run", tiny_run, *options).exit_code == 0
    failed, answered = read(target)
    assert (failed["score"], failed["top"], failed["named_probabilities"]) == (None, None, None)
    assert failed["error"] == "sentence is missing, not text"
    assert len(answered["top"]) == 2


def test_a_resumed_output_has_the_columns_that_it_began_with(
    tiny_run: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "WINDOW", 8)
    monkeypatch.setattr("dactcli.data.rows.CHUNK", 8)
    target, whole = tmp_path / "out.csv", tmp_path / "whole.csv"
    form = ("--columns", "label,top", "--top", "2")
    assert dact("predict", source, "--run", tiny_run, "--output", whole, *form).exit_code == 0
    real, calls = windows._answer, iter(range(100))

    def dies(*arguments: Any) -> Any:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(windows, "_answer", dies)
        assert dact("predict", source, "--run", tiny_run, "--output", target, *form).exit_code == 130
    for other in ((), ("--columns", "label"), ("--columns", "label,top", "--top", "1")):
        refused = dact("predict", source, "--run", tiny_run, "--output", target, "--resume", *other)
        assert refused.exit_code == 2
        assert "was begun with different answer columns" in refused.stderr
    assert dact("predict", source, "--run", tiny_run, "--output", target, "--resume", *form).exit_code == 0
    assert target.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("--columns", "lable"), "--columns: 'lable' is unknown; did you mean label?"),
        (("--columns", ","), "--columns: names no column"),
        (("--columns", "label,top"), "--columns: column top needs a number; add --top 3, or another number"),
    ],
)
def test_columns_that_are_not_understood(tiny_run: Path, source: Path, given: tuple[str, ...], sentence: str) -> None:
    refused = dact("predict", source, "--run", tiny_run, *given)
    assert refused.exit_code == 2
    assert sentence in refused.stderr
    assert not refused.stdout


def test_the_api_refuses_text_in_place_of_a_list(source: Path) -> None:
    with pytest.raises(UsageError, match="columns"):
        predict_files([str(source)], columns="label")
