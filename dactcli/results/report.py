"""Result of `dact report`: everything that its page shows."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from dactcli.results.calibrate import Calibration
from dactcli.results.compare import CurvePoint
from dactcli.results.evaluate import EvalResult
from dactcli.results.inspect import ExitTrace


@dataclass(frozen=True)
class ReportedModel:
    """Facts about a model.

    Attributes:
        task: Name of the task; None without a recipe.
        encoder: Name of the pretrained encoder in the recipe; None if unknown.
        family: Encoder family, as transformers calls it.
        layers: N.
        parameters: Parameters of the whole model.
        max_length: Maximum tokens per example.
        long_texts: What is read of longer texts: `cut`, `head+tail` or `window`.
        objective: What the model was trained for: `dact`, `layers` or `last`.
        names: Class names; empty for regression.
    """

    task: str | None
    encoder: str | None
    family: str
    layers: int
    parameters: int
    max_length: int
    long_texts: str
    objective: str
    names: list[str]


@dataclass(frozen=True)
class Confusion:
    """Examples of one class that are answered with another.

    Attributes:
        label: Name of the true class.
        answer: Name of the class that is answered.
        examples: Number of such examples.
        share: Their share of the examples of the true class.
    """

    label: str
    answer: str
    examples: int
    share: float


@dataclass(frozen=True)
class ReliabilityBin:
    """Examples whose answers are about equally confident.

    Attributes:
        low: Lower bound of the confidence.
        high: Upper bound of the confidence.
        examples: Number of examples.
        confidence: Mean probability of the answered class.
        accuracy: Share of correct answers.
    """

    low: float
    high: float
    examples: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class LengthBin:
    """Examples of similar length.

    Attributes:
        shortest: Fewest tokens.
        longest: Most tokens.
        examples: Number of examples.
        layers_mean: Mean layers run.
        accuracy: Share of correct answers; None for regression, label sets and unlabelled data.
    """

    shortest: int
    longest: int
    examples: int
    layers_mean: float
    accuracy: float | None = None


@dataclass(frozen=True)
class ReportedTime:
    """One case of an earlier profile.

    Attributes:
        batch_size: Examples per batch.
        pooled: Whether a whole data set ran with pooled survivors.
        stock_ms: Median milliseconds of the stock encoder per batch; for a data set, of all examples.
        full_ms: The same of full depth.
        adaptive_ms: The same of adaptive inference.
        ratio: Adaptive time over stock time.
        ratio_low: Lower bound of its 95% interval.
        ratio_high: Upper bound of its 95% interval.
    """

    batch_size: int
    pooled: bool
    stock_ms: float
    full_ms: float
    adaptive_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float


@dataclass(frozen=True)
class RunReport:
    """A run on one split: figures, examples, times and recipe.

    Attributes:
        model: Facts about the model.
        evaluation: The evaluation of all rules on the split.
        rule: The rule that the details below describe.
        promise: What the rule guarantees, by its calibration or by proof; None if nothing.
        calibration: The valid calibration; None without one.
        curve_rule: Name of the rule whose thresholds `curve` goes through; None without a curve.
        curve: The metric against mean layers at every threshold; empty for regression and unlabelled data.
        confusions: Wrong answers by label and answer, most frequent first; empty if not applicable.
        confusion_matrix: Examples by true class and answered class; None if not applicable or above 50 classes.
        reliability: Accuracy by confidence; empty if not applicable.
        calibration_error: Expected calibration error over these bins; None without bins.
        by_length: Depth and accuracy by length in tokens.
        hardest: The deepest examples, the smallest margins first.
        disagreeing: Examples whose answer differs from full depth, the largest margins first.
        training: Steps, seconds, device, threads, processes and seed of the training; empty if unknown.
        versions: Package versions of the training; empty if unknown.
        times: The times in the run's profile.json; empty without one.
        machine: Device, threads, float type and versions of those times.
        recipe: The resolved recipe as YAML; None without one.
    """

    model: ReportedModel
    evaluation: EvalResult
    rule: str
    promise: str | None = None
    calibration: Calibration | None = None
    curve_rule: str | None = None
    curve: list[CurvePoint] = field(default_factory=list)
    confusions: list[Confusion] = field(default_factory=list)
    confusion_matrix: list[list[int]] | None = None
    reliability: list[ReliabilityBin] = field(default_factory=list)
    calibration_error: float | None = None
    by_length: list[LengthBin] = field(default_factory=list)
    hardest: list[ExitTrace] = field(default_factory=list)
    disagreeing: list[ExitTrace] = field(default_factory=list)
    training: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    times: list[ReportedTime] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=dict)
    recipe: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The `dact report --json` document."""
        return {
            **asdict(self),
            "evaluation": self.evaluation.to_json(),
            "calibration": self.calibration.to_json() if self.calibration is not None else None,
            "hardest": [trace.to_json() for trace in self.hardest],
            "disagreeing": [trace.to_json() for trace in self.disagreeing],
        }
