"""Result of `dact eval`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

REFERENCES = {"majority": "majority class", "mean": "mean label", "last_layer": "last layer"}
CLASSES_SHOWN, WORST_SHOWN = 12, 5  # a table shows all classes up to the first number, otherwise only the worst


@dataclass(frozen=True)
class ClassResult:
    """Results for one class under one halting rule; fields that need labels are None without labels.

    Attributes:
        examples: Number of examples of the class: its support.
        recall: Share of these examples that the rule answers correctly.
        full_recall: Recall at full depth.
        harm: Share of these examples that full depth answers correctly and the rule wrongly.
        disagreement: Share of these examples for which the rule's answer differs from full depth.
        layers_mean: Mean layers run: the mean exit layer.
        precision: Share of the answers with this class that are correct; None if the rule never answers it.
        f1: Harmonic mean of precision and recall; 0 if the rule never answers the class.
    """

    examples: int
    recall: float | None
    full_recall: float | None
    harm: float | None
    disagreement: float
    layers_mean: float
    precision: float | None = None
    f1: float | None = None


def classes_shown(by_class: dict[str, ClassResult]) -> list[str]:
    """Classes to show in a table: all of them if they are few, otherwise the worst.

    The worst classes have the most harm (without labels: the most disagreement); ties go to the lowest recall.
    """
    if len(by_class) <= CLASSES_SHOWN:
        return list(by_class)

    def goodness(name: str) -> tuple[float, float]:
        found = by_class[name]
        return -(found.disagreement if found.harm is None else found.harm), found.recall or 0.0

    return sorted(by_class, key=goodness)[:WORST_SHOWN]


@dataclass(frozen=True)
class Reference:
    """A baseline answer to compare the rules' metric with.

    Attributes:
        metric: The task's metric; None if it is undefined or there are no labels.
        metrics: All metrics by name.
        agreement_with_full: Share of examples for which the answer agrees with full depth.
        answer: The constant answer (a class name, or the mean label); None for the last layer.
    """

    metric: float | None
    metrics: dict[str, float | None]
    agreement_with_full: float
    answer: str | float | None = None


@dataclass(frozen=True)
class RuleResult:
    """Results of one halting rule on a split.

    Attributes:
        metric: The task's metric; None for unlabelled data, or if it is undefined.
        metrics: All metrics by name, None for an undefined one; empty for unlabelled data.
        layers_mean: Mean layers run.
        layers_share: Mean layers run, divided by N.
        depths: Number of examples that stopped after layer 1..N.
        agreement_with_full: Share of examples that agree with full depth (for regression: within 1% of the range).
        threshold: The rule's threshold.
        certificate: The rule's certificate.
        by_class: Results by class name, of the classes with examples; empty for regression.
    """

    metric: float | None
    metrics: dict[str, float | None]
    layers_mean: float
    layers_share: float
    depths: list[int]
    agreement_with_full: float
    threshold: float | None = None
    certificate: dict[str, Any] | None = None
    by_class: dict[str, ClassResult] = field(default_factory=dict)

    @property
    def classes_shown(self) -> list[str]:
        """Classes to show in a table."""
        return classes_shown(self.by_class)


@dataclass(frozen=True)
class EvalResult:
    """Evaluation of a run on a split under several rules.

    Attributes:
        metric: Name of the task's metric.
        layers: N.
        rules: Results by rule.
        depth_by_difficulty: Mean layers by difficulty, by rule.
        references: Baselines to compare the rules with: `majority` (always the most frequent class; `mean`, always the
            mean label, for regression) and `last_layer` (y_N alone).
        full_depth: The answer at full depth: the `mixture` a_N of a DACT model, otherwise the `last_layer`.
        by_class_of: What `by_class` groups by: the `label`, or the `full_depth` class if there are no labels.
        notices: Warnings about the figures, for example why a metric is undefined.
    """

    run: str
    split: str
    examples: int
    metric: str
    layers: int
    rules: dict[str, RuleResult]
    depth_by_difficulty: dict[str, dict[str, float | None]] = field(default_factory=dict)
    references: dict[str, Reference] = field(default_factory=dict)
    full_depth: str = "mixture"
    by_class_of: str = "label"
    notices: list[str] = field(default_factory=list)

    @property
    def beside(self) -> dict[str, Reference]:
        """The references that differ from every rule; drops the last layer if `full` answers with it."""
        known = self.full_depth == "last_layer" and "full" in self.rules
        return {name: found for name, found in self.references.items() if name != "last_layer" or not known}

    @property
    def telling_rule(self) -> str | None:
        """The rule to show in detail: the certified one, else the last that stops early, else the last."""
        certified = [name for name, judged in self.rules.items() if judged.certificate is not None]
        early = [name for name, judged in self.rules.items() if judged.depths[-1] < self.examples]
        return next(reversed(certified or early or list(self.rules)), None)

    def to_json(self) -> dict[str, Any]:
        """The `dact eval --json` document."""
        document = asdict(self)
        if not self.depth_by_difficulty:
            del document["depth_by_difficulty"]
        return document

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> EvalResult:
        """Read a document of `to_json`; unknown keys are ignored."""
        values = _known(cls, document)
        values["rules"] = {rule: _rule_result(found) for rule, found in document["rules"].items()}
        references = document.get("references", {}).items()
        values["references"] = {name: Reference(**_known(Reference, found)) for name, found in references}
        return cls(**values)


def _rule_result(document: dict[str, Any]) -> RuleResult:
    classes = document.get("by_class", {}).items()
    by_class = {name: ClassResult(**_known(ClassResult, found)) for name, found in classes}
    return RuleResult(**{**_known(RuleResult, document), "by_class": by_class})


def _known(kind: type[Any], document: dict[str, Any]) -> dict[str, Any]:
    """The keys of a document that are fields of a dataclass."""
    names = {one.name for one in fields(kind)}
    return {name: value for name, value in document.items() if name in names}
