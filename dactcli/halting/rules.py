"""The halting rules, one small class each. A rule decides after which layer an example stops.

B batch, N layers, C classes. After layer n < N a rule reads the `HaltingState` and gives each row a score; the row
halts when its score reaches the rule's cut. At layer N every rule halts. The same two calls, `HaltingState.step` and
`Rule.score`, decide on kept outputs (`dactcli.halting.decision`) and in live inference (`dactcli.model.engine`).

Scores are float64, computed from the float32 a_n and p_n. `paper` and `exact` are sound: no answer of the layers
that did not run could change the class. Proof for `exact`, with d = N - n layers left: together they can
take at most q = 1 - (1 - p_n)^d of the answer (approached when every later h goes to 1), and the worst they can do is
to give all of it to the runner-up; the top class keeps at least (1 - q) * top, the runner-up gets at most
(1 - q) * second + q; so the class is safe when (1 - q) * (top - second) >= q. `paper` bounds q by p_n * d and
(1 - q) * second by second, so it never halts earlier. Where `exact` fails strictly, some later h and y do change the
class: no sound rule that knows only (a_n, p_n, d) halts earlier.

Full depth is computed in float32 as well, with an error proportional to N. The sound rules therefore require a lead
of `rounding(N)` more; docs/mathematics.md ("When may a layer be the last one?") proves that this is enough.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor

from dactcli.errors import UsageError, did_you_mean
from dactcli.halting.answers import Answers, Classes, Values, wide
from dactcli.halting.base import NEEDS, ROUNDING, Need, Rule, entropy_grid, log_grid, probability_grid, rounding
from dactcli.halting.state import HaltingState


class Full(Rule):
    """Never halt early: a_N, or y_N without the DACT loss. Agreement and risk always refer to this rule."""

    name = "full"
    serves_regression = True

    def score(self, state: HaltingState) -> Tensor:
        """Minus infinity."""
        return torch.full_like(wide(state.remaining), -torch.inf)


class Paper(Rule):
    """The papers' bound: top * (1 - p)^d >= second + p * d, with a margin for rounding."""

    name = "paper"
    needs_dact = True

    def score(self, state: HaltingState) -> Tensor:
        """Left side minus right side, minus the margin for rounding."""
        certain = self.answers.paper_certainty(state.answer, state.remaining, state.layers - state.layer)
        # demand a millionth more than `exact`, so that float64 rounding never lets this rule halt before it
        return certain - (1 + 1e-6) * rounding(state.layers)


class Exact(Rule):
    """The tight bound: (1 - p)^d * (1 + top - second) >= 1, with a margin for rounding."""

    name = "exact"
    needs_dact = True

    @property
    def cut(self) -> float:
        """1, the right side."""
        return 1.0

    def score(self, state: HaltingState) -> Tensor:
        """The left side, minus the margin for rounding."""
        certain = self.answers.certainty(state.answer, state.remaining, state.layers - state.layer)
        return certain - rounding(state.layers)


class Slack(Exact):
    """`exact` relaxed by a factor exp(-threshold); sound at 0 only."""

    name = "slack"

    @property
    def cut(self) -> float:
        """The cut of `exact`, lowered by the factor."""
        return math.exp(-(self.threshold or 0.0))

    def grid(self, layers: int, classes: int) -> list[float]:
        """Thresholds from 0, which equals `exact`, up to 100."""
        return [0.0, *log_grid(-4.0, 2.0)]


class Confidence(Rule):
    """Halt when the confidence of a_n, its largest entry, reaches the threshold."""

    name = "confidence"
    needs_dact = True

    def grid(self, layers: int, classes: int) -> list[float]:
        """From nearly 1 down to the lowest confidence that an answer can have."""
        return probability_grid(self.answers.lowest(classes))

    def score(self, state: HaltingState) -> Tensor:
        """The confidence of a_n."""
        return self.answers.confidence(state.answer)


class Settled(Confidence):
    """Halt when `exact` does, or when the confidence of a_n reaches the threshold.

    It stops no later than `exact`, and no later than `confidence` at the same threshold. It gives another decision than
    full depth on no row on which `confidence` gives that of full depth: where it stops earlier, `exact` has halted.
    """

    name = "settled"

    def score(self, state: HaltingState) -> Tensor:
        """The confidence of a_n, plus 1 where `exact` halts."""
        certain = self.answers.certainty(state.answer, state.remaining, state.layers - state.layer)
        return super().score(state).clamp(max=1) + (certain - rounding(state.layers) >= 1)


