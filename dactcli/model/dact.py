"""The model: a transformers encoder with a unit after every layer.

B batch, N layers, T tokens, H hidden size, C classes (1 for regression).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from dactcli.errors import ArtefactError, UsageError
from dactcli.model.encoders import Encoder, adapt, family
from dactcli.model.encoders.base import at_least_one
from dactcli.model.engine import run_adaptive
from dactcli.model.finite import unfinite_error, unfinite_rows
from dactcli.model.halting import Ponder, ponder_cost, start_bias
from dactcli.model.heads import HaltingInputs, Pooling, UnitOutput, Units
from dactcli.model.kept import KeptClassifier
from dactcli.model.loss import AnswerLoss, LayerLoss, LossSettings, Objective, certainty_loss, dact_loss, full_answer
from dactcli.model.rules import Full, Rule, make_rule


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
    sub_configs = {"encoder_config": AutoConfig}  # noqa: RUF012  (transformers' own protocol)

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

    @property
    def layers(self) -> int:
        """N."""
        return int(self.encoder_config.num_hidden_layers)


@dataclass
class DactOutput(ModelOutput):  # type: ignore[misc]
    """What `forward` gives. With an early rule the per-layer fields are left out, at full depth `exit_layer` is.

    Attributes:
        loss: Scalar, with labels.
        logits: log a_N, or the log of the answer at the halt [B, C]; the value itself for regression [B, 1].
        layer_logits: Logits of y_n [B, N, C].
        halting: h_n [B, N].
        remaining: p_n [B, N].
        ponder_cost: rho [B].
        exit_layer: [B].
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    layer_logits: Tensor | None = None
    halting: Tensor | None = None
    remaining: Tensor | None = None
    ponder_cost: Tensor | None = None
    exit_layer: Tensor | None = None


