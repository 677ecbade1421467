"""The configuration of a DACT model, and the output of its `forward`.

B batch, N layers, T tokens, H hidden size, C classes (1 for regression).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

from pydantic import ValidationError
from torch import Tensor
from transformers import AutoConfig, PreTrainedConfig
from transformers.utils import ModelOutput

from dactcli.errors import UsageError
from dactcli.halting.answers import THRESHOLD, Answers, Classes, Values
from dactcli.halting.label_sets import LabelSets
from dactcli.recipe.schema import DataSection, LongTexts, ModelSection
from dactcli.recipe.settings import REGRESSION_TAU, HaltingInputs, HaltingSettings, Objective, Pooling, first_fault

MULTILABEL = "multi_label_classification"  # the name in transformers
HALTING_KEYS = frozenset(HaltingSettings.model_fields)
# the keys that stood beside the others before `halting` held them, with the defaults that they had
FLAT_DEFAULTS: dict[str, Any] = {
    "objective": "dact",
    "tau": 0.05,
    "ponder": "sum_h",
    "answer_loss": "nll",
    "layer_loss": "equal",
    "layer_loss_weight": 1.0,
    "detach": True,
    "distill": 0.0,
    "class_weights": None,
}
REMOVED_KEYS = ("share_units", "halting_bias")  # a start that is not `auto` changes no trained model
CHOICES = {  # keys of a configuration that take one of a few words
    "pooling": get_args(Pooling),
    "halting_inputs": get_args(HaltingInputs),
    "long_texts": get_args(LongTexts),
}
FLAT_MODEL_DEFAULTS = {"pooling": "mean", "halting_inputs": "features"}
_DEFAULTS = {name: field.default for name, field in ModelSection.model_fields.items()}
_LONG = DataSection.model_fields["long"].default


class DactConfig(PreTrainedConfig):  # type: ignore[misc]
    """Configuration of a DACT model. The defaults are those of a recipe (`dactcli.recipe.schema`).

    Args:
        encoder_config: The encoder's configuration, or its `to_dict()`.
        pooling: What an exit head sees of its layer: learned `attention` beside the maximum, the `mean` over the real
            tokens, or the `first` token.
        halting_inputs: What the halting unit sees: the layer's `answer` or its `features`. None: the answer, and the
            features for a regression.
        certainty: Whether a second head predicts if a layer is right, for the rule `learned`.
        agreement: Whether the halting units say how likely it is that the last layer decides otherwise, for the rule
            `agreement`.
        keep_classifier: Whether y_N comes from the classifier that the encoder was fine-tuned with (`model.kept`).
        rule: The halting rule of `forward` outside training; None runs every layer.
        answer_range: Lowest and highest answer of a regression; None for classes.
        label_thresholds: For `problem_type` multi_label_classification: the probability from which on a label is
            there, one for all labels or one each. None: 0.5.
        long_texts: What dact reads of texts that are longer than the tokenizer's `model_max_length`: `cut` their
            beginning, `head+tail` their first and last tokens, `window` all, in windows that overlap.
        halting: The settings of the loss, or some of them as a mapping. None: the defaults.
        **kwargs: As any transformers configuration: `num_labels`, `id2label`, ...

    Raises:
        UsageError: The halting settings are not valid, or an option no longer exists.
    """

    model_type = "dact"
    sub_configs: ClassVar[dict[str, Any]] = {"encoder_config": AutoConfig}
    # so that Trainer.predict and Trainer.evaluate give the logits alone, as for any other classifier
    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        "layer_logits",
        "halting",
        "remaining",
        "ponder_cost",
        "exit_layer",
    ]

    def __init__(  # noqa: PLR0913 (transformers' form: the keys of config.json are the arguments)
        self,
        encoder_config: PreTrainedConfig | dict[str, Any] | None = None,
        *,
        pooling: Pooling = _DEFAULTS["pooling"],
        halting_inputs: HaltingInputs | None = None,
        certainty: bool = _DEFAULTS["certainty"],
        agreement: bool = _DEFAULTS["agreement"],
        keep_classifier: bool = _DEFAULTS["keep_classifier"],
        rule: str | None = None,
        answer_range: Sequence[float] | None = None,
        label_thresholds: float | Sequence[float] | None = None,
        long_texts: LongTexts = _LONG,
        halting: HaltingSettings | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if encoder_config is None:
            encoder_config = {"model_type": "bert"}
        if isinstance(encoder_config, dict):
            values = {key: value for key, value in encoder_config.items() if key != "model_type"}
            encoder_config = AutoConfig.for_model(encoder_config["model_type"], **values)
        encoder: PreTrainedConfig = encoder_config
        self.encoder_config = encoder
        # transformers hands a configuration's attention on to its parts; without one it would undo the encoder's own
        kwargs.setdefault("attn_implementation", encoder._attn_implementation)
        regression = answer_range is not None
        if halting_inputs is None:
            halting_inputs = "features" if regression else _DEFAULTS["halting_inputs"]
        self.pooling, self.halting_inputs, self.certainty = pooling, halting_inputs, certainty
        self.agreement, self.keep_classifier = agreement, keep_classifier
        self.rule, self.long_texts = rule, long_texts
        self.answer_range = list(answer_range) if answer_range is not None else None
        if regression:
            kwargs["problem_type"] = "regression"  # or a pipeline takes the value for a logit
        self.label_thresholds = list(label_thresholds) if isinstance(label_thresholds, Sequence) else label_thresholds
        moved = _take_moved(kwargs)
        self.halting = halting_settings(halting, moved, regression=regression)
        super().__init__(**kwargs)

    def __setattr__(self, key: str, value: Any) -> None:
        """Set an attribute; `halting` takes a mapping too, and its keys are still taken by themselves."""
        if key in HALTING_KEYS:
            if key != "objective":
                _warn_moved(key)
            key, value = "halting", halting_settings(self.halting, {key: value})
        elif key == "halting":
            value = halting_settings(value)
        super().__setattr__(key, value)

    def __getattr__(self, key: str) -> Any:
        """A key of `halting` under its former name."""
        if key in HALTING_KEYS and "halting" in self.__dict__:
            _warn_moved(key)
            return getattr(self.halting, key)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {key!r}")

    def to_dict(self) -> dict[str, Any]:
        """As transformers' own, with `halting` as a plain mapping."""
        return {**super().to_dict(), "halting": self.halting.model_dump(mode="json")}

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As transformers' own, without its guess at a configuration of another type.

        Raises:
            UsageError: The configuration is not that of a DACT model, or asks for an option that no longer exists.
        """
        found = config_dict.get("model_type", cls.model_type)
        if found != cls.model_type:
            raise UsageError(
                f"this is a model of type {found!r}, not a DACT model",
                remedy="fine-tune it first: name it as model.encoder in a recipe and run dact finetune",
            )
        return super().from_dict(from_flat(config_dict), **kwargs)

    @property
    def objective(self) -> Objective:
        """What the model is trained for: `dact`, `layers` or `last`."""
        settings: HaltingSettings = self.halting
        return settings.objective

    @property
    def answers(self) -> Answers:
        """What the model's answers are."""
        if self.answer_range is not None:
            low, high = self.answer_range
            return Values(float(low), float(high))
        if self.problem_type != MULTILABEL:
            return Classes()
        chosen = THRESHOLD if self.label_thresholds is None else self.label_thresholds
        return LabelSets((chosen,) if isinstance(chosen, float | int) else tuple(chosen))

    @property
    def layers(self) -> int:
        """N."""
        return int(self.encoder_config.num_hidden_layers)

    @property
    def hidden_size(self) -> int:
        """H."""
        return int(self.encoder_config.hidden_size)

    @property
    def vocab_size(self) -> int:
        """Rows of the encoder's word embeddings."""
        return int(self.encoder_config.vocab_size)

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> PreTrainedConfig:
        """The encoder's configuration, where transformers writes the new size of resized embeddings."""
        return self.encoder_config


