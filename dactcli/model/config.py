"""The configuration of a DACT model, and what its `forward` gives.

B batch, N layers, T tokens, H hidden size, C classes (1 for regression).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor
from transformers import AutoConfig, PreTrainedConfig
from transformers.utils import ModelOutput

from dactcli.errors import UsageError
from dactcli.halting.recursion import Ponder
from dactcli.model.heads import HaltingInputs, Pooling
from dactcli.model.loss import AnswerLoss, LayerLoss, Objective


class DactConfig(PreTrainedConfig):  # type: ignore[misc]
    """Configuration of a DACT model.

    Args:
        encoder_config: The encoder's configuration, or its `to_dict()`.
        pooling: `mean` over the real tokens, the `first` token, or learned `attention` with the maximum.
        share_units: One unit for all layers.
        halting_bias: Start of the halting bias; `auto` makes p_N = 0.5.
        halting_inputs: What the halting unit sees: the layer's `features`, its `answer`, or `features+answer`.
        certainty: Whether a head predicts whether each layer is right, for the rule `learned`.
        keep_classifier: Whether y_N comes from the classifier that the encoder was fine-tuned with (`model.kept`).
        rule: What `forward` halts by outside training; None runs every layer.
        answer_range: Lowest and highest answer of a regression; None for classes.
        objective: What it is trained for: `dact`, `layers` or `last`; rules that it cannot serve are refused.
        tau: Price of a layer in the loss.
        ponder: `sum_h` or `sum_p`.
        answer_loss: What the DACT loss charges a_N for: `nll`, or the expected `error`.
        layer_loss: `equal`, `depth` or `none`.
        layer_loss_weight: Factor of the layer losses.
        detach: Whether the DACT loss leaves the layers' answers alone.
        distill: Factor of the distillation from the last layer.
        class_weights: Factor of an example's NLL by its class [C]; None for 1.
        **kwargs: As any transformers configuration: `num_labels`, `id2label`, ...
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

    def __init__(
        self,
        encoder_config: PreTrainedConfig | dict[str, Any] | None = None,
        *,
        pooling: Pooling = "mean",
        share_units: bool = False,
        halting_bias: float | Literal["auto"] = "auto",
        halting_inputs: HaltingInputs = "features",
        certainty: bool = False,
        keep_classifier: bool = False,
        rule: str | None = None,
        answer_range: list[float] | tuple[float, float] | None = None,
        objective: Objective = "dact",
        tau: float = 0.05,
        ponder: Ponder = "sum_h",
        answer_loss: AnswerLoss = "nll",
        layer_loss: LayerLoss = "equal",
        layer_loss_weight: float = 1.0,
        detach: bool = True,
        distill: float = 0.0,
        class_weights: Sequence[float] | None = None,
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
        self.pooling, self.share_units = pooling, share_units
        self.halting_bias, self.halting_inputs, self.certainty = halting_bias, halting_inputs, certainty
        self.keep_classifier = keep_classifier
        self.rule = rule
        self.answer_range = list(answer_range) if answer_range is not None else None
        if answer_range is not None:
            kwargs["problem_type"] = "regression"  # or a pipeline takes the value for a logit
        self.objective = objective
        self.tau, self.ponder, self.answer_loss = tau, ponder, answer_loss
        self.layer_loss, self.layer_loss_weight = layer_loss, layer_loss_weight
        self.detach, self.distill = detach, distill
        self.class_weights = list(class_weights) if class_weights is not None else None
        super().__init__(**kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As transformers' own, without its guess at a configuration of another type.

        Raises:
            UsageError: The configuration is not that of a DACT model.
        """
        found = config_dict.get("model_type", cls.model_type)
        if found != cls.model_type:
            raise UsageError(
                f"this is a model of type {found!r}, not a DACT model",
                remedy="fine-tune it first: name it as model.encoder in a recipe and run dact finetune",
            )
        return super().from_dict(config_dict, **kwargs)

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


@dataclass
class DactOutput(ModelOutput):  # type: ignore[misc]
    """What `forward` gives. With an early rule the per-layer fields are left out, at full depth `exit_layer` is.

    The first three fields are those of any sequence classifier, in the same order, for code that counts.

    Attributes:
        loss: Scalar, with labels: the training loss at full depth, the answer's NLL (or squared error) with an early
            rule.
        logits: log a_N, or the log of the answer at the halt [B, C]; the value itself for regression [B, 1].
        hidden_states: What layer 1 takes and what each layer gives, N + 1 times [B, T, H]; on request.
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


def check_task(config: DactConfig) -> None:
    """Refuse a task that the units do not answer; transformers' own would change its loss for it.

    Args:
        config: The configuration of a model.

    Raises:
        UsageError: Several classes at once, a value without its range, or class weights of another number of classes.
    """
    kind, values = config.problem_type, config.answer_range is not None
    if kind == "multi_label_classification" or (kind == "regression") != values or (config.num_labels == 1) != values:
        raise UsageError(
            f"problem_type {kind!r} with {config.num_labels} labels is not supported"
            + ("" if values else " without answer_range"),
            remedy="name one of two or more classes per text, or give one label with answer_range",
        )
    if config.class_weights is not None and len(config.class_weights) != config.num_labels:
        raise UsageError(
            f"class_weights has {len(config.class_weights)} numbers for {config.num_labels} classes",
            remedy="give one for each class, or class_weights=None",
        )
