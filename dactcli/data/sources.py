"""From a completed recipe to checked splits, whatever the source: builtin, hub or files.

What can be wrong with texts and labels is found here, before a model is loaded, and named by its line. Every
source becomes `rows.Table`s, and one reader turns tables into the `Examples` of a split.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from dactcli.data import agreement
from dactcli.data.examples import Examples
from dactcli.data.formats import describe
from dactcli.data.hub import read_hub
from dactcli.data.labels import HIDDEN, Scale, as_list, class_names, label_key, marked_labels, split_labels
from dactcli.data.overlap import overlaps
from dactcli.data.rows import Table, missing_column, read_tables
from dactcli.errors import DataError
from dactcli.recipe.schema import SPLITS, DataSection, Kind, Recipe
from dactcli.recipe.tasks import kind_of

MUST_HAVE_LABELS = ("train", "validation")


@dataclass(frozen=True)
class Splits:
    """The examples of a task, read and checked.

    Attributes:
        splits: The examples of each split.
        kind: What an answer is.
        labels: Names of the classes or labels in the order of their indices; empty for regression.
        range: Lowest and highest label of a regression: the recipe's, else those of train; no split goes beyond it.
        fingerprint: A digest of each split's contents, the same wherever the file lies.
        notices: What is allowed but worth telling.
    """

    splits: dict[str, Examples]
    kind: Kind
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
    data = recipe.data
    wanted = _wanted(data, only)
    labels = LabelColumn.of(data)
    tables = {split: [labels.gather(table) for table in parts] for split, parts in _read_tables(recipe, wanted).items()}
    kind = kind_of(recipe) or _found_kind(tables, labels.name)
    scale = _scale(recipe, kind, tables, labels.name)
    reader, splits = _Reader(data.text, data.text_pair, labels.name, scale), dict[str, Examples]()
    if "train" in tables:
        splits["train"] = reader.read(tables["train"], "train")
        if labels.column is not None:
            scale = _check_train(scale, splits["train"].labels or [], tables["train"][0].source)
        reader = replace(reader, scale=scale)
    splits |= {split: reader.read(parts, split) for split, parts in tables.items() if split != "train"}
    if "train" in splits:
        splits |= _draw(splits["train"], _fractions(data), kind)
    splits = {split: splits[split] for split in wanted}
    return Splits(
        splits=splits,
        kind=kind,
        labels=scale.labels,
        range=scale.range,
        fingerprint={split: _fingerprint(examples) for split, examples in splits.items()},
        notices=[*reader.notices, *overlaps(splits)],
    )


def read_file(
    path: str,
    *,
    text: str,
    text_pair: str | None = None,
    label: LabelColumn | str | None = None,
    scale: Scale | None = None,
    asked: Collection[str] = (),
) -> Examples:
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
        The examples; `labels` is None if the file has no label column.

    Raises:
        DataError: As for `load_splits`.
    """
    found = label if isinstance(label, LabelColumn) else LabelColumn(label)
    reader = _Reader(text, text_pair, found.name, scale or Scale([]), asked=asked)
    return reader.read([found.gather(table) for table in read_tables([path])])


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


def _found_kind(tables: Mapping[str, list[Table]], label: str | None) -> Kind:
    """What an answer is, where the recipe's keys do not say so: label sets if the label column holds a list."""
    values = (value for parts in tables.values() for table in parts for value in table.columns.get(label or "", ()))
    return "multilabel" if any(isinstance(value, list) for value in values) else "classes"


def _scale(recipe: Recipe, kind: Kind, tables: Mapping[str, list[Table]], label: str | None) -> Scale:
    """The recipe's classes or range; else the classes that the source declares, or that train holds."""
    task, several = recipe.task, kind == "multilabel"
    if kind == "regression":
        return Scale([], (task.range[0], task.range[1]) if task.range else None)
    if task.labels:
        return Scale(task.labels, several=several)
    if isinstance(recipe.data.label, list):
        return Scale(recipe.data.label, several=True)
    train = tables["train"]
    if train[0].labels:
        return Scale(train[0].labels, several=several)
    places: dict[str, str] = {}  # each class, and where it stands first
    for table in train:
        for index, value in enumerate(table.columns.get(label or "", [])):
            with _placed(table, index):
                found = as_list(value) if several else [value]
            for one in found:
                if (key := label_key(one)) is not None and key not in places:
                    places[key] = table.place(index)
    return Scale(class_names(places), several=several)


@contextmanager
def _placed(table: Table, index: int) -> Iterator[None]:
    """Name the row in errors about it."""
    try:
        yield
    except DataError as error:
        raise DataError(error.fault, place=table.place(index), remedy=error.remedy) from None


