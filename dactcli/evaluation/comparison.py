"""Every rule over its whole range of thresholds, from kept outputs: curves of metric against layers, and their area.

A rule's points are its thresholds on one run, or on several (a sweep of tau, encoders cut to k layers). The validation
split chooses the points on the upper envelope; their values on the test split are drawn. Runs that differ only in their
seed are averaged. Intervals are 95% bootstrap intervals, paired over examples (and seeds): every rule and the reference
see the same resampled examples.

A curve begins at the rule's first point (`dactcli.evaluation.curves`) and has no metric at smaller budgets. Only a rule
whose curve begins at layer 1 has an area; differences of areas are taken over the layers that both rules run.

E examples, N layers, C classes, K points, S bootstrap samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dactcli.errors import UsageError
from dactcli.evaluation.certified_layers import RISKS, certified_layers
from dactcli.evaluation.curves import Curves, curve, layers_for, value_at
from dactcli.evaluation.kinds import measures_of
from dactcli.evaluation.label_sets import RANKING
from dactcli.evaluation.metrics import Array
from dactcli.evaluation.threshold_sweep import ThresholdSweep, full_decisions
from dactcli.halting.rules import RULES, Agreement, Full
from dactcli.results import ComparedRule, Comparison, CurvePoint
from dactcli.runs.outputs import LayerOutputs

BOOTSTRAPS = 1000
SHARES = (0.25, 0.5, 0.75)
KEPT = 0.99
POINTS = 40  # most points of an envelope; more add nothing to its area
STATIC = "cut to k layers"
SPLITS = ("validation", "test", "calibration")


@dataclass(frozen=True)
class Entrant:
    """One run of a comparison, with the outputs of its layers on both splits.

    Attributes:
        run: Its name.
        variant: Equal for runs that differ only in their seed.
        validation: Outputs on the split that chooses the envelope.
        test: Outputs on the split that is drawn.
        validation_labels: Classes [E], or the labels of label sets [E, C].
        test_labels: Likewise.
        calibration: Outputs on the split that certificates are made on; None without one.
        inputs: The number of each distinct input of that split [E].
    """

    run: str
    variant: str
    validation: LayerOutputs
    test: LayerOutputs
    validation_labels: NDArray[Any]
    test_labels: NDArray[Any]
    calibration: LayerOutputs | None = None
    inputs: NDArray[np.int64] | None = None

    @property
    def layers(self) -> int:
        """N of this run."""
        return self.test.layers

    @property
    def plain(self) -> bool:
        """Whether only the last layer was trained: plain fine-tuning."""
        return self.test.objective == "last"


@dataclass(frozen=True)
class _Point:
    """A rule at one threshold on the runs of a variant: where each example stops and what it decides, by seed."""

    variant: str
    threshold: float | None
    exits: list[NDArray[np.int64]]
    decided: list[NDArray[Any]]


def compare(entrants: Sequence[Entrant], *, metric: str, split: str, rules: Sequence[str] | None = None) -> Comparison:
    """Compare rules on all runs.

    Args:
        entrants: The runs; all on the same examples.
        metric: Name of the metric.
        split: Name of the split that is drawn.
        rules: Which rules; None for all that the runs can serve.

    Returns:
        Curves, areas and their intervals.

    Raises:
        UsageError: The runs have different examples, the task is a regression, no run stops early, or the metric of the
            reference is not positive.
    """
    _check(entrants, metric)
    labels = entrants[0].test_labels
    references, kind = _references(entrants)
    layers = references[0].layers
    measure = _Measure(metric, entrants[0], layers, seeds=_seeds(entrants))
    reference = measure.metric([full_decisions(one.test) for one in references])
    if reference[0] <= 0:
        raise UsageError(
            f"the {metric} of {kind} is {reference[0]:.4g}, so no share of it can be drawn",
            place="`compare`",
            remedy="train longer, or compare on another split",
        )
    compared = _compare_rules(entrants, rules, measure, reference)
    majority = measure.kind.majority(labels, measure.classes)
    return Comparison(
        split=split,
        examples=len(labels),
        metric=metric,
        layers=layers,
        runs=[one.run for one in entrants],
        reference_kind=kind,
        reference_runs=[one.run for one in references],
        reference_metric=float(reference[0]),
        rules=dict(sorted(compared.items(), key=_rank)),
        decision=entrants[0].test.answers.noun,
        majority_metric=measure.plain(majority),
        last_layer_metric=float(np.mean([measure.plain(_last(one.test)) for one in references])),
        notices=[f"these figures are measurements on {split}; they promise nothing about other examples"],
    )


def _references(entrants: Sequence[Entrant]) -> tuple[list[Entrant], str]:
    """The runs whose metric is the reference, all seeds of one variant, and what they are."""
    layers = max(one.layers for one in entrants)
    plain = [one for one in entrants if one.plain and one.layers == layers]
    deep = plain or [one for one in entrants if one.layers == layers]
    kind = "plain fine-tuning" if plain else "full depth"
    return [one for one in deep if one.variant == deep[0].variant], kind


def _compare_rules(
    entrants: Sequence[Entrant], rules: Sequence[str] | None, measure: _Measure, reference: Array
) -> dict[str, ComparedRule]:
    """Each rule on the runs that can serve it."""
    compared = {}
    for name in rules or (*(name for name, rule in RULES.items() if rule.facts.early), STATIC):
        serving = [one for one in entrants if _serves(one, name)]
        # plain runs of full depth alone are the reference; they run no fewer layers
        if serving and (name != STATIC or min(one.layers for one in serving) < measure.layers):
            compared[name] = _compare_rule(name, serving, measure, reference)
    if not compared:
        raise UsageError(
            f"{', '.join(one.run for one in entrants)} cannot stop early, so there is no curve to draw",
            place="`compare`",
            remedy="add a run with exits, or runs of encoders that were cut to fewer layers",
        )
    return compared


def _rank(item: tuple[str, ComparedRule]) -> tuple[bool, float]:
    """By descending area; rules without one follow, the shallowest first."""
    rule = item[1]
    return (False, -rule.area.value) if rule.area is not None else (True, rule.layers_from)


def _check(entrants: Sequence[Entrant], metric: str) -> None:
    first = entrants[0]
    decided = measures_of(first.test.answers).decided
    if metric == RANKING:
        raise UsageError(
            f"{metric} judges probabilities, and a curve is drawn of decisions",
            place="`compare`",
            remedy=f"set task.metric to one of {', '.join(decided)} in recipe.yaml of the run",
        )
    if metric not in decided:
        raise UsageError("compares classifiers only", place="`compare`", remedy="evaluate regressions with `rule`")
    for one in entrants[1:]:
        same = np.array_equal(one.test_labels, first.test_labels)
        if not same or not np.array_equal(one.validation_labels, first.validation_labels):
            raise UsageError(
                f"{one.run} and {first.run} have different examples",
                place="`compare`",
                remedy="compare runs of one task",
            )


def _seeds(entrants: Sequence[Entrant]) -> int:
    counts = {one.variant: sum(other.variant == one.variant for other in entrants) for one in entrants}
    return max(counts.values())


def _serves(one: Entrant, name: str) -> bool:
    """Whether a rule can be drawn for a run; plain runs serve as static encoders only."""
    if name == STATIC or one.plain:
        return name == STATIC and one.plain
    rule = RULES[name]
    if rule.needs == "certainty" and one.test.certainty is None:
        return False
    return rule.serves_classes and (one.test.mixes or not rule.needs_dact)


class _Measure:
    """Metric and layers of points under the bootstrap; sample 0 is the data itself."""

    def __init__(self, metric: str, entrant: Entrant, layers: int, *, seeds: int) -> None:
        generator, labels = np.random.default_rng(0), entrant.test_labels
        self.kind, examples = measures_of(entrant.test.answers), len(labels)
        drawn = generator.multinomial(examples, np.full(examples, 1 / examples), size=BOOTSTRAPS)
        self.function, self.labels = self.kind.decided[metric], labels
        self.classes, self.layers = entrant.test.classes, layers
        # [1 + S, E], column by column in memory, as `tally` wants them
        self.weights: Array = np.asfortranarray(np.vstack([np.ones(examples), drawn]), dtype=float)
        self.seeds = seeds
        picked = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=BOOTSTRAPS)
        self.seed_weights: Array = np.vstack([np.ones(seeds), picked]) / seeds  # [1 + S, seeds]

    def metric(self, decided: list[NDArray[Any]]) -> Array:
        """The metric [1 + S], from the decisions [E] or [E, C] of each seed."""
        return self._over_seeds(self._of(np.stack(decided), self.labels, self.weights))

    def plain(self, decided: NDArray[Any], labels: NDArray[Any] | None = None) -> float:
        """The metric of decisions [E] or [E, C] as they are; the labels are those of the split that is drawn."""
        known = self.labels if labels is None else labels
        return float(self._of(decided[None], known, np.ones((1, len(known))))[0, 0])

    def _of(self, decided: NDArray[Any], labels: NDArray[Any], weights: Array) -> Array:
        return self.function(self.kind.count(decided, labels, weights, self.classes))

    def share(self, exits: list[NDArray[np.int64]]) -> Array:
        """Mean layers / N [1 + S], from the exit layers [E] of each seed."""
        means = self.weights @ np.stack(exits).T.astype(float) / self.weights.sum(1, keepdims=True)
        return self._over_seeds(means / self.layers)

    def _over_seeds(self, values: Array) -> Array:
        if values.shape[1] != self.seeds:  # a variant with fewer seeds than the others is not resampled
            plain: Array = values.mean(1)
            return plain
        averaged: Array = (values * self.seed_weights).sum(1)
        return averaged


def _compare_rule(name: str, runs: list[Entrant], measure: _Measure, reference: Array) -> ComparedRule:
    as_they_are = runs
    if name == Agreement.name:
        runs = [_with_agreement(one) for one in runs]
    chosen = _envelope(name, runs, measure)
    exits = np.stack([measure.share(point.exits) for point in chosen])  # [K, 1 + S]
    values = np.stack([measure.metric(point.decided) for point in chosen])
    curves = Curves(exits, _share_of(reference, values), measure.layers)
    xs, ys = exits[:, 0], values[:, 0]
    line = curve(xs, ys)
    return ComparedRule(
        area=curves.interval if curves.covers else None,
        layers_from=float(curves.starts[0]) * measure.layers,
        metric_at={f"{share:g}": value_at(line, share) for share in SHARES},
        layers_for_99=layers_for(line, KEPT * float(reference[0]), measure.layers),
        points=[
            CurvePoint(point.variant, point.threshold, float(x) * measure.layers, float(y))
            for point, x, y in sorted(zip(chosen, xs, ys, strict=True), key=lambda item: item[1])
        ],
        curves=curves,
        certified_layers=_certified(name, runs, as_they_are),
    )


def _with_agreement(one: Entrant) -> Entrant:
    """The run with halting units that are fitted to agreement with its full depth, on validation."""
    fit = one.validation.fit_agreement()
    fitted = {name: found.with_agreement(fit) for name in SPLITS if (found := getattr(one, name)) is not None}
    return replace(one, **fitted)


def _certified(name: str, runs: list[Entrant], as_they_are: list[Entrant]) -> dict[str, float]:
    """Mean layers at each certified risk, over seeds; empty for several variants and without a calibration split.

    A rule may see other outputs than the run has; full depth is that of the run as it is.
    """
    several = len({one.variant for one in runs}) > 1
    if name == STATIC or several or any(one.calibration is None for one in runs):
        return {}
    pairs = list(zip(runs, as_they_are, strict=True))
    return {
        f"{risk:g}": float(np.mean([_layers_at(name, one, risk, own.calibration) for one, own in pairs]))
        for risk in RISKS
    }


def _layers_at(name: str, one: Entrant, risk: float, reference: LayerOutputs | None) -> float:
    """Mean layers of one run at the threshold that its calibration split certifies."""
    assert one.calibration is not None
    assert one.inputs is not None
    facts = RULES[name].facts
    sweep = ThresholdSweep(RULES[name](), _grid(name, one), one.calibration, reference)
    if facts.promise == "class" and facts.threshold is None:  # proven; it needs no sample
        return float(sweep.layers_mean[0])
    losses = sweep.losses("disagreement", None)
    return certified_layers(losses, one.inputs, sweep.layers_mean, risk, otherwise=one.layers)


def _share_of(reference: Array, values: Array) -> Array:
    """The values [..., 1 + S] as shares of the reference's; 0 in a sample whose reference is none."""
    shares: Array = np.divide(values, reference, out=np.zeros_like(values), where=reference > 0)
    return shares


