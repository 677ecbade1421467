"""Apply rules to the outputs of all layers: the same decisions as in live inference.

B batch, N layers, C classes, T thresholds.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor

from dactcli.halting.base import Rule
from dactcli.halting.state import HaltingState


class Scored(NamedTuple):
    """A rule's scores and answers after every layer; they do not depend on its threshold.

    Attributes:
        scores: The rule's score after each layer, float64 [B, N]; infinite after layer N, where every rule halts.
        answers: The answer of each row if it stopped there [B, N, C].
    """

    scores: Tensor
    answers: Tensor


class Decision(NamedTuple):
    """Where each row stops and what it answers.

    Attributes:
        exit_layer: 1..N [B].
        answer: Probabilities of the classes or labels [B, C], or the value of a regression [B, 1].
    """

    exit_layer: Tensor
    answer: Tensor


def score_layers(
    rule: Rule,
    y: Tensor,
    h: Tensor,
    certainty: Tensor | None = None,
    *,
    mixes: bool = True,
    exits: Collection[int] | None = None,
) -> Scored:
    """Score every layer of every row.

    Args:
        rule: The rule; its threshold is not used.
        y: y_n [B, N, C].
        h: h_n [B, N].
        certainty: Probability that y_n is right [B, N]; for `learned` only.
        mixes: False for models without the DACT loss.
        exits: The layers after which a row may stop, beside the last; None for all. Others score minus infinity.
    """
    batch, layers, classes = y.shape
    state = HaltingState.start(batch, classes, layers=layers, mixes=mixes, like=y, streaks=rule.streaks)
    scores, answers = [], []
    for n in range(layers):
        state.step(y[:, n], h[:, n], None if certainty is None else certainty[:, n])
        score = rule.score(state)
        scores.append(score if exits is None or n + 1 in exits else torch.full_like(score, -torch.inf))
        answers.append(rule.answer(state))
    scores[-1] = torch.full_like(scores[-1], torch.inf)
    return Scored(torch.stack(scores, 1), torch.stack(answers, 1))


def exit_layers(scores: Tensor, cuts: Tensor) -> Tensor:
    """The first layer whose score reaches a cut, for each row and each of several cuts.

    Args:
        scores: As in `Scored` [B, N]; a NaN never halts, as in live inference.
        cuts: Scores at which a row halts [T].

    Returns:
        1..N [T, B].
    """
    best = scores.nan_to_num(-torch.inf, torch.inf, -torch.inf).cummax(-1).values
    wanted = cuts.to(best).expand(len(best), -1).contiguous()
    return torch.searchsorted(best, wanted, side="left").T + 1


def decide(
    rule: Rule,
    y: Tensor,
    h: Tensor,
    certainty: Tensor | None = None,
    *,
    mixes: bool = True,
    exits: Collection[int] | None = None,
) -> Decision:
    """Apply a rule to the outputs of all layers.

    Args:
        rule: The rule.
        y: y_n [B, N, C].
        h: h_n [B, N].
        certainty: Probability that y_n is right [B, N]; for `learned` only.
        mixes: False for models without the DACT loss.
        exits: The layers after which a row may stop, beside the last; None for all.

    Returns:
        The decision for each row, as in live inference.
    """
    scored = score_layers(rule, y, h, certainty, mixes=mixes, exits=exits)
    (stops,) = exit_layers(scored.scores, torch.tensor([rule.cut], dtype=torch.float64))
    return Decision(stops, scored.answers[torch.arange(len(y), device=y.device), stops - 1])
