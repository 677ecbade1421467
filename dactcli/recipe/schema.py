"""What a recipe may say: one pydantic section per heading, strict, unknown keys refused.

Only `data.source` and `model.encoder` are required; every other key has the default that stands here, and a
known task (`dactcli.recipe.tasks`) fills in its columns, labels and metric. Paths are kept as written;
`recipe.load` makes them absolute.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Metric = Literal["accuracy", "f1", "matthews_correlation", "pearson", "spearman"]
REGRESSION_METRICS = ("pearson", "spearman")
SPLITS = ("train", "validation", "calibration", "test")

PositiveInt = Annotated[int, Field(ge=1)]
Batch = Annotated[int, Field(ge=1, le=1_000_000)]
Count = Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy takes for a seed
Share = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Weights = Annotated[list[Positive], Field(min_length=1)]
Files = str | Annotated[list[str], Field(min_length=1)]
Split = Files | Annotated[float, Field(gt=0, lt=1)]


class Section(BaseModel):
    """A part of a recipe: strict types, no unknown keys, finite numbers, frozen once read."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class TaskSection(Section):
    """What is to be learned. A known `name` fills in what is left out."""

    name: str = "classification"
    """A known task fills in columns, labels, metric and hub address; any other name is a plain classification task."""
    metric: Metric | None = None
    """What runs are judged by. null: the task's own, else accuracy, or pearson for numbers."""
    labels: list[str] | None = None
    """Class names in order. null: the task's own, else as found in train."""
    range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    """Regression: lowest and highest value. null: that of the numbers in train."""

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
    """Where the examples come from: generated, the Hugging Face hub, or files."""
    name: str | None = None
    """Of the data set on the hub, or a folder laid out like one. null: the task's own."""
    config: str | None = None
    """Of the data set on the hub. null: the task's own."""
    revision: str | None = None
    """Of the data set on the hub: a branch, tag or commit. null: the task's own."""
    train: Files | None = None
    """Files (csv, tsv, jsonl, json or parquet, also .gz and .zst; one file, glob or address, or a list), or the name
    of a hub split."""
    validation: Split | None = None
    """Files, a hub split, or a fraction of train, each class in its share. It is watched during training, and the
    halting thresholds are learned on it."""
    calibration: Split | None = None
    """The same, for `dact eval --calibrate`; serves nothing else."""
    test: Split | None = None
    """The same, to be reported once."""
    text: str = "sentence"
    """Column of the text."""
    text_pair: str | None = None
    """Column of the second text. null: there is none."""
    label: str = "label"
    """Column of the class or number."""
    max_length: Annotated[int, Field(ge=4)] = 128
    """Most tokens of an example; what is longer is cut, and counted."""
    examples: PositiveInt | None = None
    """Builtin: training sentences to generate. null: 30,000."""

    @property
    def splits(self) -> list[str]:
        """The splits that there are."""
        return [split for split in SPLITS if getattr(self, split) is not None]


class Geometry(Section):
    """An encoder to train from scratch: sizes of a BERT-like model, and of the vocabulary learned for it."""

    model_config = ConfigDict(protected_namespaces=())

    model_type: Literal["bert", "roberta"] = "bert"
    """Family."""
    hidden_size: PositiveInt = 128
    """Width."""
    num_hidden_layers: PositiveInt = 6
    """Layers."""
    num_attention_heads: PositiveInt = 4
    """Heads; they divide the width."""
    intermediate_size: PositiveInt = 512
    """Width between the two products of a layer."""
    vocab_size: PositiveInt = 8000
    """Most words and pieces of the vocabulary that is learned from train."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """On hidden states and attention."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Geometry:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError("needs a hidden_size that is a multiple of num_attention_heads")
        return self


class ModelSection(Section):
    """The encoder and the units on top of its layers."""

    encoder: str | Geometry
    """Hub name, folder, or a mapping: a geometry to train from scratch."""
    layers: PositiveInt | None = None
    """Keep the first so many layers. null: all."""
    pooling: Literal["attention", "mean", "first"] = "attention"
    """What a unit sees of its layer: learned weights on tokens beside their maximum, the mean, or the first token."""
    share_units: bool = False
    """One unit for all layers."""
    halting_bias: Literal["auto"] | float = "auto"
    """Start of the halting bias. auto: such that p_N = 0.5."""
    halting_inputs: Literal["answer", "features", "features+answer"] = "answer"
    """What the halting unit sees of its layer: how sure its answer is, with a threshold that is learned on the
    validation split after the stages; its features, in the stages; or these and the answer's confidence and entropy. A
    regression has features only."""
    certainty: bool = False
    """A head that predicts whether a layer is right, for the rule `learned`."""
    keep_classifier: bool = False
    """The encoder is a classifier that was fine-tuned elsewhere: encoder and classifier stay as they are, the last
    layer answers as it always did, and only the units are trained."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """The encoder's type in training; weights, units and loss stay float32. float16: CUDA only."""