class AnswerEntropy(Rule):
    """Halt when the normalised entropy of a_n is at most the threshold."""

    name = "answer_entropy"
    needs_dact = True

    @property
    def cut(self) -> float:
        """Minus the threshold: scores are negative entropies."""
        return -(self.threshold or 0.0)

    def grid(self, layers: int, classes: int) -> list[float]:
        """Entropies from nearly 0 up to 1."""
        return entropy_grid()

    def score(self, state: HaltingState) -> Tensor:
        """Minus the entropy of a_n."""
        return -self.answers.entropy(state.answer)


class Entropy(AnswerEntropy):
    """The rule of DeeBERT and FastBERT: halt when the normalised entropy of y_n is at most the threshold."""

    name = "entropy"
    own_answer = True
    needs_dact = False

    def score(self, state: HaltingState) -> Tensor:
        """Minus the entropy of y_n."""
        return -self.answers.entropy(state.layer_answer)


class MaxProb(Rule):
    """Halt when the confidence of y_n, its largest entry, reaches the threshold."""

    name = "max_prob"
    own_answer = True

    def grid(self, layers: int, classes: int) -> list[float]:
        """From nearly 1 down to the lowest confidence that an answer can have."""
        return probability_grid(self.answers.lowest(classes))

    def score(self, state: HaltingState) -> Tensor:
        """The confidence of y_n."""
        return self.answers.confidence(state.layer_answer)


class Patience(Rule):
    """The rule of PABEE: halt when y_n has kept its class or label set `threshold` times in a row."""

    name = "patience"
    own_answer = True
    reads_streak = True
    whole = True

    def grid(self, layers: int, classes: int) -> list[float]:
        """Streaks from N - 1 layers, or 1 if N is 1, down to 1."""
        return [float(times) for times in range(max(layers - 1, 1), 0, -1)]

    def score(self, state: HaltingState) -> Tensor:
        """Number of layers in a row at which y_n kept its class."""
        if state.streak is None:
            raise ValueError("the state was started without streaks")
        return wide(state.streak)


class Learned(Rule):
    """The rule of BERxiT: halt when the certainty head's probability that y_n is right reaches the threshold."""

    name = "learned"
    own_answer = True
    needs = "certainty"

    def grid(self, layers: int, classes: int) -> list[float]:
        """Probabilities from nearly 1 down to 0."""
        return probability_grid(0.0)

    def score(self, state: HaltingState) -> Tensor:
        """The head's probability."""
        if state.certainty is None:
            raise ValueError("the model has no certainty head")  # make_rule refuses such models
        return wide(state.certainty)


class Agreement(Rule):
    """Halt when the layer decides as the last one would, with the probability that the halting unit was fitted to say.

    The unit sees how sure y_n is; `dactcli.halting.agreement` fits it. No label enters the fit.
    """

    name = "agreement"
    own_answer = True
    needs = "agreement"

    def grid(self, layers: int, classes: int) -> list[float]:
        """Probabilities from nearly 1 down to 0."""
        return probability_grid(0.0)

    def score(self, state: HaltingState) -> Tensor:
        """1 - h_n."""
        return 1 - wide(state.halting)


class Layer(Rule):
    """Always stop after the layer given by the threshold."""

    name = "layer"
    own_answer = True
    serves_regression = True
    whole = True

    def grid(self, layers: int, classes: int) -> list[float]:
        """Layers from N down to 1."""
        return [float(layer) for layer in range(layers, 0, -1)]

    def score(self, state: HaltingState) -> Tensor:
        """n, for every row."""
        return torch.full_like(wide(state.remaining), state.layer)


class Tolerance(Rule):
    """Regression: halt when the largest possible remaining change is at most the threshold, in units of the label.

    The later layers together weigh at most q = 1 - (1 - p)^d and answer within [low, high]. The largest rounding error,
    proportional to N and to the largest value of the range, counts as change.
    """

    name = "tolerance"
    needs_dact = True
    serves_classes = False
    serves_regression = True

    def __init__(self, threshold: float | None = None, *, low: float, high: float) -> None:
        super().__init__(0.01 * (high - low) if threshold is None else threshold)
        self.low, self.high = low, high

    @classmethod
    def build(cls, threshold: float | None, answers: Answers) -> Rule:
        """Build the rule for a regression; the default threshold is 1% of the range.

        Args:
            threshold: Largest change, in units of the label.
            answers: Values within a range.
        """
        if not isinstance(answers, Values):
            raise ValueError("a tolerance needs the range of the answers")  # make_rule refuses classifiers
        return cls(threshold, low=answers.low, high=answers.high).of(answers)

    @property
    def promise(self) -> str:
        """Maximum distance between the value and that of full depth, as a sentence."""
        return f"the value is within {self.threshold:g} of full depth"

    @property
    def cut(self) -> float:
        """Minus the tolerance: scores are negative changes."""
        return -(self.threshold or 0.0)

    def score(self, state: HaltingState) -> Tensor:
        """Minus the largest possible remaining change."""
        taken = 1 - (1 - wide(state.remaining)) ** (state.layers - state.layer)
        value = wide(state.answer[:, 0])
        rounded = ROUNDING * state.layers * max(abs(self.low), abs(self.high))
        return -taken * torch.maximum(value - self.low, self.high - value) - rounded


