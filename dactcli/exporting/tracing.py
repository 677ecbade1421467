"""Trace a model to ONNX in two graphs: all layers of the encoder, and all exit heads with the recursion and the rule.

The two are traced apart, because ONNX Runtime's optimizer recognises attention only where nothing else reads a layer's
output. The recursion and the score are those of `dactcli.halting`, so nothing is written again in ONNX.

B batch, T tokens, H hidden size, C classes. Names of the tensors, for layer n:

    attention_mask, input_ids, token_type_ids     what the tokenizer gives [B, T]
    hidden_n                                      the output of layer n [B, T, H]
    layer_answer_n, halting_n, certainty_n        y_n [B, C], h_n [B], and the certainty head's output [B]
    remaining_n, answer_n                         p_n [B] and a_n [B, C], with the DACT loss
    streak_n                                      how often y_n has kept its decision [B], for `patience`
    score_n                                       the rule's score, float64 [B]
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dactcli.errors import ArtefactError, first_line
from dactcli.halting.state import HaltingState
from dactcli.model.encoders.base import EncoderState

if TYPE_CHECKING:
    from dactcli.exporting.plan import ExportPlan
    from dactcli.halting.base import Rule
    from dactcli.model.dact import DactForSequenceClassification

MASK, IDS, TYPES = "attention_mask", "input_ids", "token_type_ids"
LENGTHS = (6, 4)  # tokens of the traced rows; one is padded, or transformers would leave the mask out


class EncoderPass(nn.Module):
    """All layers of an encoder, without exit heads.

    Args:
        model: The model.
        layers: How many layers to run.
    """

    def __init__(self, model: DactForSequenceClassification, layers: int) -> None:
        super().__init__()
        self.encoder = model.encoder  # registers the weights
        self.adapter, self.layers = model.adapter, layers

    def forward(self, attention_mask: Tensor, input_ids: Tensor, token_type_ids: Tensor | None = None) -> Any:
        """The outputs of the layers, each [B, T, H]."""
        state = self.adapter.embed(input_ids, attention_mask, token_type_ids)
        if (mask := state.context.get("mask")) is not None and mask.is_floating_point():
            state.context["mask"] = fusable_mask(attention_mask)
        found = []
        for layer in range(1, self.layers + 1):
            state = self.adapter.run(layer, state)
            found.append(state.hidden)
        return tuple(found)


def fusable_mask(attention_mask: Tensor) -> Tensor:
    """What eager attention adds to its scores [B, 1, T, T], by the operations that ONNX Runtime recognises.

    Args:
        attention_mask: 1 for real tokens [B, T].
    """
    tokens = attention_mask.shape[1]
    padded = 1.0 - attention_mask[:, None, None, :].expand(-1, -1, tokens, -1).to(torch.float32)
    return padded.masked_fill(padded.to(torch.bool), torch.finfo(torch.float32).min)


class HeadPass(nn.Module):
    """The exit heads of all layers, the recursion, and the rule's score after each layer.

    Args:
        model: The model.
        rule: The halting rule.
        layers: How many layers the export has.
    """

    def __init__(self, model: DactForSequenceClassification, rule: Rule, layers: int) -> None:
        super().__init__()
        self.model, self.rule, self.layers = model, rule.of(model.answers), layers

    def forward(self, attention_mask: Tensor, *hidden: Tensor) -> tuple[Tensor, ...]:
        """Every tensor that `names` lists, from the outputs of the layers, each [B, T, H]."""
        model = self.model
        state = HaltingState.start(
            len(attention_mask),
            model.classes,
            layers=model.exit_heads.layers,
            mixes=model.mixes,
            like=hidden[0],
            streaks=self.rule.streaks,
        )
        found: list[Tensor] = []
        for layer, values in enumerate(hidden, start=1):
            pooled = model.adapter.output(EncoderState(values, attention_mask, {}))
            head = model.exit_outputs(layer, pooled, attention_mask)
            halting = torch.sigmoid(head.halting_logits)
            certainty = None if head.certainty_logits is None else torch.sigmoid(head.certainty_logits)
            state.step(model.answers.read(head.logits), halting, certainty)
            found += self._told(state, halting)
        return tuple(found)

    def _told(self, state: HaltingState, halting: Tensor) -> list[Tensor]:
        told = {
            "layer_answer": state.layer_answer,
            "halting": halting,
            "certainty": state.certainty,
            "remaining": state.remaining if state.mixes else None,
            "answer": state.answer if state.mixes else None,
            "streak": state.streak,
            "score": self.rule.score(state),
        }
        return [value for value in told.values() if value is not None]

    @property
    def names(self) -> list[str]:
        """The names of the outputs."""
        kinds = ["layer_answer", "halting"]
        kinds += ["certainty"] * self.model.config.certainty
        kinds += ["remaining", "answer"] * self.model.mixes
        kinds += ["streak"] * (self.rule.streaks is not None)
        return [f"{kind}_{layer}" for layer in range(1, self.layers + 1) for kind in (*kinds, "score")]


@torch.no_grad()
def trace_encoder(model: DactForSequenceClassification, plan: ExportPlan, *, types: bool) -> Any:
    """Trace the layers of the encoder.

    Args:
        model: The model, in float32, in evaluation mode, on the CPU.
        plan: What to export.
        types: Whether the tokenizer gives token types.

    Returns:
        `onnx.ModelProto`, from tokens to the outputs of the layers.

    Raises:
        ArtefactError: PyTorch cannot trace this model.
    """
    outputs = [f"hidden_{layer}" for layer in range(1, plan.layers + 1)]
    with _eager(model):
        return _graph(EncoderPass(model, plan.layers), _example(model, types=types), outputs, plan.opset)


@torch.no_grad()
def trace_heads(model: DactForSequenceClassification, plan: ExportPlan) -> Any:
    """Trace the exit heads, the recursion and the rule.

    Args:
        model: As for `trace_encoder`.
        plan: What to export.

    Returns:
        `onnx.ModelProto`, from mask and outputs of the layers to what `HeadPass.names` lists.

    Raises:
        ArtefactError: PyTorch cannot trace this model.
    """
    heads, mask = HeadPass(model, plan.rule, plan.layers), _example(model, types=False)[MASK]
    # a tensor of its own for each layer, or tracing would take them for one input
    hidden = torch.randn(plan.layers, *mask.shape, model.config.hidden_size).unbind()
    inputs = {MASK: mask} | {f"hidden_{layer}": values.clone() for layer, values in enumerate(hidden, start=1)}
    heads.eval()(*inputs.values())  # fills caches with tensors, which tracing would fill with stand-ins
    return _graph(heads, inputs, heads.names, plan.opset)


def _example(model: DactForSequenceClassification, *, types: bool) -> dict[str, Tensor]:
    """Two rows, the second padded [2, T]."""
    padding = int(model.encoder.config.pad_token_id or 0)
    token = (padding + 1) % model.config.vocab_size
    mask = torch.tensor([[1] * length + [0] * (max(LENGTHS) - length) for length in LENGTHS])
    inputs = {MASK: mask, IDS: torch.where(mask == 1, token, padding)}
    return {**inputs, TYPES: torch.zeros_like(mask)} if types else inputs


def _graph(module: EncoderPass | HeadPass, inputs: dict[str, Tensor], outputs: list[str], opset: int) -> Any:
    """A module as `onnx.ModelProto`; rows and tokens are free."""
    axes = [{0: "rows", 1: "tokens"} for _ in inputs]
    variadic = isinstance(module, HeadPass)
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module.eval(),
                tuple(inputs.values()),
                input_names=list(inputs),
                output_names=outputs,
                opset_version=opset,
                dynamo=True,
                dynamic_shapes=(axes[0], tuple(axes[1:])) if variadic else tuple(axes),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ArtefactError(
            f"PyTorch {torch.__version__} cannot export this model: {first_line(error)}",
            remedy="predict with the run itself",
        ) from None
    assert program is not None
    return program.model_proto


@contextmanager
def _eager(model: DactForSequenceClassification) -> Iterator[None]:
    """Attention as matrix products, which ONNX Runtime fuses again in its own way."""
    before = model.encoder.config._attn_implementation
    model.encoder.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.encoder.set_attn_implementation(before)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the reports of exporter, optimizer and quantiser off the screen."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
