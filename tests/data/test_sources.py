import json
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import write_hub_folder

from dactcli.data.labels import Scale
from dactcli.data.sources import Splits, draw_fractions, load_splits, read_file
from dactcli.errors import DataError, ResourceError
from dactcli.recipe.schema import Recipe
from dactcli.recipe.tasks import complete

GOOD = "sentence,label\nthe lamp glows,1\nlamp the glow,0\n"
COLUMNS: dict[str, Any] = {"text": "sentence", "label": "label", "scale": Scale(["negative", "positive"])}


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / ".cache"))


def write(name: str, content: str | bytes) -> str:
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return name


def write_jsonl(name: str, rows: Sequence[dict[str, Any]]) -> str:
    return write(name, "".join(json.dumps(row) + "\n" for row in rows))


def write_parquet(name: str, columns: dict[str, list[Any]]) -> str:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), name)
    return name


def load(task: dict[str, Any] | None = None, only: Collection[str] | None = None, **data: Any) -> Splits:
    sections = {"task": task or {}, "data": {"source": "files", **data}, "model": {"encoder": "tiny"}}
    return load_splits(complete(Recipe.model_validate(sections)), only=only)


def balanced(rows: int) -> list[dict[str, Any]]:
    return [{"sentence": f"lamp {index}", "label": index % 2} for index in range(rows)]


# --- what is read ------------------------------------------------------------


def test_csv() -> None:
    write("train.csv", '\ufeffsentence,label\r\n"a lamp, lit",1\r\n"two\r\nlines",0\r\n\r\nthe ""end"",1\r\n')
    read = load(train="train.csv")
    assert read.splits["train"].columns() == {
        "text": ["a lamp, lit", "two\r\nlines", 'the ""end""'],
        "label": [1, 0, 1],
        "row": [2, 3, 6],
    }
    assert (read.labels, read.range, read.notices) == (["0", "1"], None, [])


def test_tsv_keeps_quotes() -> None:
    write("train.tsv", 'sentence\tlabel\n"lit\t1\nthe "lamp"\t0\n')
    assert load(train="train.tsv").splits["train"].texts == ['"lit', 'the "lamp"']


def test_jsonl() -> None:
    write("train.jsonl", '{"sentence": "\\u00e9t\\u00e9", "label": 1}\n\n{"label": 0, "sentence": "b"}\n')
    assert load(train="train.jsonl").splits["train"].columns() == {
        "text": ["été", "b"],
        "label": [1, 0],
        "row": [1, 3],
    }


def test_parquet() -> None:
    write_parquet("train.parquet", {"sentence": ["a", "b"], "label": [1, 0]})
    assert load(train="train.parquet").splits["train"].columns() == {
        "text": ["a", "b"],
        "label": [1, 0],
        "row": [1, 2],
    }


def test_a_list_of_files_is_one_split() -> None:
    write("a.csv", GOOD)
    write_jsonl("b.jsonl", balanced(2))
    assert load(train=["a.csv", "b.jsonl"]).splits["train"].columns() == {
        "text": ["the lamp glows", "lamp the glow", "lamp 0", "lamp 1"],
        "label": [1, 0, 0, 1],
        "row": [2, 3, 1, 2],
    }


def test_a_long_field() -> None:
    import csv

    before = csv.field_size_limit()
    write("train.csv", f"sentence,label\n{'a' * 200_000},1\nb,0\n")
    assert len(load(train="train.csv").splits["train"].texts[0]) == 200_000
    assert csv.field_size_limit() == before


def test_pairs_and_regression() -> None:
    task = {"name": "stsb"}
    write("train.csv", "sentence1,sentence2,label\na,b,2.5\nc,d,5\n")
    read = load(task, train="train.csv")
    assert read.splits["train"].columns() == {
        "text": ["a", "c"],
        "text_pair": ["b", "d"],
        "label": [2.5, 5.0],
        "row": [2, 3],
    }
    assert (read.labels, read.range) == ([], (0.0, 5.0))