RULES: dict[str, type[Rule]] = {
    rule.name: rule
    for rule in (
        Full,
        Paper,
        Exact,
        Slack,
        Settled,
        Confidence,
        AnswerEntropy,
        Entropy,
        MaxProb,
        Patience,
        Learned,
        Agreement,
        Layer,
        Tolerance,
    )
}


_NEEDED: dict[Need, str] = {
    "certainty": "a certainty head",
    "agreement": "halting units that are fitted to agreement with the last layer",
}


def make_rule(
    text: str,
    *,
    objective: str = "dact",
    answers: Answers | None = None,
    answer_range: tuple[float, float] | None = None,
    has: Collection[Need] = NEEDS,
    place: str = "`rule`",
) -> Rule:
    """Build a rule from its text and check it against the model.

    Args:
        text: `NAME` or `NAME:VALUE`.
        objective: The model's training objective: `dact`, `layers` (every layer's answer, no DACT loss) or `last`
            (plain fine-tuning).
        answers: What the model's answers are; None for classes, or for values within `answer_range`.
        answer_range: Lowest and highest answer of a regression model.
        has: What the model has of what only some rules need.
        place: The option or key that holds the text, for the error message.

    Returns:
        The rule.

    Raises:
        UsageError: The rule is unknown, its value does not fit, or the model cannot serve it.
    """
    name, colon, value = text.partition(":")
    kind = RULES.get(name)
    if kind is None:
        raise UsageError(f"rule {name!r} is unknown", place=place, remedy=did_you_mean(name, RULES))
    if answers is None:
        answers = Classes() if answer_range is None else Values(*answer_range)
    _check_model(kind, objective, answers, place)
    if kind.needs is not None and kind.needs not in has:
        raise UsageError(
            f"rule {name} needs {_NEEDED[kind.needs]}, which this model does not have",
            place=place,
            remedy=f"train it with model.{kind.needs}: true",
        )
    threshold = _threshold(kind, value, place) if colon else None
    if kind.facts.needs_threshold and threshold is None:
        raise UsageError(
            f"rule {name} needs a threshold ({kind.threshold_name})",
            place=place,
            remedy=f"write `rule` {name}:VALUE",
        )
    rule = kind.build(threshold, answers)
    rule.text = text
    return rule


def _check_model(kind: type[Rule], objective: str, answers: Answers, place: str) -> None:
    if objective == "last" and kind.facts.early:
        raise UsageError(
            f"rule {kind.name} needs an answer from every layer, and this model was fine-tuned on its last layer only",
            place=place,
            remedy="use full, or train it with a dact section",
        )
    if objective != "dact" and kind.needs_dact:
        raise UsageError(
            f"rule {kind.name} reads the halting units, and this model was trained without the DACT loss",
            place=place,
            remedy="use full, entropy, max_prob, patience or layer, or train it with dact.tau",
        )
    if not (kind.serves_classes if answers.decides else kind.serves_regression):
        if answers.decides:
            wants, others = "regression", "full or exact"
        else:
            wants, others = "classes", "full, tolerance or layer"
        raise UsageError(f"rule {kind.name} is for {wants}", place=place, remedy=f"use {others}")


def _threshold(kind: type[Rule], value: str, place: str) -> float:
    if kind.threshold_name is None:
        raise UsageError(f"rule {kind.name} takes no value", place=place, remedy=f"write {kind.name}")
    try:
        threshold = float(value)
    except ValueError:
        threshold = math.nan
    if not math.isfinite(threshold) or threshold < 0 or (kind.whole and (threshold != int(threshold) or threshold < 1)):
        raise UsageError(
            f"{value!r} is not a threshold for {kind.name} ({kind.threshold_name})",
            place=place,
            remedy="give a whole number of at least 1" if kind.whole else "give a number of at least 0",
        )
    return threshold
