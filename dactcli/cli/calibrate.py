"""`dact eval --calibrate`: choose a threshold on a split that served nothing else, and keep what is promised of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dactcli.cli import options

if TYPE_CHECKING:
    from dactcli.model.checkpoint import Run
    from dactcli.results import Calibration

PLACE = "--calibrate"
HOW = "write risk=0.01,delta=0.05[,loss=disagreement|harm] or budget=3.0"
LOSSES = ("disagreement", "harm")


def parse(text: str) -> dict[str, Any]:
    """`risk=...,delta=...,loss=...` or `budget=...` as values.

    Raises:
        UsageError: It is neither.
    """
    from dactcli.errors import UsageError, did_you_mean

    values: dict[str, Any] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals or key not in ("risk", "delta", "loss", "budget") or key in values:
            raise UsageError(f"{part!r} is not understood", place=PLACE, remedy=HOW)
        values[key] = value if key == "loss" else _number(key, value)
    if ("budget" in values) == ("risk" in values) or ("budget" in values and len(values) > 1):
        raise UsageError(f"{text!r} is not understood", place=PLACE, remedy=HOW)
    if values.setdefault("loss", "disagreement") not in LOSSES:
        raise UsageError(
            f"loss {values['loss']!r} is unknown", place=PLACE, remedy=did_you_mean(values["loss"], LOSSES)
        )
    return values


def _number(key: str, value: str) -> float:
    import math

    from dactcli.errors import UsageError

    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not number > 0 or (key != "budget" and number >= 1) or math.isinf(number):
        span = "above 0" if key == "budget" else "between 0 and 1"
        raise UsageError(f"{key} is {value!r}", place=PLACE, remedy=f"give a number {span}")
    return number


def calibrate(
    run: Run,
    wanted: dict[str, Any],
    *,
    split: str | None,
    data: Path | None,
    rules: list[str] | None,
    batch_size: int | None,
) -> Calibration:
    """Calibrate a run and keep the result in its folder.

    Args:
        run: The run.
        wanted: As `parse` gives it.
        split: A split of the run; `calibration` when None.
        data: A file instead.
        rules: Rules to choose from; `confidence` without.
        batch_size: Examples per batch.

    Raises:
        DactError: The split served training or validation, or the rule cannot be calibrated on this model.
    """
    from dactcli import group
    from dactcli.errors import UsageError
    from dactcli.evaluation.calibration import CALIBRATION, bound_facts, calibrate_budget, calibrate_risk, free_rule
    from dactcli.storage import write_json

    if run.model.regression:
        raise UsageError("is for classes, and this is a regression", place=PLACE, remedy="use --rule tolerance:T")
    chosen = [free_rule(run.model, name) for name in rules or [_standard(run)]]
    name = split or "calibration"
    _refuse_used(run, name, data)
    encoded, _ = options.run_examples(run, name, data)
    outputs = options.outputs_of(run, encoded, data.stem if data else name, batch_size)
    facts = bound_facts(run, encoded, str(data) if data else name)
    if "budget" in wanted:
        if len(chosen) > 1:
            raise UsageError("a budget is met by one rule", place="--rule", remedy="name one")
        found = calibrate_budget(outputs, chosen[0], budget=wanted["budget"], mixes=run.model.mixes, facts=facts)
    else:
        found = calibrate_risk(
            outputs,
            chosen,
            labels=encoded.labels,
            loss=wanted["loss"],
            epsilon=wanted["risk"],
            delta=wanted.get("delta", 0.05),
            mixes=run.model.mixes,
            facts=facts,
        )
    group.by_main(lambda: write_json(run.folder / CALIBRATION, found.to_json()))
    return found


def _standard(run: Run) -> str:
    return "confidence" if run.model.mixes else "entropy"


def _refuse_used(run: Run, split: str, data: Path | None) -> None:
    """Refuse a split that served training or validation; count what a file shares with them."""
    from dactcli.errors import DataError, UsageError
    from dactcli.evaluation.examples import read_examples
    from dactcli.report.console import print_notice

    if data is None:
        if split in ("train", "validation"):
            raise UsageError(
                f"the {split} split served training, and a threshold chosen on it promises nothing",
                place="--split",
                remedy="use calibration, or --data FILE with fresh examples",
            )
        return
    if run.recipe is None:
        print_notice("this model was saved without a recipe: whether these examples served its training is not known")
        return
    used = options.split_texts(run, ("train", "validation"))
    texts = options.texts_of(read_examples(run, data))
    shared = sum(text in used for text in texts)
    if 2 * shared > len(texts):
        raise DataError(
            f"{shared} of {len(texts)} examples served training or validation",
            place=str(data),
            remedy="calibrate on examples that the model has not seen",
        )
    if shared:
        print_notice(f"{data}: {shared} of {len(texts)} examples also served training or validation")