def test_a_range_that_is_not_given_is_that_of_train() -> None:
    write("train.csv", "sentence,label\na,-2\nb,7.5\n")
    write("dev.csv", "sentence,label\na,7\n")
    write("far.csv", "sentence,label\na,7\nb,9\n")
    task = {"metric": "spearman"}
    assert load(task, train="train.csv", validation="dev.csv").range == (-2.0, 7.5)
    assert load(task, train="train.csv", validation="dev.csv", only=["validation"]).range == (-2, 7.5)
    # else a run would be trained whose own recipe, which holds that range, refuses its validation split
    with pytest.raises(DataError) as caught:
        load(task, train="train.csv", validation="far.csv")
    assert str(caught.value) == "far.csv:3: label 9 is outside -2..7.5; correct it, or set task.range"
    assert load({**task, "range": [-2.0, 9.0]}, train="train.csv", validation="far.csv").range == (-2.0, 9.0)


@pytest.mark.parametrize(
    ("labels", "found", "indices"),
    [
        (["good", "bad", "good"], ["bad", "good"], [1, 0, 1]),
        (["10", "9", "10"], ["9", "10"], [1, 0, 1]),
        ([2, 1, 0], ["0", "1", "2"], [2, 1, 0]),
        ([1.0, 0.0], ["0", "1"], [1, 0]),
        (["1.0", "0.0"], ["0", "1"], [1, 0]),
        ([True, False], ["false", "true"], [1, 0]),
        ([-1, 1], ["-1", "1"], [0, 1]),
    ],
)
def test_labels_as_found_in_train(labels: list[Any], found: list[str], indices: list[int]) -> None:
    write_jsonl("train.jsonl", [{"sentence": "a", "label": label} for label in labels])
    read = load(train="train.jsonl")
    assert read.labels == found
    assert read.splits["train"].labels == indices


@pytest.mark.parametrize(
    ("names", "labels", "indices"),
    [
        (["negative", "positive"], ["positive", "negative", " positive "], [1, 0, 1]),
        (["negative", "positive"], [1, "0", 1.0], [1, 0, 1]),
        (["1", "2"], [1, 2, "1"], [0, 1, 0]),
        (["false", "true"], [True, False], [1, 0]),
    ],
)
def test_labels_given_by_the_task(names: list[str], labels: list[Any], indices: list[int]) -> None:
    write_jsonl("train.jsonl", [{"sentence": "a", "label": label} for label in labels])
    read = load({"labels": names}, train="train.jsonl")
    assert read.labels == names
    assert read.splits["train"].labels == indices


def test_only_reads_no_more_than_it_needs() -> None:
    write("dev.csv", GOOD)
    read = load({"labels": ["bad", "good"]}, train="missing.csv", validation="dev.csv", only={"validation"})
    assert list(read.splits) == ["validation"]


def test_only_refuses_a_split_that_is_not_there() -> None:
    with pytest.raises(DataError) as caught:
        load(train="train.csv", only=["test"])
    assert str(caught.value) == "data.test: the recipe has no test split; it has train"


def test_unlabelled_and_hidden_labels() -> None:
    write("train.csv", GOOD)
    write("test.csv", "sentence\na\n")
    write("hidden.csv", "sentence,label\na,-1\nb,-1\n")
    read = load(train="train.csv", calibration="hidden.csv", test="test.csv")
    assert list(read.splits["test"].columns()) == ["text", "row"]
    assert list(read.splits["calibration"].columns()) == ["text", "row"]
    assert read.notices == ["calibration: every label is -1, so it is taken as unlabelled"]


def test_empty_texts_are_counted() -> None:
    write("train.csv", 'sentence,label\n"",1\na,0\n  ,1\n')
    write("dev.csv", "sentence,label\n ,1\n")
    assert load(train="train.csv", validation="dev.csv").notices == [
        "train: 2 empty texts (first: train.csv:2)",
        "validation: 1 empty text (first: dev.csv:2)",
    ]