@dataclass(frozen=True)
class LabelColumn:
    """Where the labels stand in a table, and how several of them are written.

    Attributes:
        column: A column, or the columns of 0 and 1 of several labels; None where there is none.
        separator: What stands between the labels in a column of text; None where the column holds lists.
    """

    column: str | Sequence[str] | None
    separator: str | None = None

    @classmethod
    def of(cls, data: DataSection) -> LabelColumn:
        """As the recipe says."""
        return cls(data.label, data.label_separator)

    @property
    def name(self) -> str | None:
        """The one column that holds the labels once they are gathered."""
        return self.column if self.column is None or isinstance(self.column, str) else ", ".join(self.column)

    def gather(self, table: Table) -> Table:
        """The table with its labels in one column; lists where there may be several."""
        if isinstance(self.column, str):
            if self.separator is None or self.column not in table.columns:
                return table
            found = [split_labels(value, self.separator) for value in table.columns[self.column]]
            return replace(table, columns={**table.columns, self.column: found})
        if self.name is None or not any(name in table.columns for name in self.column or ()):
            return table  # unlabelled
        names = list(self.column or ())
        for name in names:
            _require(table, {"label": name})
        rows = []
        for index, values in enumerate(zip(*(table.columns[name] for name in names), strict=True)):
            with _placed(table, index):
                rows.append(marked_labels(names, values))
        return replace(table, columns={**table.columns, self.name: rows})


@dataclass(frozen=True)
class _Reader:
    """Turns the tables of a split into its examples, checking every text and label."""

    text: str
    text_pair: str | None
    label: str | None
    scale: Scale
    notices: list[str] = field(default_factory=list)
    asked: Collection[str] = ()

    def read(self, tables: list[Table], split: str = "data") -> Examples:
        """The examples of one split, its tables one after the other."""
        texts = {"text": self.text, **({"text_pair": self.text_pair} if self.text_pair else {})}
        labelled = (
            split in MUST_HAVE_LABELS or "label" in self.asked or any(self.label in table.columns for table in tables)
        )
        names = {**texts, **({"label": self.label} if self.label and labelled else {})}
        for table in tables:
            _require(table, names, self.asked)
        columns = {role: [text for table in tables for text in _texts(table, name)] for role, name in texts.items()}
        generated = all(table.source == agreement.__name__ for table in tables)
        examples = Examples(
            texts=columns["text"],
            pairs=columns.get("text_pair"),
            labels=self._labels(tables, names["label"], split) if "label" in names else None,
            difficulty=[value for table in tables for value in table.columns["difficulty"]] if generated else None,
            rows=[number for table in tables for number in table.numbers],
        )
        self._note_empty(tables, examples, split)
        return examples

    def _labels(self, tables: list[Table], name: str, split: str) -> list[Any] | None:
        values = [value for table in tables for value in table.columns[name]]
        if split not in MUST_HAVE_LABELS and self.scale.hides(values):
            self.notices.append(f"{split}: every label is {HIDDEN}, so it is taken as unlabelled")
            return None
        numbers = []
        for table in tables:
            for index, value in enumerate(table.columns[name]):
                with _placed(table, index):
                    numbers.append(self.scale.read(value))
        return numbers

    def _note_empty(self, tables: list[Table], examples: Examples, split: str) -> None:
        places = (table.place(index) for table in tables for index in range(len(table.numbers)))
        pairs = examples.texts if examples.pairs is None else examples.pairs
        empty = [
            place
            for place, text, pair in zip(places, examples.texts, pairs, strict=True)
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
        label = data.label if isinstance(data.label, str) else ""
        return read_hub(data.name or "", data.config, parts, task.labels, label, revision=data.revision)
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
    if scale.several and len(scale.labels) < 2:
        fault = f"train has {'one label' if scale.labels else 'no label'}"
        raise DataError(fault, place=place, remedy="a task of label sets needs at least two; name them in task.labels")
    if len(set(map(str, labels))) < 2:
        only = f"one class, {scale.labels[labels[0]]}" if scale.labels else f"one value, {labels[0]:g}"
        fault = f"the labels of train are all of {only}"
        raise DataError(fault, place=place, remedy="a task needs examples of at least two")
    if scale.labels or scale.range:
        return scale
    return Scale([], (min(labels), max(labels)))


def _strata(labels: list[Any], kind: Kind) -> list[Hashable]:
    """The stratum of each row of train: its class, or the rarest of its labels, since rare ones are easily missed."""
    if kind == "classes":
        return labels
    if kind == "regression":
        return [None] * len(labels)
    counts = Counter(label for row in labels for label in row)
    return [min(row, key=lambda label: (counts[label], label), default=None) for row in labels]


def _draw(train: Examples, fractions: Mapping[str, float], kind: Kind) -> dict[str, Examples]:
    if sum(fractions.values()) >= 1:
        fault = f"{' and '.join(fractions)} take all of train"
        raise DataError(fault, place=f"data.{next(iter(fractions))}", remedy="use smaller fractions")
    drawn = draw_fractions([None] * len(train) if train.labels is None else _strata(train.labels, kind), fractions)
    for split, indices in drawn.items():
        if not indices:
            fault = f"{fractions[split]:g} of {len(train)} training rows gives no example"
            raise DataError(fault, place=f"data.{split}", remedy="use a larger fraction, or a file")
    return {split: train.select(indices) for split, indices in drawn.items()}


def _fingerprint(examples: Examples) -> str:
    digest, columns = hashlib.sha256(), examples.columns()
    shown = [columns[name] for name in ("text", "text_pair", "label") if name in columns]
    for row in zip(*shown, strict=True):
        digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()
