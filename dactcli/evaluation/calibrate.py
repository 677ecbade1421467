"""Calibrate a run: choose a threshold on examples that may certify, record the attempt, and make it the run's rule.

The threshold either has a certified risk or meets a budget of layers. The tests are in
`dactcli.evaluation.certificate`, the choice of examples in `dactcli.evaluation.sample`, and the files in
`dactcli.runs.calibration`.

E examples, N layers, C classes, T thresholds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dactcli import distributed
from dactcli.errors import DactError, UsageError
from dactcli.evaluation.certificate import Evidence, evidence, evidence_by_class, last_certified, smallest_sample
from dactcli.evaluation.evaluate import EvalSplit, judge
from dactcli.evaluation.examples import batch_size, metric_name, run_examples, standing_rules
from dactcli.evaluation.kinds import measures_of
from dactcli.evaluation.measures import Truth, unique_names
from dactcli.evaluation.requests import BudgetRequest, RiskRequest
from dactcli.evaluation.threshold_sweep import ThresholdSweep
from dactcli.halting.names import sound_rule
from dactcli.halting.rules import RULES, Exact, Full
from dactcli.results import Calibration, ClassResult
from dactcli.runs.calibration import bound_to, keep_calibration, spend
from dactcli.runs.identity import identify
from dactcli.runs.outputs import LayerOutputs, cached_outputs
from dactcli.storage import SUMMARY, read_document, write_json

if TYPE_CHECKING:
    from dactcli.evaluation.sample import CalibrationSample
    from dactcli.halting.base import Rule
    from dactcli.model.dact import DactForSequenceClassification
    from dactcli.runs.load import Run


@dataclass(frozen=True)
class Measured:
    """A calibration sample and the model's outputs on it.

    Attributes:
        outputs: The outputs of all layers, E examples.
        inputs: The number of each example's distinct input [E].
        labels: Classes, or lists of label indices [E]; None when unlabelled.
        reference: The outputs whose full depth the losses refer to, such as those of the model that was exported. None:
            `outputs`.
    """

    outputs: LayerOutputs
    inputs: NDArray[np.int64]
    labels: Sequence[Any] | None
    reference: LayerOutputs | None = None

    @property
    def names(self) -> list[str]:
        """The class names, all different [C]."""
        return unique_names(self.outputs.names, self.outputs.classes)

    @property
    def distinct(self) -> int:
        """How many distinct inputs there are."""
        return int(self.inputs.max()) + 1

    def sweep(self, rule: Rule) -> ThresholdSweep:
        """What a rule does at every threshold of its grid."""
        return ThresholdSweep(rule, self.grid(rule), self.outputs, self.reference)

    def grid(self, rule: Rule) -> list[float]:
        """The thresholds of a rule, from cautious to bold [T]."""
        return rule.of(self.outputs.answers).grid(self.outputs.layers, self.outputs.classes)

    def classes_under(self, rule: Rule) -> dict[str, ClassResult]:
        """What a rule does to each class or label of the sample."""
        full, answers = (self.reference or self.outputs).decide(Full()).answer, self.outputs.answers
        truth = Truth(self.labels, "", self.names, answers)
        return measures_of(answers).by_class(self.outputs.decide(rule), full, truth)

    @property
    def truth(self) -> NDArray[Any] | None:
        """The labels in the form of decisions; None when unlabelled."""
        if self.labels is None:
            return None
        return measures_of(self.outputs.answers).truth(self.labels, self.outputs.classes)


def rules_of(run: Run, request: RiskRequest | BudgetRequest) -> list[Rule]:
    """The rules that a request chooses from, checked before any work.

    Args:
        run: The run.
        request: The risk or budget.

    Raises:
        UsageError: The model is a regression or cannot serve a rule, or a rule has no threshold.
    """
    if run.model.regression:
        raise UsageError("is for classes, and this is a regression", place="`calibrate`", remedy="use rule tolerance:T")
    if isinstance(request, RiskRequest) and request.by_class and run.model.answers.kind == "multilabel":
        raise UsageError(
            "by_class needs one class for each text, and this is a model of label sets",
            place="`calibrate`",
            remedy="leave it out",
        )
    layers = run.model.exit_heads.layers
    names = dict.fromkeys(request.rules or (run.model.calibrated_rule,))
    chosen = [free_rule(run.model, name) for name in names]
    for rule in chosen:
        rule.grid(layers, run.model.classes)
    if isinstance(request, BudgetRequest) and not 1 <= request.budget <= layers:
        raise UsageError(
            f"a budget of {request.budget:g} layers does not fit a model of {layers}",
            place="`calibrate`",
            remedy=f"give a number from 1 to {layers}",
        )
    return chosen


def free_rule(model: DactForSequenceClassification, name: str, *, place: str = "rule") -> Rule:
    """A rule whose threshold is still to be chosen.

    Args:
        model: The model that must serve it.
        name: The rule's name, without a threshold.
        place: Where the name stands, for errors.

    Raises:
        UsageError: The name is unknown, carries a threshold, or the model cannot serve it.
    """
    if ":" in name:
        raise UsageError(
            f"{name} has a threshold already", place=place, remedy=f"write {name.partition(':')[0]}, it is chosen here"
        )
    takes_one = name in RULES and RULES[name].threshold_name is not None
    return model.rule(f"{name}:1" if takes_one else name, place=place)


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
    measured = Measured(outputs, sample.inputs, sample.encoded.labels)
    facts = bound_facts(run, sample)
    if isinstance(request, BudgetRequest):
        found = calibrate_budget(measured, rules[0], request, facts=facts)
    else:
        asked = dataclasses.replace(request, rules=tuple(sorted(rule.name for rule in rules)))
        number = distributed.on_main(lambda: spend(run, sample.fingerprint, asked.to_json()))
        facts["attempt"] = number
        found = calibrate_risk(measured, rules, request, delta=request.delta / 2**number, facts=facts)
    distributed.on_main(lambda: keep_calibration(run, found, replace=replace))
    run.model.config.rule = found.rule
    _add_to_summary(run, found)
    return found


def bound_facts(run: Run, sample: CalibrationSample) -> dict[str, Any]:
    """What a calibration is bound to: the run's identity and the sample (`Calibration`'s fields of that kind)."""
    return bound_to(identify(run)) | {
        "split": sample.name,
        "data_fingerprint": sample.fingerprint,
        "screened": list(sample.screened),
        "left_out": sample.left_out,
        "layers": run.model.exit_heads.layers,
        "decision": run.model.answers.noun,
    }


def calibrate_risk(
    measured: Measured, rules: Sequence[Rule], request: RiskRequest, *, delta: float, facts: dict[str, Any]
) -> Calibration:
    """The boldest threshold whose risk is certified.

    Args:
        measured: The sample and the model's outputs on it.
        rules: The rules to choose from; each is tested at `delta` divided by their number.
        request: The risk to certify.
        delta: The part of the request's delta that this attempt may spend.
        facts: What the certificate is bound to (`Calibration`'s fields of that kind).

    Returns:
        The certificate. If no threshold passes, or the sound rule runs no more layers than the one that does,
        `certified` is False and the rule is the sound one.

    Raises:
        UsageError: `harm` without labels, or a rule that has no threshold.
    """
    best, small = _boldest(measured, rules, request, delta / len(rules))
    common = {
        "kind": "risk",
        "loss": request.loss,
        "epsilon": request.risk,
        "delta": request.delta,
        "delta_spent": delta,
        "by_class": request.by_class,
        "small_classes": small,
        "rules_tried": [rule.name for rule in rules],
        "examples": len(measured.inputs),
        "distinct": measured.distinct,
        **facts,
    }
    if best is None:
        sound = sound_rule(mixes=measured.outputs.mixes, regression=False)
        return Calibration(rule=sound, threshold=None, layers_mean=None, certified=False, **common)
    mean, chosen, observed = best
    if (sound_mean := _sound_layers(measured)) is not None and sound_mean <= mean:
        sound = sound_rule(mixes=True, regression=False)
        return Calibration(
            rule=sound,
            threshold=None,
            layers_mean=sound_mean,
            certified=False,
            outdone=chosen.text,
            outdone_layers_mean=mean,
            **common,
        )
    return Calibration(
        rule=chosen.text,
        threshold=chosen.threshold,
        observed=observed,
        layers_mean=mean,
        certified=True,
        classes=measured.classes_under(chosen),
        **common,
    )


def _boldest(
    measured: Measured, rules: Sequence[Rule], request: RiskRequest, delta: float
) -> tuple[tuple[float, Rule, int] | None, list[str]]:
    """Find the rule and threshold that run the fewest layers among those that pass, each rule tested at `delta`.

    Returns:
        Mean layers, rule and observed losses (None if no threshold passes), and the names of classes too small to test.
    """
    best: tuple[float, Rule, int] | None = None
    small: list[str] = []
    for rule in rules:
        sweep = measured.sweep(rule)
        tests, small = _tests(measured, sweep, request, delta)
        if not tests:
            continue
        index = int(last_certified(tests, epsilon=request.risk, delta=delta))
        if index >= 0 and (best is None or sweep.layers_mean[index] < best[0]):
            observed = int(sweep.losses(request.loss, measured.truth)[index].sum())
            best = (float(sweep.layers_mean[index]), rule.at(measured.grid(rule)[index]), observed)
    return best, small


def _sound_layers(measured: Measured) -> float | None:
    """Mean layers of the sound rule on the sample; None where it never stops early or keeps another model's answers."""
    if not measured.outputs.mixes or measured.reference is not None:
        return None
    return float(measured.outputs.decide(Exact()).exit_layer.double().mean())


def _tests(
    measured: Measured, sweep: ThresholdSweep, request: RiskRequest, delta: float
) -> tuple[list[Evidence], list[str]]:
    """The tests that a threshold has to pass at delta, and the names of classes that are too small for one."""
    losses = sweep.losses(request.loss, measured.truth)
    if not request.by_class:
        return evidence(losses, measured.inputs), []
    # the risk is conditional on what is fixed beforehand: the class at full depth, or the label
    classes = sweep.full if request.loss == "disagreement" else np.asarray(measured.labels, dtype=np.int64)
    smallest = smallest_sample(epsilon=request.risk, delta=delta)
    found = evidence_by_class(losses, measured.inputs, classes, smallest)
    small = [name for number, name in enumerate(measured.names) if number not in found]
    return [test for tests in found.values() for test in tests], small


def calibrate_budget(measured: Measured, rule: Rule, request: BudgetRequest, *, facts: dict[str, Any]) -> Calibration:
    """The threshold whose mean layers on the calibration sample are closest to a budget; it promises nothing.

    Args:
        measured: The sample and the model's outputs on it.
        rule: The rule.
        request: The budget.
        facts: What the calibration is bound to.
    """
    sweep = measured.sweep(rule)
    index = int(np.abs(sweep.layers_mean - request.budget).argmin())
    chosen = rule.at(measured.grid(rule)[index])
    return Calibration(
        kind="budget",
        rule=chosen.text,
        threshold=chosen.threshold,
        budget=request.budget,
        rules_tried=[rule.name],
        examples=len(measured.inputs),
        distinct=measured.distinct,
        layers_mean=float(sweep.layers_mean[index]),
        certified=False,
        classes=measured.classes_under(chosen),
        **facts,
    )


def _add_to_summary(run: Run, found: Calibration) -> None:
    """Add a calibration, and its rule's validation result, to summary.json, which `dact runs` and model cards read."""
    summary = read_document(run.folder / SUMMARY)
    if not summary:  # a saved model that no training left here
        return
    summary["calibration"] = found.to_json()
    validation = summary.get("evaluation", {}).get("validation")
    if run.recipe is not None and validation is not None:
        with suppress(DactError):  # the data are gone
            _judge_on_validation(run, found.rule, validation)
    distributed.on_main(lambda: write_json(run.folder / SUMMARY, summary))


def _judge_on_validation(run: Run, rule: str, validation: dict[str, Any]) -> None:
    """Put what a rule does on validation into a summary, in place of an earlier calibrated rule."""
    encoded, difficulty = run_examples(run, "validation", None, lambda text: None)
    outputs = cached_outputs(run, encoded, "validation", batch_size=batch_size(run))
    split = EvalSplit(metric_name(run), difficulty=difficulty)
    judged = judge(outputs, [run.model.rule(rule)], encoded.labels, split).to_json()
    standing = {run.model.rule(name).text for name in standing_rules(run)}
    for key in ("rules", "depth_by_difficulty"):
        if key in judged:
            before = {name: result for name, result in validation.get(key, {}).items() if name in standing}
            validation[key] = before | judged[key]
