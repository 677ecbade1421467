"""What predict does with hostile rows, answers that are none, signals, changed inputs and outputs in the way."""

from __future__ import annotations

import csv
import datetime
import decimal
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import dact, shared

import dactcli
from dactcli.data.agreement import generate
from dactcli.data.inputs import find_inputs
from dactcli.data.rows import Rows
from dactcli.errors import ArtefactError
from dactcli.prediction.answer_columns import AnswerColumns
from dactcli.prediction.output import Output
from dactcli.prediction.predict import predict_texts
from dactcli.prediction.windows import Columns, answered
from dactcli.results import Prediction
from dactcli.storage import to_json, write_json

TEXTS = [one.sentence for one in generate(train=60)["train"][:40]]


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def strict(text: str) -> Any:
    """JSON as every parser takes it."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def lines(path: str) -> list[dict[str, Any]]:
    return [strict(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def write_lines(path: str, rows: list[dict[str, Any]]) -> None:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))


def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dactcli.prediction.windows.WINDOW", 8)
    monkeypatch.setattr("dactcli.data.rows.CHUNK", 8)


def after(calls: int, act: Callable[[], None]) -> Callable[..., Any]:
    """What predicts, and acts first when it was called so often."""
    count: Iterator[int] = iter(range(1000))

    def predict(*args: Any, **options: Any) -> Any:
        if next(count) == calls:
            act()
        return predict_texts(*args, **options)

    return predict


@pytest.fixture(scope="session")
def overflowing(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose weights are finite, and whose activations are not where a text holds the word `boat`."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("overflowing") / "run"
    shutil.copytree(trained_run, folder)
    weights = load_file(folder / "model.safetensors")
    (name,) = [name for name in weights if name.endswith("word_embeddings.weight")]
    weights[name][dactcli.open_run(trained_run).tokenizer.convert_tokens_to_ids("boat")] = 1e30
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return shared(folder)


# --- rows without a text, answers that are none ------------------------------------------------------------


def test_an_answer_that_is_not_finite_stops_or_is_skipped(overflowing: Path) -> None:
    Path("in.txt").write_text("the key is old .\nthe boat is old .\nthe keys are old .\nthe boat .\n")
    stopped = dact("predict", "in.txt", "--run", overflowing, "--output", "made/out.jsonl")
    assert stopped.exit_code == 3
    assert "error: in.txt:2, in.txt:4: the model's answer is not a finite number" in stopped.stderr
    assert not Path("made").exists()
    done = dact("predict", "in.txt", "--run", overflowing, "--output", "out.jsonl", "--on-error", "skip")
    assert done.exit_code == 0, done.stderr
    assert "2 rows have no answer (--on-error skip)" in done.stderr
    found = lines("out.jsonl")
    assert [row["label"] is None for row in found] == [False, True, False, True]
    assert found[1] == {
        "text": "the boat is old .",
        **dict.fromkeys(["label", "label_id", "probabilities", "exit_layer"]),
        "error": "the model's answer is not a finite number",
    }
    assert found[0]["error"] is None
    alone = dactcli.predict(["the key is old .", "the keys are old ."], run=overflowing)
    assert [row["label"] for row in found if row["label"]] == [one.label for one in alone]
    with pytest.raises(ArtefactError, match="^text 2: the model's answer is not a finite number"):
        dactcli.predict(["the key .", "the boat ."], run=overflowing)
    (_, failed) = dactcli.predict(["the key .", "the boat ."], run=overflowing, on_error="skip")
    assert failed == Prediction.failed("the model's answer is not a finite number")


def test_a_row_without_a_text_stops_or_is_skipped(tiny_run: Path) -> None:
    write_lines(
        "in.jsonl", [{"sentence": "the key ."}, {"id": 7}, {"sentence": 5}, {"sentence": None}, {"sentence": ""}]
    )
    stopped = dact("predict", "in.jsonl", "--run", tiny_run)
    assert stopped.exit_code == 2
    assert stopped.stdout == ""
    assert "in.jsonl:2, in.jsonl:3, in.jsonl:4: sentence is missing, not text" in stopped.stderr
    done = dact("predict", "in.jsonl", "--run", tiny_run, "--on-error", "skip")
    assert done.exit_code == 0, done.stderr
    assert "3 rows have no answer" in done.stderr
    found = [strict(line) for line in done.stdout.splitlines()]
    assert [row["error"] for row in found] == [
        None,
        "sentence is missing, not text",
        "sentence is a number, not text",
        "sentence is missing, not text",
        None,
    ]
    assert found[1]["id"] == 7
    for form, read in (("csv", pandas.read_csv), ("parquet", pandas.read_parquet)):
        assert (
            dact("predict", "in.jsonl", "--run", tiny_run, "--on-error", "skip", "--output", f"o.{form}").exit_code == 0
        )
        assert read(f"o.{form}")["label"].isna().tolist() == [False, True, True, True, False]


def test_what_stopped_at_a_row_goes_on_by_skipping_it(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch)
    write_lines("in.jsonl", [{"sentence": text} for text in TEXTS[:20]] + [{"sentence": 5}])
    call = ("predict", "in.jsonl", "--run", tiny_run, "--output", "out.jsonl")
    assert "in.jsonl:21: sentence is a number" in dact(*call).stderr
    done = dact(*call, "--resume", "--on-error", "skip")
    assert done.exit_code == 0, done.stderr
    assert [row["label"] is None for row in lines("out.jsonl")] == [False] * 20 + [True]


# --- JSON that every parser takes ------------------------------------------------------------


def test_json_holds_no_nan_and_no_infinity(tiny_run: Path) -> None:
    inf, nan = float("inf"), float("nan")
    columns = {"sentence": TEXTS[:3], "x": [0.1, nan, -inf], "l": [[1.5, nan], [inf], None]}
    pyarrow.parquet.write_table(pyarrow.table(columns), "in.parquet")
    Path("in.jsonl").write_text('{"sentence": "a", "x": NaN}\n{"sentence": "b", "x": [1e999, -Infinity, 2]}\n')
    printed = dact("predict", "in.parquet", "--run", tiny_run)
    found = [strict(line) for line in printed.stdout.splitlines()]
    assert [row["x"] for row in found] == [0.1, None, None]
    assert [row["l"] for row in found] == [[1.5, None], [None], None]
    assert dact("predict", "in.jsonl", "--run", tiny_run, "--output", "out.jsonl").exit_code == 0
    assert [row["x"] for row in lines("out.jsonl")] == [None, [None, None, 2]]
    write_json(Path("document.json"), {"a": [nan, {"b": inf}], "c": (1, -inf)})
    assert strict(Path("document.json").read_text()) == {"format": 2, "a": [None, {"b": None}], "c": [1, None]}


def test_values_that_json_lacks_have_one_form(tiny_run: Path) -> None:
    when = datetime.datetime(2024, 2, 29, 12, 30, 1, 500, tzinfo=datetime.timezone.utc)
    columns = {
        "sentence": pyarrow.array(["a\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16")]),
        "day": pyarrow.array([datetime.date(2024, 2, 29)]),
        "when": pyarrow.array([when], pyarrow.timestamp("us", "UTC")),
        "nano": pyarrow.array([1_700_000_000_123_456_789], pyarrow.timestamp("ns")),
        "price": pyarrow.array([decimal.Decimal("12345678901234567890.10")]),
        "raw": pyarrow.array([b"\x00\xff"]),
        "clock": pyarrow.array([datetime.time(1, 2, 3)]),
        "lasts": pyarrow.array([datetime.timedelta(days=1, seconds=2, microseconds=5)]),
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), "in.parquet")
    shown = dact("predict", "in.parquet", "--run", tiny_run)
    (row,) = [strict(line) for line in shown.stdout.splitlines()]
    assert {name: row[name] for name in columns if name != "sentence"} == {
        "day": "2024-02-29",
        "when": "2024-02-29T12:30:01.000500+00:00",
        "nano": "2023-11-14T22:13:20.123456789",
        "price": "12345678901234567890.10",
        "raw": "AP8=",
        "clock": "01:02:03",
        "lasts": "P1DT2.000005S",
    }
    assert dact("predict", "in.parquet", "--run", tiny_run, "--output", "o.csv").exit_code == 0
    with Path("o.csv").open(newline="", encoding="utf-8") as file:
        (cells,) = csv.DictReader(file)
    assert all(cells[name] == row[name] for name in columns)
    assert to_json(datetime.timedelta(seconds=-1.5)) == '"-P0DT1.5S"'


def test_half_of_a_surrogate_pair_passes(tiny_run: Path) -> None:
    Path("in.jsonl").write_text('{"sentence": "a \\ud800 b", "\\udfff": 1}\n')
    for form in ("jsonl", "csv", "parquet"):
        done = dact("predict", "in.jsonl", "--run", tiny_run, "--output", f"out.{form}")
        assert done.exit_code == 0, done.stderr
    assert '"sentence": "a \\ud800 b"' in Path("out.jsonl").read_text()


# --- columns ------------------------------------------------------------


def test_columns_of_our_names_keep_them(tiny_run: Path) -> None:
    names = ["label", "predicted_label", "label_id", "probabilities", "exit_layer", "error", "input_label"]
    Path("in.csv").write_text(f"sentence,{','.join(names)}\nthe key .,{','.join('abcdefg')}\n")
    for form in ("jsonl", "csv", "parquet"):
        done = dact("predict", "in.csv", "--run", tiny_run, "--output", f"out.{form}", "--on-error", "skip")
        assert done.exit_code == 0, done.stderr
        taken = "label, label_id, probabilities, exit_layer, error"
        ours = "predicted_label_2, predicted_label_id, predicted_probabilities, predicted_exit_layer, predicted_error"
        assert f"the input has columns {taken}, so the answers' are called {ours}" in done.stderr
    (row,) = lines("out.jsonl")
    assert [row[name] for name in names] == list("abcdefg")
    assert row["predicted_label_2"] in ("acceptable", "unacceptable")
    assert pandas.read_csv("out.csv").iloc[0]["label"] == "a"
    assert pandas.read_parquet("out.parquet").iloc[0]["label"] == "a"


def test_a_column_of_our_names_that_comes_late_keeps_it(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch)
    rows: list[dict[str, Any]] = [{"sentence": text} for text in TEXTS[:20]]
    write_lines("in.jsonl", [*rows, {"sentence": "a", "label": [1]}])
    done = dact("predict", "in.jsonl", "--run", tiny_run, "--output", "out.jsonl")
    assert done.exit_code == 0, done.stderr
    found = lines("out.jsonl")
    assert all(row["predicted_label"] in ("acceptable", "unacceptable") for row in found)
    assert ["label" in row for row in found] == [False] * 20 + [True]
    assert found[-1]["label"] == [1]
    printed = dact("predict", "in.jsonl", "--run", tiny_run)
    assert printed.exit_code == 2
    assert (
        "a column label appears, and rows before it were printed with ours of that name; add --output" in printed.stderr
    )


def test_kinds_that_mix_are_told_and_nothing_is_rounded(tiny_run: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"sentence": "a", "id": 2**53 + 1, "n": 1, "mixed": "1", "deep": {}, "flag": True, "big": 2**63},
        {"sentence": "b", "id": 0.5, "n": 0.5, "mixed": 1, "deep": {"x": [1]}, "flag": None, "big": 1},
    ]
    write_lines("in.jsonl", rows)
    done = dact("predict", "in.jsonl", "--run", tiny_run, "--output", "out.parquet")
    assert done.exit_code == 0, done.stderr
    assert "column id holds values of several kinds, so it is written as text" in done.stderr
    assert "column n holds values of several kinds, so it is written as floating point numbers" in done.stderr
    found = pyarrow.parquet.read_table("out.parquet")
    assert found.column("id").to_pylist() == [str(2**53 + 1), "0.5"]
    assert found.column("n").to_pylist() == [1.0, 0.5]
    assert found.column("mixed").to_pylist() == ["1", "1"]
    assert found.column("big").to_pylist() == [2**63, 1]
    assert found.column("flag").to_pylist() == [True, None]
    assert dact("predict", "in.jsonl", "--run", tiny_run, "--output", "out.jsonl").exit_code == 0
    assert [{name: row[name] for name in rows[0]} for row in lines("out.jsonl")] == rows


# --- types pass through ------------------------------------------------------------

WORDS = st.sampled_from(["null", "NA", "nan", "None", "", '"', "a,b", "a\nb", "\r\n", "é\u2028\x1f", "=1+1"]) | st.text(
    max_size=8
)
TYPES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "int8": (pyarrow.int8(), st.integers(-128, 127)),
    "int64": (pyarrow.int64(), st.integers(-(2**63), 2**63 - 1)),
    "uint64": (pyarrow.uint64(), st.integers(0, 2**64 - 1)),
    "float32": (pyarrow.float32(), st.floats(width=32)),
    "float64": (pyarrow.float64(), st.floats()),
    "bool": (pyarrow.bool_(), st.booleans()),
    "string": (pyarrow.string(), WORDS),
    "large_string": (pyarrow.large_string(), WORDS),
    "dictionary": (pyarrow.dictionary(pyarrow.int32(), pyarrow.string()), WORDS),
    "binary": (pyarrow.binary(), st.binary(max_size=6)),
    "fixed": (pyarrow.binary(3), st.binary(min_size=3, max_size=3)),
    "date": (pyarrow.date32(), st.dates()),
    "time": (pyarrow.time64("ns"), st.integers(0, 86_399_999_999_999)),
    "timestamp": (pyarrow.timestamp("ns", "Europe/Madrid"), st.integers(-(2**62), 2**62)),
    "seconds": (pyarrow.timestamp("ms"), st.integers(-(2**40), 2**40)),
    "duration": (pyarrow.duration("us"), st.integers(-(2**50), 2**50)),
    "decimal": (pyarrow.decimal128(20, 3), st.decimals(-(10**9), 10**9, places=3)),
    "list": (pyarrow.list_(pyarrow.int32()), st.lists(st.integers(-5, 5) | st.none(), max_size=3)),
    "struct": (
        pyarrow.struct([("a", pyarrow.int8()), ("b", pyarrow.string())]),
        st.fixed_dictionaries({"a": st.none(), "b": WORDS}),
    ),
    "map": (pyarrow.map_(pyarrow.string(), pyarrow.int64()), st.lists(st.tuples(WORDS, st.integers(0, 9)), max_size=2)),
}


@st.composite
def tables(draw: st.DrawFn) -> Any:
    names = draw(st.lists(st.sampled_from([*TYPES]), min_size=1, max_size=6, unique=True))
    rows = draw(st.integers(1, 12))
    columns = {"sentence": pyarrow.array(draw(st.lists(WORDS, min_size=rows, max_size=rows)), pyarrow.string())}
    for name in names:
        kind, values = TYPES[name]
        column = draw(st.lists(st.none() | values, min_size=rows, max_size=rows))
        columns[draw(st.sampled_from([name, "label", "exit_layer"]))] = pyarrow.array(column, kind)
    return pyarrow.table(columns)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(table=tables(), cut=st.integers(1, 5))
def test_any_typed_table_comes_back_unchanged(tmp_path: Path, table: Any, cut: int) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pyarrow.parquet.write_table(table, source, row_group_size=cut)
    rows = Rows(find_inputs([str(source)]))

    def answer(texts: list[str], pairs: object) -> list[Prediction]:
        return [Prediction("yes", 1, [0.25, 0.75], 2)] * len(texts)

    with Output(target, rows.inputs, skips=False, answers=AnswerColumns(), notice=lambda text: None) as output:
        output.check(resume=False, overwrite=True)
        output.begin({}, resume=False)
        output.add(answered(rows, answer, Columns("sentence"), tokens=cut * 4))
        output.finish()
    found, read = pyarrow.parquet.read_table(target), pyarrow.parquet.read_table(source)
    assert found.column_names[: len(read.column_names)] == read.column_names
    kept = found.select(read.column_names)
    assert kept.schema == read.schema
    for name in read.column_names:
        # as bytes, since NaN equals nothing
        assert [repr(value) for value in kept.column(name).cast(_raw(kept, name)).to_pylist()] == [
            repr(value) for value in read.column(name).cast(_raw(read, name)).to_pylist()
        ]
    assert set(found.column(found.column_names[len(read.column_names)]).to_pylist()) == {"yes"}


def _raw(table: Any, name: str) -> Any:
    """A type of the same values that Python shows in full."""
    kind = table.schema.field(name).type
    return pyarrow.int64() if pyarrow.types.is_temporal(kind) and not pyarrow.types.is_date(kind) else kind


@pytest.mark.parametrize("cut", [0, 3, 50])
def test_a_typed_output_goes_on_after_a_torn_end(tiny_run: Path, monkeypatch: pytest.MonkeyPatch, cut: int) -> None:
    small_windows(monkeypatch)
    days = [datetime.date(2024, 1, 1) + datetime.timedelta(days=n) for n in range(40)]
    pyarrow.parquet.write_table(pyarrow.table({"sentence": TEXTS, "day": days}), "in.parquet")
    call = ("predict", "in.parquet", "--run", tiny_run, "--output")
    assert dact(*call, "whole.parquet").exit_code == 0
    with monkeypatch.context() as patch:
        patch.setattr("dactcli.prediction.predict.predict_texts", after(3, lambda: signal.raise_signal(signal.SIGINT)))
        assert dact(*call, "out.parquet").exit_code == 130
    size = Path("out.parquet.part").stat().st_size
    os.truncate("out.parquet.part", size - cut)
    if cut == 0:
        Path("out.parquet.part").write_bytes(Path("out.parquet.part").read_bytes() + b"\x40torn")
    assert dact(*call, "out.parquet", "--resume").exit_code == 0
    assert pyarrow.parquet.read_table("out.parquet") == pyarrow.parquet.read_table("whole.parquet")


def test_typed_inputs_that_do_not_fit_together_are_refused_before_the_work(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables: dict[str, dict[str, Any]] = {
        "a": {"n": [1]},
        "b": {"n": [0.5]},
        "c": {"m": pyarrow.array([2], pyarrow.int8())},
    }
    for name, columns in tables.items():
        pyarrow.parquet.write_table(pyarrow.table({"sentence": [name], **columns}), f"{name}.parquet")
    call = ("predict", "a.parquet", "c.parquet", "--run", tiny_run, "--output", "out.parquet")
    assert dact(*call).exit_code == 0
    found = pyarrow.parquet.read_table("out.parquet")
    assert found.column("n").to_pylist() == [1, None]
    assert (found.column("m").to_pylist(), found.schema.field("m").type) == ([None, 2], pyarrow.int8())
    monkeypatch.setattr("dactcli.api.answering.open_run", lambda *args, **options: pytest.fail("the model was loaded"))
    refused = dact("predict", "a.parquet", "b.parquet", "--run", tiny_run, "--output", "made/out.parquet")
    assert refused.exit_code == 2
    assert "--output made/out.parquet: the inputs do not fit together" in refused.stderr
    assert not Path("made").exists()


# --- going on, and being stopped ------------------------------------------------------------


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "SIGINT"), (signal.SIGTERM, "SIGTERM")])
def test_a_signal_keeps_what_was_answered(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, name: str
) -> None:
    small_windows(monkeypatch)
    Path("in.txt").write_text("\n".join(TEXTS))
    call = ("predict", "in.txt", "--run", tiny_run, "--output", "made/out.jsonl")
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr("dactcli.prediction.predict.predict_texts", after(2, lambda: signal.raise_signal(number)))
        stopped = dact(*call)
    assert stopped.exit_code == 128 + number
    assert (
        f"stopped by {name} after 16 predictions; the same command with --resume continues from there" in stopped.stderr
    )
    assert signal.getsignal(number) == before
    with monkeypatch.context() as patch:
        patch.setattr("dactcli.prediction.predict.predict_texts", after(0, lambda: signal.raise_signal(number)))
        assert "after 16 predictions" in dact(*call, "--resume").stderr
    done = dact(*call, "--resume")
    assert done.exit_code == 0, done.stderr
    assert [row["text"] for row in lines("made/out.jsonl")] == TEXTS
    again = dact(*call, "--resume")
    assert again.exit_code == 0
    assert "made/out.jsonl is complete, so there is nothing to resume" in again.stderr


def test_a_signal_before_the_first_answer_leaves_nothing(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("in.txt").write_text("\n".join(TEXTS))
    monkeypatch.setattr(
        "dactcli.prediction.predict.predict_texts", after(0, lambda: signal.raise_signal(signal.SIGINT))
    )
    stopped = dact("predict", "in.txt", "--run", tiny_run, "--output", "made/deep/out.csv")
    assert stopped.exit_code == 130
    assert "stopped by SIGINT after 0 predictions; nothing is left behind" in stopped.stderr
    assert os.listdir() == ["in.txt"]


def test_an_input_of_the_same_size_is_not_gone_on_with(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch)
    Path("in.txt").write_text("\n".join(TEXTS))
    call = ("predict", "in.txt", "--run", tiny_run, "--output", "out.jsonl")
    with monkeypatch.context() as patch:
        patch.setattr("dactcli.prediction.predict.predict_texts", after(2, lambda: signal.raise_signal(signal.SIGINT)))
        dact(*call)
    Path("in.txt").write_text("\n".join([*TEXTS[1:], TEXTS[0]]))
    refused = dact(*call, "--resume")
    assert refused.exit_code == 2
    assert "out.jsonl.part: in.txt changed since it was begun; add --overwrite instead of --resume" in refused.stderr
    assert len(Path("out.jsonl.part").read_text().splitlines()) == 16
    shutil.copy("in.txt", "other.txt")
    other = dact("predict", "other.txt", *call[2:], "--resume")
    assert "was begun with different inputs" in other.stderr


def test_a_pipe_is_not_resumed(tiny_run: Path) -> None:
    refused = dact("predict", "-", "--run", tiny_run, "--output", "out.jsonl", "--resume", text="a\n")
    assert refused.exit_code == 2
    assert "--resume: standard input cannot be resumed, because what was read of it is gone" in refused.stderr
    assert os.listdir() == []


# --- outputs in the way ------------------------------------------------------------


def test_outputs_that_cannot_be_are_refused_before_the_model_runs(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dactcli.api.answering.open_run", lambda *args, **options: pytest.fail("the model was loaded"))
    Path("in.txt").write_text("the key .\n")
    for name in ("folder.csv", "b.csv.part"):
        Path(name).mkdir()
    Path("twin.jsonl").hardlink_to("in.txt")
    Path("in.jsonl.part").write_text('{"text": "precious"}\n')
    Path("file").write_text("")
    for target, code, sentence in (
        ("folder.csv", 2, "folder.csv: is a folder"),
        ("b.csv", 2, "b.csv.part: is a folder"),
        ("twin.jsonl", 2, "twin.jsonl is an input, and would be written over"),
        ("file/out.csv", 5, "cannot be written: "),
        ("out.txt", 2, "extension .txt is unknown"),
        ("out", 2, "has no extension"),
    ):
        refused = dact("predict", "in.txt", "--run", tiny_run, "--output", target, "--overwrite")
        assert (refused.exit_code, sentence in refused.stderr) == (code, True), refused.stderr
    part = ("predict", "in.jsonl.part", "--format", "jsonl", "--run", tiny_run, "--output", "in.jsonl", "--overwrite")
    assert "in.jsonl.part is an input, and would be written over" in dact(*part).stderr
    assert Path("in.jsonl.part").read_text() == '{"text": "precious"}\n'
    assert Path("in.txt").read_text() == "the key .\n"


def test_an_error_before_the_first_row_leaves_nothing_behind(tiny_run: Path) -> None:
    Path("in.csv").write_text('sentence,x\na\n"b\n')
    Path("none.jsonl").write_text('{"x": 1}\n')
    for source, run in (("in.csv", tiny_run), ("none.jsonl", tiny_run), ("in.csv", Path("nowhere"))):
        assert dact("predict", source, "--run", run, "--output", "made/deep/out.jsonl").exit_code in (2, 3)
        assert sorted(os.listdir()) == ["in.csv", "none.jsonl"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("sep=;\nsentence;label\na;1\n", "data.csv:1: the first line is sep=;, which only spreadsheets understand"),
        (
            "sentence,label\ra,1\rb,0\r",
            "lines end with a carriage return alone; convert the line ends, for instance: tr",
        ),
    ],
)
def test_what_spreadsheets_write_is_named(content: str, sentence: str, tmp_path: Path, tiny_run: Path) -> None:
    file = tmp_path / "data.csv"
    file.write_text(content, newline="")
    done = dact("eval", tiny_run, "--data", file)
    assert (done.exit_code, sentence in done.stderr) == (2, True), done.stderr
