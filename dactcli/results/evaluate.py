"""What `dact eval` computes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

REFERENCES = {"majority": "majority class", "empty": "no label", "mean": "mean label", "last_layer": "last layer"}
CLASSES_SHOWN, WORST_SHOWN = 12, 5  # classes in a table: up to so many are all shown, of more the worst


@dataclass(frozen=True)
class ClassResult:
    """One class under one halting rule; what needs labels is None without them.

    Attributes:
        examples: Examples of the class.
        recall: Share of them that the rule answers with the class.
        full_recall: The same at full depth.
        harm: Share of them that full depth has right and the rule has wrong.
        disagreement: Share of them that the rule answers otherwise than full depth.
        layers_mean: Mean layers run.
    """

    examples: int
    recall: float | None
    full_recall: float | None
    harm: float | None
    disagreement: float
    layers_mean: float


def classes_shown(by_class: dict[str, ClassResult]) -> list[str]:
    """The classes that a table has room for: all of a few, of many the worst.

    The worst have most harm (without labels: most disagreement); among equals, the lowest recall.
    """
    if len(by_class) <= CLASSES_SHOWN:
        return list(by_class)

    def goodness(name: str) -> tuple[float, float]:
        found = by_class[name]
        return -(found.disagreement if found.harm is None else found.harm), found.recall or 0.0

    return sorted(by_class, key=goodness)[:WORST_SHOWN]


@dataclass(frozen=True)
class Reference:
    """A plain answer that stands beside the rules, so that their metric has a measure.

    Attributes:
        metric: The task's metric; None where it is undefined or there are no labels.
        metrics: All metrics by name.
        agreement_with_full: Share of examples that full depth answers alike.
        answer: The constant answer (a class name, or the mean label); None for the last layer.
    """

    metric: float | None
    metrics: dict[str, float | None]
    agreement_with_full: float
    answer: str | float | None = None


@dataclass(frozen=True)
class RuleResult:
    """What one halting rule makes of a split.

    Attributes:
        metric: The task's metric, None for unlabelled data and where it is undefined.
        metrics: All metrics by name, None where one is undefined; empty for unlabelled data.
        layers_mean: Mean layers run.
        layers_share: The same, divided by N.
        depths: How many examples stopped after layer 1..N.
        agreement_with_full: Share of examples answered as at full depth (for regression: within 1 % of the range).
        threshold: The rule's value.
        certificate: What is promised of it.
        by_class: Recall, harm and disagreement, by name of the class; empty for regression.
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
        """The classes that a table has room for."""
        return classes_shown(self.by_class)


@dataclass(frozen=True)
class EvalResult:
    """A run evaluated on a split by several rules.

    Attributes:
        metric: Name of the task's metric.
        layers: N.
        rules: By rule.
        depth_by_difficulty: Mean layers by difficulty, by rule.
        references: Plain answers to hold the rules against: `majority` (always the most frequent class or label set;
            `empty`, never a label; `mean`, always the mean label, for regression) and `last_layer` (y_N alone).
        full_depth: What full depth answers with: the `mixture` a_N of a DACT model, else the `last_layer`.
        decision: What an answer decides on: `class`, `label set`, or `value` for regression.
        by_class_of: What `by_class` groups by: the `label`, or the `full_depth` class where there are no labels.
        notices: What the reader of the figures should know, such as why a metric is undefined.
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
    decision: str = "class"

    @property
    def beside(self) -> dict[str, Reference]:
        """The references that say something that no rule says: not the last layer where it is what `full` answers."""
        known = self.full_depth == "last_layer" and "full" in self.rules
        return {name: found for name, found in self.references.items() if name != "last_layer" or not known}

    def reference_name(self, name: str) -> str:
        """What a reference is called in tables."""
        return f"majority {self.decision}" if name == "majority" else REFERENCES[name]

    @property
    def telling_rule(self) -> str | None:
        """The rule that details are shown of: the certified one, else the last that stops early, else the last."""
        certified = [name for name, judged in self.rules.items() if judged.certificate is not None]
        early = [name for name, judged in self.rules.items() if judged.depths[-1] < self.examples]
        return next(reversed(certified or early or list(self.rules)), None)

    def to_json(self) -> dict[str, Any]:
        """The document of `dact eval --json`."""
        document = asdict(self)
        if not self.depth_by_difficulty:
            del document["depth_by_difficulty"]
        return document

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> EvalResult:
        """Read a document of `to_json`; keys that this version does not know are left out."""
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