def test_fingerprint_knows_contents_and_nothing_else() -> None:
    write("a.csv", GOOD)
    write_jsonl("b.jsonl", [{"label": 1, "sentence": "the lamp glows"}, {"label": 0, "sentence": "lamp the glow"}])
    write("c.csv", GOOD.replace("glows", "glow"))
    prints = [load(train=name).fingerprint["train"] for name in ("a.csv", "b.jsonl", "c.csv")]
    assert prints[0] == prints[1] != prints[2]
    assert prints[0][:16] == "2018ebae7cbc61cf"


def test_builtin() -> None:
    read = load(source="builtin", examples=100, only=["train", "calibration"])
    assert {split: len(rows) for split, rows in read.splits.items()} == {"train": 100, "calibration": 1500}
    assert list(read.splits["train"].columns()) == ["text", "label", "difficulty", "row"]
    assert read.labels == ["unacceptable", "acceptable"]


# --- read_file ------------------------------------------------------------


def test_read_file() -> None:
    write("data.csv", GOOD)
    assert read_file("data.csv", **COLUMNS).columns() == {
        "text": ["the lamp glows", "lamp the glow"],
        "label": [1, 0],
        "row": [2, 3],
    }


def test_read_file_without_labels() -> None:
    write("data.csv", "sentence,other\na,x\n")
    assert list(read_file("data.csv", **COLUMNS).columns()) == ["text", "row"]
    assert list(read_file("data.csv", text="sentence").columns()) == ["text", "row"]


def test_read_file_with_numbers() -> None:
    write("data.csv", "sentence,label\na,4\n")
    read = read_file("data.csv", text="sentence", label="label", scale=Scale([], (0.0, 5.0)))
    assert read.labels == [4.0]


# --- what is refused ------------------------------------------------------------

