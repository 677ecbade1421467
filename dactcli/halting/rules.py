"""When may a layer be the last one? Every rule, one small class each.

B batch, N layers, C classes. After layer n < N a rule looks at a `HaltingState` and gives each row a score; the row
halts when its score reaches the rule's cut. At layer N every rule halts. The same two calls, `HaltingState.step` and
`Rule.score`, decide for cached outputs (`dactcli.halting.decision`) and in live inference (`dactcli.model.engine`).

Scores are float64 from the float32 a_n and p_n. `paper` and `exact` are sound: the class cannot change any more,
whatever the layers that did not run would have said. Proof for `exact`, with d = N - n layers left: together they can
take at most q = 1 - (1 - p_n)^d of the answer (approached when every later h goes to 1), and the worst they can do is
to give all of it to the runner-up; the top class keeps at least (1 - q) * top, the runner-up gets at most
(1 - q) * second + q; so the class is safe when (1 - q) * (top - second) >= q. `paper` bounds q by p_n * d and
(1 - q) * second by second, so it never halts earlier. Where `exact` fails strictly, some later h and y do change the
class: no sound rule that knows only (a_n, p_n, d) halts earlier.

Full depth is computed in float32 as well, and errs in proportion to N. The sound rules therefore ask for a lead of
`rounding(N)` more; docs/mathematics.md ("When may a layer be the last one?") proves that this is enough.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from copy import copy
from typing import ClassVar

import torch
from torch import Tensor

from dactcli.errors import UsageError, did_you_mean
from dactcli.halting.state import HaltingState

# Most that rounding moves one entry of a_N, per layer and in units of the largest value that it may have: eight halves
# of a float32's last digit. The proof needs at most 6.1 (docs/mathematics.md).
ROUNDING = 2.0**-21


def rounding(layers: int) -> float:
    """The lead of the top class over another that rounding may eat up in a model of N layers."""
    return 2 * ROUNDING * layers  # both entries err


def _wide(values: Tensor) -> Tensor:
    """The values in float64; on the CPU for devices that lack it (MPS)."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def _top_two(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """The two largest entries, float64 [B] each; the second is 0 where there is one class only."""
    top = _wide(probabilities).topk(min(2, probabilities.shape[-1]), dim=-1).values
    return top[:, 0], top[:, 1] if top.shape[1] > 1 else torch.zeros_like(top[:, 0])


def _normalised_entropy(probabilities: Tensor) -> Tensor:
    """Entropy divided by that of the uniform distribution, float64 in [0, 1] [B]."""
    entropy: Tensor = torch.special.entr(_wide(probabilities)).sum(-1)
    return entropy / math.log(max(probabilities.shape[-1], 2))


class Rule(ABC):
    """A halting rule.

    Attributes:
        name: As `--rule` takes it.
        sound: Whether the class at the halt is always that of full depth.
        own_answer: Whether it answers with y_n of the halt layer (the peers' rules) instead of a_n.
        needs_dact: Whether it reads p_n or a_n, which mean nothing without the DACT loss.
        regression: Whether it is for regression (and not for classes).
        reads_streak: Whether it asks how long y_n has kept its class.
        threshold_name: What its value means, None when it takes none.
        threshold: That value.
        text: The rule as a user writes it; names it in results.
    """

    name: ClassVar[str]
    sound: ClassVar[bool] = False
    own_answer: ClassVar[bool] = False
    needs_dact: ClassVar[bool] = False
    regression: ClassVar[bool] = False
    reads_streak: ClassVar[bool] = False
    threshold_name: ClassVar[str | None] = None
    threshold: float | None

    def __init__(self, threshold: float | None = None) -> None:
        self.threshold = threshold
        self.text = self.name if threshold is None else f"{self.name}:{threshold!r}"

    @property
    def cut(self) -> float:
        """The score from which on a row halts."""
        return 0.0 if self.threshold is None else self.threshold

    @abstractmethod
    def score(self, state: HaltingState) -> Tensor:
        """How ready each row is to halt; float64 [B], larger is readier."""

    def halts(self, state: HaltingState) -> Tensor:
        """Which rows may stop after this layer, n < N: bool [B]."""
        return (self.score(state) >= self.cut).to(state.rows.device)

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


class Full(Rule):
    """Never halt early: a_N, or y_N without the DACT loss. Agreement and risk always refer to it."""

    name = "full"
    sound = True

    def score(self, state: HaltingState) -> Tensor:
        """Minus infinity."""
        return torch.full_like(_wide(state.remaining), -torch.inf)


class Paper(Rule):
    """The papers' bound: top * (1 - p)^d >= second + p * d, with the lead that rounding may eat up."""

    name = "paper"
    sound = True
    needs_dact = True

    def score(self, state: HaltingState) -> Tensor:
        """Left side minus right side, less the rounding."""
        left = state.layers - state.layer
        p = _wide(state.remaining)
        top, second = _top_two(state.answer)
        # a millionth more than `exact` asks, so that float64's own rounding never lets this rule halt before it
        return top * (1 - p) ** left - second - p * left - (1 + 1e-6) * rounding(state.layers)


class Exact(Rule):
    """The tight bound: (1 - p)^d * (1 + top - second) >= 1, with the lead that rounding may eat up."""

    name = "exact"
    sound = True
    needs_dact = True

    @property
    def cut(self) -> float:
        """1, the right side."""
        return 1.0

    def score(self, state: HaltingState) -> Tensor:
        """The left side, less the rounding."""
        left = state.layers - state.layer
        top, second = _top_two(state.answer)
        kept: Tensor = (1 - _wide(state.remaining)) ** left
        return kept * (1 + (top - second)) - rounding(state.layers)


class Slack(Exact):
    """`exact` relaxed by a factor exp(-threshold); sound at 0 only."""

    name = "slack"
    sound = False
    threshold_name = "slack, 0 or more"

    @property
    def cut(self) -> float:
        """The cut of `exact`, lowered."""
        return math.exp(-(self.threshold or 0.0))


class Confidence(Rule):
    """Halt when the largest entry of a_n reaches the threshold."""

    name = "confidence"
    needs_dact = True
    threshold_name = "probability"

    def score(self, state: HaltingState) -> Tensor:
        """The largest entry of a_n."""
        return _top_two(state.answer)[0]


class AnswerEntropy(Rule):
    """Halt when the normalised entropy of a_n is at most the threshold."""

    name = "answer_entropy"
    needs_dact = True
    threshold_name = "normalised entropy"

    @property
    def cut(self) -> float:
        """Minus the threshold: scores are negative entropies."""
        return -(self.threshold or 0.0)

    def score(self, state: HaltingState) -> Tensor:
        """Minus the entropy of a_n."""
        return -_normalised_entropy(state.answer)


class Entropy(AnswerEntropy):
    """DeeBERT, FastBERT: halt when the normalised entropy of y_n is at most the threshold."""

    name = "entropy"
    own_answer = True
    needs_dact = False

    def score(self, state: HaltingState) -> Tensor:
        """Minus the entropy of y_n."""
        return -_normalised_entropy(state.layer_answer)


class MaxProb(Rule):
    """Halt when the largest entry of y_n reaches the threshold."""

    name = "max_prob"
    own_answer = True
    threshold_name = "probability"

    def score(self, state: HaltingState) -> Tensor:
        """The largest entry of y_n."""
        return _top_two(state.layer_answer)[0]


class Patience(Rule):
    """PABEE: halt when the class of y_n stayed the same as many times in a row as the threshold says."""

    name = "patience"
    own_answer = True
    reads_streak = True
    threshold_name = "layers in a row"

    def score(self, state: HaltingState) -> Tensor:
        """The streak."""
        if state.streak is None:
            raise ValueError("the state was started without streaks")
        return _wide(state.streak)


class Learned(Rule):
    """BERxiT: halt when a small head is that sure that y_n is right."""

    name = "learned"
    own_answer = True
    threshold_name = "probability"

    def score(self, state: HaltingState) -> Tensor:
        """The head's probability."""
        if state.certainty is None:
            raise ValueError("the model has no certainty head")  # make_rule refuses such models
        return _wide(state.certainty)


class Layer(Rule):
    """Always stop at the layer that the threshold names."""

    name = "layer"
    own_answer = True
    threshold_name = "layer"

    def score(self, state: HaltingState) -> Tensor:
        """n, for every row."""
        return torch.full_like(_wide(state.remaining), state.layer)


class Tolerance(Rule):
    """Regression: halt when the largest change still possible is at most the threshold, in units of the label.

    The later layers together weigh at most q = 1 - (1 - p)^d and answer within [low, high]. What rounding may add, in
    proportion to N and to the largest value of the range, counts as change.
    """

    name = "tolerance"
    needs_dact = True
    regression = True
    threshold_name = "largest change, in units of the label"

    def __init__(self, threshold: float | None = None, *, low: float, high: float) -> None:
        super().__init__(0.01 * (high - low) if threshold is None else threshold)
        self.low, self.high = low, high

    @property
    def cut(self) -> float:
        """Minus the tolerance: scores are negative changes."""
        return -(self.threshold or 0.0)

    def score(self, state: HaltingState) -> Tensor:
        """Minus the largest change still possible."""
        taken = 1 - (1 - _wide(state.remaining)) ** (state.layers - state.layer)
        value = _wide(state.answer[:, 0])
        rounded = ROUNDING * state.layers * max(abs(self.low), abs(self.high))
        return -taken * torch.maximum(value - self.low, self.high - value) - rounded


class ForcedDepths(Rule):
    """Stop each row at the layer that it was given; for measuring time under a known depth profile.

    Args:
        depths: layer to stop at, for each row of the caller's batch [B].
    """

    name = "depths"

    def __init__(self, depths: Tensor) -> None:
        super().__init__()
        self.depths = depths

    def score(self, state: HaltingState) -> Tensor:
        """How many layers past its own each row is."""
        return _wide(state.layer - self.depths[state.rows])


class AtMost(Rule):
    """Another rule, and a last layer that no row runs beyond; whatever the rule promised ends there.

    Args:
        inner: The rule.
        layers: The last layer that may run.
    """

    name = "at_most"

    def __init__(self, inner: Rule, layers: int) -> None:
        super().__init__()
        self.inner, self.layers = inner, layers
        self.text = f"{inner}, at most {layers} layers"
        self.reads_streak = inner.reads_streak  # type: ignore[misc]

    @property
    def cut(self) -> float:
        """As the rule's own."""
        return self.inner.cut

    def score(self, state: HaltingState) -> Tensor:
        """As the rule's own, and enough at the last layer."""
        score = self.inner.score(state)
        if state.layer < self.layers:
            return score
        return score.nan_to_num(self.cut, torch.inf, -torch.inf).clamp_min(self.cut)

    def answer(self, state: HaltingState) -> Tensor:
        """As the rule's own."""
        return self.inner.answer(state)


RULES: dict[str, type[Rule]] = {
    rule.name: rule
    for rule in (
        Full,
        Paper,
        Exact,
        Slack,
        Confidence,
        AnswerEntropy,
        Entropy,
        MaxProb,
        Patience,
        Learned,
        Layer,
        Tolerance,
    )
}


def make_rule(
    text: str,
    *,
    objective: str = "dact",
    answer_range: tuple[float, float] | None = None,
    certainty: bool = True,
    place: str = "`rule`",
) -> Rule:
    """A rule from what a user wrote, checked against the model that it is for.

    Args:
        text: `NAME` or `NAME:VALUE`.
        objective: What the model was trained for: `dact`, `layers` (every layer's answer, no DACT loss) or
            `last` (plain fine-tuning).
        answer_range: Lowest and highest answer of a regression model, None for classes.
        certainty: Whether the model has a certainty head.
        place: Where the text stands, for the error.

    Returns:
        The rule.

    Raises:
        UsageError: The rule is unknown, its value does not fit, or the model cannot serve it.
    """
    name, colon, value = text.partition(":")
    kind = RULES.get(name)
    if kind is None:
        raise UsageError(f"rule {name!r} is unknown", place=place, remedy=did_you_mean(name, RULES))
    _check_model(kind, objective, answer_range, place)
    if kind is Learned and not certainty:
        raise UsageError(
            "rule learned needs a certainty head, which this model does not have",
            place=place,
            remedy="train it with model.certainty: true",
        )
    threshold = _threshold(kind, value, place) if colon else None
    if kind.threshold_name and threshold is None and kind is not Tolerance:
        raise UsageError(
            f"rule {name} needs a threshold ({kind.threshold_name})",
            place=place,
            remedy=f"write `rule` {name}:VALUE",
        )
    if kind is Tolerance and answer_range is not None:
        rule: Rule = Tolerance(threshold, low=answer_range[0], high=answer_range[1])
    else:
        rule = kind(threshold)
    rule.text = text
    return rule


def _check_model(kind: type[Rule], objective: str, answer_range: tuple[float, float] | None, place: str) -> None:
    if objective == "last" and kind is not Full:
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
    if kind not in (Full, Layer) and kind.regression != (answer_range is not None):
        wants, remedy = ("regression", "full or exact") if kind.regression else ("classes", "full, tolerance or layer")
        raise UsageError(f"rule {kind.name} is for {wants}", place=place, remedy=f"use {remedy}")


def _threshold(kind: type[Rule], value: str, place: str) -> float:
    if kind.threshold_name is None:
        raise UsageError(f"rule {kind.name} takes no value", place=place, remedy=f"write {kind.name}")
    try:
        threshold = float(value)
    except ValueError:
        threshold = math.nan
    whole = kind in (Patience, Layer)
    if not math.isfinite(threshold) or threshold < 0 or (whole and (threshold != int(threshold) or threshold < 1)):
        raise UsageError(
            f"{value!r} is no threshold for {kind.name} ({kind.threshold_name})",
            place=place,
            remedy="give a whole number from 1 on" if whole else "give a number from 0 on",
        )
    return threshold
