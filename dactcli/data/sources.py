"""From a completed recipe to checked splits, whatever the source: builtin, hub or files.

What can be wrong with texts and labels is found here, before a model is loaded, and named by its line. Every
source becomes `rows.Table`s, and one reader turns tables into the columns of a split.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Any

from dactcli.data import agreement
from dactcli.data.formats import describe
from dactcli.data.hub import read_hub
from dactcli.data.labels import HIDDEN, Scale, class_names, label_key
from dactcli.data.overlap import overlaps
from dactcli.data.rows import Table, missing_column, read_tables
from dactcli.errors import DataError
from dactcli.recipe.schema import SPLITS, DataSection, Recipe
from dactcli.recipe.tasks import is_regression

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

Columns = dict[str, list[Any]]
MUST_HAVE_LABELS = ("train", "validation")


@dataclass(frozen=True)
class Splits:
    """The examples of a task, read and checked.

    Attributes:
        splits: Columns `text`, `text_pair` (tasks of pairs), `label` (a class index, or a number; absent
            where unlabelled), `difficulty` (builtin only) and `row`, the line or row in the source.
        labels: Class names in the order of their indices; empty for regression.
        range: Lowest and highest label of a regression: the recipe's, else those of train; no split goes beyond it.
        fingerprint: A digest of each split's contents, the same wherever the file lies.
        notices: What is allowed but worth telling.
    """

    splits: DatasetDict
    labels: list[str]
    range: tuple[float, float] | None
    fingerprint: dict[str, str]
    notices: list[str]


def load_splits(recipe: Recipe, *, only: Collection[str] | None = None) -> Splits:
    """Read the splits of a recipe that `tasks.complete` has completed.

    Fractions are drawn from train in the order validation, calibration, test; the draw and the builtin
    sentences depend on no training seed, so that runs of different seeds see the same data.

    Args:
        recipe: The completed recipe.
        only: Splits to give; all that the recipe has when None. Train is read where these need it.

    Raises:
        DataError: A file, a column, a text or a label that cannot serve; names its place.
        ResourceError: The hub cannot be reached.
    """
    data, stratified = recipe.data, not is_regression(recipe.task)
    wanted = _wanted(data, only)
    tables = _read_tables(recipe, wanted)
    scale = _scale(recipe, tables)
    reader, columns = _Reader(data.text, data.text_pair, data.label, scale), {}
    if "train" in tables:
        columns["train"] = reader.read(tables["train"], "train")
        scale = _check_train(scale, columns["train"]["label"], tables["train"][0].source)
        reader = replace(reader, scale=scale)
    columns |= {split: reader.read(parts, split) for split, parts in tables.items() if split != "train"}
    if "train" in columns:
        columns |= _draw(columns["train"], _fractions(data), stratified=stratified)
    columns = {split: columns[split] for split in wanted}
    return Splits(
        splits=_dataset_dict(columns),
        labels=scale.labels,
        range=scale.range,
        fingerprint={split: _fingerprint(values) for split, values in columns.items()},
        notices=[*reader.notices, *overlaps(columns)],
    )


def read_file(
    path: str,
    *,
    text: str,
    text_pair: str | None = None,
    label: str | None = None,
    scale: Scale | None = None,
    asked: Collection[str] = (),
) -> Dataset:
    """Read one file, or those of a glob, labelled or not, with the columns and checks of `load_splits`.

    Args:
        path: A csv, tsv, jsonl, json or parquet file, a glob or an address.
        text: Column of the text.
        text_pair: Column of the second text, for tasks of pairs.
        label: Column of the label, if it is there.
        scale: What labels mean; any number when None.
        asked: Which of `text`, `text_pair` and `label` the request names, and not the recipe. A label that is asked for
            must be there.

    Returns:
        A data set with `text`, `row`, and where there are such `text_pair` and `label`.

    Raises:
        DataError: As for `load_splits`.
    """
    reader = _Reader(text, text_pair, label, scale or Scale([]), asked=asked)
    return _dataset(reader.read(read_tables([path])))


def draw_fractions(strata: Sequence[Hashable], fractions: Mapping[str, float]) -> dict[str, list[int]]:
    """Draw splits out of train, each class in its share, by a seed that never changes.

    Each split takes `round(fraction * rows)` rows, but the last example of a class always stays in train. A
    split does not depend on those after it.

    Args:
        strata: The class of each row of train; one and the same for an unstratified draw.
        fractions: Share of all rows by split, in the order of drawing.

    Returns:
        Ascending row indices by split, and what is left as `train`.
    """
    rng, pools = Random(0), dict[Hashable, list[int]]()
    for index, stratum in enumerate(strata):
        pools.setdefault(stratum, []).append(index)
    for pool in pools.values():
        rng.shuffle(pool)
    sizes = {stratum: len(pool) for stratum, pool in pools.items()}
    drawn: dict[str, list[int]] = {}
    for split, fraction in fractions.items():
        quotas = {stratum: fraction * size for stratum, size in sizes.items()}
        take = {stratum: min(int(quota), len(pools[stratum]) - 1) for stratum, quota in quotas.items()}
        missing = round(fraction * len(strata)) - sum(take.values())
        roomy = [stratum for stratum in quotas if take[stratum] < len(pools[stratum]) - 1]
        roomy.sort(key=lambda stratum: take[stratum] - quotas[stratum])
        for stratum in roomy[:missing]:
            take[stratum] += 1
        drawn[split] = sorted(pools[stratum].pop() for stratum, number in take.items() for _ in range(number))
    return {"train": sorted(index for pool in pools.values() for index in pool), **drawn}


def _scale(recipe: Recipe, tables: Mapping[str, list[Table]]) -> Scale:
    """The recipe's classes or range; else the classes that the source declares, or that train holds."""
    task, label = recipe.task, recipe.data.label
    if is_regression(task):
        return Scale([], (task.range[0], task.range[1]) if task.range else None)
    if task.labels:
        return Scale(task.labels)
    train = tables["train"]
    if train[0].labels:
        return Scale(train[0].labels)
    places: dict[str, str] = {}  # each class, and where it stands first
    for table in train:
        for index, value in enumerate(table.columns.get(label, [])):
            if (key := label_key(value)) is not None and key not in places:
                places[key] = table.place(index)
    return Scale(class_names(places))


