"""`dact eval --calibrate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dactcli.api.common import AnyRun, build_request, check_examples, data_file, open_any
from dactcli.api.workers import Cluster, check_engine, driver_device
from dactcli.errors import UsageError
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
        engine: `local`, or `ray` for the workers of a Ray cluster.
        address: As in `PredictFilesRequest`, like `workers` and `gpus_per_worker`.
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
    engine: str = "local"
    address: str | None = None
    workers: int | None = None
    gpus_per_worker: float = 0

    def __post_init__(self) -> None:
        check_examples(self)
        check_engine(self)


def calibrate(
    run: AnyRun = None,
    request: CalibrateRequest | Goal | None = None,
    *,
    listener: Listener | None = None,
    **fields: Any,
) -> Calibration:
    """Choose a threshold on held-out examples and make it the run's rule; `dact eval --calibrate`.

    Args:
        run: A run folder or saved model, an export, a run from `open_run`, or None for `runs/latest`.
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
    opened = open_any(run, device=driver_device(wanted))
    if opened.exported:
        return _certify_again(opened, wanted, hears)
    from dactcli.api.evaluate import outputs_of
    from dactcli.evaluation.calibrate import calibrate as calibrate_run
    from dactcli.evaluation.calibrate import rules_of
    from dactcli.evaluation.sample import calibration_sample

    goal = wanted.goal or default_goal(opened)
    rules_of(opened, goal)
    data = data_file(wanted)
    sample = calibration_sample(opened, goal, split=wanted.split, data=data, notice=hears.notice)
    name = data.path.stem if data else sample.name
    outputs = outputs_of(opened, sample.encoded, name, wanted.batch_size, hears, Cluster.of(wanted))
    return calibrate_run(opened, goal, sample, outputs, replace=wanted.replace)


def _certify_again(run: Run, request: CalibrateRequest, listener: Listener) -> Calibration:
    """Choose the threshold of an export anew, against the full-depth answers of the run that it was made from.

    Raises:
        UsageError: A budget is asked for, or another rule than the one whose score the graphs hold.
        ArtefactError: The run is not there any more, or it has changed.
    """
    from dactcli.api.evaluate import outputs_of
    from dactcli.evaluation.calibrate import free_rule
    from dactcli.evaluation.exports import certify_export, changed_answers
    from dactcli.evaluation.requests import BudgetRequest
    from dactcli.evaluation.sample import calibration_sample
    from dactcli.exporting.opened import keep_certificate, origin
    from dactcli.halting.names import facts_of
    from dactcli.runs.calibration import refuse_weaker
    from dactcli.runtime.manifest import read_manifest

    manifest, goal = read_manifest(run.folder), request.goal or default_goal(run)
    name = manifest.rule.text.partition(":")[0]
    if isinstance(goal, BudgetRequest):
        raise UsageError("a budget is for runs", place="`calibrate`", remedy="certify a risk, or calibrate the run")
    facts = facts_of(name)
    if set(goal.rules or (name,)) != {name} or facts is None or not facts.needs_threshold:
        raise UsageError(
            f"this export halts by {manifest.rule.text}, whose score is in its graphs",
            place="`calibrate`",
            remedy="export the run with the rule to certify: dact export RUN --to FOLDER --rule NAME --risk RISK",
        )
    made_from = origin(run.folder)
    rule, data = free_rule(made_from.model, name), data_file(request)
    sample = calibration_sample(made_from, goal, split=request.split, data=data, notice=listener.notice)
    named = data.path.stem if data else sample.name
    export, model = (
        outputs_of(one, sample.encoded, named, request.batch_size, listener, Cluster.of(request))
        for one in (run, made_from)
    )
    found = certify_export(made_from, rule, goal, sample, (export, model), arithmetic=manifest.arithmetic)
    refuse_weaker(run, found, replace=request.replace)
    if found.certified:
        rule = rule.at(cast("float", found.threshold))
        keep_certificate(run, rule, found, changed_answers(export, model, sample.name))
    return found


def default_goal(run: Run) -> RiskRequest:
    """The risk of the run's recipe; the schema's where the recipe is missing or certifies nothing."""
    from dactcli.evaluation.requests import RiskRequest
    from dactcli.recipe.schema import RISK, EvaluationSection

    keys = run.recipe.evaluation if run.recipe is not None else EvaluationSection()
    return RiskRequest(keys.risk or RISK, keys.delta)
