"""`dact eval --calibrate`: choose a threshold on a split that served nothing else, and keep what is promised of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dactcli.cli import options

if TYPE_CHECKING:
    from dactcli.evaluation.requests import BudgetRequest, RiskRequest
    from dactcli.results import Calibration
    from dactcli.runs.load import Run

PLACE = "--calibrate"
HOW = "write risk=0.01,delta=0.05[,loss=disagreement|harm][,by=class] or budget=3.0"
# by the name that the library has for a field
FLAGS = {"calibrate": PLACE, "rule": "--rule", "split": "--split"}


def parse(text: str, rules: list[str] | None) -> RiskRequest | BudgetRequest:
    """`risk=...,delta=...,loss=...,by=class` or `budget=...` as a request.

    Args:
        text: As the user wrote it.
        rules: As `--rule` was given.

    Raises:
        UsageError: It is neither, or a value does not fit.
    """
    from dactcli.errors import UsageError
    from dactcli.evaluation.requests import BudgetRequest, RiskRequest

    values: dict[str, Any] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        known = key in ("risk", "delta", "loss", "budget") or (key, value) == ("by", "class")
        if not equals or not known or key in values:
            raise UsageError(f"{part!r} is not understood", place=PLACE, remedy=HOW)
        values[key] = value if key in ("loss", "by") else _number(key, value)
    if ("budget" in values) == ("risk" in values) or ("budget" in values and len(values) > 1):
        raise UsageError(f"{text!r} is not understood", place=PLACE, remedy=HOW)
    values["by_class"] = values.pop("by", None) is not None
    chosen = tuple(rules or ())
    with flags():
        if "budget" in values:
            return BudgetRequest(values["budget"], chosen)
        return RiskRequest(**values, rules=chosen)


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


@contextmanager
def flags() -> Iterator[None]:
    """Name the options of the command line in errors of the library."""
    from dactcli.errors import UsageError
    from dactcli.runs.calibration import WeakerCalibrationError

    try:
        yield
    except WeakerCalibrationError as error:
        raise UsageError(error.fault, place=error.place, remedy="add --replace to give it up") from None
    except UsageError as error:
        if error.place in FLAGS:
            raise type(error)(error.fault, place=FLAGS[error.place], remedy=error.remedy) from None
        raise


def calibrate(
    run: Run,
    request: RiskRequest | BudgetRequest,
    *,
    split: str | None,
    data: Path | None,
    batch_size: int | None,
    replace: bool,
) -> Calibration:
    """Calibrate a run and keep the result in its folder.

    Args:
        run: The run.
        request: As `parse` gives it.
        split: A split of the run; `calibration` when None.
        data: A file instead.
        batch_size: Examples per batch.
        replace: Whether the result may replace a stronger promise.

    Raises:
        DactError: The split or file serves something else, or the rule cannot be calibrated on this model.
    """
    from dactcli.evaluation import calibrate as library
    from dactcli.evaluation.sample import calibration_sample
    from dactcli.report.console import print_notice

    with flags():
        library.rules_of(run, request)
        sample = calibration_sample(run, request, split=split, data=data, notice=print_notice)
        outputs = options.outputs_of(run, sample.encoded, data.stem if data else sample.name, batch_size)
        return library.calibrate(run, request, sample, outputs, replace=replace)