@dataclass(frozen=True)
class _Reader:
    """Turns the tables of a split into its columns, checking every text and label."""

    text: str
    text_pair: str | None
    label: str | None
    scale: Scale
    notices: list[str] = field(default_factory=list)
    asked: Collection[str] = ()

    def read(self, tables: list[Table], split: str = "data") -> Columns:
        """The columns of one split, its tables one after the other."""
        texts = {"text": self.text, **({"text_pair": self.text_pair} if self.text_pair else {})}
        labelled = (
            split in MUST_HAVE_LABELS or "label" in self.asked or any(self.label in table.columns for table in tables)
        )
        names = {**texts, **({"label": self.label} if self.label and labelled else {})}
        for table in tables:
            _require(table, names, self.asked)
        columns: Columns = {
            role: [text for table in tables for text in _texts(table, name)] for role, name in texts.items()
        }
        if "label" in names:
            columns |= self._labels(tables, names["label"], split)
        if all("difficulty" in table.columns and table.source == agreement.__name__ for table in tables):
            columns["difficulty"] = [value for table in tables for value in table.columns["difficulty"]]
        columns["row"] = [number for table in tables for number in table.numbers]
        self._note_empty(tables, columns, split)
        return columns

    def _labels(self, tables: list[Table], name: str, split: str) -> Columns:
        values = [value for table in tables for value in table.columns[name]]
        if split not in MUST_HAVE_LABELS and self.scale.hides(values):
            self.notices.append(f"{split}: every label is {HIDDEN}, so it is taken as unlabelled")
            return {}
        numbers = []
        for table in tables:
            for index, value in enumerate(table.columns[name]):
                try:
                    numbers.append(self.scale.read(value))
                except DataError as error:
                    place = table.place(index)
                    raise DataError(error.fault, place=place, remedy=error.remedy) from None
        return {"label": numbers}

    def _note_empty(self, tables: list[Table], columns: Columns, split: str) -> None:
        places = (table.place(index) for table in tables for index in range(len(table.numbers)))
        pairs = columns.get("text_pair", columns["text"])
        empty = [
            place
            for place, text, pair in zip(places, columns["text"], pairs, strict=True)
            if not (text.strip() and pair.strip())
        ]
        if empty:
            texts = "text" if len(empty) == 1 else "texts"
            self.notices.append(f"{split}: {len(empty)} empty {texts} (first: {empty[0]})")


def _require(table: Table, names: Mapping[str, str], asked: Collection[str] = ()) -> None:
    for role, name in names.items():
        if name not in table.columns:
            remedy = "name one of these" if role in asked else f"data.{role} of the recipe names it"
            raise missing_column(name, table.columns, table.head, remedy)


