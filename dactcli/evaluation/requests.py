"""What a calibration is asked for: a risk to certify, or a budget of layers to meet."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from dactcli.errors import UsageError, did_you_mean
from dactcli.recipe.schema import DELTA

LOSSES = ("disagreement", "harm")


@dataclass(frozen=True)
class RiskRequest:
    """A risk to certify.

    Attributes:
        risk: Epsilon, the promised risk.
        delta: The probability with which the promise may fail.
        loss: `disagreement`: the class differs from full depth; `harm`: full depth is right and this is wrong.
        by_class: Whether the risk must hold in every class.
        rules: Names of the rules to choose from; empty for the default, `settled`.
    """

    risk: float
    delta: float = DELTA
    loss: str = "disagreement"
    by_class: bool = False
    rules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("risk", "delta"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise UsageError(f"{name} is {value:g}", place="`calibrate`", remedy="give a number between 0 and 1")
        if self.loss not in LOSSES:
            raise UsageError(
                f"loss {self.loss!r} is unknown", place="`calibrate`", remedy=did_you_mean(self.loss, LOSSES)
            )

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the record of attempts."""
        return {**asdict(self), "rules": list(self.rules)}


@dataclass(frozen=True)
class BudgetRequest:
    """A budget of layers to meet.

    Attributes:
        budget: Mean layers wanted, from 1 to N.
        rules: The name of one rule; empty for the default, `settled`.
    """

    budget: float
    rules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (self.budget > 0 and math.isfinite(self.budget)):
            raise UsageError(f"budget is {self.budget:g}", place="`calibrate`", remedy="give a number above 0")
        if len(self.rules) > 1:
            raise UsageError("a budget is met by one rule", place="`rule`", remedy="name one")
