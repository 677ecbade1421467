"""Data sets laid out as the Hugging Face hub has them, filled with generated examples.

The layouts are written down here by themselves, not read from the recipes or from the table of tasks, so that these are
held to them: columns, splits, class names in the hub's order, and what stands for hidden labels. A layout is a folder
of parquet files, one for each split, whose schema declares the classes, and a README.md that names the files of each
configuration; or a folder as the hub's own conversion to parquet leaves it, with a subfolder for each split.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HIDDEN = -1


@dataclass(frozen=True)
class Layout:
    """One data set, or one configuration of it.

    Attributes:
        texts: Columns of text.
        label: The column of the label.
        classes: Class names in the hub's order; None where labels are numbers.
        splits: Its splits; those that start with `hidden:` hold no labels.
        numbers: Lowest and highest label where there are no classes.
        others: Columns that no recipe needs.
        converted: Whether it is the hub's own conversion.
    """

    texts: tuple[str, ...]
    label: str
    classes: tuple[str, ...] | None
    splits: tuple[str, ...]
    numbers: tuple[float, float] = (0.0, 5.0)
    others: tuple[str, ...] = ()
    converted: bool = False


def _glue(texts: str, classes: str, *, splits: str = "train validation hidden:test") -> Layout:
    return Layout(tuple(texts.split()), "label", tuple(classes.split()) or None, tuple(splits.split()), others=("idx",))


MNLI_SPLITS = "train validation_matched validation_mismatched hidden:test_matched hidden:test_mismatched"
LAYOUTS: dict[tuple[str, str | None], Layout] = {
    ("nyu-mll/glue", "cola"): _glue("sentence", "unacceptable acceptable"),
    ("nyu-mll/glue", "sst2"): _glue("sentence", "negative positive"),
    ("nyu-mll/glue", "mrpc"): _glue("sentence1 sentence2", "not_equivalent equivalent", splits="train validation test"),
    ("nyu-mll/glue", "stsb"): _glue("sentence1 sentence2", ""),
    ("nyu-mll/glue", "qqp"): _glue("question1 question2", "not_duplicate duplicate"),
    ("nyu-mll/glue", "mnli"): _glue("premise hypothesis", "entailment neutral contradiction", splits=MNLI_SPLITS),
    ("nyu-mll/glue", "qnli"): _glue("question sentence", "entailment not_entailment"),
    ("nyu-mll/glue", "rte"): _glue("sentence1 sentence2", "entailment not_entailment"),
    ("nyu-mll/glue", "wnli"): _glue("sentence1 sentence2", "not_entailment entailment"),
    ("fancyzhx/ag_news", None): Layout(
        ("text",), "label", ("World", "Sports", "Business", "Sci/Tech"), ("train", "test")
    ),
    ("stanfordnlp/imdb", None): Layout(("text",), "label", ("neg", "pos"), ("train", "test", "hidden:unsupervised")),
    ("CogComp/trec", None): Layout(
        ("text",),
        "coarse_label",
        ("ABBR", "ENTY", "DESC", "HUM", "LOC", "NUM"),
        ("train", "test"),
        others=("fine_label",),
        converted=True,
    ),
}
WORDS = [
    "a",
    "the",
    "lamp",
    "key",
    "door",
    "roof",
    "river",
    "old",
    "red",
    "quiet",
    "is",
    "was",
    "glows",
    "waits",
    "under",
    "near",
]


def rows_of(layout: Layout, count: int, *, seed: int, hidden: bool = False) -> dict[str, list[Any]]:
    """Columns of so many examples, every class in its turn, the numbers over the whole range."""
    drawn = random.Random(seed)
    columns: dict[str, list[Any]] = {
        name: [" ".join(drawn.choices(WORDS, k=drawn.randint(3, 9))) for _ in range(count)] for name in layout.texts
    }
    if hidden:
        labels: list[Any] = [HIDDEN] * count
    elif layout.classes:
        labels = [index % len(layout.classes) for index in range(count)]
    else:
        low, high = layout.numbers
        labels = [low + (high - low) * index / max(count - 1, 1) for index in range(count)]
    return {**columns, layout.label: labels, **{name: list(range(count)) for name in layout.others}}


def write_hub_folder(folder: Path, name: str, config: str | None, *, train: int = 48, others: int = 12) -> Path:
    """A folder that `datasets.load_dataset` reads as it reads the data set of the hub.

    Args:
        folder: Where it goes; made if missing.
        name: The data set's name on the hub.
        config: Its configuration.
        train: Examples of train.
        others: Examples of each other split.

    Raises:
        KeyError: The layout is not written down here.
    """
    from datasets import ClassLabel, Dataset, Features, Value

    layout = LAYOUTS[name, config]
    inner = folder / (config or "data")
    label = ClassLabel(names=list(layout.classes)) if layout.classes else Value("float32")
    features = Features(
        {
            **{text: Value("string") for text in layout.texts},
            layout.label: label,
            **{other: Value("int32") for other in layout.others},
        }
    )
    lines = ["---", "configs:", f"- config_name: {config or 'default'}", "  data_files:"]
    for seed, entry in enumerate(layout.splits):
        split = entry.removeprefix("hidden:")
        columns = rows_of(layout, train if split == "train" else others, seed=seed, hidden=split != entry)
        file = (
            folder / "default" / split / "0000.parquet"
            if layout.converted
            else inner / f"{split}-00000-of-00001.parquet"
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        Dataset.from_dict(columns, features=features).to_parquet(file)
        lines += [f"  - split: {split}", f"    path: {inner.name}/{split}-*"]
    if not layout.converted:
        (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
    return folder
