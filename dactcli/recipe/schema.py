"""The keys of a recipe: one strict pydantic section per heading; unknown keys are refused.

Only `data.source` and `model.encoder` are required. Every other key has a default, and a known task
(`dactcli.recipe.tasks`) fills in its columns, labels and metric. Paths in a recipe are relative to its folder.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from dactcli.recipe.settings import HaltingInputs, HaltingKeys, NonNegative, Pooling, Positive, Section

Kind = Literal["classes", "multilabel", "regression"]
Metric = Literal[
    "accuracy",
    "f1",
    "matthews_correlation",
    "pearson",
    "spearman",
    "micro_f1",
    "macro_f1",
    "subset_accuracy",
    "label_ranking_average_precision",
]
METRICS: dict[Kind, tuple[Metric, ...]] = {  # the default first
    "classes": ("accuracy", "f1", "matthews_correlation"),
    "multilabel": ("micro_f1", "macro_f1", "subset_accuracy", "label_ranking_average_precision"),
    "regression": ("pearson", "spearman"),
}
LongTexts = Literal["cut", "head+tail", "window"]
SPLITS = ("train", "validation", "calibration", "test")

PositiveInt = Annotated[int, Field(ge=1)]
Batch = Annotated[int, Field(ge=1, le=1_000_000)]
Count = Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy takes for a seed
Share = Annotated[float, Field(ge=0, le=1)]
Probability = Annotated[float, Field(gt=0, lt=1)]
Weights = Annotated[list[Positive], Field(min_length=1)]
Files = str | Annotated[list[str], Field(min_length=1)]
Split = Files | Annotated[float, Field(gt=0, lt=1)]

RISK, DELTA = 0.01, 0.05  # what a run certifies by default


class TaskSection(Section):
    """The task to learn. A known `name` fills in the keys that are left out."""

    name: str = "classification"
    """A known task fills in columns, labels, metric and hub address; any other name is a plain classification task."""
    kind: Kind | None = None
    """What an answer is: one of several classes, any number of labels at once, or a value. null: that of the known
    task, else found in the keys and the data: `range` makes a regression; label columns, `label_separator` or a column
    of lists make multilabel."""
    metric: Metric | None = None
    """Metric that judges a run. null: the metric of the known task, else accuracy, micro_f1 for multilabel, or pearson
    for a regression."""
    labels: list[str] | None = None
    """Names of the classes or labels in order. null: those of the known task, else those found in train."""
    range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    """Lowest and highest value of a regression. null: the range of the numbers in train."""
    thresholds: Literal["one", "per_label"] | Annotated[float, Field(gt=0, lt=1)] = "one"
    """Multilabel: the probability from which on a label is there. `one`: one for all labels, with the best micro F1 on
    validation; `per_label`: one for each label, with the label's best F1; or a number."""

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
    """Name of the data set on the hub, or a folder laid out like one. null: that of the known task."""
    config: str | None = None
    """Configuration of the data set on the hub. null: that of the known task."""
    revision: str | None = None
    """Branch, tag or commit of the data set on the hub. null: that of the known task."""
    train: Files | None = None
    """Files (csv, tsv, jsonl, json or parquet, also .gz and .zst; one file, glob or address, or a list), or the name
    of a hub split."""
    validation: Split | None = None
    """Files, a hub split, or a fraction of train, stratified by class. It is evaluated during training, and
    the halting thresholds are learned on it."""
    calibration: Split | None = None
    """As `validation`, but only used to calibrate: training ends by certifying `evaluation.risk` on it."""
    test: Split | None = None
    """As `validation`, but only used to report the final result."""
    text: str = "sentence"
    """Column of the text."""
    text_pair: str | None = None
    """Column of the second text. null: the task has one text."""
    label: str | Annotated[list[str], Field(min_length=2)] | None = "label"
    """Column of the class, the number or the list of labels; for multilabel also a list of columns of 0 and 1, one for
    each label, which they name. null: the texts have no labels, and the exit heads learn what a kept classifier
    answers (`model.keep_classifier`)."""
    label_separator: Annotated[str, Field(min_length=1)] | None = None
    """Multilabel: what stands between the labels in a column of text, for example `|`. null: the column holds lists."""
    max_length: Annotated[int, Field(ge=4)] = 128
    """Maximum tokens of an example. `long` says what is read of longer texts, and their number is reported."""
    long: LongTexts = "cut"
    """What is read of texts longer than `max_length`: `cut` their beginning; `head+tail` their first and their last
    tokens, half and half; `window` all of them, in windows of `max_length` tokens that overlap by a quarter and whose
    answers are pooled. The saved model keeps the setting, so that predictions read texts the same way."""
    examples: PositiveInt | None = None
    """Training sentences to generate for the builtin task. null: 30,000."""

    @property
    def splits(self) -> list[str]:
        """Names of the splits that are set."""
        return [split for split in SPLITS if getattr(self, split) is not None]


