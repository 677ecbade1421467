"""Rules that users do not name: a forced depth for measurements, and a last layer for another rule.

B batch, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dactcli.halting.answers import Answers, wide
from dactcli.halting.base import Rule
from dactcli.halting.state import HaltingState


class ForcedDepths(Rule):
    """Stop each row at a given layer, to measure time under a known depth profile.

    Args:
        depths: Exit layer of each row of the caller's batch, 1..N [B].
    """

    name = "depths"

    def __init__(self, depths: Tensor) -> None:
        super().__init__()
        self.depths = depths

    def score(self, state: HaltingState) -> Tensor:
        """How many layers each row is past its exit layer."""
        return wide(state.layer - self.depths[state.rows])


class AtMost(Rule):
    """Another rule with a cap on the layers; beyond the cap the rule's promise does not hold.

    Args:
        inner: The rule.
        layers: The last layer that may run.
    """

    name = "at_most"

    def __init__(self, inner: Rule, layers: int) -> None:
        super().__init__()
        self.inner, self.layers = inner, layers
        self.text = f"{inner}, at most {layers} layers"
        self.reads_streak, self.answers = inner.reads_streak, inner.answers

    def of(self, answers: Answers) -> Rule:
        """The same for answers of this kind."""
        return AtMost(self.inner.of(answers), self.layers)

    @property
    def cut(self) -> float:
        """As the inner rule's."""
        return self.inner.cut

    def score(self, state: HaltingState) -> Tensor:
        """The inner rule's score; at the cap, enough to halt."""
        score = self.inner.score(state)
        if state.layer < self.layers:
            return score
        return score.nan_to_num(self.cut, torch.inf, -torch.inf).clamp_min(self.cut)

    def answer(self, state: HaltingState) -> Tensor:
        """As the inner rule's."""
        return self.inner.answer(state)
