"""Result of `dact validate`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class SplitFacts:
    """Facts about a split.

    Attributes:
        examples: Number of examples.
        tokens_p50: Median tokens per example, before truncation.
        tokens_p95: 95th percentile of tokens per example, before truncation.
        tokens_max: Maximum tokens per example, before truncation.
        cut: Number of examples longer than `data.max_length`.
        labels: Share of the examples with each class or label; empty for regression and without labels.
        counts: Number of examples with each class or label; empty as `labels`.
        majority: Share of the most frequent class or label set, the accuracy of a constant answer; None without them.
        labels_mean: Mean number of labels per example; None for classes and regression.
    """

    examples: int
    tokens_p50: int
    tokens_p95: int
    tokens_max: int
    cut: int
    labels: dict[str, float]
    majority: float | None = None
    labels_mean: float | None = None
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def imbalance(self) -> float | None:
        """Examples of the most frequent class or label, divided by those of the rarest that has any."""
        known = [count for count in self.counts.values() if count]
        return max(known) / min(known) if known else None


@dataclass(frozen=True)
class PlanResult:
    """What a training would use and cost, found without training.

    Attributes:
        splits: Facts by split.
        encoder: Family and width of the encoder.
        layers: N.
        parameters: Parameters of the whole model.
        trainable_parameters: Parameters that training changes; with LoRA, its weights and the exit heads.
        stages: One sentence per stage.
        steps: Total optimizer steps.
        seconds_per_step: Seconds per step, measured on batches of the data.
        seconds: Estimated training time, without evaluations.
        memory_mib: Peak memory of the process, including weights, gradients and optimizer.
        disk_mib: Disk space of the run during training.
        device: The device of the measurement.
        notices: Warnings about valid but unusual settings.
    """

    splits: dict[str, SplitFacts]
    encoder: str
    layers: int
    parameters: int
    trainable_parameters: int
    stages: list[str]
    steps: int
    seconds_per_step: float
    seconds: float
    memory_mib: float
    disk_mib: float
    device: str
    notices: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The `dact validate --json` document."""
        document = asdict(self)
        for name, facts in self.splits.items():
            document["splits"][name]["imbalance"] = facts.imbalance
        return document