class Geometry(Section):
    """An encoder to train from scratch: sizes of a BERT-like model, and of the vocabulary learned for it."""

    model_config = ConfigDict(protected_namespaces=())

    model_type: Literal["bert", "roberta"] = "bert"
    """Encoder family."""
    hidden_size: PositiveInt = 128
    """Width of the hidden states."""
    num_hidden_layers: PositiveInt = 6
    """Number of layers."""
    num_attention_heads: PositiveInt = 4
    """Number of attention heads, which must divide the width."""
    intermediate_size: PositiveInt = 512
    """Width of the feed-forward layer."""
    vocab_size: PositiveInt = 8000
    """Maximum size of the vocabulary that is learned from train."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout probability on hidden states and attention."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Geometry:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError("needs a hidden_size that is a multiple of num_attention_heads")
        return self


class Lora(Section):
    """LoRA weights beside all linear layers of a pretrained encoder's layers. Requires `pip install dactcli[peft]`."""

    rank: PositiveInt = 16
    """Rank of the LoRA weights of a linear layer; at most the encoder's width."""
    alpha: PositiveInt | None = None
    """Their product is scaled by alpha / rank. null: twice the rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Dropout probability on what the LoRA weights read."""


class ModelSection(Section):
    """The encoder and the exit heads on top of its layers."""

    encoder: str | Geometry
    """Hub name, folder, or a mapping: a geometry to train from scratch."""
    layers: PositiveInt | None = None
    """Number of layers to keep, from the first. null: all."""
    pooling: Pooling = "attention"
    """What an exit head sees of its layer: learned weights on tokens beside their maximum, the mean, or the first
    token."""
    halting_inputs: HaltingInputs = "answer"
    """What the halting unit of an exit head sees: how sure the layer's answer is, with a threshold that is learned on
    the validation split after the stages; or the layer's features, learned in the stages. A regression needs
    features."""
    certainty: bool = False
    """Whether a second head predicts if a layer is right, for the rule `learned`."""
    agreement: bool = False
    """Whether the halting units are fitted, on the validation split after the stages, to say how likely it is that the
    last layer decides otherwise, for the rule `agreement`. Needs no labels; for models without the DACT loss
    (`dact.tau: null`)."""
    keep_classifier: bool = False
    """The encoder is a classifier that was fine-tuned elsewhere: encoder and classifier stay as they are, the last
    layer answers as before, and only the exit heads are trained."""
    adapter: Literal["lora"] | Lora | None = None
    """`lora`, or a mapping: training leaves the pretrained encoder's own weights as they are, trains LoRA weights and
    the exit heads, and merges the LoRA weights when it ends. null: the encoder's own weights are trained."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of the encoder in training. Weights, exit heads and loss stay float32. float16 needs CUDA."""

    @property
    def lora(self) -> Lora | None:
        """The settings of LoRA; None without it."""
        return Lora() if self.adapter == "lora" else self.adapter


