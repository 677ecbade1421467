from typing import Any

import pytest

from dactcli.errors import RecipeError
from dactcli.recipe.schema import Recipe, TaskSection
from dactcli.recipe.tasks import TASKS, complete, is_regression

FILES = {"source": "files", "train": "train.csv"}


def recipe(**sections: Any) -> Recipe:
    return Recipe.model_validate({"data": FILES, "model": {"encoder": "tiny"}, **sections})


@pytest.mark.parametrize(
    ("name", "text", "text_pair", "labels", "metric"),
    [
        ("cola", "sentence", None, ["unacceptable", "acceptable"], "matthews_correlation"),
        ("sst2", "sentence", None, ["negative", "positive"], "accuracy"),
        ("mrpc", "sentence1", "sentence2", ["not_equivalent", "equivalent"], "f1"),
        ("stsb", "sentence1", "sentence2", None, "pearson"),
        ("qqp", "question1", "question2", ["not_duplicate", "duplicate"], "f1"),
        ("mnli", "premise", "hypothesis", ["entailment", "neutral", "contradiction"], "accuracy"),
        ("qnli", "question", "sentence", ["entailment", "not_entailment"], "accuracy"),
        ("rte", "sentence1", "sentence2", ["entailment", "not_entailment"], "accuracy"),
        ("wnli", "sentence1", "sentence2", ["not_entailment", "entailment"], "accuracy"),
    ],
)
def test_glue_on_the_hub(name: str, text: str, text_pair: str | None, labels: list[Any], metric: str) -> None:
    done = complete(recipe(task={"name": name}, data={"source": "hub"}))
    assert (done.data.text, done.data.text_pair, done.data.label) == (text, text_pair, "label")
    assert (done.task.labels, done.task.metric) == (labels, metric)
    assert (done.data.name, done.data.config) == ("nyu-mll/glue", name)
    validation = "validation_matched" if name == "mnli" else "validation"
    assert (done.data.train, done.data.validation, done.data.test) == ("train", validation, None)


@pytest.mark.parametrize(
    ("name", "label", "classes", "address"),
    [
        ("ag_news", "label", 4, ("fancyzhx/ag_news", None)),
        ("imdb", "label", 2, ("stanfordnlp/imdb", None)),
        ("trec", "coarse_label", 6, ("CogComp/trec", "refs/convert/parquet")),
    ],
)
def test_tasks_whose_test_labels_are_public(
    name: str, label: str, classes: int, address: tuple[str, str | None]
) -> None:
    done = complete(recipe(task={"name": name}, data={"source": "hub"}))
    assert (done.data.text, done.data.text_pair, done.data.label) == ("text", None, label)
    assert (len(done.task.labels or []), done.task.metric) == (classes, "accuracy")
    assert (done.data.name, done.data.config, done.data.revision) == (address[0], None, address[1])
    assert (done.data.train, done.data.validation, done.data.test) == ("train", 0.1, "test")
    assert complete(recipe(task={"name": name}, data={"source": "hub", "name": "./mine"})).data.revision is None


def test_regression_range() -> None:
    done = complete(recipe(task={"name": "stsb"}))
    assert done.task.range == [0.0, 5.0]
    assert done.evaluation.rules == ["full", "tolerance"]


def test_plain_classification() -> None:
    done = complete(recipe(task={"name": "anything"}))
    assert (done.task.metric, done.task.labels, done.task.range) == ("accuracy", None, None)
    assert (done.data.text, done.data.label) == ("sentence", "label")


def test_a_range_alone_makes_a_regression() -> None:
    done = complete(recipe(task={"range": [0.0, 1.0]}))
    assert (done.task.metric, done.evaluation.rules) == ("pearson", ["full", "tolerance"])


def test_builtin_needs_nothing() -> None:
    done = complete(recipe(data={"source": "builtin"}))
    assert (done.task.name, done.task.labels) == ("agreement", ["unacceptable", "acceptable"])
    assert (done.task.metric, done.data.name) == ("accuracy", "agreement")
    splits = (done.data.train, done.data.validation, done.data.calibration, done.data.test)
    assert splits == ("train", "validation", "calibration", "test")


