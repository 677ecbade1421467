"""What `dact validate` computes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class SplitFacts:
    """What a split holds.

    Attributes:
        examples: How many.
        tokens_p50: Median tokens of an example, before cutting.
        tokens_p95: 95th percentile, before cutting.
        tokens_max: Longest, before cutting.
        cut: Examples longer than `data.max_length`.
        labels: Share of the examples that have each class or label; empty for regression and where there are none.
        majority: Share of the most frequent class or label set, which a constant answer gets right; None without
            classes.
        labels_mean: Mean number of labels of an example; None where each has one class or a value.
    """

    examples: int
    tokens_p50: int
    tokens_p95: int
    tokens_max: int
    cut: int
    labels: dict[str, float]
    majority: float | None = None
    labels_mean: float | None = None


@dataclass(frozen=True)
class PlanResult:
    """What a recipe comes to, before anything is trained.

    Attributes:
        splits: By name.
        encoder: Its family and width.
        layers: N.
        parameters: Of the whole model.
        stages: A sentence each.
        steps: Optimizer steps in all.
        seconds_per_step: Measured on batches of the data.
        seconds: Of training, without evaluations.
        memory_mib: Peak of the process, weights, gradients and optimizer included.
        disk_mib: Of the run while it is trained.
        device: Where it was measured.
        notices: What is allowed but worth telling.
    """

    splits: dict[str, SplitFacts]
    encoder: str
    layers: int
    parameters: int
    stages: list[str]
    steps: int
    seconds_per_step: float
    seconds: float
    memory_mib: float
    disk_mib: float
    device: str
    notices: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The document of `dact validate --json`."""
        return asdict(self)
