"""State of all live rows after a layer. Rules read it; the engine and `decide` advance it.

B batch, N layers, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dactcli.halting.answers import CLASSES, Answers
from dactcli.halting.recursion import advance


@dataclass
class HaltingState:
    """State of all live rows after a layer.

    Attributes:
        layers: N.
        mixes: Whether answers accumulate (DACT); False if the answer is the layer's own.
        layer: n, 0 before the first layer.
        rows: Position of each live row in the caller's batch [B].
        remaining: p_n [B].
        answer: a_n [B, C].
        layer_answer: y_n [B, C].
        halting: h_n [B].
        streak: Number of times in a row that y_n kept its decision [B]; None if the rule does not need it.
        certainty: Predicted probability that y_n is right [B]; None without a certainty head.
        answers: Kind of the answers.
    """

    layers: int
    mixes: bool
    layer: int
    rows: Tensor
    remaining: Tensor
    answer: Tensor
    layer_answer: Tensor
    halting: Tensor
    streak: Tensor | None
    certainty: Tensor | None = None
    answers: Answers = CLASSES

    @classmethod
    def start(
        cls, batch: int, classes: int, *, layers: int, mixes: bool, like: Tensor, streaks: Answers | None = CLASSES
    ) -> HaltingState:
        """State before layer 1: p_0 = 1, a_0 = 0.

        Args:
            batch: B.
            classes: C.
            layers: N.
            mixes: Whether answers accumulate (DACT) or each layer stands alone.
            like: A float tensor that sets the state's device, and its type if at least float32.
            streaks: Kind of the answers, if the rule reads how many times in a row y_n kept its decision.
        """
        # the proofs of the sound rules assume float32: a narrower type has rounding errors beyond their margin
        kind, device = torch.promote_types(like.dtype, torch.float32), like.device
        empty = torch.zeros(batch, classes, dtype=kind, device=device)
        return cls(
            layers=layers,
            mixes=mixes,
            layer=0,
            rows=torch.arange(batch, device=device),
            remaining=torch.ones(batch, dtype=kind, device=device),
            answer=empty,
            layer_answer=empty,
            halting=torch.ones(batch, dtype=kind, device=device),
            streak=torch.zeros(batch, dtype=torch.long, device=device) if streaks is not None else None,
            answers=streaks or CLASSES,
        )

    def step(self, y: Tensor, h: Tensor, certainty: Tensor | None = None) -> None:
        """Advance by one layer: y_n [B, C], h_n [B] and, if the model has a certainty head, the certainty [B]."""
        if self.layer and self.streak is not None:
            same = self.answers.same(y, self.layer_answer)
            self.streak = torch.where(same, self.streak + 1, 0)
        if self.mixes:
            self.remaining, self.answer = advance(self.remaining, self.answer, y, h)
        else:
            self.answer = y
        self.layer_answer, self.halting, self.certainty = y, h, certainty
        self.layer += 1

    def select(self, keep: Tensor) -> None:
        """Keep only the rows at the positions `keep` [B']."""
        for name in self._per_row():
            setattr(self, name, getattr(self, name).index_select(0, keep))

    def join(self, others: list[HaltingState]) -> None:
        """Append the rows of other states after the same layer."""
        for name in self._per_row():
            setattr(self, name, torch.cat([getattr(state, name) for state in (self, *others)]))

    def _per_row(self) -> list[str]:
        names = ("rows", "remaining", "answer", "layer_answer", "halting", "streak", "certainty")
        return [name for name in names if getattr(self, name) is not None]
