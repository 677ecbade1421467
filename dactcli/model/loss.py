"""The training loss, computed in one pass over all layers.

    L = miss(a_N, label) + tau * mean ponder cost                        miss: NLL, or 1 - a_N[label]
        + layer_loss_weight * sum over n of v_n * NLL(y_n, label)      v_n equal, or growing with depth; sum 1;
                                                                       or alternating: v_N alone in every other step
        + distill * mean over n < N of CE(y_N detached, y_n)
        + mean over n of BCE(certainty_n, y_n is right)            where there is a certainty head; trains only itself

The first line is DACT's; the rest is this project's. With `detach` the first line does not train the layers' answers,
only what is made of them. The papers' miss is the NLL. The other, the probability that a_N gives to wrong classes,
makes tau the accuracy that a layer must bring (with `sum_p`, per expected layer). For regression, squared errors stand
in for both; for label sets, NLL and probability are means over the labels. With class weights every miss is multiplied
by that of its label; they are 1 on the mean over train, so that tau keeps its meaning. The layers' answers come as logs
(`dactcli.halting.answers`), F entries each.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional

from dactcli.halting.answers import Answers
from dactcli.halting.recursion import ponder_cost
from dactcli.model.heads import ExitOutput
from dactcli.model.labels import Targets
from dactcli.recipe.settings import HaltingSettings


class LossOutput(NamedTuple):
    """The loss and the answer it was computed on.

    Attributes:
        loss: Scalar.
        answer: Logs of a_N [B, F].
    """

    loss: Tensor
    answer: Tensor


def certainty_loss(certainty_logits: Tensor, outputs: Tensor, labels: Tensor, answers: Answers) -> Tensor:
    """Loss of the certainty head: how badly it predicts whether a layer is right (BERxiT, learning to exit).

    Args:
        certainty_logits: [B, N].
        outputs: Logs of y_n [B, N, F].
        labels: As for `dact_loss`.
        answers: What the answers are.

    Returns:
        Scalar.
    """
    right = answers.is_right(outputs, labels).to(certainty_logits.dtype)
    return functional.binary_cross_entropy_with_logits(certainty_logits, right)


def layer_weights(layers: int, kind: str, like: Tensor) -> Tensor:
    """v_n [N], summing to 1."""
    weights = torch.arange(1, layers + 1, dtype=like.dtype, device=like.device)
    if kind != "depth":
        weights = torch.ones_like(weights)
    return weights / weights.sum()


def dact_loss(
    outputs: Tensor, halting_logits: Tensor, labels: Tensor, settings: HaltingSettings, answers: Answers
) -> LossOutput:
    """The loss of a batch.

    Args:
        outputs: Logs of y_n (`dactcli.halting.answers`) [B, N, F].
        halting_logits: s_n [B, N].
        labels: Class indices [B], probabilities of the classes or of the labels [B, C], or values [B].
        settings: The parts that the loss has.
        answers: What the answers are.

    Returns:
        The loss and the full-depth answer. Without any row the loss is 0, with gradients that are 0.
    """
    if not len(outputs):
        answer = answers.mix(outputs, halting_logits) if settings.objective == "dact" else outputs[:, -1]
        return LossOutput(outputs.sum() + halting_logits.sum(), answer)
    weights = _weights(settings, outputs)
    if settings.objective == "last":
        return LossOutput(answers.miss(outputs[:, -1], labels, weights).mean(), outputs[:, -1])
    answer = outputs[:, -1]
    loss = outputs.new_zeros(())
    if settings.objective == "dact":
        answer = answers.mix(outputs.detach() if settings.detach else outputs, halting_logits)
        loss = answer_loss(answer, labels, settings, answers)
        loss = loss + settings.price * ponder_cost(halting_logits, settings.ponder).mean()
    if settings.layer_loss != "none":
        layers = outputs.shape[1]
        # every layer's miss in one call: [B * N]
        misses = answers.miss(outputs.flatten(0, 1), labels.repeat_interleave(layers, 0), weights).view(-1, layers)
        by_layer = layer_weights(layers, settings.layer_loss, outputs)
        loss = loss + settings.layer_loss_weight * (misses.mean(0) * by_layer).sum()
    if settings.distill and outputs.shape[1] > 1:
        loss = loss + settings.distill * answers.distance(outputs[:, -1:].detach(), outputs[:, :-1])
    return LossOutput(loss, answer)


def loss_and_answer(
    heads: ExitOutput, targets: Targets | None, settings: HaltingSettings, answers: Answers, *, mixes: bool
) -> tuple[Tensor | None, Tensor]:
    """The loss over the labelled rows, and the full-depth answer of all rows.

    Args:
        heads: Logs of y_n [B, N, F] in the place of `logits`, s_n [B, N], and certainty logits [B, N].
        targets: The labels, and the rows that have one; None for no loss.
        settings: The parts that the loss has.
        answers: What the answers are.
        mixes: Whether the answer is a_N rather than y_N.

    Returns:
        The loss, a scalar, or None without labels; and the logs of a_N or y_N [B, F].
    """
    outputs, halting_logits, certainty = heads
    answer = None
    if targets is None or targets.rows is not None:
        answer = answers.mix(outputs, halting_logits) if mixes else outputs[:, -1]
    if targets is None:
        return None, cast("Tensor", answer)
    if targets.rows is not None:
        outputs, halting_logits = outputs[targets.rows], halting_logits[targets.rows]
        certainty = None if certainty is None else certainty[targets.rows]
    loss, counted = dact_loss(outputs, halting_logits, targets.values, settings, answers)
    if certainty is not None:
        sure = certainty_loss(certainty, outputs, targets.values, answers) if len(outputs) else certainty.sum()
        loss = loss + sure
    return loss, counted if answer is None else answer


def answer_loss(answer: Tensor, labels: Tensor, settings: HaltingSettings, answers: Answers) -> Tensor:
    """The answer loss of the DACT loss, without the price of layers.

    Args:
        answer: Logs of a_N [B, F].
        labels: As for `dact_loss`.
        settings: For `answer_loss` and class weights.
        answers: What the answers are.

    Returns:
        The mean NLL, or the mean probability of the wrong decisions; for values the mean squared error; a scalar.
    """
    if not answers.decides:
        return answers.miss(answer, labels).mean()
    return charge_for(answers.right(answer, labels), labels, settings, answers)


def charge_for(right: Tensor, labels: Tensor, settings: HaltingSettings, answers: Answers) -> Tensor:
    """`answer_loss` from the entries of the logs that it looks at, as `Answers.right` gives them [B, K]."""
    charges = -torch.expm1(right) if settings.answer_loss == "error" else -right
    return answers.average(charges, labels, _weights(settings, right)).mean()


def answer_miss(answer: Tensor, labels: Tensor, settings: HaltingSettings, answers: Answers) -> Tensor:
    """The loss of one answer, whichever layer gave it; an evaluation reports it.

    Args:
        answer: Its logs [B, F].
        labels: As for `dact_loss`.
        settings: For class weights.
        answers: What the answers are.

    Returns:
        The mean NLL or squared error, 0 without any row; a scalar.
    """
    if not len(answer):
        return answer.sum()
    return answers.miss(answer, labels, _weights(settings, answer)).mean()


def _weights(settings: HaltingSettings, like: Tensor) -> Tensor | None:
    """Factor of a row by its class [C]; None for 1."""
    return None if settings.class_weights is None else like.new_tensor(settings.class_weights)