JSON_LINE = 'each line is one object, such as {"sentence": "...", "label": 1}'
CSV_QUOTES = "put double quotes around text that holds a comma or a line break, and double those inside it"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.txt", GOOD, "a.txt: extension .txt is unknown; known: csv, tsv, jsonl, json, parquet"),
        (
            "a.json",
            GOOD,
            "a.json:1: is not an array of objects; a .json file is one array of objects, [{...}, {...}]; "
            "with an object a line it is jsonl",
        ),
        ("a.jsonk", GOOD, "a.jsonk: extension .jsonk is unknown; did you mean json?"),
        ("a", GOOD, "a: the file has no extension; known: csv, tsv, jsonl, json, parquet"),
        ("a.csv", "", "a.csv: the file is empty; at least one example is needed"),
        ("a.jsonl", "\n \n", "a.jsonl: the file is empty; at least one example is needed"),
        ("a.csv", "sentence,label\n", "a.csv: there are no rows under the header; at least one is needed"),
        (
            "a.csv",
            "sentense,label\na,1\n",
            "a.csv:1: there is no column sentence among: sentense, label; did you mean sentense?",
        ),
        (
            "a.jsonl",
            '{"q": "a"}\n',
            "a.jsonl:1: there is no column sentence among: q; data.text of the recipe names it",
        ),
        ("a.csv", "label,label\n1,1\n", "a.csv:1: two columns are called 'label'; rename one"),
        ("a.csv", "sentence,label\na,1\na,b,1\n", f"a.csv:3: 3 fields where the header has 2; {CSV_QUOTES}"),
        (
            "a.tsv",
            "sentence\tlabel\na\n",
            "a.tsv:2: 1 field where the header has 2; take tabs and line breaks out of the text",
        ),
        (
            "a.csv",
            'sentence,label\na,1\n"b,1\nc,0\n',
            f"a.csv:3: a quote is opened and never closed; {CSV_QUOTES}",
        ),
        (
            "a.csv",
            'sentence,label\n"a" b,1\n',
            f"a.csv:2: bad quoting (',' expected after '\"'); {CSV_QUOTES}",
        ),
        (
            "a.csv",
            b"sentence,label\nok,1\ncaf\xe9,0\n",
            "a.csv:3: byte 4 of the line (0xe9) is not UTF-8; "
            "convert it, for instance: iconv -f LATIN1 -t UTF-8 a.csv > NEW",
        ),
        ("a.csv", "sentence,label\na,1\nb\0,0\n", "a.csv:3: holds a NUL byte; save the file as UTF-8 text"),
        (
            "a.jsonl",
            '{"sentence": "a", "label": 1}\n{"sentence": "b",\n',
            "a.jsonl:2: invalid JSON: Expecting property name enclosed in double quotes (column 18); " + JSON_LINE,
        ),
        ("a.jsonl", "[1]\n", f"a.jsonl:1: the line is a list, not an object; {JSON_LINE}"),
        (
            "a.jsonl",
            '{"sentence": 7, "label": 1}\n',
            "a.jsonl:1: sentence is a number, not text; write a string, which may be empty",
        ),
        (
            "a.jsonl",
            '{"sentence": "a", "label": 1}\n{"label": 1}\n',
            "a.jsonl:2: sentence is missing, not text; write a string, which may be empty",
        ),
        (
            "a.jsonl",
            '{"sentence": "\\ud800", "label": 1}\n',
            "a.jsonl:1: sentence holds half of a surrogate pair; write whole characters",
        ),
        (
            "a.jsonl",
            '{"sentence": "a", "label": [1]}\n',
            "a.jsonl:1: the label is a list; write a name or a number",
        ),
        ("a.csv", "sentence,label\na,\n", "a.csv:2: the label is missing; write one, or take the row out"),
        (
            "a.csv",
            "sentence,label\na,postive\n",
            "a.csv:2: label 'postive' is unknown; did you mean positive?",
        ),
        (
            "a.csv",
            "sentence,label\na,banana\n",
            "a.csv:2: label 'banana' is unknown; known: negative, positive",
        ),
        (
            "a.csv",
            "sentence,label\na,2\n",
            "a.csv:2: label 2 is outside 0..1; these stand for negative, positive",
        ),
        (
            "a.csv",
            "sentence,label\na,1\nb,-1\n",
            "a.csv:3: label -1 is outside 0..1; these stand for negative, positive",
        ),
        (
            "a.csv",
            "sentence,label\na,0.5\n",
            "a.csv:2: label '0.5' is unknown; known: negative, positive",
        ),
    ],
)
def test_broken_files(name: str, content: str | bytes, sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        read_file(write(name, content), **COLUMNS)
    assert str(caught.value) == sentence


def test_broken_json_too_deep() -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:1: invalid JSON: maximum recursion"):
        read_file(write("a.jsonl", "[" * 200_000), **COLUMNS)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("trian.csv", "trian.csv: there is no such file; did you mean train.csv?"),
        ("zzz", "zzz: there is no such file; known: train.csv"),
        ("no/train.csv", "no/train.csv: there is no such file; the folder no does not exist either"),
        ("sub/a.csv", "sub/a.csv: there is no such file; the folder holds no csv, tsv, jsonl, json, parquet file"),
        ("sub", "sub: is a folder, and holds no data file; name the file itself"),
    ],
)
def test_missing_files(path: str, sentence: str) -> None:
    write("train.csv", GOOD)
    Path("sub").mkdir()
    with pytest.raises(DataError) as caught:
        read_file(path, **COLUMNS)
    assert str(caught.value) == sentence


def test_broken_parquet() -> None:
    with pytest.raises(DataError, match=r"^a\.parquet: not a parquet file \(.*\); write it again, or use jsonl$"):
        read_file(write("a.parquet", GOOD), **COLUMNS)


def test_parquet_rows_are_named() -> None:
    write_parquet("a.parquet", {"sentence": ["a", None], "label": [1, 0]})
    with pytest.raises(DataError, match=r"^a\.parquet: row 2: sentence is missing, not text"):
        read_file("a.parquet", **COLUMNS)


