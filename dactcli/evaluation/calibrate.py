"""Calibrate a run: choose a threshold on a sample that may certify, record the attempt, and make the rule its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dactcli import distributed
from dactcli.errors import DactError, UsageError
from dactcli.evaluation.calibration import (
    BudgetRequest,
    Measured,
    RiskRequest,
    calibrate_budget,
    calibrate_risk,
    free_rule,
    thresholds,
)
from dactcli.evaluation.evaluate import judge, label_names
from dactcli.evaluation.examples import batch_size, metric_name, run_examples, standing_rules
from dactcli.evaluation.measures import class_names
from dactcli.runs.calibration import bound_to, keep_calibration, spend
from dactcli.runs.identity import identify
from dactcli.runs.outputs import cached_outputs
from dactcli.storage import SUMMARY, read_document, write_json

if TYPE_CHECKING:
    from dactcli.evaluation.sample import CalibrationSample
    from dactcli.halting.rules import Rule
    from dactcli.results import Calibration
    from dactcli.runs.load import Run
    from dactcli.runs.outputs import LayerOutputs


def rules_of(run: Run, request: RiskRequest | BudgetRequest) -> list[Rule]:
    """The rules that a request chooses from, checked before any work.

    Args:
        run: The run.
        request: What is asked.

    Raises:
        UsageError: The model is a regression, or cannot serve a rule, or a rule has no threshold.
    """
    if run.model.regression:
        raise UsageError("is for classes, and this is a regression", place="`calibrate`", remedy="use rule tolerance:T")
    chosen = [free_rule(run.model, name) for name in request.rules or (standard_rule(run),)]
    for rule in chosen:
        thresholds(rule, layers=run.model.units.layers, classes=run.model.classes)
    if isinstance(request, BudgetRequest) and not 1 <= request.budget <= run.model.units.layers:
        layers = run.model.units.layers
        raise UsageError(
            f"a budget of {request.budget:g} layers does not fit a model of {layers}",
            place="`calibrate`",
            remedy=f"give a number from 1 to {layers}",
        )
    return chosen


def standard_rule(run: Run) -> str:
    """The rule that is calibrated when none is asked for."""
    return "confidence" if run.model.mixes else "entropy"


def calibrate(
    run: Run,
    request: RiskRequest | BudgetRequest,
    sample: CalibrationSample,
    outputs: LayerOutputs,
    *,
    replace: bool = False,
) -> Calibration:
    """Choose a threshold and keep it as the run's own rule.

    An attempt to certify is recorded before its result is known: attempt k on a sample is tested at delta / 2^k.

    Args:
        run: The run.
        request: A risk to certify, or a budget to meet.
        sample: The examples, as `calibration_sample` gives them.
        outputs: The outputs of all layers on them.
        replace: Whether the result may replace a stronger promise.

    Returns:
        The calibration that is now in force.

    Raises:
        UsageError: The request does not fit the model or the sample.
        WeakerCalibrationError: The result promises less than the one in force, which is kept.
        ArtefactError: The record of attempts is damaged.
        ResourceError: The run folder cannot be written.
    """
    rules = rules_of(run, request)
    labels = sample.encoded.labels
    names = class_names(label_names(run.model), run.model.classes)
    measured = Measured(outputs, sample.inputs, labels, names, mixes=run.model.mixes)
    facts = bound_to(identify(run)) | {
        "split": sample.name,
        "data_fingerprint": sample.fingerprint,
        "screened": list(sample.screened),
        "left_out": sample.left_out,
        "layers": run.model.units.layers,
    }
    if isinstance(request, BudgetRequest):
        found = calibrate_budget(measured, rules[0], request, facts=facts)
    else:
        number = distributed.on_main(lambda: spend(run, sample.fingerprint, request.to_json()))
        facts["attempt"] = number
        found = calibrate_risk(measured, rules, request, delta=request.delta / 2**number, facts=facts)
    distributed.on_main(lambda: keep_calibration(run, found, replace=replace))
    run.model.config.rule = found.rule
    _add_to_summary(run, found.rule)
    return found


def _add_to_summary(run: Run, rule: str) -> None:
    """Add what the rule makes of validation to summary.json, which `dact runs` and model cards read."""
    summary = read_document(run.folder / SUMMARY)
    validation = summary.get("evaluation", {}).get("validation")
    if run.recipe is None or validation is None:
        return
    try:
        encoded, _ = run_examples(run, "validation", None, lambda text: None)
    except DactError:  # the data are gone
        return
    outputs = cached_outputs(run, encoded, "validation", batch_size=batch_size(run))
    made = [run.model.rule(rule)]
    names = label_names(run.model)
    judged = judge(outputs, made, labels=encoded.labels, metric=metric_name(run), mixes=run.model.mixes, names=names)
    standing = {name: result for name, result in validation["rules"].items() if name in standing_rules(run)}
    validation["rules"] = {**standing, **judged.to_json()["rules"]}
    distributed.on_main(lambda: write_json(run.folder / SUMMARY, summary))
