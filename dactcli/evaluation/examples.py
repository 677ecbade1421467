"""The defaults for a finished run: its examples, its metric, and the rules that it is evaluated with and halts by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dactcli.data.batches import Encoded, encode_split
from dactcli.data.examples import Examples
from dactcli.data.labels import Scale
from dactcli.data.long_texts import long_notice
from dactcli.data.sources import LabelColumn, load_splits, read_file
from dactcli.errors import UsageError
from dactcli.halting.names import sound_rule, standard_rules
from dactcli.recipe.tasks import metric_of
from dactcli.runs.calibration import load_calibration

if TYPE_CHECKING:
    from dactcli.halting.base import Rule
    from dactcli.results import Calibration
    from dactcli.runs.load import Run

Notice = Callable[[str], None]


@dataclass(frozen=True)
class DataFile:
    """A file of examples in place of a split, and the columns that hold them.

    Attributes:
        path: The file.
        text: Column of the text. Default: the recipe's.
        pair_column: Column of the second text. Default: the recipe's.
        label: Column of the label. Default: the recipe's, if it is there.
    """

    path: Path
    text: str | None = None
    pair_column: str | None = None
    label: str | None = None

    def __str__(self) -> str:
        return str(self.path)


def run_examples(run: Run, split: str, data: DataFile | None, notice: Notice) -> tuple[Encoded, list[int] | None]:
    """The examples to evaluate a run on, and their difficulty if it is known.

    Args:
        run: The run.
        split: One of its own splits.
        data: A file instead of a split.
        notice: Receives messages for the user.

    Raises:
        DactError: The split does not exist, or the file cannot serve.
    """
    examples = given_examples(run, split, data, notice)
    return encode_examples(run, examples, notice), examples.difficulty


def given_examples(run: Run, split: str, data: DataFile | None, notice: Notice) -> Examples:
    """The examples to evaluate a run on; the arguments are those of `run_examples`."""
    return read_examples(run, data) if data is not None else own_split(run, split, notice)


def encode_examples(run: Run, examples: Examples, notice: Notice) -> Encoded:
    """Examples as the tokens that a run's model reads.

    Args:
        run: The run.
        examples: The examples.
        notice: Told how many texts were shortened.
    """
    max_length, long_texts = run.tokenizer.model_max_length, run.model.config.long_texts
    encoded = encode_split(examples, run.tokenizer, max_length, long_texts)
    if text := long_notice(encoded, max_length, long_texts):
        notice(text)
    return encoded


def read_examples(run: Run, file: DataFile) -> Examples:
    """The examples of a file.

    Raises:
        UsageError: A column of second texts is named, and the model judges single texts.
        DataError: The file cannot be read, or a column is not there.
    """
    config, recipe = run.model.config, run.recipe.data if run.recipe is not None else None
    if file.pair_column is not None and recipe is not None and recipe.text_pair is None:
        raise UsageError("this model takes single texts", place="`pair_column`", remedy="leave out `pair_column`")
    names = [] if config.answer_range else [config.id2label[index] for index in range(config.num_labels)]
    asked = {"text": file.text, "text_pair": file.pair_column, "label": file.label}
    label = LabelColumn.of(recipe) if recipe else LabelColumn("label")
    return read_file(
        str(file.path),
        text=file.text or (recipe.text if recipe else "sentence"),
        text_pair=file.pair_column or (recipe.text_pair if recipe else None),
        label=label if file.label is None else replace(label, column=file.label),
        scale=Scale(names, several=run.model.answers.kind == "multilabel"),
        asked=[role for role, name in asked.items() if name is not None],
    )


def own_split(run: Run, split: str, notice: Notice) -> Examples:
    """A split of the data that a run was trained on.

    Raises:
        UsageError: The run was saved without a recipe.
    """
    if run.recipe is None:
        raise UsageError("this model was saved without a recipe", place=str(run.folder), remedy="give `data` FILE")
    loaded = load_splits(run.recipe, only=(split,))
    for text in loaded.notices:
        notice(text)
    return loaded.splits[split]


def standing_rules(run: Run) -> list[str]:
    """The rules that a run is evaluated with: its recipe's, or the standard ones of its model."""
    own = run.recipe.evaluation.rules if run.recipe else None
    return own or standard_rules(mixes=run.model.mixes, regression=run.model.regression)


def rules_to_judge(run: Run, calibration: Calibration | None) -> list[str]:
    """The rules that a run is evaluated with by default: the standing ones and the calibrated one.

    Args:
        run: The run.
        calibration: Its valid calibration.
    """
    return list(dict.fromkeys([*standing_rules(run), *([calibration.rule] if calibration else [])]))


def batch_size(run: Run) -> int:
    """The batch size that a run is evaluated with."""
    return run.recipe.evaluation.batch_size if run.recipe is not None else 64


def metric_name(run: Run) -> str:
    """The metric of a run's task."""
    return metric_of(run.recipe, run.model.answers.kind)


def valid_calibration(run: Run, notice: Notice) -> Calibration | None:
    """The calibration of a run; None if there is none or it is no longer valid.

    Args:
        run: The run.
        notice: Told why it is no longer valid.
    """
    return _calibration(run, notice)[0]


def default_rule(run: Run, notice: Notice) -> str | None:
    """The rule to halt by when none is given: the calibrated one, else the model's own.

    If the calibration is no longer valid, the sound rule: the model's own rule is the calibrated one, and void with it.

    Args:
        run: The run.
        notice: Told why the calibration is no longer valid.
    """
    found, void = _calibration(run, notice)
    if void:
        return sound_rule(mixes=run.model.mixes, regression=run.model.regression)
    rule: str | None = found.rule if found else run.model.config.rule
    return rule


def _calibration(run: Run, notice: Notice) -> tuple[Calibration | None, bool]:
    """The valid calibration of a run, and whether it has one that is no longer valid, which `notice` is told."""
    found, fault = load_calibration(run)
    if fault:
        notice(fault)
    return found, fault is not None


def promise_under(rule: Rule, calibration: Calibration | None) -> str | None:
    """What a rule guarantees, by its calibration or by proof; None if nothing.

    Args:
        rule: The rule.
        calibration: The valid calibration of the run; None without one.
    """
    if calibration is not None and calibration.certified and calibration.rule == str(rule):
        return calibration.promise
    return rule.promise