def test_what_the_user_set_stands() -> None:
    done = complete(
        recipe(
            task={"name": "sst2", "metric": "f1", "labels": ["bad", "good"]},
            data={"source": "hub", "config": None, "text": "review", "train": "all", "validation": 0.1},
            evaluation={"rules": ["full", "confidence:0.9"]},
        )
    )
    assert (done.task.metric, done.task.labels) == ("f1", ["bad", "good"])
    assert (done.data.text, done.data.config, done.data.train) == ("review", None, "all")
    assert done.data.validation == 0.1
    assert done.evaluation.rules == ["full", "confidence:0.9"]


def test_another_data_set_gets_no_glue_config() -> None:
    done = complete(recipe(task={"name": "cola"}, data={"source": "hub", "name": "./my-cola"}))
    assert (done.data.name, done.data.config) == ("./my-cola", None)


@pytest.mark.parametrize(
    ("dact", "stages", "rules"),
    [
        ({}, ["joint"], ["full", "paper", "exact"]),
        ({"tau": 0.0}, ["joint"], ["full", "paper", "exact"]),
        (None, ["joint"], ["full"]),
        ({"tau": None}, ["joint"], ["full"]),
        ({"tau": None}, ["encoder", "units:0.1"], ["full", "paper", "exact"]),
        ({}, ["encoder"], ["full"]),
    ],
)
def test_rules_follow_the_loss(dact: dict[str, Any] | None, stages: list[str], rules: list[str]) -> None:
    named = [stage.partition(":") for stage in stages]
    sections = [{"name": name, **({"tau": float(tau)} if tau else {})} for name, _, tau in named]
    done = complete(recipe(dact=dact, training={"stages": sections}))
    assert done.evaluation.rules == rules


@pytest.mark.parametrize("name", [*TASKS, "other"])
@pytest.mark.parametrize("data", [FILES, {"source": "hub"}, {"source": "hub", "name": "a/b"}, {"source": "builtin"}])
def test_completing_twice_changes_nothing(name: str, data: dict[str, Any]) -> None:
    task = {} if data["source"] == "builtin" else {"name": name}
    if data == {"source": "hub"} and name in ("agreement", "other"):
        data = {**data, "name": "a/b"}
    done = complete(recipe(task=task, data=data))
    assert complete(done) == done
    assert complete(Recipe.model_validate(done.model_dump())) == done


@pytest.mark.parametrize(
    ("sections", "sentence"),
    [
        (
            {"task": {"metric": "accuracy", "range": [0.0, 1.0]}},
            "task.metric: accuracy judges classes, but task.range makes this a regression; "
            "use pearson or spearman, or range: null",
        ),
        (
            {"task": {"name": "cola", "metric": "pearson"}},
            "task.metric: pearson judges numbers, but task.labels names classes; "
            "use accuracy, f1 or matthews_correlation, or labels: null",
        ),
        (
            {"data": {"source": "builtin", "validation": 0.1}},
            "data.validation: the builtin task brings its own splits; remove this key",
        ),
        (
            {"data": {"source": "builtin", "name": "glue"}},
            "data.name: is not a builtin task; "
            "the builtin task is agreement; other data needs data.source hub or files",
        ),
        (
            {"data": {"source": "builtin"}, "task": {"name": "cola"}},
            "task.name: is not a builtin task; "
            "the builtin task is agreement; other data needs data.source hub or files",
        ),
        (
            {"data": {"source": "hub"}},
            "data.name: is missing; name a data set of the hub, a folder, or one of these as task.name: "
            "cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli, ag_news, imdb, trec",
        ),
        (
            {"data": {"source": "files"}},
            "data.train: is missing; name a csv, tsv, jsonl, json or parquet file, or a list of them",
        ),
    ],
)
def test_contradictions(sections: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError) as caught:
        complete(recipe(**sections))
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ({}, False),
        ({"metric": "f1"}, False),
        ({"metric": "pearson"}, True),
        ({"metric": "spearman"}, True),
        ({"range": [0.0, 5.0]}, True),
    ],
)
def test_is_regression(task: dict[str, Any], expected: bool) -> None:
    assert is_regression(TaskSection.model_validate(task)) is expected
