"""What is known about a task by its name, the recipe completed with it, and what its labels mean.

The GLUE tasks (Wang et al. 2018, https://gluebenchmark.com), AG News, IMDB and TREC bring their columns, class names
in the hub's order, metric, splits and hub address; `agreement` is generated (`dactcli.data.agreement`). Any other name
is a plain classification task. What the user wrote always stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from dactcli.errors import RecipeError
from dactcli.halting.names import standard_rules
from dactcli.recipe.schema import (
    METRICS,
    SPLITS,
    DataSection,
    Kind,
    Metric,
    Recipe,
    StageSection,
    TaskSection,
)
from dactcli.recipe.settings import REGRESSION_TAU, Section

BUILTIN = "agreement"
BUILTIN_LABELS = ("unacceptable", "acceptable")  # of the generated sentences
AnySection = TypeVar("AnySection", bound=Section)


@dataclass(frozen=True, kw_only=True)
class Task:
    """A known task: its columns, classes, metric, and where the hub keeps it.

    `labels` is None for regression, `range` for classification. `validation` names the hub's split, since MNLI has
    two, or is the fraction of train that stands in where the hub has none; `test` is a split whose labels are public.
    """

    name: str
    text: str = "sentence"
    text_pair: str | None = None
    label: str = "label"
    labels: tuple[str, ...] | None = None
    metric: Metric = "accuracy"
    range: tuple[float, float] | None = None
    hub_name: str | None = None
    hub_config: str | None = None
    hub_revision: str | None = None
    validation: str | float = "validation"
    test: str | None = None


def _glue(name: str, text: str, text_pair: str | None, labels: str, **known: Any) -> Task:
    return Task(
        name=name,
        text=text,
        text_pair=text_pair,
        labels=tuple(labels.split()) or None,
        hub_name="nyu-mll/glue",
        hub_config=name,
        **known,
    )


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        _glue("cola", "sentence", None, "unacceptable acceptable", metric="matthews_correlation"),
        _glue("sst2", "sentence", None, "negative positive"),
        _glue("mrpc", "sentence1", "sentence2", "not_equivalent equivalent", metric="f1"),
        _glue("stsb", "sentence1", "sentence2", "", metric="pearson", range=(0.0, 5.0)),
        _glue("qqp", "question1", "question2", "not_duplicate duplicate", metric="f1"),
        _glue(
            "mnli",
            "premise",
            "hypothesis",
            "entailment neutral contradiction",
            validation="validation_matched",
        ),
        _glue("qnli", "question", "sentence", "entailment not_entailment"),
        _glue("rte", "sentence1", "sentence2", "entailment not_entailment"),
        _glue("wnli", "sentence1", "sentence2", "not_entailment entailment"),
        Task(
            name="ag_news",
            text="text",
            labels=("World", "Sports", "Business", "Sci/Tech"),
            hub_name="fancyzhx/ag_news",
            validation=0.1,
            test="test",
        ),
        Task(
            name="imdb",
            text="text",
            labels=("neg", "pos"),
            hub_name="stanfordnlp/imdb",
            validation=0.1,
            test="test",
        ),
        Task(
            name="trec",
            text="text",
            label="coarse_label",
            labels=("ABBR", "ENTY", "DESC", "HUM", "LOC", "NUM"),
            hub_name="CogComp/trec",
            hub_revision="refs/convert/parquet",  # its main branch is a loading script, which datasets no longer runs
            validation=0.1,
            test="test",
        ),
        Task(name=BUILTIN, labels=BUILTIN_LABELS),
    )
}


def kind_of(recipe: Recipe) -> Kind | None:
    """What an answer is, as far as the recipe's keys say so; None where only the data can.

    Args:
        recipe: A recipe.
    """
    task, data = recipe.task, recipe.data
    if task.kind is not None:
        return task.kind
    if task.range is not None:
        return "regression"
    if data.label_separator is not None or isinstance(data.label, list):
        return "multilabel"
    return next((kind for kind, metrics in METRICS.items() if task.metric in metrics and kind != "classes"), None)


def is_regression(recipe: Recipe) -> bool:
    """Whether the labels are numbers on a scale: by the kind, by the metric, or by a range."""
    return kind_of(recipe) == "regression"


def metric_of(recipe: Recipe | None, kind: Kind) -> Metric:
    """The metric that judges answers of a kind.

    Args:
        recipe: A recipe that `complete` has completed, maybe before its data said what an answer is; None for the
            default.
        kind: What an answer is.
    """
    default = METRICS[kind][0]
    metric = recipe.task.metric if recipe is not None else None
    return default if metric is None or (metric not in METRICS[kind] and metric == METRICS["classes"][0]) else metric


def with_kind(recipe: Recipe, kind: Kind) -> Recipe:
    """A completed recipe with the kind of answer that was found in its data.

    Args:
        recipe: A recipe that `complete` has completed.
        kind: What the data hold.

    Raises:
        RecipeError: A key is not for this kind.
    """
    recipe = _replace(recipe, task=_replace(recipe.task, kind=kind, metric=metric_of(recipe, kind)))
    _check_kind(recipe)
    return recipe


def complete(recipe: Recipe) -> Recipe:
    """Fill in what the task's name implies and the user left out.

    Columns, class names, metric, range, hub address and splits, the epoch to keep and the rules to evaluate.
    Completing twice changes nothing. GLUE hides the labels of its test splits, so its tasks get no test split unless
    one is named.

    Raises:
        RecipeError: Keys that contradict each other, or a source that lacks its address.
    """
    task, data = recipe.task, recipe.data
    if data.source == "builtin":
        task = _fill(task, name=BUILTIN)
    known = TASKS.get(task.name)
    if known:
        data = _fill(data, text=known.text, text_pair=known.text_pair, label=known.label)
    complete_source = {"builtin": _complete_builtin, "hub": _complete_hub, "files": _complete_files}[data.source]
    data = complete_source(data, known)
    recipe = _replace(recipe, task=task, data=data)
    recipe = _replace(recipe, task=_complete_task(recipe, known))
    _check_kind(recipe)
    if is_regression(recipe):
        recipe = _for_numbers(recipe)
    if recipe.model.keep_classifier:
        recipe = _keeping(recipe)
    rules = recipe.evaluation.rules or _default_rules(recipe)
    keep = recipe.training.keep or _default_keep(recipe)
    return _replace(
        recipe,
        training=_replace(recipe.training, keep=keep),
        evaluation=_replace(recipe.evaluation, rules=rules),
    )


def _default_keep(recipe: Recipe) -> Literal["best", "last"]:
    """The best epoch, unless the halting learned with it: an early epoch may be as accurate and not halt yet."""
    number = recipe.last_encoder_stage
    return "last" if number and recipe.trains_halting(recipe.training.stages[number - 1]) else "best"


def _for_numbers(recipe: Recipe) -> Recipe:
    """The recipe of a regression: a number says nothing of how sure it is, so the halting units see features."""
    model = _fill(recipe.model, halting_inputs="features")
    if model.halting_inputs == "answer":
        raise RecipeError(
            "is answer, and a regression's answers say nothing of how sure they are",
            place="model.halting_inputs",
            remedy="set it to features, or leave it out",
        )
    dact = recipe.dact and _fill(recipe.dact, tau=REGRESSION_TAU)
    return _replace(recipe, model=model, dact=dact)


def _keeping(recipe: Recipe) -> Recipe:
    """The recipe of an encoder whose classifier is kept: nothing is trained but the units."""
    place, stages = "model.keep_classifier", recipe.training.stages
    if not isinstance(recipe.model.encoder, str):
        raise RecipeError(
            "a fresh encoder has none", place=place, remedy="name a fine-tuned classifier as model.encoder"
        )
    if is_regression(recipe):
        raise RecipeError("is for classes, and this task is a regression", place=place, remedy="set it to false")
    if recipe.dact is None:
        raise RecipeError("leaves nothing to train without the dact section", place=place, remedy="remove dact: null")
    if recipe.model.layers is not None:
        fault = "goes with the encoder's last layer, which model.layers may cut off"
        raise RecipeError(fault, place=place, remedy="remove model.layers")
    if "stages" not in recipe.training.model_fields_set:
        stages = [StageSection(name="units")]
    if any(stage.name != "units" for stage in stages):
        fault = "leaves encoder and classifier as they are, and training.stages would train them"
        raise RecipeError(fault, place=place, remedy="make every stage one of units, or leave training.stages out")
    return _replace(recipe, training=_replace(recipe.training, stages=stages))


def _complete_task(recipe: Recipe, known: Task | None) -> TaskSection:
    task = recipe.task
    if known:
        labels = list(known.labels) if known.labels else None
        task = _fill(task, labels=labels, range=list(known.range) if known.range else None)
    found = kind_of(_replace(recipe, task=task))
    metric = task.metric or (known.metric if known else METRICS[found or "classes"][0])
    return _replace(task, metric=metric)


_JUDGED: dict[Kind, str] = {"classes": "classes", "multilabel": "label sets", "regression": "numbers"}


def _check_kind(recipe: Recipe) -> None:
    """Refuse keys that speak of another kind of answer than the task's."""
    task, data = recipe.task, recipe.data
    kind = kind_of(recipe) or "classes"
    if task.range is not None and kind != "regression":
        raise RecipeError(f"is {kind}, but task.range makes this a regression", place="task.kind", remedy="remove one")
    if kind != "multilabel" and (data.label_separator is not None or isinstance(data.label, list)):
        key = "label" if data.label_separator is None else "label_separator"
        fault = f"gives a text several labels, and the task is for {_JUDGED[kind]}"
        raise RecipeError(fault, place=f"data.{key}", remedy="set task.kind: multilabel, or name one column")
    if data.label_separator is not None and isinstance(data.label, list):
        fault = "separates labels in one column, and data.label names several"
        raise RecipeError(fault, place="data.label_separator", remedy="remove one of them")
    if task.metric is not None and task.metric not in METRICS[kind]:
        judged = next(name for name, metrics in METRICS.items() if task.metric in metrics)
        why = ", but task.range makes this a regression" if task.range else f", and this task has {_JUDGED[kind]}"
        remedy = f"use {_either(METRICS[kind])}" + (", or range: null" if task.range else "")
        raise RecipeError(f"{task.metric} judges {_JUDGED[judged]}{why}", place="task.metric", remedy=remedy)
    if task.labels and kind == "regression":
        raise RecipeError(
            f"{task.metric} judges numbers, but task.labels names classes",
            place="task.metric",
            remedy=f"use {_either(METRICS['classes'])}, or labels: null",
        )
    if task.thresholds != "one" and kind_of(recipe) not in (None, "multilabel"):
        raise RecipeError("is for multilabel tasks", place="task.thresholds", remedy="remove it")


