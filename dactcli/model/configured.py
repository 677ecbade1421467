"""What a model's configuration alone decides: what its answers are, and the rules that it can serve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dactcli.halting.answers import Answers
from dactcli.halting.base import NEEDS, Rule
from dactcli.halting.names import calibrated_rule, sound_rule
from dactcli.halting.rules import make_rule


class Configured:
    """A model with the configuration `config`, a `DactConfig`.

    Attributes:
        exits: The layers after which a text may stop, beside the last; None for all.
    """

    config: Any
    exits: Sequence[int] | None = None

    @property
    def mixes(self) -> bool:
        """Whether answers accumulate over layers, as only the DACT loss trains."""
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
        """The rule that keeps the full-depth answer: `exact`, `tolerance` (regression), or `full` without tau."""
        return sound_rule(mixes=self.mixes, regression=self.regression)

    @property
    def calibrated_rule(self) -> str:
        """The rule that calibration uses by default."""
        return calibrated_rule(mixes=self.mixes, agreement=bool(self.config.agreement))

    @property
    def answers(self) -> Answers:
        """What its answers are."""
        found: Answers = self.config.answers
        return found

    def rule(self, text: str | None, *, place: str = "`rule`") -> Rule:
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
            answers=self.answers,
            has=[name for name in NEEDS if getattr(self.config, name)],
            place=place,
        )
