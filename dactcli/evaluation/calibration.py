"""Thresholds with a promise: Learn-then-Test with fixed-sequence testing, and the convenience of a budget.

Fixed beforehand are the model, the rule, the loss, the grid of thresholds and its order from cautious to bold, epsilon
and delta. At each threshold every calibration example has a loss of 0 or 1. Testing goes on while the exact binomial
p-value of "risk > epsilon" is at most delta, and stops at the first that fails; the last that passed is taken. With
probability at least 1 - delta over the draw of the sample its risk is then at most epsilon: the first threshold whose
risk is larger is reached only if its own test errs (Angelopoulos, Bates, Candes, Jordan and Lei, "Learn then Test",
arXiv 2110.01052). Choosing the best of k rules costs delta / k each.

E examples, N layers, C classes, T thresholds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from dactcli.errors import ArtefactError, UsageError
from dactcli.evaluation.outputs import LayerOutputs, examples_digest
from dactcli.model.checkpoint import weights_digest
from dactcli.model.decide import exit_layers
from dactcli.model.rules import RULES, Full, Rule
from dactcli.results import Calibration
from dactcli.storage import check_format

if TYPE_CHECKING:
    from dactcli.data.batches import Encoded
    from dactcli.model.checkpoint import Run
    from dactcli.model.dact import DactForSequenceClassification

CALIBRATION = "calibration.json"
GRID = 400  # thresholds of a rule whose threshold is a number on a scale
FINEST = -6.0  # decimal logarithm of the smallest step from certainty


def thresholds(rule: Rule, *, layers: int, classes: int) -> list[float]:
    """The grid of a rule's thresholds, from cautious to bold; it depends on no data.

    Args:
        rule: The rule.
        layers: N.
        classes: C.

    Raises:
        UsageError: The rule takes no threshold: there is nothing to choose.
    """
    if rule.name in ("confidence", "max_prob", "learned"):
        floor = 1 / classes if rule.name != "learned" else 0.0
        return [1 - float(step) for step in np.logspace(FINEST, np.log10(1 - floor), GRID)]
    if rule.name in ("entropy", "answer_entropy"):
        return [float(step) for step in np.logspace(FINEST, 0, GRID)]
    if rule.name == "slack":
        return [0.0, *(float(step) for step in np.logspace(-4, 2, GRID))]
    if rule.name == "patience":
        return [float(times) for times in range(layers - 1, 0, -1)]
    if rule.name == "layer":
        return [float(layer) for layer in range(layers, 0, -1)]
    raise UsageError(
        f"rule {rule.name} has no threshold to choose",
        place="--rule",
        remedy="use confidence, slack, answer_entropy, entropy, max_prob or patience",
    )


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
        scores, said = outputs.score(rule, mixes=mixes)
        at = [rule if threshold is None else rule.at(threshold) for threshold in grid]
        cuts = torch.tensor([one.cut for one in at], dtype=torch.float64)
        exits = exit_layers(scores, cuts)
        self.exits: NDArray[np.int64] = exits.numpy()
        self.classes: NDArray[np.int64] = said.T.gather(0, exits - 1).numpy()
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
            raise UsageError("loss=harm needs labels", place="--calibrate", remedy="use loss=disagreement")
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


def last_certified(
    losses: NDArray[np.int64] | NDArray[np.float64], examples: int, *, epsilon: float, delta: float
) -> NDArray[np.int64]:
    """Fixed-sequence testing.

    Args:
        losses: Losses observed at each threshold, from cautious to bold, for one or many samples [..., T].
        examples: Size of the sample.
        epsilon: The risk that is promised.
        delta: The probability with which the promise may fail.

    Returns:
        Index of the last threshold that passed, -1 where the first already fails [...].
    """
    from scipy.stats import binom

    # the p-value of "risk > epsilon" after k losses is P(Binomial(examples, epsilon) <= k)
    failed = binom.cdf(losses, examples, epsilon) > delta
    first = np.where(failed.any(-1), failed.argmax(-1), failed.shape[-1])
    return np.asarray(first - 1, dtype=np.int64)


def calibrate_risk(
    outputs: LayerOutputs,
    rules: Sequence[Rule],
    *,
    labels: Sequence[int] | None,
    loss: str,
    epsilon: float,
    delta: float,
    mixes: bool,
    facts: dict[str, Any],
) -> Calibration:
    """The boldest threshold whose risk is certified.

    Args:
        outputs: The outputs of all layers on the calibration split.
        rules: The rules to choose from; each is tested at delta / k.
        labels: Classes, for `harm`.
        loss: `disagreement` or `harm`.
        epsilon: The risk that is promised.
        delta: The probability with which the promise may fail.
        mixes: Whether the model's answers accumulate (DACT).
        facts: What the certificate is bound to (`Calibration`'s fields of that kind).

    Returns:
        The certificate; when no threshold passes, of the sound rule that stands in.
    """
    examples, layers, classes = outputs.y.shape
    best: tuple[float, Rule, float, int] | None = None  # mean layers, rule, threshold, losses
    for rule in rules:
        grid = thresholds(rule, layers=layers, classes=classes)
        sweep = Sweep(rule, grid, outputs, mixes=mixes)
        counts = sweep.losses(loss, labels).sum(1)
        index = int(last_certified(counts, examples, epsilon=epsilon, delta=delta / len(rules)))
        if index < 0:
            continue
        found = (float(sweep.layers_mean[index]), rule, grid[index], int(counts[index]))
        if best is None or found[0] < best[0]:
            best = found
    common = {
        "kind": "risk",
        "loss": loss,
        "epsilon": epsilon,
        "delta": delta,
        "rules_tried": [rule.name for rule in rules],
        "examples": examples,
        **facts,
    }
    if best is None:
        sound = "exact" if mixes else "full"
        return Calibration(rule=sound, threshold=None, observed=None, layers_mean=None, certified=False, **common)
    mean, rule, threshold, observed = best
    return Calibration(
        rule=f"{rule.name}:{threshold!r}",
        threshold=threshold,
        observed=observed,
        layers_mean=mean,
        certified=True,
        **common,
    )


def calibrate_budget(
    outputs: LayerOutputs, rule: Rule, *, budget: float, mixes: bool, facts: dict[str, Any]
) -> Calibration:
    """The threshold whose mean layers on the calibration split are closest to a budget; no promise.

    Args:
        outputs: The outputs of all layers on the calibration split.
        rule: The rule.
        budget: Mean layers wanted.
        mixes: Whether the model's answers accumulate (DACT).
        facts: What the calibration is bound to.

    Raises:
        UsageError: The budget is not between 1 and N.
    """
    examples, layers, classes = outputs.y.shape
    if not 1 <= budget <= layers:
        raise UsageError(
            f"a budget of {budget:g} layers does not fit a model of {layers}",
            place="--calibrate",
            remedy=f"give a number from 1 to {layers}",
        )
    grid = thresholds(rule, layers=layers, classes=classes)
    sweep = Sweep(rule, grid, outputs, mixes=mixes)
    index = int(np.abs(sweep.layers_mean - budget).argmin())
    return Calibration(
        kind="budget",
        rule=f"{rule.name}:{grid[index]!r}",
        threshold=grid[index],
        budget=budget,
        rules_tried=[rule.name],
        examples=examples,
        layers_mean=float(sweep.layers_mean[index]),
        certified=False,
        **facts,
    )


def free_rule(model: DactForSequenceClassification, name: str, *, place: str = "--rule") -> Rule:
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


def bound_facts(run: Run, encoded: Encoded, split: str) -> dict[str, Any]:
    """What a calibration on these examples is bound to: weights, type, length, and the split."""
    return {
        "weights_sha256": weights_digest(run.folder),
        "dtype": str(run.model.dtype).removeprefix("torch."),
        "max_length": run.tokenizer.model_max_length,
        "split": split,
        "data_fingerprint": examples_digest(encoded),
    }


def load_calibration(run: Run) -> tuple[Calibration | None, str | None]:
    """The calibration that is kept with a run.

    Args:
        run: The run.

    Returns:
        The calibration, None where there is none or it is void; and why it is void, for a warning.
    """
    path = run.folder / CALIBRATION
    if not path.is_file():
        return None, None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        check_format(document.pop("format", None), str(path))
        document.pop("promise", None)
        found = Calibration(**document)
        run.model.rule(found.rule, place=str(path))
    except ArtefactError as error:
        return None, error.sentence
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, UsageError):
        return None, f"{path}: the calibration cannot be read and is void; calibrate again"
    now = {
        "weights_sha256": weights_digest(run.folder),
        "dtype": str(run.model.dtype).removeprefix("torch."),
        "max_length": run.tokenizer.model_max_length,
    }
    changed = [name for name, value in now.items() if getattr(found, name) != value]
    if changed:
        return None, f"{path}: the calibration is void, because {', '.join(changed)} changed; calibrate again"
    return found, None
