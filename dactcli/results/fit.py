"""What `dact finetune` computes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from dactcli.results.calibrate import Calibration
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
        calibration: The certificate of `evaluation.risk`; None where none was asked for or nothing could be tested.
        already_finished: Whether the run was finished before, so that nothing was left to resume; not in the JSON.
        splits: The splits that the recipe has; not in the JSON.
    """

    run: str
    steps: int
    seconds: float
    evaluation: dict[str, EvalResult]
    resumed: bool = False
    halting_fitted: bool = False
    calibration: Calibration | None = None
    already_finished: bool = False
    splits: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The document of `dact finetune --json`."""
        return {
            "run": self.run,
            "steps": self.steps,
            "seconds": self.seconds,
            "resumed": self.resumed,
            "halting_fitted": self.halting_fitted,
            "calibration": self.calibration.to_json() if self.calibration is not None else None,
            "evaluation": {split: result.to_json() for split, result in self.evaluation.items()},
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> TrainResult:
        """Read a document of `to_json`, such as summary.json; keys that this version does not know are left out."""
        known = {
            name: document[name]
            for name in ("run", "steps", "seconds", "resumed", "halting_fitted")
            if name in document
        }
        evaluation = {split: EvalResult.from_json(found) for split, found in document["evaluation"].items()}
        found = document.get("calibration")
        calibration = Calibration.from_json(found) if found is not None else None
        return cls(evaluation=evaluation, calibration=calibration, already_finished=True, **known)


@dataclass(frozen=True)
class SweepResult:
    """A sweep: its runs, and the front that they make.

    Attributes:
        recipe: The recipe's file.
        sweep: The swept keys and values, `KEY=V1,V2` each.
        rule: The rule that the runs are judged by.
        runs: Run folder, values, rules and references of each run.
        front: The runs that no other run beats in metric at as few layers.
    """

    recipe: str
    sweep: list[str]
    rule: str = ""
    runs: list[dict[str, Any]] = field(default_factory=list)
    front: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The document of sweep.json and of `dact finetune --sweep --json`."""
        return asdict(self)


@dataclass(frozen=True)
class RecipePlan:
    """What `dact finetune --dry-run` shows.

    Attributes:
        recipe: The resolved recipe as plain values.
        text: The same as YAML.
        stages: One sentence per training stage.
    """

    recipe: dict[str, Any]
    text: str
    stages: list[str]

    def to_json(self) -> dict[str, Any]:
        """The document of `dact finetune --dry-run --json`."""
        return {"recipe": self.recipe, "stages": self.stages}
