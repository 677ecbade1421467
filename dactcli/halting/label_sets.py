"""Label sets: answers of any number of labels at once (see `dactcli.halting.answers`).

B batch, C labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from dactcli.halting.answers import THRESHOLD, Answers, finite_log, wide


@dataclass(frozen=True)
class LabelSets(Answers):
    """Any number of labels at once: those whose probability is at least the label's threshold.

    Attributes:
        thresholds: t of each label, or one for all of them; each between 0 and 1.
    """

    thresholds: tuple[float, ...] = (THRESHOLD,)
    kind = "multilabel"
    noun = "label set"

    def read(self, logits: Tensor) -> Tensor:
        """Sigmoid."""
        return logits.sigmoid()

    def logs_of_logits(self, logits: Tensor) -> Tensor:
        """log(1 - y) of all labels, then log y."""
        return torch.cat([logsigmoid(-logits), logsigmoid(logits)], dim=-1)

    def logs(self, answer: Tensor) -> Tensor:
        """log(1 - a) of all labels, then log a."""
        return torch.cat([finite_log(1 - answer), finite_log(answer)], dim=-1)

    def logits(self, logs: Tensor) -> Tensor:
        """The log odds of each label."""
        absent, present = logs.chunk(2, dim=-1)
        return present - absent

    def right(self, logs: Tensor, labels: Tensor) -> Tensor:
        """All of them."""
        return logs

    def average(self, costs: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
        """The mean over the labels of the cost that a 0 or a 1 has; labels between them have both in proportion."""
        wanted = labels.to(costs.dtype)
        return (costs * torch.cat([1 - wanted, wanted], dim=-1)).sum(-1) / labels.shape[-1]

    def distance(self, teacher: Tensor, students: Tensor) -> Tensor:
        """The mean over the labels of the cross entropy; a scalar."""
        return super().distance(teacher, students) / (teacher.shape[-1] // 2)

    def is_right(self, logs: Tensor, labels: Tensor) -> Tensor:
        """Whether the whole set is right."""
        found = self.decide(logs.chunk(2, dim=-1)[1].exp())
        return (found == (labels >= THRESHOLD).unsqueeze(-2).to(found.device)).all(-1).to(logs)

    def decide(self, answer: Tensor) -> Tensor:
        """Which labels there are."""
        chosen: Tensor = wide(answer) >= self._t(answer)
        return chosen.to(answer.device)

    def same(self, one: Tensor, other: Tensor) -> Tensor:
        """Whether the label sets are equal."""
        return (self.decide(one) == self.decide(other)).all(-1)

    def confidence(self, answer: Tensor) -> Tensor:
        """The smallest over the labels of (a - t) / (1 - t) where the label is there, else of (t - a) / t."""
        a, t = wide(answer), self._t(answer)
        return torch.where(a >= t, (a - t) / (1 - t), (t - a) / t).amin(-1)

    def lowest(self, classes: int) -> float:
        """0: some label lies at its threshold."""
        return 0.0

    def entropy(self, answer: Tensor) -> Tensor:
        """The mean over the labels of the binary entropy, in bits."""
        a = wide(answer)
        bits: Tensor = (torch.special.entr(a) + torch.special.entr(1 - a)).mean(-1)
        return bits / math.log(2)

    def sureness(self, logits: Tensor) -> Tensor:
        """The smallest distance over the labels of the log odds from those of the threshold."""
        return (logits - self._t(logits).logit().to(logits)).abs().amin(-1)

    def certainty(self, answer: Tensor, remaining: Tensor, left: int) -> Tensor:
        """1 + the smallest margin over the labels, where the later layers take at most q = 1 - (1 - p)^d."""
        return 1 + self._margin(answer, (1 - wide(remaining)) ** left)

    def paper_certainty(self, answer: Tensor, remaining: Tensor, left: int) -> Tensor:
        """The smallest margin over the labels, where the later layers take at most p d."""
        return self._margin(answer, (1 - wide(remaining) * left).clamp_min(0.0))

    def _margin(self, answer: Tensor, kept: Tensor) -> Tensor:
        """By how much every label keeps its side of t when the later layers vote against it as one: float64 [B].

        Args:
            answer: a_n [B, C].
            kept: The least weight that a_n keeps, 1 - q [B].
        """
        a, t, kept = wide(answer), self._t(answer), kept.unsqueeze(-1)
        # (1 - q) a >= t keeps a label, (1 - q) a + q < t keeps it out
        return torch.maximum(kept * a - t, kept * (1 - a) - (1 - t)).amin(-1)

    def _t(self, like: Tensor) -> Tensor:
        """The thresholds, float64 [C] or [1]."""
        return _thresholds(self.thresholds, torch.device("cpu") if like.device.type == "mps" else like.device)


@lru_cache(maxsize=8)
def _thresholds(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, device=device)