class DactForSequenceClassification(PreTrainedModel):  # type: ignore[misc]
    """A BERT-like encoder that runs only as many layers as each example's answer needs.

    Args:
        config: Its configuration.
        encoder: The encoder, when already at hand (with pretrained weights); else built from the configuration.
        kept: The classifier that it came with, likewise.
    """

    config_class = DactConfig
    base_model_prefix = "encoder"
    main_input_name = "input_ids"
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(
        self, config: DactConfig, encoder: PreTrainedModel | None = None, kept: KeptClassifier | None = None
    ) -> None:
        super().__init__(config)
        kind = family(config.encoder_config.model_type)
        if config.layers < 1:
            raise ArtefactError("the encoder has no layers", remedy="give it at least one")
        if encoder is None:
            encoder = AutoModel.from_config(config.encoder_config, trust_remote_code=False, **kind.build)
        self.encoder = encoder
        self.classes: int = config.num_labels
        if config.keep_classifier and kept is None:
            kept = KeptClassifier.blank(config.encoder_config, config.num_labels)
        self.kept = kept
        sizes = config.encoder_config
        bias = start_bias(config.layers) if config.halting_bias == "auto" else float(config.halting_bias)
        self.units = Units(
            layers=config.layers,
            hidden_size=sizes.hidden_size,
            classes=config.num_labels,
            pooling=config.pooling,
            heads=sizes.num_attention_heads,
            shared=config.share_units,
            certainty=config.certainty,
            halting_inputs=config.halting_inputs,
            dropout=getattr(sizes, kind.dropout),
            halting_bias=bias,
            initializer_range=getattr(sizes, "initializer_range", 0.02),
        )
        self.loss_settings = LossSettings(
            objective=config.objective,
            tau=config.tau,
            ponder=config.ponder,
            answer_loss=config.answer_loss,
            layer_loss=config.layer_loss,
            layer_loss_weight=config.layer_loss_weight,
            detach=config.detach,
            distill=config.distill,
            class_weights=tuple(config.class_weights) if config.class_weights is not None else None,
        )
        self.post_init()

    def _init_weights(self, module: torch.nn.Module) -> None:
        if isinstance(module, Units):
            module.initialise()

    @property
    def adapter(self) -> Encoder:
        """The encoder, layer by layer."""
        return adapt(self.encoder)

    @property
    def mixes(self) -> bool:
        """Whether answers accumulate over layers: only with the DACT loss."""
        return bool(self.config.objective == "dact")

    @property
    def regression(self) -> bool:
        """Whether the answer is a value."""
        return self.config.answer_range is not None

    @property
    def answer_range(self) -> tuple[float, float] | None:
        """Lowest and highest answer of a regression; None for classes."""
        bounds = self.config.answer_range
        return (float(bounds[0]), float(bounds[1])) if bounds else None

    @property
    def sound_rule(self) -> str:
        """The rule that keeps full depth's answer: `exact`, `tolerance` (regression), `full` without the DACT loss."""
        if not self.mixes:
            return "full"
        return "tolerance" if self.regression else "exact"

    def rule(self, text: str | None, *, place: str = "--rule") -> Rule:
        """The halting rule that a text names, checked against this model.

        Args:
            text: `NAME[:VALUE]`, None for `full`.
            place: Where it stands, for errors.

        Raises:
            UsageError: This model cannot serve it.
        """
        return make_rule(
            text or "full",
            objective=self.config.objective,
            answer_range=self.answer_range,
            certainty=self.config.certainty,
            place=place,
        )

    def layer_answer(self, logits: Tensor) -> Tensor:
        """y_n: probabilities, or for regression a value inside the range.

        Args:
            logits: [..., C].

        Returns:
            [..., C].
        """
        if self.regression:
            low, high = map(float, self.config.answer_range)
            return low + (high - low) * torch.sigmoid(logits)
        return logits.softmax(-1)

    @property
    def reads_first_token(self) -> bool:
        """Whether column 0 counts, padding or not: the units pool it, or the classifier that was kept may."""
        return self.units.pooling == "first" or self.kept is not None

    def pooled(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Every layer's pooled hidden states z_n, stacked [N, B, ...], and what a kept classifier says [B, C].

        All layers run.
        """
        adapter = self.adapter
        if attention_mask is not None:
            attention_mask = at_least_one(attention_mask)
        state = adapter.embed(input_ids, attention_mask, token_type_ids)
        states = []
        for layer in range(1, self.units.layers + 1):
            state = adapter.run(layer, state)
            states.append(self.units.pool(layer, adapter.output(state), state.attention_mask))
        kept = None if self.kept is None else self.kept(adapter.output(state), state.attention_mask)
        return torch.stack(states), kept

    def every(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> UnitOutput:
        """What the units of all layers say, with a leading axis of layers [N, B, ...]."""
        pooled, kept = self.pooled(input_ids, attention_mask, token_type_ids)
        said = self.units.every(pooled)
        if kept is None:
            return said
        return said._replace(logits=torch.cat([said.logits[:-1], kept.unsqueeze(0)]))

    def said(self, layer: int, hidden: Tensor, attention_mask: Tensor | None) -> UnitOutput:
        """What the unit after one layer says.

        Args:
            layer: n, from 1.
            hidden: What the unit pools, [B, T, H].
            attention_mask: 1 for real tokens [B, T]; None when nothing is padded.
        """
        said = self.units.one(layer, self.units.pool(layer, hidden, attention_mask))
        if self.kept is None or layer < self.units.layers:
            return said
        return said._replace(logits=self.kept(hidden, attention_mask))

    @torch.no_grad()
    def layer_outputs(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """What every layer says, from which any rule can be decided.

        Returns:
            y_n [B, N, C], h_n [B, N] and, with that head, the certainty [B, N], float32.
        """
        said = self.every(input_ids, attention_mask, token_type_ids)
        certainty = None if said.certainty_logits is None else torch.sigmoid(said.certainty_logits).T
        return self.layer_answer(said.logits).transpose(0, 1), torch.sigmoid(said.halting_logits).T, certainty

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        rule: str | Rule | None = None,
    ) -> DactOutput:
        """Run a batch.

        Args:
            input_ids: [B, T].
            attention_mask: 1 for real tokens [B, T].
            token_type_ids: [B, T].
            labels: Classes or values [B]; gives the loss, at full depth only.
            rule: Halting rule; None takes the configuration's outside training.

        Returns:
            See `DactOutput`.

        Raises:
            UsageError: The rule is unknown or this model cannot serve it, or labels come with an early rule that
                was asked for explicitly.
            ArtefactError: Outside training, an answer is not finite, as where activations overflow.
        """
        if input_ids.shape[1] == 0:  # empty texts alone, by a tokenizer that adds no special tokens
            padding = self.encoder.config.pad_token_id or 0
            input_ids = input_ids.new_full((len(input_ids), 1), padding, dtype=torch.long)
            attention_mask = token_type_ids = None
        chosen = self._chosen_rule(rule, labels)
        if not isinstance(chosen, Full):
            out = run_adaptive(self, chosen, input_ids, attention_mask, token_type_ids)
            found = self._checked(out.answer)
            return DactOutput(logits=found if self.regression else _log(found), exit_layer=out.exit_layer)
        if self.loss_settings.objective == "last":
            return self._last_layer(self.pooled(input_ids, attention_mask, token_type_ids)[0][-1], labels)
        said = self.every(input_ids, attention_mask, token_type_ids)
        logits, halting_logits = said.logits.transpose(0, 1), said.halting_logits.T
        outputs = self.layer_answer(logits) if self.regression else logits.log_softmax(-1)
        loss = None
        if labels is not None:
            loss, answer = dact_loss(outputs, halting_logits, labels, self.loss_settings)
            if said.certainty_logits is not None:
                loss = loss + certainty_loss(said.certainty_logits.T, outputs, labels)
        else:
            answer = full_answer(outputs, halting_logits) if self.mixes else outputs[:, -1]
        halting = torch.sigmoid(halting_logits)
        return DactOutput(
            loss=loss,
            logits=self._checked(answer),
            layer_logits=logits,
            halting=halting,
            remaining=halting.cumprod(-1),
            ponder_cost=ponder_cost(halting_logits, self.loss_settings.ponder),
        )

    def _chosen_rule(self, rule: str | Rule | None, labels: Tensor | None) -> Rule:
        if rule is not None:
            chosen = rule if isinstance(rule, Rule) else self.rule(rule, place="rule")
            if labels is not None and not isinstance(chosen, Full):
                raise UsageError(f"rule {rule} gives no loss", remedy="leave out labels, or run at full depth")
            return chosen
        if self.training or labels is not None:
            return Full()
        return self.rule(self.config.rule, place="config.rule")

    def _last_layer(self, pooled: Tensor, labels: Tensor | None) -> DactOutput:
        """Plain fine-tuning: the last layer's unit alone, from z_N [B, H]."""
        logits = self.units.one(self.units.layers, pooled).logits
        outputs = self.layer_answer(logits) if self.regression else logits.log_softmax(-1)
        loss = None
        if labels is not None:
            blank = logits.new_zeros(len(logits), 1)
            loss = dact_loss(outputs.unsqueeze(1), blank, labels, self.loss_settings).loss
        return DactOutput(loss=loss, logits=self._checked(outputs))

    def _checked(self, answer: Tensor) -> Tensor:
        """The answer [B, C], outside training only if it is finite; a training names the examples itself."""
        if not self.training and not torch.compiler.is_compiling() and (rows := unfinite_rows(answer)):
            raise unfinite_error([f"row {row + 1} of the batch" for row in rows])
        return answer


def _log(probabilities: Tensor) -> Tensor:
    """Logarithms that stay finite where a probability has underflowed."""
    return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()


def from_encoder(
    encoder: PreTrainedModel, *, kept: KeptClassifier | None = None, **settings: Any
) -> DactForSequenceClassification:
    """A DACT model around an encoder that is already loaded, with fresh units.

    Args:
        encoder: A transformers encoder of a supported family; its weights are used as they are.
        kept: The classifier that it came with, if that is to answer after the last layer.
        **settings: Keywords of `DactConfig`.
    """
    config = DactConfig(
        encoder_config=cast("PreTrainedConfig", encoder.config), keep_classifier=kept is not None, **settings
    )
    model = DactForSequenceClassification(config, encoder=encoder, kept=kept)
    model.units.initialise()
    return model
