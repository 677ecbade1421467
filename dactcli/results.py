"""What the commands compute, as frozen dataclasses of plain numbers. Imports nothing of ours, and no torch.

`to_json` of a result is the document of `--json`; its keys are relied on by other programs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class RuleResult:
    """What one halting rule makes of a split.

    Attributes:
        metric: The task's metric, None for unlabelled data.
        metrics: All metrics by name.
        layers_mean: Mean layers run.
        layers_share: The same, divided by N.
        depths: How many examples stopped after layer 1..N.
        agreement_with_full: Share of examples answered as at full depth (for regression: within 1 % of the range).
        threshold: The rule's value.
        certificate: What is promised of it.
    """

    metric: float | None
    metrics: dict[str, float]
    layers_mean: float
    layers_share: float
    depths: list[int]
    agreement_with_full: float
    threshold: float | None = None
    certificate: dict[str, Any] | None = None


@dataclass(frozen=True)
class EvalResult:
    """A run evaluated on a split by several rules."""

    run: str
    split: str
    examples: int
    metric: str
    layers: int
    rules: dict[str, RuleResult]
    depth_by_difficulty: dict[str, dict[str, float]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The document of `dact eval --json`."""
        document = asdict(self)
        if not self.depth_by_difficulty:
            del document["depth_by_difficulty"]
        return document


@dataclass(frozen=True)
class ExitTrace:
    """One example, layer by layer; the lists have one entry per layer that ran.

    Attributes:
        text: The text.
        text_pair: Its second half, None without.
        tokens: How many tokens the encoder saw.
        label: Predicted class, or the predicted value.
        label_name: Its name, None for regression.
        probabilities: By class; empty for regression.
        rule: The rule that halted it.
        exit_layer: The last layer that ran.
        layers: N.
        layer_probabilities: y_n.
        halting: h_n.
        remaining: p_n.
        halting_weights: w_n of the answer.
        answers: a_n.
        scores: The rule's score after each layer; None where it has none (`full`).
        cut: The score from which on the rule halts.
        notices: What the user should know: empty text, truncation.
    """

    text: str
    text_pair: str | None
    tokens: int
    label: int | float
    label_name: str | None
    probabilities: list[float]
    rule: str
    exit_layer: int
    layers: int
    layer_probabilities: list[list[float]]
    halting: list[float]
    remaining: list[float]
    halting_weights: list[float]
    answers: list[list[float]]
    scores: list[float | None]
    cut: float
    notices: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """One entry of `dact inspect --json`."""
        return asdict(self)


@dataclass(frozen=True)
class Measurement:
    """Times of one way to run a batch.

    Attributes:
        latency_ms_p50: Median milliseconds per batch; p90 and p99 likewise.
        examples_per_second: From the median.
        latency_ms_spread: Interquartile range over median of the repeated measurements.
        layers_mean: Mean layers run; None for the stock encoder.
        depths: How many examples stopped after layer 1..N.
        samples_ms: Every measurement.
    """

    latency_ms_p50: float
    latency_ms_p90: float
    latency_ms_p99: float
    examples_per_second: float
    latency_ms_spread: float
    layers_mean: float | None = None
    depths: list[int] | None = None
    samples_ms: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Interval:
    """A median with the bounds of its 95 % bootstrap interval."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class ProfileCase:
    """Stock encoder, full depth and adaptive inference on the same batches, measured in turn."""

    batch_size: int
    sequence_length: int | None
    rule: str
    stock: Measurement
    full: Measurement
    adaptive: Measurement
    time_ratio_to_stock: Interval
    full_ratio_to_stock: Interval


@dataclass(frozen=True)
class ProfileResult:
    """All cases of a profile, and where they were measured."""

    environment: dict[str, Any]
    cases: list[ProfileCase]
    notices: list[str] = field(default_factory=list)
    trace: str | None = None

    def to_json(self, *, raw: bool = False) -> dict[str, Any]:
        """The document of `dact profile --json`; single measurements only when `raw`."""
        document = asdict(self)
        for case in document["cases"]:
            for way in ("stock", "full", "adaptive"):
                if not raw:
                    del case[way]["samples_ms"]
        return document


@dataclass(frozen=True)
class TrainResult:
    """How a fine-tuning ended.

    Attributes:
        run: The run folder.
        steps: Optimizer steps over all stages.
        seconds: Wall time of training, without the final evaluation.
        evaluation: The final evaluation, by split.
        resumed: Whether it went on from a checkpoint.
    """

    run: str
    steps: int
    seconds: float
    evaluation: dict[str, EvalResult]
    resumed: bool = False

    def to_json(self) -> dict[str, Any]:
        """The document of `dact finetune --json`."""
        return {
            "run": self.run,
            "steps": self.steps,
            "seconds": self.seconds,
            "resumed": self.resumed,
            "evaluation": {split: result.to_json() for split, result in self.evaluation.items()},
        }
