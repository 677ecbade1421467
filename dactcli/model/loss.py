"""The training loss, computed in one pass over all layers.

    L = miss(a_N, label) + tau * mean ponder cost                        miss: NLL, or 1 - a_N[label]
        + layer_loss_weight * sum over n of v_n * NLL(y_n, label)      v_n equal, or growing with depth; sum 1;
                                                                       or alternating: v_N alone in every other step
        + distill * mean over n < N of CE(y_N detached, y_n)
        + mean over n of BCE(certainty_n, y_n is right)            where there is a certainty head; trains only itself

The first line is DACT's; the rest is this project's. With `detach` the first line does not train the layers' answers,
only what is made of them. The papers' miss is the NLL. The other, the probability that a_N gives to wrong classes,
makes tau the accuracy that a layer must bring (with `sum_p`, per expected layer). For regression, squared errors stand
in for both. With class weights every miss is multiplied by that of its label; they are 1 on the mean over train, so
that tau keeps its meaning.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional

from dactcli.halting.recursion import log_answer, log_halting_weights, ponder_cost
from dactcli.model.heads import ExitOutput
from dactcli.model.labels import Targets
from dactcli.recipe.settings import HaltingSettings


class LossOutput(NamedTuple):
    """The loss and the answer it was computed on.

    Attributes:
        loss: Scalar.
        answer: log a_N [B, C], or a_N [B, 1] for regression.
    """

    loss: Tensor
    answer: Tensor


def certainty_loss(certainty_logits: Tensor, outputs: Tensor, labels: Tensor) -> Tensor:
    """Loss of the certainty head: how badly it predicts whether a layer is right (BERxiT, learning to exit).

    Args:
        certainty_logits: [B, N].
        outputs: log y_n [B, N, C].
        labels: Classes [B], or their probabilities [B, C].

    Returns:
        Scalar.
    """
    guess = outputs.argmax(-1)  # [B, N]
    right = labels.gather(-1, guess) if labels.dim() == 2 else guess == labels.unsqueeze(-1)
    right = right.to(certainty_logits.dtype)
    return functional.binary_cross_entropy_with_logits(certainty_logits, right)


def layer_weights(layers: int, kind: str, like: Tensor) -> Tensor:
    """v_n [N], summing to 1."""
    weights = torch.arange(1, layers + 1, dtype=like.dtype, device=like.device)
    if kind != "depth":
        weights = torch.ones_like(weights)
    return weights / weights.sum()


def full_answer(outputs: Tensor, halting_logits: Tensor) -> Tensor:
    """The full-depth answer a_N from the answers of all layers, for classes and for regression.

    Args:
        outputs: log y_n [B, N, C] for classes, y_n [B, N, 1] for regression.
        halting_logits: s_n [B, N].

    Returns:
        log a_N [B, C] or a_N [B, 1].
    """
    if outputs.shape[-1] == 1:
        return (log_halting_weights(halting_logits).exp().unsqueeze(-1) * outputs).sum(1)
    return log_answer(outputs, halting_logits)


def dact_loss(outputs: Tensor, halting_logits: Tensor, labels: Tensor, settings: HaltingSettings) -> LossOutput:
    """The loss of a batch.

    Args:
        outputs: log y_n [B, N, C] for classes, y_n [B, N, 1] for regression.
        halting_logits: s_n [B, N].
        labels: Class indices [B] or probabilities of the classes [B, C]; values [B] for regression.
        settings: The parts that the loss has.

    Returns:
        The loss and the full-depth answer. Without any row the loss is 0, with gradients that are 0.
    """
    if not len(outputs):
        answer = full_answer(outputs, halting_logits) if settings.objective == "dact" else outputs[:, -1]
        return LossOutput(outputs.sum() + halting_logits.sum(), answer)
    weights = None if settings.class_weights is None else outputs.new_tensor(settings.class_weights)  # [C]
    if settings.objective == "last":
        return LossOutput(_miss(outputs[:, -1], labels, weights).mean(), outputs[:, -1])
    answer = outputs[:, -1]
    loss = outputs.new_zeros(())
    if settings.objective == "dact":
        answer = full_answer(outputs.detach() if settings.detach else outputs, halting_logits)
        if outputs.shape[-1] == 1:
            loss = _miss(answer, labels, weights).mean()
        else:
            right = answer if labels.dim() == 2 else answer.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
            loss = charge_for(right, labels, settings)
        assert settings.tau is not None  # HaltingSettings sees to it
        loss = loss + settings.tau * ponder_cost(halting_logits, settings.ponder).mean()
    if settings.layer_loss != "none":
        layers = outputs.shape[1]
        # every layer's miss in one call: [B * N]
        misses = _miss(outputs.flatten(0, 1), labels.repeat_interleave(layers, 0), weights).view(-1, layers)
        by_layer = layer_weights(layers, settings.layer_loss, outputs)
        loss = loss + settings.layer_loss_weight * (misses.mean(0) * by_layer).sum()
    if settings.distill and outputs.shape[1] > 1:
        loss = loss + settings.distill * _distillation(outputs)
    return LossOutput(loss, answer)


def loss_and_answer(
    heads: ExitOutput, targets: Targets | None, settings: HaltingSettings, *, mixes: bool
) -> tuple[Tensor | None, Tensor]:
    """The loss over the labelled rows, and the full-depth answer of all rows.

    Args:
        heads: log y_n [B, N, C] (y_n for regression) in the place of `logits`, s_n [B, N], and certainty logits [B, N].
        targets: The labels, and the rows that have one; None for no loss.
        settings: The parts that the loss has.
        mixes: Whether the answer is a_N rather than y_N.

    Returns:
        The loss, a scalar, or None without labels; and log a_N or log y_N [B, C], for regression the value [B, 1].
    """
    outputs, halting_logits, certainty = heads
    answer = None
    if targets is None or targets.rows is not None:
        answer = full_answer(outputs, halting_logits) if mixes else outputs[:, -1]
    if targets is None:
        return None, cast("Tensor", answer)
    if targets.rows is not None:
        outputs, halting_logits = outputs[targets.rows], halting_logits[targets.rows]
        certainty = None if certainty is None else certainty[targets.rows]
    loss, counted = dact_loss(outputs, halting_logits, targets.values, settings)
    if certainty is not None:
        loss = loss + (certainty_loss(certainty, outputs, targets.values) if len(outputs) else certainty.sum())
    return loss, counted if answer is None else answer


def charge_for(right: Tensor, labels: Tensor, settings: HaltingSettings) -> Tensor:
    """The answer loss of the DACT loss, without the price of layers; classes only.

    Args:
        right: log a_N[label] [B]; with probabilities for labels, log a_N [B, C].
        labels: Class indices [B], or probabilities of the classes [B, C].
        settings: For `answer_loss` and class weights.

    Returns:
        The mean NLL, or the mean probability of the wrong classes; a scalar.
    """
    charges = -torch.expm1(right) if settings.answer_loss == "error" else -right
    weights = None if settings.class_weights is None else right.new_tensor(settings.class_weights)
    if labels.dim() == 2:
        return _expected(charges, labels, weights).mean()
    if weights is not None:
        charges = charges * weights[labels]
    return charges.mean()


def answer_miss(answer: Tensor, labels: Tensor, settings: HaltingSettings) -> Tensor:
    """The loss of one answer, whichever layer gave it; an evaluation reports it.

    Args:
        answer: Its logarithm [B, C], or a value [B, 1] for regression.
        labels: As for `dact_loss`.
        settings: For class weights.

    Returns:
        The mean NLL or squared error, 0 without any row; a scalar.
    """
    if not len(answer):
        return answer.sum()
    weights = None if settings.class_weights is None else answer.new_tensor(settings.class_weights)
    return _miss(answer, labels, weights).mean()


def _miss(outputs: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """NLL, times the weight of its class, or squared error of each row."""
    if outputs.shape[-1] == 1:
        return (outputs[:, 0] - labels.to(outputs.dtype)) ** 2
    if labels.dim() == 2:
        return _expected(-outputs, labels, weights)
    return functional.nll_loss(outputs, labels, weight=weights, reduction="none")


def _expected(charges: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """Expected charge of each row [B] under class probabilities [B, C], weighted by class [C]."""
    charges = charges * labels.to(charges.dtype)
    return (charges if weights is None else charges * weights).sum(-1)


def _distillation(outputs: Tensor) -> Tensor:
    teacher, students = outputs[:, -1:].detach(), outputs[:, :-1]
    if outputs.shape[-1] == 1:
        return ((students - teacher) ** 2).mean()
    return -(teacher.exp() * students).sum(-1).mean()