def _either(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _complete_builtin(data: DataSection, known: Task | None) -> DataSection:
    for place, name in (("task.name", known.name if known else None), ("data.name", data.name or BUILTIN)):
        if name != BUILTIN:
            remedy = f"the builtin task is {BUILTIN}; other data needs data.source hub or files"
            raise RecipeError("is not a builtin task", place=place, remedy=remedy)
    for split in SPLITS:
        if getattr(data, split) not in (None, split):
            fault = "the builtin task brings its own splits"
            raise RecipeError(fault, place=f"data.{split}", remedy="remove this key")
    return _replace(data, name=BUILTIN, **{split: split for split in SPLITS})


def _complete_hub(data: DataSection, known: Task | None) -> DataSection:
    if known and known.hub_name and data.name in (None, known.hub_name):
        address = {"config": known.hub_config, "revision": known.hub_revision}
        data = _fill(_replace(data, name=known.hub_name), **address)
    if data.name is None:
        names = ", ".join(name for name, task in TASKS.items() if task.hub_name)
        remedy = f"name a data set of the hub, a folder, or one of these as task.name: {names}"
        raise RecipeError("is missing", place="data.name", remedy=remedy)
    data = _replace(data, train=data.train or "train")
    if known is None:
        return _fill(data, validation="validation")
    return _fill(data, validation=known.validation, test=known.test)


def _complete_files(data: DataSection, known: Task | None) -> DataSection:
    if not data.train:
        remedy = "name a csv, tsv, jsonl, json or parquet file, or a list of them"
        raise RecipeError("is missing", place="data.train", remedy=remedy)
    return data


def _default_rules(recipe: Recipe) -> list[str]:
    mixes = any(recipe.stage_tau(stage) is not None for stage in recipe.training.stages)
    return standard_rules(mixes=mixes, regression=is_regression(recipe))


def _fill(section: AnySection, **values: Any) -> AnySection:
    """Set the keys that the user did not."""
    return _replace(section, **{k: v for k, v in values.items() if k not in section.model_fields_set})


def _replace(section: AnySection, **values: Any) -> AnySection:
    return section.model_copy(update=values)