class DactSection(HaltingKeys):
    """The loss: answer loss of a_N + tau * ponder cost, and the losses of the layers' own answers."""

    tau_delay: Share = 0.3
    """Share of steps before tau acts in the first stage that trains the layers. They must learn something first."""

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
    """Training keys that a stage can override."""

    epochs: Positive = 3.0
    """Passes over train."""
    max_steps: PositiveInt | None = None
    """Maximum optimizer steps. null: as many as the epochs need."""
    batch_size: Batch = 32
    """Examples per step."""
    learning_rate: NonNegative = 5e-5
    """Encoder learning rate."""
    unit_learning_rate: NonNegative = 5e-4
    """Exit-head learning rate."""
    schedule: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "linear"
    """Schedule of both learning rates."""
    warmup: Share = 0.1
    """Share of the steps in which the learning rates rise."""
    weight_decay: NonNegative = 0.01
    """Weight decay of AdamW. Biases and norms are not decayed."""
    clip: Positive = 1.0
    """Maximum norm of the gradient."""
    accumulate: Batch = 1
    """Batches per optimizer step."""
    mask_tokens: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the tokens that each step masks."""


class StageSection(Section):
    """One stage: what it trains, and the training keys that it overrides."""

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

    stages: Annotated[list[StageSection], Field(min_length=1)] = [StageSection(name="joint")]  # noqa: RUF012
    """One or more stages: `joint` trains everything, `units` the exit heads with a frozen encoder, and `encoder` the
    encoder with the last exit head (plain fine-tuning)."""
    class_weights: Literal["balanced"] | Weights | None = None
    """Class weights in the loss, in the order of the labels, or `balanced` by frequency in train. They are scaled to
    mean 1 over train. null: every class weighs 1."""
    report_to: list[str] = ["tensorboard"]  # noqa: RUF012
    """Experiment trackers, by their names in transformers."""
    keep: Literal["best", "last"] | None = None
    """Weights to keep of the last stage that trains the encoder: those after the epoch with the best metric at full
    depth on validation (of equal ones the earliest), or those after the last step. null: `best`; but `last` where that
    stage trains the halting together with the layers (`model.halting_inputs: features`, as in every regression, or
    `dact.detach: false`), because the metric at full depth says nothing about how many layers run."""
    patience: PositiveInt | None = None
    """Epochs without a better metric after which that stage ends early. null: never. Requires `keep: best`."""
    seed: Count = 0
    """Seed of weights, batch order, dropout and drawn splits."""
    save_steps: PositiveInt | None = None
    """Steps between checkpoints. null: one checkpoint per epoch."""
    log_steps: PositiveInt = 20
    """Steps between log lines."""


class EvaluationSection(Section):
    """The halting rules that evaluate the run, and the risk that is certified for it."""

    rules: Annotated[list[str], Field(min_length=1)] | None = None
    """Halting rules that evaluate the run. null: full, paper and exact; full and tolerance for a regression."""
    batch_size: Batch = 64
    """Examples per batch."""
    risk: Probability | None = RISK
    """Risk to certify when training ends, on the calibration split if there is one: how often a fresh example may be
    answered differently from full depth. The certified rule becomes the run's default rule. null: certify nothing."""
    delta: Probability = DELTA
    """Probability with which the certificate may fail."""


class OutputSection(Section):
    """The run folder: `dir/name-<n>`."""

    dir: str = "runs"
    """Parent of the run folders, relative to the current folder."""
    name: str | None = None
    """Name of the run folder, before its number. null: the name of the task."""

    @field_validator("name")
    @classmethod
    def _stays_inside(cls, name: str | None) -> str | None:
        import re

        if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
            raise ValueError("needs letters, digits, dots, dashes and underscores only, a letter or digit first")
        return name


class Recipe(Section):
    """A whole recipe. `format` is the version of the keys and their meaning."""

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
        """Whether halting thresholds are learned on the validation split after the stages."""
        priced = any(self.stage_tau(stage) is not None for stage in self.training.stages)
        return priced and self.model.halting_inputs == "answer"

    @property
    def best_epoch_stage(self) -> int | None:
        """Number of the stage whose best epoch is kept: the last one that trains the encoder.

        A stage of units alone hardly changes the answer at full depth; chosen by it, the early layers would stay
        untrained.

        Returns:
            None where the weights after the last step are kept: `training.keep` is `last`, texts without labels have no
            metric, or no stage trains the encoder.
        """
        last = self.last_encoder_stage
        kept = self.training.keep == "best" and self.data.label is not None
        return last if kept else None

    @property
    def last_encoder_stage(self) -> int | None:
        """Number of the last stage that trains the encoder; None if no stage does."""
        found = [n for n, stage in enumerate(self.training.stages, start=1) if stage.name != "units"]
        return found[-1] if found else None

    def trains_halting(self, stage: StageSection) -> bool:
        """Whether a stage trains the halting together with the layers, by units that learn in it or by the layers."""
        if self.dact is None or self.stage_tau(stage) is None:
            return False
        return self.model.halting_inputs == "features" or not self.dact.detach

    def stage_tau(self, stage: StageSection) -> float | None:
        """The price of a layer in a stage: its own, which may be null, or else that of the `dact` section.

        Returns:
            None where the stage has no DACT loss.
        """
        if self.dact is None or stage.name == "encoder":
            return None
        return stage.tau if "tau" in stage.model_fields_set else self.dact.tau
