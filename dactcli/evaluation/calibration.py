"""Choose a threshold on a calibration sample: one whose risk is certified, or one that meets a budget of layers.

The tests are in `dactcli.evaluation.certificate`, the choice of examples in `dactcli.evaluation.sample`, and what is
kept in `dactcli.runs.calibration`.

E examples, N layers, C classes, T thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from dactcli.errors import UsageError, did_you_mean
from dactcli.evaluation.certificate import Evidence, evidence, evidence_by_class, last_certified, smallest_sample
from dactcli.evaluation.measures import by_class
from dactcli.halting.decision import exit_layers
from dactcli.halting.rules import RULES, Full, Rule
from dactcli.results import Calibration, ClassResult
from dactcli.runs.outputs import LayerOutputs

if TYPE_CHECKING:
    from dactcli.model.dact import DactForSequenceClassification

GRID = 400  # thresholds of a rule whose threshold is a number on a scale
FINEST = -6.0  # decimal logarithm of the smallest step from certainty
LOSSES = ("disagreement", "harm")


@dataclass(frozen=True)
class RiskRequest:
    """A risk to certify.

    Attributes:
        risk: Epsilon, the risk that is promised.
        delta: The probability with which the promise may fail.
        loss: `disagreement`: the class differs from full depth; `harm`: full depth is right and this is wrong.
        by_class: Whether the risk must hold in every class.
        rules: Names of the rules to choose from; empty for the model's own.
    """

    risk: float
    delta: float = 0.05
    loss: str = "disagreement"
    by_class: bool = False
    rules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("risk", "delta"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise UsageError(f"{name} is {value:g}", place="`calibrate`", remedy="give a number between 0 and 1")
        if self.loss not in LOSSES:
            raise UsageError(
                f"loss {self.loss!r} is unknown", place="`calibrate`", remedy=did_you_mean(self.loss, LOSSES)
            )

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the record of attempts."""
        return {**asdict(self), "rules": list(self.rules)}


@dataclass(frozen=True)
class BudgetRequest:
    """A budget of layers to meet.

    Attributes:
        budget: Mean layers wanted, from 1 to N.
        rules: The name of one rule; empty for the model's own.
    """

    budget: float
    rules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (self.budget > 0 and math.isfinite(self.budget)):
            raise UsageError(f"budget is {self.budget:g}", place="`calibrate`", remedy="give a number above 0")
        if len(self.rules) > 1:
            raise UsageError("a budget is met by one rule", place="`rule`", remedy="name one")


@dataclass(frozen=True)
class Measured:
    """A calibration sample and what the model says of it.

    Attributes:
        outputs: The outputs of all layers, E examples.
        inputs: The number of each example's distinct input [E].
        labels: Classes [E]; None when unlabelled.
        names: The class names, all different [C].
        mixes: Whether the model's answers accumulate (DACT).
    """

    outputs: LayerOutputs
    inputs: NDArray[np.int64]
    labels: Sequence[int] | None
    names: Sequence[str]
    mixes: bool


def thresholds(rule: Rule, *, layers: int, classes: int) -> list[float]:
    """The grid of a rule's thresholds, from cautious to bold; it depends on no data.

    Values have at most six significant digits, so that a rule can be read and typed.

    Args:
        rule: The rule.
        layers: N.
        classes: C.

    Raises:
        UsageError: The rule takes no threshold: there is nothing to choose.
    """
    if rule.name in ("confidence", "max_prob", "learned"):
        floor = 1 / classes if rule.name != "learned" else 0.0
        return [round(1 - _short(step), 9) for step in np.logspace(FINEST, np.log10(1 - floor), GRID)]
    if rule.name in ("entropy", "answer_entropy"):
        return [_short(step) for step in np.logspace(FINEST, 0, GRID)]
    if rule.name == "slack":
        return [0.0, *(_short(step) for step in np.logspace(-4, 2, GRID))]
    if rule.name == "patience":
        return [float(times) for times in range(layers - 1, 0, -1)]
    if rule.name == "layer":
        return [float(layer) for layer in range(layers, 0, -1)]
    raise UsageError(
        f"rule {rule.name} has no threshold to choose",
        place="`rule`",
        remedy="use confidence, slack, answer_entropy, entropy, max_prob or patience",
    )


def _short(step: float) -> float:
    return float(f"{step:.3g}")


class Sweep:
    """What a rule does on a split at every threshold.

    Args:
        rule: The rule.
        grid: Its thresholds [T]; None for a rule as it is.
        outputs: The outputs of all layers.
        mixes: Whether the model's answers accumulate (DACT).

    Attributes:
        exits: Layer at which each example stops [T, E].
        classes: Class that it answers there [T, E].
        full: Class at full depth [E].
    """

    def __init__(self, rule: Rule, grid: Sequence[float | None], outputs: LayerOutputs, *, mixes: bool) -> None:
        scores, answers = outputs.score(rule, mixes=mixes)
        at = [rule if threshold is None else rule.at(threshold) for threshold in grid]
        cuts = torch.tensor([one.cut for one in at], dtype=torch.float64)
        exits = exit_layers(scores, cuts)
        self.exits: NDArray[np.int64] = exits.numpy()
        self.classes: NDArray[np.int64] = answers.T.gather(0, exits - 1).numpy()
        self.full: NDArray[np.int64] = full_classes(outputs, mixes=mixes)

    def losses(self, loss: str, labels: Sequence[int] | None) -> NDArray[np.bool_]:
        """Which examples count as a loss at each threshold [T, E].

        Args:
            loss: `disagreement`: the class differs from full depth; `harm`: full depth is right and this is wrong.
            labels: Classes [E], for `harm`.

        Raises:
            UsageError: `harm` without labels.
        """
        differs: NDArray[np.bool_] = self.classes != self.full
        if loss == "disagreement":
            return differs
        if labels is None:
            raise UsageError("loss=harm needs labels", place="`calibrate`", remedy="use loss=disagreement")
        harmed: NDArray[np.bool_] = differs & (self.full == np.asarray(labels))
        return harmed

    @property
    def layers_mean(self) -> NDArray[np.float64]:
        """Mean layers at each threshold [T]."""
        means: NDArray[np.float64] = self.exits.mean(1, dtype=np.float64)
        return means