def _envelope(name: str, runs: list[Entrant], measure: _Measure) -> list[_Point]:
    """The points on the upper envelope of the validation split, as they are on the test split."""
    candidates: list[tuple[float, float, str, float | None]] = []
    for variant in dict.fromkeys(one.variant for one in runs):
        group = [one for one in runs if one.variant == variant]
        grid = _grid(name, group[0])
        sweeps = [_sweep(name, one.validation, grid) for one in group]
        metrics = np.mean(
            [_metrics(s, one.validation_labels, measure) for s, one in zip(sweeps, group, strict=True)], 0
        )
        depths = np.mean([sweep.layers_mean for sweep in sweeps], 0) / measure.layers
        candidates += [(float(x), float(y), variant, t) for x, y, t in zip(depths, metrics, grid, strict=True)]
    candidates.sort(key=lambda point: (point[0], -point[1]))
    best, front = -np.inf, []
    for candidate in candidates:
        if candidate[1] > best:
            best = candidate[1]
            front.append(candidate)
    step = max(1, len(front) // POINTS)
    kept = sorted({*front[::step], front[-1]}, key=lambda point: point[0])
    return [_draw(name, [one for one in runs if one.variant == variant], t) for _, _, variant, t in kept]


def _draw(name: str, group: list[Entrant], threshold: float | None) -> _Point:
    sweeps = [_sweep(name, one.test, [threshold]) for one in group]
    label = group[0].run if len(group) == 1 else f"{group[0].run} and {len(group) - 1} more seeds"
    return _Point(label, threshold, [sweep.exits[0] for sweep in sweeps], [sweep.decided(0) for sweep in sweeps])


def _grid(name: str, one: Entrant) -> list[float | None]:
    if name == STATIC or RULES[name].threshold_name is None:
        return [None]
    return [*RULES[name]().of(one.test.answers).grid(one.layers, one.test.classes)]


def _sweep(name: str, outputs: LayerOutputs, grid: Sequence[float | None]) -> ThresholdSweep:
    return ThresholdSweep(Full() if name == STATIC else RULES[name](), grid, outputs)


def _metrics(sweep: ThresholdSweep, labels: NDArray[Any], measure: _Measure) -> Array:
    """The metric at every threshold [T]."""
    return np.array([measure.plain(sweep.decided(index), labels) for index in range(len(sweep.classes))])


def _last(outputs: LayerOutputs) -> NDArray[Any]:
    """What the last layer alone decides: classes [E], or the labels of label sets [E, C]."""
    found: NDArray[Any] = outputs.answers.decide(outputs.y[:, -1]).numpy()
    return found