@pytest.mark.parametrize(
    ("label", "sentence"),
    [
        ("much", "a.csv:2: label 'much' is not a finite number; a regression needs one per row"),
        ("nan", "a.csv:2: label 'nan' is not a finite number; a regression needs one per row"),
        ("inf", "a.csv:2: label 'inf' is not a finite number; a regression needs one per row"),
        ("5.5", "a.csv:2: label 5.5 is outside 0..5; correct it, or set task.range"),
        ("", "a.csv:2: the label is missing; write one, or take the row out"),
    ],
)
def test_broken_numbers(label: str, sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        read_file(
            write("a.csv", f"sentence,label\na,{label}\n"), text="sentence", label="label", scale=Scale([], (0.0, 5.0))
        )
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("task", "content", "data", "sentence"),
    [
        (
            {},
            "sentence,label\na,1\nb,1\n",
            {},
            "train.csv: the labels of train are all of one class, 1; a task needs examples of at least two",
        ),
        (
            {"metric": "pearson"},
            "sentence,label\na,1\nb,1\n",
            {},
            "train.csv: the labels of train are all of one value, 1; a task needs examples of at least two",
        ),
        (
            {},
            "sentence,label\na,1\nb,2.5\n",
            {},
            "train.csv:3: label 2.5 is not a class; "
            "for a regression, set task.metric: pearson and task.range: [lowest, highest]",
        ),
        (
            {},
            "sentence,gold\na,1\n",
            {},
            "train.csv:1: there is no column label among: sentence, gold; data.label of the recipe names it",
        ),
        (
            {},
            GOOD,
            {"validation": 0.1},
            "data.validation: 0.1 of 2 training rows gives no example; use a larger fraction, or a file",
        ),
        (
            {},
            GOOD,
            {"validation": 0.5, "test": 0.5},
            "data.validation: validation and test take all of train; use smaller fractions",
        ),
    ],
)
def test_a_train_split_that_cannot_serve(
    task: dict[str, Any], content: str | bytes, data: dict[str, Any], sentence: str
) -> None:
    write("train.csv", content)
    with pytest.raises(DataError) as caught:
        load(task, train="train.csv", **data)
    assert str(caught.value) == sentence


# --- fractions ------------------------------------------------------------


def test_fractions_come_out_of_train() -> None:
    write_jsonl("train.jsonl", balanced(100))
    read = load(train="train.jsonl", validation=0.1, calibration=0.2)
    assert {split: len(rows) for split, rows in read.splits.items()} == {
        "train": 70,
        "validation": 10,
        "calibration": 20,
    }
    assert sorted(text for rows in read.splits.values() for text in rows.texts) == sorted(
        row["sentence"] for row in balanced(100)
    )
    assert Counter(read.splits["calibration"].labels) == {0: 10, 1: 10}
    assert load(train="train.jsonl", validation=0.1).fingerprint["validation"] == read.fingerprint["validation"]
    alone = load(train="train.jsonl", validation=0.1, calibration=0.2, only=["calibration"])
    assert alone.fingerprint == {"calibration": read.fingerprint["calibration"]}


STRATA = st.lists(st.integers(0, 4), min_size=2, max_size=120)
FRACTIONS = st.lists(st.floats(0.01, 0.3), min_size=1, max_size=3).map(
    lambda shares: dict(zip(("validation", "calibration", "test"), shares, strict=False))
)


@given(STRATA, FRACTIONS)
def test_a_draw_parts_the_rows_and_repeats(strata: list[Any], fractions: dict[str, float]) -> None:
    drawn = draw_fractions(strata, fractions)
    assert list(drawn) == ["train", *fractions]
    assert sorted(index for rows in drawn.values() for index in rows) == list(range(len(strata)))
    assert all(rows == sorted(rows) for rows in drawn.values())
    assert drawn == draw_fractions(strata, fractions)


@given(STRATA, FRACTIONS)
def test_a_draw_gives_each_class_its_share(strata: list[Any], fractions: dict[str, float]) -> None:
    drawn = draw_fractions(strata, fractions)
    sizes = Counter(strata)
    assert {strata[index] for index in drawn["train"]} == set(sizes)
    for split, fraction in fractions.items():
        assert len(drawn[split]) <= round(fraction * len(strata))
        taken = Counter(strata[index] for index in drawn[split])
        assert all(taken[stratum] - fraction * size < 1 + 1e-9 for stratum, size in sizes.items())


@given(st.integers(10, 200), st.floats(0.05, 0.4))
def test_an_unstratified_draw_takes_exactly_its_share(rows: int, fraction: float) -> None:
    assert len(draw_fractions([None] * rows, {"test": fraction})["test"]) == round(fraction * rows)