def halting_settings(
    base: HaltingSettings | Mapping[str, Any] | None,
    changes: Mapping[str, Any] | None = None,
    *,
    regression: bool = False,
) -> HaltingSettings:
    """Halting settings from a whole or a mapping of some, checked.

    Args:
        base: The settings, or some of them; None for the defaults.
        changes: Further settings, which win.
        regression: Whether the default price is that of a regression.

    Raises:
        UsageError: A setting is unknown or has a value that it cannot have.
    """
    given = {**dict(base or {}), **(changes or {})}
    if regression and not isinstance(base, HaltingSettings):
        given = {"tau": REGRESSION_TAU, **given}
    try:
        return HaltingSettings(**given)
    except ValidationError as error:
        key, fault = first_fault(error)
        raise UsageError(
            fault,
            place=f"halting.{key}" if key else "halting",
            remedy=f"the settings are {', '.join(sorted(HALTING_KEYS))}",
        ) from None


def from_flat(document: dict[str, Any]) -> dict[str, Any]:
    """A config.json in today's form: earlier ones have the halting settings beside the other keys.

    Args:
        document: The configuration; it is not changed.

    Raises:
        UsageError: It asks for an option that no longer exists.
    """
    if document.get("share_units"):
        raise UsageError(
            "share_units is true, and exit heads that layers share are no longer supported",
            remedy="fine-tune the model again without model.share_units",
        )
    flat = {key: document[key] for key in HALTING_KEYS & document.keys()}
    kept = {key: value for key, value in document.items() if key not in flat | dict.fromkeys(REMOVED_KEYS)}
    halting = document.get("halting")
    if isinstance(halting, dict):
        return {**kept, "halting": {**halting, **flat}}
    if halting is None and len(kept) < len(document):
        return {**FLAT_MODEL_DEFAULTS, **kept, "halting": {**FLAT_DEFAULTS, **flat}}
    return document


