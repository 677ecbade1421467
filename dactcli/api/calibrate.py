"""`dact eval --calibrate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dactcli.api.common import AnyRun, build_request, check_examples, data_file, open_run
from dactcli.listening import Listener
from dactcli.results import Calibration

if TYPE_CHECKING:
    from dactcli.evaluation.requests import BudgetRequest, RiskRequest
    from dactcli.runs.load import Run

    Goal = RiskRequest | BudgetRequest


@dataclass(frozen=True)
class CalibrateRequest:
    """What to calibrate for, and on which examples.

    Attributes:
        goal: A risk to certify or a budget of layers to meet. Default: the risk and delta of the run's recipe.
        split: A split of the run's data; only calibration, the default, may serve.
        data: A file of fresh examples instead.
        replace: Whether the result may replace a certificate that promises more.
        batch_size: Examples per batch. Default: the recipe's.
        device: auto, cpu, cuda or mps.
        text: Column of the text in `data`. Default: the recipe's.
        pair_column: Column of the second text in `data`. Default: the recipe's.
        label: Column of the label in `data`. Default: the recipe's, if `data` has it.
    """

    goal: Goal | None = None
    split: str | None = None
    data: Path | str | None = None
    replace: bool = False
    batch_size: int | None = None
    device: str = "auto"
    text: str | None = None
    pair_column: str | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        check_examples(self)


def calibrate(
    run: AnyRun = None,
    request: CalibrateRequest | Goal | None = None,
    *,
    listener: Listener | None = None,
    **fields: Any,
) -> Calibration:
    """Choose a threshold on held-out examples and make it the run's rule; `dact eval --calibrate`.

    Args:
        run: A run folder or saved model, a run from `open_run`, or None for `runs/latest`.
        request: What to calibrate; a `RiskRequest` or `BudgetRequest` alone is its goal.
        listener: Hears notices and progress.
        **fields: Fields of `CalibrateRequest`; they override those of `request`.

    Raises:
        UsageError: The split serves something else, or the request does not fit the model.
        WeakerCalibrationError: The result promises less than the calibration in force, which is kept.
        DataError: No example is left to calibrate on.
        ArtefactError: The run or its record of attempts is damaged.
        ResourceError: The run folder cannot be written, or the device is missing.
    """
    if request is not None and not isinstance(request, CalibrateRequest):
        fields, request = {"goal": request, **fields}, None
    wanted, hears = build_request(CalibrateRequest, request, fields, listener)
    opened = open_run(run, device=wanted.device)
    from dactcli.api.evaluate import outputs_of
    from dactcli.evaluation.calibrate import calibrate as calibrate_run
    from dactcli.evaluation.calibrate import rules_of
    from dactcli.evaluation.sample import calibration_sample

    goal = wanted.goal or default_goal(opened)
    rules_of(opened, goal)
    data = data_file(wanted)
    sample = calibration_sample(opened, goal, split=wanted.split, data=data, notice=hears.notice)
    name = data.path.stem if data else sample.name
    outputs = outputs_of(opened, sample.encoded, name, wanted.batch_size, hears)
    return calibrate_run(opened, goal, sample, outputs, replace=wanted.replace)


def default_goal(run: Run) -> RiskRequest:
    """The risk of the run's recipe; the schema's where the recipe is missing or certifies nothing."""
    from dactcli.evaluation.requests import RiskRequest
    from dactcli.recipe.schema import RISK, EvaluationSection

    keys = run.recipe.evaluation if run.recipe is not None else EvaluationSection()
    return RiskRequest(keys.risk or RISK, keys.delta)
