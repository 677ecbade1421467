"""Several labels for a text: the three ways to write them, and what is said of rows that cannot serve."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dactcli.data.batches import label_tensor
from dactcli.data.sources import Splits, load_splits
from dactcli.errors import DactError, DataError
from dactcli.recipe.schema import Recipe
from dactcli.recipe.tasks import complete, with_kind
from dactcli.training.build import with_labels

ROWS = [("a card", ["card"]), ("a new pin", ["pin", "new"]), ("well", []), ("a new card", ["new", "card"])]
WANTED = [[0], [1, 2], [], [0, 1]]


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(task: dict[str, Any] | None = None, **data: Any) -> Splits:
    sections = {"task": task or {}, "data": {"source": "files", **data}, "model": {"encoder": "tiny"}}
    return load_splits(complete(Recipe.model_validate(sections)))


def write_lists(kind: str) -> None:
    rows = [{"sentence": text, "label": labels} for text, labels in ROWS]
    if kind == "jsonl":
        Path("train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "json":
        Path("train.json").write_text(json.dumps(rows))
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), "train.parquet")


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet"])
def test_a_column_of_lists_is_found(kind: str) -> None:
    write_lists(kind)
    read = load(train=f"train.{kind}")
    assert (read.kind, read.labels, read.range) == ("multilabel", ["card", "new", "pin"], None)
    assert read.splits["train"].labels == WANTED


def test_columns_of_0_and_1_name_the_labels() -> None:
    Path("train.csv").write_text("sentence,pin,card,new\na,0,1,0\nb,1,0,true\nc,false,0,0\nd,0,1.0,1\n")
    read = load(train="train.csv", label=["card", "new", "pin"])
    assert (read.kind, read.labels) == ("multilabel", ["card", "new", "pin"])
    assert read.splits["train"].labels == WANTED


def test_a_separator_splits_a_column_of_text() -> None:
    Path("train.csv").write_text("sentence,label\na,card\nb,new | pin\nc,\nd,card|new|card\n")
    read = load(train="train.csv", label_separator="|")
    assert read.labels == ["card", "new", "pin"]
    assert read.splits["train"].labels == WANTED


def test_numbers_and_given_names_are_labels_too() -> None:
    Path("train.jsonl").write_text('{"sentence": "a", "label": [10, 2]}\n{"sentence": "b", "label": [2]}\n')
    assert load(train="train.jsonl").labels == ["2", "10"]
    Path("train.jsonl").write_text('{"sentence": "a", "label": [1, "no"]}\n{"sentence": "b", "label": []}\n')
    read = load({"labels": ["no", "yes"]}, train="train.jsonl")
    assert read.splits["train"].labels == [[0, 1], []]


@pytest.mark.parametrize(
    ("row", "data", "fault"),
    [
        ('{"sentence": "c", "label": null}', {}, "train.jsonl:3: the labels are missing; write a list, [] for a row"),
        (
            '{"sentence": "c", "label": "pin"}',
            {},
            "train.jsonl:3: the labels are a string, not a list; write a list of",
        ),
        ('{"sentence": "c", "label": [["pin"]]}', {}, "train.jsonl:3: the label is a list; write a name or a number"),
        ('{"sentence": "c", "label": [null]}', {}, "train.jsonl:3: the label is missing; write one"),
        (
            '{"sentence": "c", "label": 3}',
            {"label_separator": "|"},
            "train.jsonl:3: the labels are a number, not a list",
        ),
        (
            '{"sentence": "c", "a": 1, "b": 2}',
            {"label": ["a", "b"]},
            "train.jsonl:3: label column b is '2'; write 0 or 1",
        ),
        ('{"sentence": "c", "a": 1}', {"label": ["a", "b"]}, "train.jsonl:3: label column b is missing; write 0 or 1"),
    ],
)
def test_a_row_whose_labels_cannot_be_read_is_named(row: str, data: dict[str, Any], fault: str) -> None:
    good = {"sentence": "b", "label": ["x", "y"], "a": 0, "b": 1}
    Path("train.jsonl").write_text("\n".join([json.dumps(good), json.dumps({**good, "label": ["x"], "a": 1}), row]))
    with pytest.raises(DataError) as caught:
        load({"kind": "multilabel"}, train="train.jsonl", **data)
    assert str(caught.value).startswith(fault)


@pytest.mark.parametrize(
    ("labels", "fault"),
    [
        ([["a"], ["a"]], "train has one label; a task of label sets needs at least two"),
        ([[], []], "train has no label; a task of label sets needs at least two"),
    ],
)
def test_a_train_split_without_two_labels_is_refused(labels: list[list[str]], fault: str) -> None:
    Path("train.jsonl").write_text("".join(json.dumps({"sentence": "a", "label": row}) + "\n" for row in labels))
    with pytest.raises(DataError, match=fault):
        load({"kind": "multilabel"}, train="train.jsonl")


def test_a_label_that_train_lacks_is_refused_elsewhere() -> None:
    write_lists("jsonl")
    Path("test.jsonl").write_text('{"sentence": "a", "label": ["crad"]}\n')
    with pytest.raises(DataError, match="test.jsonl:1: label 'crad' is unknown; did you mean card"):
        load(train="train.jsonl", test="test.jsonl")


def test_rare_labels_go_into_every_drawn_split() -> None:
    rows = [["common", "rare"]] * 20 + [["common"]] * 180
    Path("train.jsonl").write_text("".join(json.dumps({"sentence": "a", "label": row}) + "\n" for row in rows))
    read = load(train="train.jsonl", validation=0.1, calibration=0.1)
    for split in ("validation", "calibration"):
        assert sum(len(row) == 2 for row in (read.splits[split].labels or [])) == 2


def test_the_kind_and_the_metric_that_are_found_stand_in_the_recipe() -> None:
    write_lists("jsonl")
    data = {"source": "files", "train": "train.jsonl"}
    recipe = complete(Recipe.model_validate({"data": data, "model": {"encoder": "tiny"}}))
    found = with_labels(recipe, load_splits(recipe))
    assert (found.task.kind, found.task.metric, found.task.labels) == ("multilabel", "micro_f1", ["card", "new", "pin"])
    assert with_kind(found, "multilabel") == found


@pytest.mark.parametrize(
    ("task", "data", "fault"),
    [
        (
            {"kind": "multilabel", "metric": "f1"},
            {},
            "task.metric: f1 judges classes, and this task has label sets; use",
        ),
        ({"metric": "micro_f1", "range": [0.0, 1.0]}, {}, "task.metric: micro_f1 judges label sets, but task.range"),
        (
            {"kind": "classes"},
            {"label_separator": "|"},
            "data.label_separator: gives a text several labels, and the task",
        ),
        ({"kind": "classes"}, {"label": ["a", "b"]}, "data.label: gives a text several labels, and the task is for cl"),
        ({"kind": "classes", "range": [0.0, 1.0]}, {}, "task.kind: is classes, but task.range makes this a regression"),
        ({}, {"label": ["a", "b"], "label_separator": "|"}, "data.label_separator: separates labels in one column"),
        ({"kind": "classes", "thresholds": "per_label"}, {}, "task.thresholds: is for multilabel tasks; remove it"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(task: dict[str, Any], data: dict[str, Any], fault: str) -> None:
    sections = {"task": task, "data": {"source": "files", "train": "a.csv", **data}, "model": {"encoder": "tiny"}}
    with pytest.raises(DactError) as caught:
        complete(Recipe.model_validate(sections))
    assert str(caught.value).startswith(fault)


def test_a_metric_of_classes_does_not_fit_lists_that_are_found() -> None:
    write_lists("jsonl")
    data = {"source": "files", "train": "train.jsonl"}
    task = {"metric": "matthews_correlation"}
    recipe = complete(Recipe.model_validate({"task": task, "data": data, "model": {"encoder": "tiny"}}))
    with pytest.raises(DactError, match="matthews_correlation judges classes, and this task has label sets"):
        with_labels(recipe, load_splits(recipe))


def test_the_labels_of_a_batch_are_0_and_1() -> None:
    assert label_tensor(WANTED, "multilabel", 3).tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 0]]
    assert label_tensor([2, 0], "classes", 3).tolist() == [2, 0]
