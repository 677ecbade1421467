"""The examples that a finished run is judged on, and how it is judged when nobody says otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dactcli.data.batches import Encoded, encode_split
from dactcli.data.sources import load_splits, read_file
from dactcli.errors import UsageError
from dactcli.evaluation.evaluate import standard_rules
from dactcli.runs.calibration import load_calibration

if TYPE_CHECKING:
    from dactcli.results import Calibration
    from dactcli.runs.load import Run

Notice = Callable[[str], None]


def run_examples(run: Run, split: str, data: Path | None, notice: Notice) -> tuple[Encoded, list[int] | None]:
    """The examples to judge a run on, and their difficulty where it is known.

    Args:
        run: The run.
        split: One of its own splits.
        data: A file instead.
        notice: Told what the user should know.

    Raises:
        DactError: The split does not exist, or the file cannot serve.
    """
    dataset = read_examples(run, data) if data is not None else own_split(run, split, notice)
    encoded = encode_split(dataset, run.tokenizer, run.tokenizer.model_max_length)
    difficulty = list(dataset["difficulty"]) if "difficulty" in dataset.column_names else None
    if encoded.truncated:
        notice(
            f"{len(encoded.truncated)} of {len(encoded.lengths)} texts are longer than "
            f"{run.tokenizer.model_max_length} tokens and were cut"
        )
    return encoded, difficulty


def read_examples(run: Run, path: Path) -> Any:
    """A file's examples with the run's columns: a data set with `text`, and `text_pair`, `label` where there are."""
    config = run.model.config
    columns = run.recipe.data if run.recipe is not None else None
    bounds = config.answer_range
    return read_file(
        str(path),
        text=columns.text if columns else "sentence",
        text_pair=columns.text_pair if columns else None,
        label=columns.label if columns else "label",
        labels=[] if bounds else [config.id2label[index] for index in range(config.num_labels)],
    )


def own_split(run: Run, split: str, notice: Notice) -> Any:
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
    """The rules that a run is judged by: its recipe's, or the standard ones of its model."""
    return (run.recipe.evaluation.rules if run.recipe else None) or standard_rules(run.model)


def rules_to_judge(run: Run, calibration: Calibration | None) -> list[str]:
    """The rules that a run is judged by when none is asked for: the standing ones and the calibrated one.

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
    fallback = "pearson" if run.model.regression else "accuracy"
    return (run.recipe.task.metric if run.recipe is not None else None) or fallback


def valid_calibration(run: Run, notice: Notice) -> Calibration | None:
    """The calibration kept with a run, with a warning where it is void.

    Args:
        run: The run.
        notice: Told why it is void.
    """
    found, fault = load_calibration(run)
    if fault:
        notice(fault)
    return found


def default_rule(run: Run, notice: Notice) -> str | None:
    """The rule to halt by when none is asked for: the calibrated one, else the model's own.

    If the calibration is no longer valid, the sound rule: the model's own rule is the calibrated one, and void with it.
    """
    found, fault = load_calibration(run)
    if fault:
        notice(fault)
        sound: str = run.model.sound_rule
        return sound
    rule: str | None = found.rule if found else run.model.config.rule
    return rule


def promise_of(run: Run, rule: str, notice: Notice) -> str | None:
    """What may be relied on under a rule; None where nothing is promised.

    Args:
        run: The run.
        rule: The rule, as `--rule` takes it.
        notice: Told why a calibration is void.
    """
    kept = valid_calibration(run, notice)
    if kept is not None and kept.certified and kept.rule == rule:
        return kept.promise
    made = run.model.rule(rule)
    if made.name == "tolerance":
        return f"the value is within {made.threshold:g} of full depth"
    sound = made.sound or (made.name == "slack" and made.threshold == 0)
    return "the class is that of full depth" if sound else None