def full_classes(outputs: LayerOutputs, *, mixes: bool) -> NDArray[np.int64]:
    """The class at full depth [E]."""
    found: NDArray[np.int64] = outputs.decide(Full(), mixes=mixes).answer.argmax(-1).numpy()
    return found


def calibrate_risk(
    measured: Measured, rules: Sequence[Rule], request: RiskRequest, *, delta: float, facts: dict[str, Any]
) -> Calibration:
    """The boldest threshold whose risk is certified.

    Args:
        measured: The sample and the model's outputs on it.
        rules: The rules to choose from; each is tested at `delta` divided by their number.
        request: What is to be certified.
        delta: What this attempt may spend of the request's delta.
        facts: What the certificate is bound to (`Calibration`'s fields of that kind).

    Returns:
        The certificate. When no threshold passes, `certified` is False and the rule is the sound one.

    Raises:
        UsageError: `harm` without labels, or a rule that has no threshold.
    """
    examples, layers, classes = measured.outputs.y.shape
    smallest = smallest_sample(epsilon=request.risk, delta=delta / len(rules))
    best: tuple[float, Rule, int, Sweep] | None = None  # mean layers, rule, index of its threshold, what it does
    small: list[str] = []
    for rule in rules:
        sweep = Sweep(rule, thresholds(rule, layers=layers, classes=classes), measured.outputs, mixes=measured.mixes)
        tests, small = _tests(measured, sweep, request, smallest)
        if not tests:
            continue
        index = int(last_certified(tests, epsilon=request.risk, delta=delta / len(rules)))
        if index >= 0 and (best is None or sweep.layers_mean[index] < best[0]):
            best = (float(sweep.layers_mean[index]), rule, index, sweep)
    common = {
        "kind": "risk",
        "loss": request.loss,
        "epsilon": request.risk,
        "delta": request.delta,
        "delta_spent": delta,
        "by_class": request.by_class,
        "small_classes": small,
        "rules_tried": [rule.name for rule in rules],
        "examples": examples,
        "distinct": int(measured.inputs.max()) + 1,
        **facts,
    }
    if best is None:
        sound = "exact" if measured.mixes else "full"
        return Calibration(rule=sound, threshold=None, layers_mean=None, certified=False, **common)
    mean, rule, index, sweep = best
    threshold = thresholds(rule, layers=layers, classes=classes)[index]
    return Calibration(
        rule=f"{rule.name}:{threshold!r}",
        threshold=threshold,
        observed=int(sweep.losses(request.loss, measured.labels)[index].sum()),
        layers_mean=mean,
        certified=True,
        classes=_classes(measured, rule.at(threshold)),
        **common,
    )


def _tests(measured: Measured, sweep: Sweep, request: RiskRequest, smallest: int) -> tuple[list[Evidence], list[str]]:
    """The tests that a threshold has to pass, and the names of classes that are too small for one."""
    losses = sweep.losses(request.loss, measured.labels)
    if not request.by_class:
        return evidence(losses, measured.inputs), []
    # the risk is conditional on what is fixed beforehand: the class at full depth, or the label
    classes = sweep.full if request.loss == "disagreement" else np.asarray(measured.labels, dtype=np.int64)
    found = evidence_by_class(losses, measured.inputs, classes, smallest)
    small = [name for number, name in enumerate(measured.names) if number not in found]
    return [test for tests in found.values() for test in tests], small


def _classes(measured: Measured, rule: Rule) -> dict[str, ClassResult]:
    """What a rule does to each class of the sample."""
    full = measured.outputs.decide(Full(), mixes=measured.mixes).answer
    return by_class(measured.outputs.decide(rule, mixes=measured.mixes), full, measured.labels, measured.names)


def calibrate_budget(measured: Measured, rule: Rule, request: BudgetRequest, *, facts: dict[str, Any]) -> Calibration:
    """The threshold whose mean layers on the calibration sample are closest to a budget; no promise.

    Args:
        measured: The sample and the model's outputs on it.
        rule: The rule.
        request: The budget.
        facts: What the calibration is bound to.
    """
    examples, layers, classes = measured.outputs.y.shape
    grid = thresholds(rule, layers=layers, classes=classes)
    sweep = Sweep(rule, grid, measured.outputs, mixes=measured.mixes)
    index = int(np.abs(sweep.layers_mean - request.budget).argmin())
    return Calibration(
        kind="budget",
        rule=f"{rule.name}:{grid[index]!r}",
        threshold=grid[index],
        budget=request.budget,
        rules_tried=[rule.name],
        examples=examples,
        distinct=int(measured.inputs.max()) + 1,
        layers_mean=float(sweep.layers_mean[index]),
        certified=False,
        classes=_classes(measured, rule.at(grid[index])),
        **facts,
    )


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