def _texts(table: Table, name: str) -> list[str]:
    for index, value in enumerate(table.columns[name]):
        if not isinstance(value, str):
            fault = f"{name} is {describe(value)}, not text"
            raise DataError(fault, place=table.place(index), remedy="write a string, which may be empty")
        try:
            value.encode()
        except UnicodeEncodeError:
            fault = f"{name} holds half of a surrogate pair"
            raise DataError(fault, place=table.place(index), remedy="write whole characters") from None
    return table.columns[name]


def _wanted(data: DataSection, only: Collection[str] | None) -> list[str]:
    there = data.splits
    for split in only or ():
        if split not in there:
            fault = f"the recipe has no {split} split"
            raise DataError(fault, place=f"data.{split}", remedy=f"it has {', '.join(there)}")
    return there if only is None else [split for split in there if split in only]


def _fractions(data: DataSection) -> dict[str, float]:
    return {split: part for split in SPLITS if isinstance(part := getattr(data, split), float)}


def _read_tables(recipe: Recipe, wanted: list[str]) -> dict[str, list[Table]]:
    """The tables of the splits that are wanted, and of train where those are drawn or scaled by it."""
    data, task, drawn = recipe.data, recipe.task, _fractions(recipe.data)
    train_too = not (task.labels or task.range) or any(split in drawn for split in wanted)
    needed = [split for split in SPLITS if split in wanted or (split == "train" and train_too)]
    parts: dict[str, list[str]] = {}
    for split in needed:
        if split not in drawn:
            part = getattr(data, split)
            parts[split] = [part] if isinstance(part, str) else list(part)
    if data.source == "builtin":
        return _generate(data.examples, list(parts))
    if data.source == "hub":
        return read_hub(data.name or "", data.config, parts, task.labels, data.label, revision=data.revision)
    return {split: read_tables(paths) for split, paths in parts.items()}


def _generate(examples: int | None, splits: list[str]) -> dict[str, list[Table]]:
    written = agreement.generate(**({"train": examples} if examples else {}))
    tables = {}
    for split in splits:
        names = ("sentence", "label", "difficulty")
        columns = {name: [getattr(example, name) for example in written[split]] for name in names}
        tables[split] = [Table(agreement.__name__, columns, list(range(1, len(written[split]) + 1)))]
    return tables


def _check_train(scale: Scale, labels: list[Any], place: str) -> Scale:
    """Refuse a train split with nothing to learn; give a regression without a range that of its labels."""
    if len(set(labels)) < 2:
        only = f"one class, {scale.labels[labels[0]]}" if scale.labels else f"one value, {labels[0]:g}"
        fault = f"the labels of train are all of {only}"
        raise DataError(fault, place=place, remedy="a task needs examples of at least two")
    if scale.labels or scale.range:
        return scale
    return Scale([], (min(labels), max(labels)))


def _draw(train: Columns, fractions: Mapping[str, float], *, stratified: bool) -> dict[str, Columns]:
    if sum(fractions.values()) >= 1:
        fault = f"{' and '.join(fractions)} take all of train"
        raise DataError(fault, place=f"data.{next(iter(fractions))}", remedy="use smaller fractions")
    labels = train["label"]
    drawn = draw_fractions(labels if stratified else [None] * len(labels), fractions)
    for split, indices in drawn.items():
        if not indices:
            fault = f"{fractions[split]:g} of {len(labels)} training rows gives no example"
            raise DataError(fault, place=f"data.{split}", remedy="use a larger fraction, or a file")
    return {
        split: {name: [values[index] for index in indices] for name, values in train.items()}
        for split, indices in drawn.items()
    }


def _fingerprint(columns: Columns) -> str:
    digest = hashlib.sha256()
    shown = [columns[name] for name in ("text", "text_pair", "label") if name in columns]
    for row in zip(*shown, strict=True):
        digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()


def _dataset(columns: Columns) -> Dataset:
    from datasets import Dataset, Features, Value

    integers = all(isinstance(label, int) for label in columns.get("label", ()))
    kinds = {"text": "string", "text_pair": "string", "label": "int64" if integers else "float64"}
    features = Features({name: Value(kinds.get(name, "int64")) for name in columns})
    return Dataset.from_dict(columns, features=features)


def _dataset_dict(columns: Mapping[str, Columns]) -> DatasetDict:
    from datasets import DatasetDict

    return DatasetDict({split: _dataset(values) for split, values in columns.items()})
