"""Result of `dact export`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class ChangedAnswers:
    """How often an export at its full depth decides otherwise than the PyTorch model at full depth.

    Attributes:
        split: The split or file.
        examples: Its examples.
        different: Examples that differ.
    """

    split: str
    examples: int
    different: int

    @property
    def rate(self) -> float:
        """The share that differs."""
        return self.different / self.examples

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "rate": self.rate}


@dataclass(frozen=True)
class ExportResult:
    """An export and what it promises.

    Attributes:
        run: Name of the exported run.
        folder: The folder written.
        precision: `float32` or `int8`.
        float_layers: Layers that are in float32 where the others are int8.
        layers: Layers of the export.
        model_layers: Layers of the model.
        stages: The last layer of each stage.
        rule: The halting rule, traced into the stages.
        promise: What the rule guarantees; None if nothing.
        failure: Why there is no certificate, and what to do; None where there is one, or none was asked for.
        changed: What the export alone changes; None where there are no examples to measure it on.
        fused: How many layers have fused attention.
        bytes: Size of the folder.
        model_bytes: Size of the run's weights and tokenizer.
        files: Names of the files.
    """

    run: str
    folder: str
    precision: str
    float_layers: list[int]
    layers: int
    model_layers: int
    stages: list[int]
    rule: str
    promise: str | None
    failure: str | None
    changed: ChangedAnswers | None
    fused: int
    bytes: int
    model_bytes: int
    files: list[str]

    def to_json(self) -> dict[str, Any]:
        """The `dact export --json` document."""
        return {**asdict(self), "changed": self.changed.to_json() if self.changed else None}
