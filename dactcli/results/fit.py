"""Results of `dact finetune`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from dactcli.results.calibrate import Calibration
from dactcli.results.evaluate import EvalResult


@dataclass(frozen=True)
class StepLog:
    """One log entry of a training.

    Attributes:
        loss: Mean loss since the last log.
        learning_rate: Encoder learning rate.
        grad_norm: Gradient norm before clipping.
        epoch: Epochs completed in this stage.
        examples_per_second: Throughput since the last log, without evaluations.
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
class KeptEpoch:
    """The epoch whose weights are kept, by the task's metric at full depth on validation.

    Attributes:
        stage: Label of its stage.
        epoch: Epochs completed in the stage.
        step: Its step in the stage.
        metric: The metric at full depth on validation; None if it is undefined.
    """

    stage: str
    epoch: float
    step: int
    metric: float | None

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> KeptEpoch:
        """Read a document of `asdict`; unknown keys are ignored."""
        return cls(**{name: document[name] for name in ("stage", "epoch", "step", "metric")})


@dataclass(frozen=True)
class TrainResult:
    """Result of a fine-tuning run.

    Attributes:
        run: The run folder.
        steps: Optimizer steps over all stages.
        seconds: Wall time of training, without the final evaluation.
        evaluation: The final evaluation, by split.
        resumed: Whether the run resumed from a checkpoint.
        halting_fitted: Whether halting thresholds were fitted on validation after the last epoch.
        kept: The epoch kept by `training.keep: best`; None if the weights after the last step are kept.
        calibration: The certificate of `evaluation.risk`; None if none was requested or nothing could be tested.
        parameters: Parameters of the model; None in runs of earlier versions.
        trainable_parameters: Parameters that training changed; with LoRA, its weights and the exit heads. None in runs
            of earlier versions.
        already_finished: Whether the run was finished already, with nothing left to resume; not in the JSON.
        splits: The recipe's splits; not in the JSON.
    """

    run: str
    steps: int
    seconds: float
    evaluation: dict[str, EvalResult]
    resumed: bool = False
    halting_fitted: bool = False
    kept: KeptEpoch | None = None
    calibration: Calibration | None = None
    parameters: int | None = None
    trainable_parameters: int | None = None
    already_finished: bool = False
    splits: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The `dact finetune --json` document."""
        return {
            "run": self.run,
            "steps": self.steps,
            "seconds": self.seconds,
            "resumed": self.resumed,
            "halting_fitted": self.halting_fitted,
            "parameters": self.parameters,
            "trainable_parameters": self.trainable_parameters,
            "kept": asdict(self.kept) if self.kept is not None else None,
            "calibration": self.calibration.to_json() if self.calibration is not None else None,
            "evaluation": {split: result.to_json() for split, result in self.evaluation.items()},
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> TrainResult:
        """Read a document of `to_json`, such as summary.json; unknown keys are ignored."""
        known = {
            name: document[name]
            for name in (
                "run",
                "steps",
                "seconds",
                "resumed",
                "halting_fitted",
                "parameters",
                "trainable_parameters",
            )
            if name in document
        }
        evaluation = {split: EvalResult.from_json(found) for split, found in document["evaluation"].items()}
        found = document.get("calibration")
        calibration = Calibration.from_json(found) if found is not None else None
        kept = KeptEpoch.from_json(document["kept"]) if document.get("kept") is not None else None
        return cls(evaluation=evaluation, calibration=calibration, kept=kept, already_finished=True, **known)


@dataclass(frozen=True)
class Spread:
    """A figure over several seeds.

    Attributes:
        mean: Mean over the seeds; None if the figure is undefined for one of them.
        sd: Sample standard deviation; None as for the mean.
    """

    mean: float | None
    sd: float | None


@dataclass(frozen=True)
class SeedSummary:
    """One combination of values, trained with several seeds.

    Attributes:
        values: The combination by key, without the seed; empty if only the seed varies.
        seeds: The seeds.
        rules: `metric`, `layers_mean` and `agreement_with_full` on validation, by rule; `certified` stands for the
            certified rule of each run, which has a threshold of its own.
        on_front: Whether no other combination with as few mean layers has a better mean metric.
    """

    values: dict[str, str]
    seeds: list[str]
    rules: dict[str, dict[str, Spread]]
    on_front: bool = False


@dataclass(frozen=True)
class SweepResult:
    """Result of a sweep: its runs, and their Pareto front.

    Attributes:
        recipe: Path of the recipe file.
        sweep: The swept keys and values, `KEY=V1,V2` each, with the seeds.
        drawn: Number of combinations drawn at random; None for all of them.
        rule: The rule that compares the runs.
        runs: Run folder, values, rules and references of each run; `certified`: its certified rule with its figures.
        front: The Pareto front: runs for which no run with as few layers has a better metric.
        over_seeds: Mean and standard deviation over the seeds of each combination.
    """

    recipe: str
    sweep: list[str]
    drawn: int | None = None
    rule: str = ""
    runs: list[dict[str, Any]] = field(default_factory=list)
    front: list[str] = field(default_factory=list)
    over_seeds: list[SeedSummary] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The document of sweep.json and of `dact finetune --sweep --json`."""
        return asdict(self)


@dataclass(frozen=True)
class RecipePlan:
    """Result of `dact finetune --dry-run`.

    Attributes:
        recipe: The resolved recipe as plain values.
        text: The resolved recipe as YAML.
        stages: One sentence per training stage.
    """

    recipe: dict[str, Any]
    text: str
    stages: list[str]

    def to_json(self) -> dict[str, Any]:
        """The `dact finetune --dry-run --json` document."""
        return {"recipe": self.recipe, "stages": self.stages}
