"""Result of `dact eval --compare`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dactcli.results.interval import Interval


@dataclass(frozen=True)
class CurvePoint:
    """A rule at one threshold: its run or runs, and its results on the plotted split."""

    run: str
    threshold: float | None
    layers_mean: float
    metric: float


@dataclass(frozen=True)
class AreaDifference(Interval):
    """Area of one rule minus that of another, over the layers that both can run, with a paired 95% interval.

    Attributes:
        value: The difference on the data.
        low: Lower bound.
        high: Upper bound.
        layers_from: Fewest mean layers that both rules can run; the areas cover the range from there to N.
    """

    layers_from: float

    def to_json(self) -> dict[str, Any]:
        """The difference for a JSON document, where the key of the estimate is `median`."""
        return {**super().to_json(), "layers_from": self.layers_from}


@dataclass(frozen=True)
class ComparedRule:
    """Results of a rule over its whole range of thresholds.

    Attributes:
        area: Normalised area under the curve of metric / reference against layers / N; None for a rule that cannot stop
            stop everything at layer 1, whose curve begins deeper.
        layers_from: Mean layers of the curve's first point, the fewest that the rule runs.
        metric_at: Metric with at most 0.25, 0.5 and 0.75 of the layers; None if the rule runs more than that.
        layers_for_99: Mean layers at which the rule keeps 99% of the reference metric; None if it never does.
        points: The curve, by ascending layers.
        certified_layers: Mean layers where the calibration split certifies at most 1% or 2% of disagreement with full
            depth (delta 0.05); N where it certifies nothing, empty without that split and for several variants.
        curves: The curve in every bootstrap sample (`dactcli.evaluation.curves.Curves`); not in the JSON.
    """

    area: Interval | None
    layers_from: float
    metric_at: dict[str, float | None]
    layers_for_99: float | None
    points: list[CurvePoint]
    certified_layers: dict[str, float] = field(default_factory=dict)
    curves: Any = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Comparison:
    """Results of all rules on all runs.

    Attributes:
        reference_kind: `plain fine-tuning` if such a run is given, otherwise `full depth`.
        reference_runs: The runs whose metric serves as the reference.
        rules: Results by rule, in order of descending area; rules without an area come last.
        majority_metric: Metric of always answering with the most frequent class or label set.
        decision: What an answer decides on: `class` or `label set`.
        last_layer_metric: Metric of the last layer alone, in the reference runs.
        notices: Warnings about the figures.
    """

    split: str
    examples: int
    metric: str
    layers: int
    runs: list[str]
    reference_kind: str
    reference_runs: list[str]
    reference_metric: float
    rules: dict[str, ComparedRule]
    majority_metric: float | None = None
    last_layer_metric: float | None = None
    notices: list[str] = field(default_factory=list)
    decision: str = "class"

    def to_json(self) -> dict[str, Any]:
        """The `dact eval --compare --json` document; adds each rule's area difference to the first rule."""
        plain = {name: replace(rule, curves=None) for name, rule in self.rules.items()}
        document = asdict(replace(self, rules=plain))
        best = next(iter(self.rules))
        for name, rule in document["rules"].items():
            area = self.rules[name].area
            rule["area"] = None if area is None else area.to_json()
            rule["area_difference_to_best"] = self.difference(name, best).to_json()
            del rule["curves"]
        return document

    def difference(self, name: str, other: str) -> AreaDifference:
        """Area of one rule minus that of another, over the layers that both can run."""
        found: AreaDifference = self.rules[name].curves.less(self.rules[other].curves)
        return found