class DactSection(Section):
    """The loss, L = answer loss of a_N + tau * ponder cost, and what goes with it."""

    tau: NonNegative | None = 0.01
    """Price of a layer: with the defaults below, the accuracy that one more layer must bring (0.01: a point). For a
    regression 0.05 unless given. null: no DACT loss, the layers alone are trained."""
    ponder: Literal["sum_p", "sum_h"] = "sum_p"
    """What is priced: the sum of p_n (layers as the example runs them), or of h_n (DACT-BERT's form)."""
    answer_loss: Literal["error", "nll"] = "error"
    """What a_N is charged for: the probability it gives to wrong classes, or its NLL (the papers')."""
    layer_loss: Literal["equal", "depth", "alternate", "none"] = "equal"
    """Losses of the layers' own answers: equal weights, by depth, equal and last in turn (BERxiT), or none."""
    layer_loss_weight: NonNegative = 1.0
    """Factor of these losses."""
    detach: bool = True
    """The DACT loss trains the halting and leaves the layers' answers to their own losses."""
    distill: NonNegative = 0.0
    """Factor of the distillation from the last layer into the others."""
    tau_delay: Share = 0.3
    """Share of the steps before tau acts, in the first stage that trains the layers: they must know something first."""

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
    """Passes over train."""
    max_steps: PositiveInt | None = None
    """Most optimizer steps. null: as the epochs say."""
    batch_size: Batch = 32
    """Examples per step."""
    learning_rate: NonNegative = 5e-5
    """Of the encoder."""
    unit_learning_rate: NonNegative = 5e-4
    """Of the units."""
    schedule: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "linear"
    """Of both rates."""
    warmup: Share = 0.1
    """Share of the steps in which the rates rise."""
    weight_decay: NonNegative = 0.01
    """AdamW's; not on biases and norms."""
    clip: Positive = 1.0
    """Largest norm of the gradient."""
    accumulate: Batch = 1
    """Batches per optimizer step."""
    mask_tokens: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the tokens that each step hides."""


class StageSection(Section):
    """One stage: what it trains, and which training keys it sets for itself."""

    name: Literal["joint", "units", "encoder"]
    tau: NonNegative | None = None
    epochs: Positive | None = None
    max_steps: PositiveInt | None = None
    batch_size: Batch | None = None
    learning_rate: NonNegative | None = None
    unit_learning_rate: NonNegative | None = None
    schedule: Literal["linear", "cosine", "constant", "constant_with_warmup"] | None = None
    warmup: Share | None = None
    weight_decay: NonNegative | None = None
    clip: Positive | None = None
    accumulate: Batch | None = None
    mask_tokens: Annotated[float, Field(ge=0, lt=1)] | None = None


class TrainingSection(TrainingKeys):
    """How the model is trained: one or more stages with the transformers Trainer."""

    stages: Annotated[list[StageSection], Field(min_length=1)] = [StageSection(name="joint")]
    """One or more; each `joint` (everything), `units` (encoder frozen) or `encoder` (plain, last layer only)."""
    class_weights: Literal["balanced"] | Weights | None = None
    """Weights of the classes in the loss, in the labels' order, or by their frequency in train; scaled to mean 1 over
    train."""
    report_to: list[str] = ["tensorboard"]
    """Trackers, by transformers' names."""
    seed: Count = 0
    """Of weights, order, dropout and drawn splits."""
    save_steps: PositiveInt | None = None
    """Steps between checkpoints. null: one per epoch."""
    log_steps: PositiveInt = 20
    """Steps between log lines."""


class EvaluationSection(Section):
    """Which halting rules the run is judged by."""

    rules: Annotated[list[str], Field(min_length=1)] | None = None
    """Halting rules that the run is judged by. null: full, paper and exact; full and tolerance for a regression."""
    batch_size: Batch = 64
    """Examples per batch."""


class OutputSection(Section):
    """Where the run folder goes: `dir/name-<n>`."""

    dir: str = "runs"
    """Where run folders go, relative to the current folder."""
    name: str | None = None
    """The run folder is `dir/name-<n>`. null: the task's name."""

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

    @property
    def fits_halting(self) -> bool:
        """Whether the halting is learned on the validation split when the stages are through."""
        priced = any(self.stage_tau(stage) is not None for stage in self.training.stages)
        return priced and self.model.halting_inputs == "answer"

    def stage_tau(self, stage: StageSection) -> float | None:
        """The price of a layer in a stage: its own, which may be null, or else that of the dact section.

        Returns:
            None where the stage has no DACT loss.
        """
        if self.dact is None or stage.name == "encoder":
            return None
        return stage.tau if "tau" in stage.model_fields_set else self.dact.tau
