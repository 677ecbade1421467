"""The model: a transformers encoder with an exit head after every layer.

B batch, N layers, T tokens, H hidden size, C classes (1 for regression).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor
from transformers import AutoModel, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import logging

from dactcli.errors import ArtefactError, UsageError
from dactcli.halting.base import Rule
from dactcli.halting.recursion import ponder_cost
from dactcli.halting.rules import Full
from dactcli.model import calls
from dactcli.model.config import DactConfig, DactOutput, check_task
from dactcli.model.configured import Configured
from dactcli.model.encoders import Encoder, adapt, family
from dactcli.model.encoders.base import at_least_one
from dactcli.model.engine import EngineOutput, run_adaptive
from dactcli.model.finite import unfinite_error, unfinite_rows
from dactcli.model.heads import ExitHeads, ExitOutput, HeadSizes, LayerStates, text_means
from dactcli.model.kept import KeptClassifier
from dactcli.model.labels import Targets, read_labels
from dactcli.model.loss import answer_miss, dact_loss, loss_and_answer
from dactcli.recipe.settings import HaltingSettings

__all__ = ["DactConfig", "DactForSequenceClassification", "DactOutput"]

logger = logging.get_logger(__name__)


class DactForSequenceClassification(Configured, PreTrainedModel):  # type: ignore[misc]
    """A BERT-like encoder that runs only as many layers as the answer of each example needs.

    Args:
        config: Its configuration.
        encoder: An encoder that is already loaded; None to build one from the configuration.
        kept: The classifier that the encoder came with; None to build one where the configuration keeps it.
    """

    config_class = DactConfig
    base_model_prefix = "encoder"
    main_input_name = "input_ids"
    _supports_sdpa = True
    _supports_attention_backend = True
    supports_gradient_checkpointing = True

    def __init__(
        self, config: DactConfig, encoder: PreTrainedModel | None = None, kept: KeptClassifier | None = None
    ) -> None:
        super().__init__(config)
        kind = family(config.encoder_config.model_type)
        if config.layers < 1:
            raise ArtefactError("the encoder has no layers", remedy="give it at least one")
        check_task(config)
        if encoder is None:
            encoder = AutoModel.from_config(config.encoder_config, trust_remote_code=False, **kind.build)
        self.encoder = encoder
        self.classes: int = config.num_labels
        self.num_labels: int = config.num_labels  # as transformers' classifiers call it
        if config.keep_classifier and kept is None:
            kept = KeptClassifier.blank(config.encoder_config, config.num_labels)
        self.kept = kept
        sizes = config.encoder_config
        shape = HeadSizes(
            layers=config.layers,
            hidden_size=sizes.hidden_size,
            classes=config.num_labels,
            attention_heads=sizes.num_attention_heads,
            dropout=getattr(sizes, kind.dropout),
            initializer_range=getattr(sizes, "initializer_range", 0.02),
        )
        # the module is called `units` because files of weights are written with that name
        self.units = ExitHeads(
            shape,
            pooling=config.pooling,
            halting_inputs=config.halting_inputs,
            certainty=config.certainty,
            sureness=self._sureness,
        )
        self.loss_settings: HaltingSettings = config.halting
        self.post_init()

    def _init_weights(self, module: torch.nn.Module) -> None:
        if isinstance(module, ExitHeads):
            module.initialise()

    def _sureness(self, logits: Tensor) -> Tensor:
        """What a halting unit sees of an answer; the thresholds of labels may still change when heads are built."""
        return self.answers.sureness(logits)

    def adaptive(self, rule: Rule, batch: Mapping[str, Tensor | None], *, trace: bool = False) -> EngineOutput:
        """Run a batch, each text only as deep as the rule asks; the arguments are those of `run_adaptive`."""
        return run_adaptive(self, rule, batch, trace=trace)

    @property
    def exit_heads(self) -> ExitHeads:
        """The exit heads of all layers."""
        return self.units

    @property
    def adapter(self) -> Encoder:
        """The encoder, layer by layer."""
        return adapt(self.encoder)

    def layer_answer(self, logits: Tensor) -> Tensor:
        """y_n of logits [..., C]: probabilities of the classes or labels, or for regression a value in the range."""
        return self.answers.read(logits)

    @property
    def reads_first_token(self) -> bool:
        """Whether column 0 is read even where it is padding, by the exit heads or by a kept classifier."""
        return self.exit_heads.pooling == "first" or self.kept is not None

    def layer_states(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        position_ids: Tensor | None = None,
        hidden: bool = False,
    ) -> LayerStates:
        """Run all layers; `hidden` keeps their hidden states too. Arguments as for `forward`."""
        if not len(input_ids):  # transformers' layers take no empty batch
            return self.layer_states(calls.stand_in(input_ids), hidden=hidden).none()
        adapter = self.adapter
        if attention_mask is not None:
            attention_mask = at_least_one(attention_mask)
        state = adapter.embed(input_ids, attention_mask, token_type_ids, position_ids)
        states, seen = [], [state.hidden] if hidden else []
        for layer in range(1, self.exit_heads.layers + 1):
            state = adapter.run(layer, state)
            states.append(self.exit_heads.pool(layer, adapter.output(state), state.attention_mask))
            if hidden:
                seen.append(state.hidden if layer < self.exit_heads.layers else adapter.output(state))
        kept = None if self.kept is None else self.kept(adapter.output(state), state.attention_mask)
        return LayerStates(torch.stack(states), kept, tuple(seen))

    def layer_hidden(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """What the exit heads see of every layer [N, B, T, H]. Arguments as for `forward`."""
        adapter = self.adapter
        mask = None if attention_mask is None else at_least_one(attention_mask)
        state, seen = adapter.embed(input_ids, mask, token_type_ids), []
        for layer in range(1, self.exit_heads.layers + 1):
            state = adapter.run(layer, state)
            seen.append(adapter.output(state))
        return torch.stack(seen)

    def last_answer(self, hidden: Tensor, attention_mask: Tensor | None) -> Tensor:
        """y_N [B, C], from the last of `layer_hidden` [B, T, H]."""
        return self.layer_answer(self.exit_outputs(self.exit_heads.layers, hidden, attention_mask).logits)

    def _states_of(self, layer_hidden: Tensor, attention_mask: Tensor | None) -> LayerStates:
        """As `layer_states`, from what `layer_hidden` gave [N, B, T, H]."""
        mask = None if attention_mask is None else at_least_one(attention_mask)
        pooled = [self.exit_heads.pool(layer, values, mask) for layer, values in enumerate(layer_hidden, start=1)]
        kept = None if self.kept is None else self.kept(layer_hidden[-1], mask)
        return LayerStates(torch.stack(pooled), kept, ())

    def all_exit_outputs(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        texts: Tensor | None = None,
    ) -> ExitOutput:
        """The outputs of all exit heads, with a leading axis of layers [N, B, ...]. Arguments as for `forward`."""
        return self._exit_outputs_of(self.layer_states(input_ids, attention_mask, token_type_ids), texts)

    def _exit_outputs_of(self, states: LayerStates, texts: Tensor | None) -> ExitOutput:
        heads = self.exit_heads.all_outputs(states.pooled, texts)
        if states.kept is None:
            return heads
        kept = text_means(states.kept, texts).unsqueeze(0)
        return heads._replace(logits=torch.cat([heads.logits[:-1], kept]))

    def exit_outputs(
        self, layer: int, hidden: Tensor, attention_mask: Tensor | None, texts: Tensor | None = None
    ) -> ExitOutput:
        """The output of the exit head after one layer.

        Args:
            layer: n, from 1.
            hidden: Hidden states of the layer [B, T, H].
            attention_mask: 1 for real tokens [B, T]; None when nothing is padded.
            texts: The text of each row [B], where rows are windows of longer texts.
        """
        head = self.exit_heads.outputs(layer, self.exit_heads.pool(layer, hidden, attention_mask), texts)
        if self.kept is None or layer < self.exit_heads.layers:
            return head
        return head._replace(logits=text_means(self.kept(hidden, attention_mask), texts))

    @torch.no_grad()
    def layer_outputs(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        texts: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The outputs of every layer, from which the decision of any rule follows (`dactcli.halting.decide`).

        Arguments as for `forward`.

        Returns:
            y_n [B, N, C], h_n [B, N] and, with that head, the certainty [B, N], float32.
        """
        heads = self.all_exit_outputs(input_ids, attention_mask, token_type_ids, texts)
        certainty = None if heads.certainty_logits is None else torch.sigmoid(heads.certainty_logits).T
        return self.layer_answer(heads.logits).transpose(0, 1), torch.sigmoid(heads.halting_logits).T, certainty

    def forward(  # noqa: PLR0913 (the arguments with which transformers calls a classifier)
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        texts: Tensor | None = None,
        labels: Tensor | None = None,
        rule: str | Rule | None = None,
        inputs_embeds: Tensor | None = None,
        position_ids: Tensor | None = None,
        layer_hidden: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> DactOutput | tuple[Any, ...]:
        """Run a batch.

        Args:
            input_ids: [B, T].
            attention_mask: 1 for real tokens [B, T].
            token_type_ids: [B, T].
            texts: The text of each row, ascending from 0 [B], where rows are windows of longer texts, whose answers are
                pooled after every layer; outputs and labels are those of texts. None where every row is a text.
            labels: Classes [B] or [B, 1] (-100 for rows that do not count), probabilities of the classes [B, C], values
                [B] or [B, 1], or 0 and 1 by label [B, C] for label sets; gives the loss.
            rule: Halting rule; None takes the configuration's outside training.
            inputs_embeds: Word embeddings in place of `input_ids` [B, T, E].
            position_ids: [B, T] or [1, T], at full depth only.
            layer_hidden: As `layer_hidden` gives it [N, B, T, H]: the encoder does not run again; at full depth only.
            output_hidden_states: Whether to give the hidden states, at full depth only; None for the configuration's.
            output_attentions: Refused: attention weights are not kept.
            return_dict: False for a plain classifier's tuple (loss, logits, hidden states); None: the configuration's.

        Returns:
            See `DactOutput`.

        Raises:
            UsageError: The rule is unknown, or the rule or the model does not support the call.
            ArtefactError: Outside training, an answer is not finite, as where activations overflow.
        """
        padded = calls.at_least_a_token(input_ids, self.encoder.config.pad_token_id or 0)
        if padded is not None:
            input_ids, attention_mask, token_type_ids = padded, None, None
        tokens = calls.one_of(input_ids, inputs_embeds)
        calls.check_mask(attention_mask)
        if self.config.output_attentions if output_attentions is None else output_attentions:
            raise calls.no_attentions()
        hidden = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        chosen, targets = self._chosen_rule(rule), self._targets(labels, calls.number_of_texts(tokens, texts))
        rows = {"attention_mask": attention_mask, "token_type_ids": token_type_ids}
        if not isinstance(chosen, Full):
            calls.refuse_early(chosen, hidden_states=hidden, position_ids=position_ids)
            out = self._early(chosen, targets, {"input_ids": tokens, **rows, "texts": texts})
        elif layer_hidden is not None:
            out = self._full_depth(self._states_of(layer_hidden, attention_mask), targets, texts)
        else:
            states = self.layer_states(tokens, **rows, position_ids=position_ids, hidden=bool(hidden))
            out = self._full_depth(states, targets, texts)
        return out if (self.config.return_dict if return_dict is None else return_dict) else out.plain

    def _targets(self, labels: Tensor | None, batch: int) -> Targets | None:
        """The labels, checked; in training it warns of parts that an unusual call leaves untrained."""
        learns = self.training and torch.is_grad_enabled()
        if labels is None:
            if learns and self.loss_settings.objective != "last":
                logger.warning_once(calls.NO_LABELS)
            return None
        if learns and not any(parameter.requires_grad for parameter in self.exit_heads.parameters()):
            logger.warning_once(calls.FROZEN_HEADS)
        return read_labels(labels, batch=batch, classes=self.classes, kind=self.answers.kind)

    def _chosen_rule(self, rule: str | Rule | None) -> Rule:
        if rule is None:
            return Full() if self.training else self.rule(self.config.rule, place="config.rule")
        chosen = rule if isinstance(rule, Rule) else self.rule(rule, place="`rule`")
        if self.training and not isinstance(chosen, Full):
            raise UsageError(f"rule {chosen} stops early, which training never does", remedy="call model.eval() first")
        return chosen

    def _early(
        self,
        rule: Rule,
        targets: Targets | None,
        batch: dict[str, Tensor | None],
    ) -> DactOutput:
        """Run each row as deep as the rule asks; the loss is that of the exit answers."""
        tokens = batch["input_ids"]
        assert tokens is not None
        if not len(tokens):
            empty = torch.zeros(0, self.classes, device=tokens.device)
            found = EngineOutput(empty.new_zeros(0, dtype=torch.long), empty, None)
        else:
            found = run_adaptive(self, rule, batch)
        answer = self._checked(found.answer)
        logs = self.answers.logs(answer)
        loss = None
        if targets is not None:
            counted = logs if targets.rows is None else logs[targets.rows]
            loss = answer_miss(counted, targets.values, self.loss_settings, self.answers)
            if torch.is_grad_enabled():
                loss = cast("Tensor", calls.Untrained.apply(loss.requires_grad_()))  # type: ignore[no-untyped-call]
        return DactOutput(loss=loss, logits=self.answers.logits(logs), exit_layer=found.exit_layer)

    def _full_depth(self, states: LayerStates, targets: Targets | None, texts: Tensor | None) -> DactOutput:
        """Every layer's answer, and the training loss."""
        if self.loss_settings.objective == "last":
            return self._last_layer(states, targets, texts)
        heads = self._exit_outputs_of(states, texts)
        logits, halting_logits = heads.logits.transpose(0, 1), heads.halting_logits.T
        certainty = None if heads.certainty_logits is None else heads.certainty_logits.T
        found = ExitOutput(self.answers.logs_of_logits(logits), halting_logits, certainty)
        loss, answer = loss_and_answer(found, targets, self.loss_settings, self.answers, mixes=self.mixes)
        halting = torch.sigmoid(halting_logits)
        return DactOutput(
            loss=loss,
            logits=self._checked(self.answers.logits(answer)),
            hidden_states=states.hidden or None,
            layer_logits=logits,
            halting=halting,
            remaining=halting.cumprod(-1),
            ponder_cost=ponder_cost(halting_logits, self.loss_settings.ponder),
        )

    def _last_layer(self, states: LayerStates, targets: Targets | None, texts: Tensor | None) -> DactOutput:
        """Plain fine-tuning: the exit head of the last layer alone."""
        logits = self.exit_heads.outputs(self.exit_heads.layers, states.pooled[-1], texts).logits
        outputs = self.answers.logs_of_logits(logits)
        loss = None
        if targets is not None:
            counted = outputs if targets.rows is None else outputs[targets.rows]
            blank = logits.new_zeros(len(counted), 1)
            loss = dact_loss(counted.unsqueeze(1), blank, targets.values, self.loss_settings, self.answers).loss
        answer = self._checked(self.answers.logits(outputs))
        return DactOutput(loss=loss, logits=answer, hidden_states=states.hidden or None)

    def _checked(self, answer: Tensor) -> Tensor:
        """The answer [B, C]; outside training it must be finite. Training names the examples itself."""
        if not self.training and not torch.compiler.is_compiling() and (rows := unfinite_rows(answer)):
            raise unfinite_error([f"row {row + 1} of the batch" for row in rows])
        return answer

    def _set_gradient_checkpointing(self, enable: bool = True, **options: Any) -> None:
        """Enable gradient checkpointing, for encoders whose layers can be recomputed.

        Raises:
            UsageError: The layers of this encoder cannot be recomputed.
        """
        if enable and not isinstance(self.adapter.layers[0], GradientCheckpointingLayer):
            raise UsageError(
                f"encoders of type {self.config.encoder_config.model_type!r} cannot compute layers again",
                remedy="train without gradient checkpointing; smaller batches with gradient accumulation save memory",
            )
        super()._set_gradient_checkpointing(enable, **options)