@given(STRATA, FRACTIONS)
def test_a_split_does_not_depend_on_those_after_it(strata: list[Any], fractions: dict[str, float]) -> None:
    first = dict(list(fractions.items())[:1])
    assert draw_fractions(strata, first)["validation"] == draw_fractions(strata, fractions)["validation"]


# --- hub ------------------------------------------------------------


def test_a_local_folder_serves_as_a_hub_data_set() -> None:
    Path("folder").mkdir()
    write("folder/train.csv", GOOD + "lamps glow,1\n")
    write("folder/validation.csv", GOOD)
    read = load(source="hub", name="./folder", calibration=0.4)
    assert read.splits["validation"].columns() == {
        "text": ["the lamp glows", "lamp the glow"],
        "label": [1, 0],
        "row": [1, 2],
    }
    assert len(read.splits["calibration"]) == 1


def test_declared_class_names_beat_the_order_of_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    features = datasets.Features(sentence=datasets.Value("string"), label=datasets.ClassLabel(names=["bad", "good"]))
    part = datasets.Dataset.from_dict({"sentence": ["a", "b"], "label": [0, 1]}, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config, revision: {"train": part, "validation": part})
    data = {"source": "hub", "name": "some/data"}
    plain, turned, renamed = (
        load(task, **data) for task in ({}, {"labels": ["good", "bad"]}, {"labels": ["no", "yes"]})
    )
    assert (plain.labels, plain.splits["train"].labels) == (["bad", "good"], [0, 1])
    assert (turned.labels, turned.splits["train"].labels) == (["good", "bad"], [1, 0])
    assert (renamed.labels, renamed.splits["train"].labels) == (["no", "yes"], [0, 1])


def test_mnli_as_the_hub_lays_it_out() -> None:
    folder = write_hub_folder(Path("mnli"), "nyu-mll/glue", "mnli")
    splits = {"validation": "validation_matched", "test": "validation_mismatched", "calibration": "test_mismatched"}
    read = load({"name": "mnli"}, source="hub", name=str(folder), config="mnli", **splits)
    assert {split: len(rows) for split, rows in read.splits.items()} == {
        "train": 48,
        "validation": 12,
        "calibration": 12,
        "test": 12,
    }
    assert read.labels == ["entailment", "neutral", "contradiction"]
    assert list(read.splits["train"].columns()) == ["text", "text_pair", "label", "row"]
    assert read.splits["test"].columns()["label"][:3] == [0, 1, 2]
    assert read.splits["validation"].texts != read.splits["test"].texts
    # the labels that GLUE keeps to itself
    assert "label" not in read.splits["calibration"].columns()
    assert "calibration: every label is -1, so it is taken as unlabelled" in read.notices
    both = load({"name": "mnli"}, source="hub", name=str(folder), config="mnli", test=list(splits.values())[:2])
    assert len(both.splits["test"]) == 24
    with pytest.raises(DataError) as caught:
        load({"name": "mnli"}, source="hub", name=str(folder), config="mnli", validation="test_matched")
    assert "label -1 is outside 0..2" in str(caught.value)
    with pytest.raises(DataError, match="data.test: mnli has no split test among: train, validation_matched"):
        load({"name": "mnli"}, source="hub", name="mnli", config="mnli", test="test")


def test_a_regression_as_the_hub_lays_it_out() -> None:
    folder = write_hub_folder(Path("stsb"), "nyu-mll/glue", "stsb")
    read = load({"name": "stsb"}, source="hub", name=str(folder), config="stsb", test="test")
    assert (read.labels, read.range) == ([], (0.0, 5.0))
    assert (min(read.splits["train"].columns()["label"]), max(read.splits["train"].columns()["label"])) == (0.0, 5.0)
    assert "label" not in read.splits["test"].columns()


