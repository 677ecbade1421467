"""What every halting rule has: a score after each layer, a cut, a grid of thresholds, and facts about itself.

B batch, N layers, C classes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from copy import copy
from typing import ClassVar, Literal, get_args

from torch import Tensor

from dactcli.errors import UsageError
from dactcli.halting.answers import CLASSES, Answers
from dactcli.halting.names import RULE_FACTS, RuleFacts
from dactcli.halting.state import HaltingState

# Bound on the rounding error of one entry of a_N, per layer and relative to its largest possible value: eight halves of
# a float32's last digit. The proof needs at most 6.1 (docs/mathematics.md).
ROUNDING = 2.0**-21


def rounding(layers: int) -> float:
    """Largest lead of one class over another that rounding can undo in a model of N layers."""
    return 2 * ROUNDING * layers  # both entries have an error


Need = Literal["certainty", "agreement"]  # keys of a model that some rules need
NEEDS: tuple[Need, ...] = get_args(Need)
GRID = 400  # thresholds of a rule whose threshold lies on a continuous scale
FINEST = -6.0  # decimal logarithm of the smallest step away from certainty


def log_grid(start: float, stop: float) -> list[float]:
    """`GRID` values from 10^start to 10^stop, evenly spaced in their logarithm, each with three significant digits."""
    step = (stop - start) / (GRID - 1)
    exponents = [*(start + index * step for index in range(GRID - 1)), stop]
    return [float(f"{10.0**exponent:.3g}") for exponent in exponents]


def probability_grid(floor: float) -> list[float]:
    """Thresholds on a probability, from 1 - 10^-6 down to the smallest one that it can have."""
    return [round(1 - step, 9) for step in log_grid(FINEST, math.log10(1 - floor))]


def entropy_grid() -> list[float]:
    """Thresholds on a normalised entropy, from 10^-6 up to 1."""
    return log_grid(FINEST, 0.0)


class Rule(ABC):
    """A halting rule.

    Attributes:
        name: The name that users write.
        facts: What users are told about it, from `dactcli.halting.names`.
        own_answer: Whether it answers with y_n of the halt layer (the peers' rules) instead of a_n.
        needs_dact: Whether it reads p_n or a_n, which mean nothing without the DACT loss.
        needs: What else it reads that only some models have, by the key that trains it; None for nothing.
        serves_classes: Whether it works for classes and for label sets.
        serves_regression: Whether it works for regression.
        answers: What the model's answers are; `of` sets it.
        reads_streak: Whether it asks how long y_n has kept its class.
        whole: Whether its threshold is a whole number from 1 on.
        threshold_name: Meaning of its threshold; None for a rule without one.
        threshold: The threshold of this rule.
        text: The rule as a user writes it; names it in results.
    """

    name: ClassVar[str]
    facts: ClassVar[RuleFacts]
    own_answer: ClassVar[bool] = False
    needs_dact: ClassVar[bool] = False
    needs: ClassVar[Need | None] = None
    serves_classes: ClassVar[bool] = True
    serves_regression: ClassVar[bool] = False
    whole: ClassVar[bool] = False
    threshold_name: ClassVar[str | None]
    answers: Answers = CLASSES
    reads_streak: bool = False
    threshold: float | None

    def __init_subclass__(cls) -> None:
        """Look up the facts of the rule's name; a rule that users cannot name has none to tell."""
        cls.facts = RULE_FACTS.get(cls.name, RuleFacts(cls.name, ""))
        cls.threshold_name = cls.facts.threshold

    def __init__(self, threshold: float | None = None) -> None:
        self.threshold = threshold
        self.text = self.name if threshold is None else f"{self.name}:{threshold!r}"

    @classmethod
    def build(cls, threshold: float | None, answers: Answers) -> Rule:
        """The rule for a model.

        Args:
            threshold: Its threshold; None for a rule without one, or for its own default.
            answers: What the model's answers are.
        """
        return cls(threshold).of(answers)

    @property
    def sound(self) -> bool:
        """Whether the decision at the halt is always that of full depth."""
        return self.facts.promised(self.threshold) == "class"

    @property
    def promise(self) -> str | None:
        """What a halt guarantees by proof, as a sentence; None if nothing."""
        return f"the {self.answers.noun} is that of full depth" if self.sound else None

    def grid(self, layers: int, classes: int) -> list[float]:
        """The thresholds to calibrate over, from cautious to bold; they depend on no data.

        A threshold has at most six significant digits, so that a rule can be read and typed.

        Args:
            layers: N.
            classes: C.

        Raises:
            UsageError: The rule takes no threshold, so there is nothing to choose.
        """
        raise UsageError(
            f"rule {self.name} has no threshold to choose",
            place="`rule`",
            remedy="use settled, confidence, slack, answer_entropy, entropy, max_prob or patience",
        )

    @property
    def cut(self) -> float:
        """The score at which a row halts."""
        return 0.0 if self.threshold is None else self.threshold

    @abstractmethod
    def score(self, state: HaltingState) -> Tensor:
        """How ready each row is to halt: float64 [B], larger means readier."""

    def halts(self, state: HaltingState) -> Tensor:
        """Which rows may stop after this layer, n < N: bool [B]."""
        return (self.score(state) >= self.cut).to(state.rows.device)

    @property
    def streaks(self) -> Answers | None:
        """What the answers are, if the rule asks how long y_n has kept its decision."""
        return self.answers if self.reads_streak else None

    def of(self, answers: Answers) -> Rule:
        """The same rule for answers of this kind."""
        if answers == self.answers:
            return self
        other = copy(self)
        other.answers = answers
        return other

    def at(self, threshold: float) -> Rule:
        """The same rule at another threshold."""
        other = copy(self)
        other.threshold, other.text = threshold, f"{self.name}:{threshold!r}"
        return other

    def answer(self, state: HaltingState) -> Tensor:
        """What a row that stops here answers [B, C]."""
        return state.layer_answer if self.own_answer else state.answer

    def __str__(self) -> str:
        return self.text
