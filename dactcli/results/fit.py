"""What `dact finetune` computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dactcli.results.evaluate import EvalResult


@dataclass(frozen=True)
class StepLog:
    """What a training says of itself every few steps.

    Attributes:
        loss: Mean since the last log.
        learning_rate: Of the encoder.
        grad_norm: Before clipping.
        epoch: Epochs done in this stage.
        examples_per_second: Since the last log, without evaluations.
        layers_mean: Mean layers of the last batches under the sound rule; None without the DACT loss.
        halting_weights: Mean w_n over the last batches [N]; None without the DACT loss.
    """

    loss: float
    learning_rate: float
    grad_norm: float
    epoch: float
    examples_per_second: float
    layers_mean: float | None = None
    halting_weights: list[float] | None = None


@dataclass(frozen=True)
class TrainResult:
    """How a fine-tuning ended.

    Attributes:
        run: The run folder.
        steps: Optimizer steps over all stages.
        seconds: Wall time of training, without the final evaluation.
        evaluation: The final evaluation, by split.
        resumed: Whether it went on from a checkpoint.
        halting_fitted: Whether halting thresholds were fitted on validation after the last epoch.
    """

    run: str
    steps: int
    seconds: float
    evaluation: dict[str, EvalResult]
    resumed: bool = False
    halting_fitted: bool = False

    def to_json(self) -> dict[str, Any]:
        """The document of `dact finetune --json`."""
        return {
            "run": self.run,
            "steps": self.steps,
            "seconds": self.seconds,
            "resumed": self.resumed,
            "halting_fitted": self.halting_fitted,
            "evaluation": {split: result.to_json() for split, result in self.evaluation.items()},
        }