def test_a_second_label_column_with_the_names_that_it_declares() -> None:
    import datasets

    names = [f"kind {number}" for number in (3, 1, 2)]
    features = {"text": datasets.Value("string"), "coarse_label": datasets.Value("int64")}
    features = datasets.Features({**features, "fine_label": datasets.ClassLabel(names=names)})
    columns = {
        "text": [f"lamp {n}" for n in range(12)],
        "coarse_label": [0] * 12,
        "fine_label": [n % 3 for n in range(12)],
    }
    Path("trec").mkdir()
    for split in ("train", "test"):
        datasets.Dataset.from_dict(columns, features=features).to_parquet(f"trec/{split}-00000-of-00001.parquet")
    task = {"name": "trec", "labels": None}
    read = load(task, source="hub", name="./trec", label="fine_label", validation=0.25)
    assert read.labels == names
    assert sorted(set(read.splits["test"].columns()["label"])) == [0, 1, 2]


def test_a_revision_reaches_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked = []
    part = datasets.Dataset.from_dict({"text": ["a", "b"] * 5, "coarse_label": [0, 1] * 5})

    def fake(name: str, config: str | None, revision: str | None) -> Any:
        asked.append((name, config, revision))
        return {"train": part, "test": part}

    monkeypatch.setattr(datasets, "load_dataset", fake)
    load({"name": "trec"}, source="hub", validation=0.2)
    load({"name": "trec"}, source="hub", validation=0.2, revision="main")
    assert asked == [("CogComp/trec", None, "refs/convert/parquet"), ("CogComp/trec", None, "main")]


@pytest.mark.parametrize(
    ("content", "data", "sentence"),
    [
        (
            GOOD,
            {"validation": "dev"},
            "data.validation: ./folder has no split dev among: train, validation; known: train, validation",
        ),
        (
            GOOD,
            {"train": "trian"},
            "data.train: ./folder has no split trian among: train, validation; did you mean train?",
        ),
        (
            GOOD,
            {"text": "text"},
            "./folder:train: there is no column text among: sentence, label; data.text of the recipe names it",
        ),
        (
            "sentence,label\na,1\nb,0\nc,\n",
            {},
            "./folder:train: row 3: the label is missing; write one, or take the row out",
        ),
    ],
)
def test_broken_hub_data(content: str | bytes, data: dict[str, Any], sentence: str) -> None:
    Path("folder").mkdir()
    write("folder/train.csv", content)
    write("folder/validation.csv", GOOD)
    with pytest.raises(DataError) as caught:
        load(source="hub", name="./folder", **data)
    assert str(caught.value) == sentence


FETCH = "check data.name and data.config, or use data.source: files"


@pytest.mark.parametrize(
    ("raised", "kind", "sentence"),
    [
        (
            ConnectionError("Couldn't reach it"),
            ResourceError,
            "data.name: the hub cannot be reached to fetch some/data; connect, or use data.source: files",
        ),
        (
            OSError(28, "No space left on device"),
            ResourceError,
            f"data.name: some/data cannot be fetched ([Errno 28] No space left on device); {FETCH}",
        ),
        (
            FileNotFoundError("Dataset 'some/data' doesn't exist on the Hub or cannot be accessed."),
            DataError,
            "data.name: some/data cannot be loaded "
            f"(Dataset 'some/data' doesn't exist on the Hub or cannot be accessed); {FETCH}",
        ),
        (
            ValueError("BuilderConfig 'x' not found.\nAvailable: ['y']"),
            DataError,
            f"data.name: some/data cannot be loaded (BuilderConfig 'x' not found); {FETCH}",
        ),
        (RuntimeError(), DataError, f"data.name: some/data cannot be loaded (RuntimeError); {FETCH}"),
    ],
)
def test_a_hub_that_fails(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, kind: type[Exception], sentence: str
) -> None:
    import datasets

    def fail(name: str, config: str | None, revision: str | None) -> None:
        assert datasets.are_progress_bars_disabled()
        raise raised

    monkeypatch.setattr(datasets, "load_dataset", fail)
    before = datasets.are_progress_bars_disabled()
    with pytest.raises(kind) as caught:
        load(source="hub", name="some/data")
    assert str(caught.value) == sentence
    assert datasets.are_progress_bars_disabled() == before