def _take_moved(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Take the keywords of earlier versions out of `kwargs`; returns those that are halting settings now."""
    moved = {key: kwargs.pop(key) for key in HALTING_KEYS & kwargs.keys()}
    for key in sorted(moved):
        _warn_moved(key)
    for key, default in (("share_units", False), ("halting_bias", "auto")):
        if kwargs.pop(key, default) != default:
            raise UsageError(f"DactConfig no longer takes {key}", remedy="leave it out")
    return moved


def _warn_moved(key: str) -> None:
    warnings.warn(
        f"DactConfig.{key} has moved to DactConfig.halting.{key}; write DactConfig(halting={{{key!r}: ...}})",
        DeprecationWarning,
        stacklevel=4,
    )


@dataclass
class DactOutput(ModelOutput):  # type: ignore[misc]
    """The output of `forward`. With an early rule the per-layer fields are left out, at full depth `exit_layer` is.

    The first three fields are those of any sequence classifier, in the same order, for code that counts.

    Attributes:
        loss: Scalar, with labels: the training loss at full depth, the answer's NLL (or squared error) with an early
            rule.
        logits: log a_N, or the log of the answer at the halt [B, C]; the value itself for regression [B, 1].
        hidden_states: The input of layer 1 and the output of each layer, N + 1 times [B, T, H]; on request.
        layer_logits: Logits of y_n [B, N, C].
        halting: h_n [B, N].
        remaining: p_n [B, N].
        ponder_cost: rho [B].
        exit_layer: [B].
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    layer_logits: Tensor | None = None
    halting: Tensor | None = None
    remaining: Tensor | None = None
    ponder_cost: Tensor | None = None
    exit_layer: Tensor | None = None

    @property
    def plain(self) -> tuple[Any, ...]:
        """A plain classifier's tuple: loss, logits and hidden states, as far as they are there."""
        return tuple(value for value in (self.loss, self.logits, self.hidden_states) if value is not None)


def check_task(config: DactConfig) -> None:
    """Refuse a task that the exit heads cannot answer; transformers itself would switch to another loss.

    Args:
        config: The configuration of a model.

    Raises:
        UsageError: A value without its range, an unknown option, a regression whose halting units see the answer, class
            weights of another number of classes or of label sets, or thresholds that do not fit the labels.
    """
    kind, values = config.problem_type, config.answer_range is not None
    if (kind == "regression") != values or (config.num_labels == 1) != values:
        raise UsageError(
            f"problem_type {kind!r} with {config.num_labels} labels is not supported"
            + ("" if values else " without answer_range"),
            remedy="name one of two or more classes per text, or give one label with answer_range",
        )
    for name, known in CHOICES.items():
        if getattr(config, name) not in known:
            raise UsageError(f"{name} is {getattr(config, name)!r}", remedy=f"it must be one of {', '.join(known)}")
    if values and config.halting_inputs == "answer":
        raise UsageError(
            "halting_inputs is answer, and the answer of a regression does not say how sure it is",
            remedy="set it to features, or leave it out",
        )
    check_thresholds(config.label_thresholds, config.num_labels, config.problem_type)
    weights = config.halting.class_weights
    if weights is not None and not isinstance(config.answers, Classes):
        raise UsageError(
            f"class_weights weighs classes, and the answer is a {config.answers.noun}", remedy="class_weights=None"
        )
    if weights is not None and len(weights) != config.num_labels:
        raise UsageError(
            f"class_weights has {len(weights)} numbers for {config.num_labels} classes",
            remedy="give one for each class, or class_weights=None",
        )


def check_thresholds(given: Any, labels: int, kind: str | None) -> None:
    """Refuse thresholds of labels that are not probabilities, or not one for each label.

    Args:
        given: `label_thresholds` of a configuration.
        labels: Its number of labels.
        kind: Its problem_type.

    Raises:
        UsageError: They cannot serve.
    """
    if given is None:
        return
    if kind != MULTILABEL:
        raise UsageError("label_thresholds is for label sets", remedy=f"leave it out, or set problem_type {MULTILABEL}")
    thresholds = given if isinstance(given, list) else [given]
    numbers = all(isinstance(one, float | int) and not isinstance(one, bool) and 0 < one < 1 for one in thresholds)
    if not numbers or (isinstance(given, list) and len(given) != labels):
        raise UsageError(
            f"label_thresholds is {given!r}",
            remedy=f"give one number between 0 and 1, or {labels} of them, one for each label",
        )
