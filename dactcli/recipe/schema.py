"""What a recipe may say: one pydantic section per heading, strict, unknown keys refused.

Only `data.source` and `model.encoder` are required; every other key has the default that stands here, and a
known task (`dactcli.data.tasks`) fills in its columns, labels and metric. Paths are kept as written;
`recipe.load` makes them absolute.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Metric = Literal["accuracy", "f1", "matthews_correlation", "pearson", "spearman"]
REGRESSION_METRICS = ("pearson", "spearman")
SPLITS = ("train", "validation", "calibration", "test")

PositiveInt = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy takes for a seed
Share = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Weights = Annotated[list[Positive], Field(min_length=2)]
Files = str | Annotated[list[str], Field(min_length=1)]
Split = Files | Annotated[float, Field(gt=0, lt=1)]


class Section(BaseModel):
    """A part of a recipe: strict types, no unknown keys, finite numbers, frozen once read."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class TaskSection(Section):
    """What is to be learned. A known `name` fills in what is left out."""

    name: str = "classification"
    metric: Metric | None = None
    labels: list[str] | None = None
    range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None  # regression: lowest, highest

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: list[str] | None) -> list[str] | None:
        if labels is not None and (len(labels) < 2 or len(set(labels)) != len(labels)):
            raise ValueError("needs at least two names, all different")
        return labels

    @field_validator("range")
    @classmethod
    def _ordered(cls, bounds: list[float] | None) -> list[float] | None:
        if bounds is not None and not bounds[0] < bounds[1]:
            raise ValueError("needs the lowest value first, then the highest")
        return bounds


class DataSection(Section):
    """Where the examples come from. A split may be files, or a fraction taken out of train."""

    source: Literal["builtin", "hub", "files"]
    name: str | None = None
    config: str | None = None
    revision: str | None = None  # hub: a branch, tag or commit of the data set
    train: Files | None = None
    validation: Split | None = None
    calibration: Split | None = None
    test: Split | None = None
    text: str = "sentence"
    text_pair: str | None = None
    label: str = "label"
    max_length: Annotated[int, Field(ge=4)] = 128
    examples: PositiveInt | None = None  # builtin: training sentences to generate


class Geometry(Section):
    """An encoder to train from scratch: sizes of a BERT-like model, and of the vocabulary learned for it."""

    model_config = ConfigDict(protected_namespaces=())

    model_type: Literal["bert", "roberta"] = "bert"
    hidden_size: PositiveInt = 128
    num_hidden_layers: PositiveInt = 6
    num_attention_heads: PositiveInt = 4
    intermediate_size: PositiveInt = 512
    vocab_size: PositiveInt = 8000
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1

    @model_validator(mode="after")
    def _heads_divide(self) -> Geometry:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError("needs a hidden_size that is a multiple of num_attention_heads")
        return self


class ModelSection(Section):
    """The encoder and the units on top of its layers."""

    encoder: str | Geometry
    layers: PositiveInt | None = None
    pooling: Literal["attention", "mean", "first"] = "attention"
    share_units: bool = False
    halting_bias: Literal["auto"] | float = "auto"
    halting_inputs: Literal["features", "features+answer"] = "features"
    certainty: bool = False  # a head that predicts whether a layer is right, for the rule `learned`
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"


class DactSection(Section):
    """The loss: shared/design terms, L = NLL(a_N, label) + tau * ponder cost, and what goes with it."""

    tau: NonNegative | None = 0.05
    ponder: Literal["sum_h", "sum_p"] = "sum_h"
    layer_loss: Literal["equal", "depth", "alternate", "none"] = "equal"
    layer_loss_weight: NonNegative = 1.0
    detach: bool = True
    distill: NonNegative = 0.0
    tau_delay: Share = 0.3  # share of a joint stage's steps before tau acts: first the layers must know something

    @model_validator(mode="after")
    def _answers_are_trained(self) -> DactSection:
        unweighted = (self.layer_loss == "none" or self.layer_loss_weight == 0) and self.distill == 0
        if unweighted and (self.detach or self.tau is None):
            raise ValueError(
                "leaves the layers' answers untrained: no layer loss, and the DACT loss is kept from them"
                "; choose a layer_loss with a weight, or set detach to false and tau to a number"
            )
        return self


class TrainingKeys(Section):
    """What a stage may say differently from the whole training."""

    epochs: Positive = 3.0
    max_steps: PositiveInt | None = None
    batch_size: PositiveInt = 32
    learning_rate: NonNegative = 5e-5
    unit_learning_rate: NonNegative = 5e-4
    schedule: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "linear"
    warmup: Share = 0.1
    weight_decay: NonNegative = 0.01
    clip: Positive = 1.0
    accumulate: PositiveInt = 1
    mask_tokens: Annotated[float, Field(ge=0, lt=1)] = 0.1  # share of tokens hidden from each step; keeps layers honest


class StageSection(Section):
    """One stage: what it trains, and which training keys it sets for itself."""

    name: Literal["joint", "units", "encoder"]
    tau: NonNegative | None = None
    epochs: Positive | None = None
    max_steps: PositiveInt | None = None
    batch_size: PositiveInt | None = None
    learning_rate: NonNegative | None = None
    unit_learning_rate: NonNegative | None = None
    schedule: Literal["linear", "cosine", "constant", "constant_with_warmup"] | None = None
    warmup: Share | None = None
    weight_decay: NonNegative | None = None
    clip: Positive | None = None
    accumulate: PositiveInt | None = None
    mask_tokens: Annotated[float, Field(ge=0, lt=1)] | None = None


class TrainingSection(TrainingKeys):
    """How the model is trained: one or more stages with the transformers Trainer."""

    stages: Annotated[list[StageSection], Field(min_length=1)] = [StageSection(name="joint")]
    class_weights: Literal["balanced"] | Weights | None = None  # in the labels' order; scaled to mean 1 over train
    report_to: list[str] = ["tensorboard"]  # trackers, by transformers' names
    seed: Count = 0
    save_steps: PositiveInt | None = None
    log_steps: PositiveInt = 20


class EvaluationSection(Section):
    """Which halting rules the run is judged by."""

    rules: Annotated[list[str], Field(min_length=1)] | None = None
    batch_size: PositiveInt = 64


class OutputSection(Section):
    """Where the run folder goes: `dir/name-<n>`."""

    dir: str = "runs"
    name: str | None = None

    @field_validator("name")
    @classmethod
    def _stays_inside(cls, name: str | None) -> str | None:
        import re

        if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
            raise ValueError("needs letters, digits, dots, dashes and underscores only, a letter or digit first")
        return name


class Recipe(Section):
    """A whole recipe; `format` is the version of these keys and their meaning."""

    format: PositiveInt = 1
    task: TaskSection = TaskSection()
    data: DataSection
    model: ModelSection
    dact: DactSection | None = DactSection()
    training: TrainingSection = TrainingSection()
    evaluation: EvaluationSection = EvaluationSection()
    output: OutputSection = OutputSection()

    def stage_tau(self, stage: StageSection) -> float | None:
        """The price of a layer in a stage: its own, which may be null, or else that of the dact section.

        Returns:
            None where the stage has no DACT loss.
        """
        if self.dact is None or stage.name == "encoder":
            return None
        return stage.tau if "tau" in stage.model_fields_set else self.dact.tau
