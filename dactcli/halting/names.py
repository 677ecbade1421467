"""Table of the halting rules by name: what each does, what its threshold means, what it guarantees. Imports no torch.

The command line completes and explains rules from this table, and reports look up a rule's guarantee. The rules
themselves are in `dactcli.halting.rules`, one class per entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Promise = Literal["class", "value"]


@dataclass(frozen=True)
class RuleFacts:
    """Facts about a rule that are known without running it.

    Attributes:
        name: Name of the rule on the command line and in recipes.
        text: When the rule halts, in one line.
        threshold: Meaning of the threshold; None for a rule without one.
        default_threshold: Whether the rule has a default threshold.
        promise: What a halt provably guarantees: `class`, the class of full depth; `value`, a value within the
            threshold of full depth; None if nothing.
        promise_at: The only threshold at which the promise holds; None if it holds at every threshold.
        early: Whether the rule can stop before the last layer.
        score: Name of the number that the rule compares with its cut; empty if it looks at no number.
        score_text: What that number is, in one line.
        falls: Whether the rule stops when that number falls to the cut, and not when it rises to it.
        certain_above: The score above which the decision is certain, under a rule that otherwise promises nothing.
    """

    name: str
    text: str
    threshold: str | None = None
    default_threshold: bool = False
    promise: Promise | None = None
    promise_at: float | None = None
    early: bool = True
    score: str = ""
    score_text: str = ""
    falls: bool = False
    certain_above: float | None = None

    @property
    def needs_threshold(self) -> bool:
        """Whether the user or a calibration must give a threshold."""
        return self.threshold is not None and not self.default_threshold

    def promised(self, threshold: float | None) -> Promise | None:
        """The rule's guarantee at a threshold."""
        return self.promise if self.promise_at in (None, threshold) else None


SAFETY = "lead of the top class after the worst that the later layers can do"
SURE = ", plus 1 once later layers cannot change the class"
ENTROPY = "0 if one class is certain, 1 if all are equally likely"
RULE_FACTS: dict[str, RuleFacts] = {
    facts.name: facts
    for facts in (
        RuleFacts("full", "never; every layer runs", promise="class", early=False),
        RuleFacts(
            "paper",
            "the class is certain, by the papers' bound",
            promise="class",
            score="safety",
            score_text=f"{SAFETY}; from 0 on, they cannot change the class",
        ),
        RuleFacts(
            "exact",
            "the class is certain, by the tightest bound",
            promise="class",
            score="safety",
            score_text=f"1 plus the {SAFETY}; from 1 on, they cannot change the class",
        ),
        RuleFacts(
            "slack",
            "exact with a looser bound; slack:0 is exact",
            "slack, 0 or more",
            promise="class",
            promise_at=0.0,
            score="safety",
            score_text=f"1 plus the {SAFETY}; only from 1 on is the class certain",
        ),
        RuleFacts(
            "settled",
            "the class is certain, or the answer so far is this sure",
            "probability",
            score="confidence",
            score_text=f"largest probability of the answer so far{SURE}",
            certain_above=1.0,
        ),
        RuleFacts(
            "confidence",
            "the answer so far is this sure",
            "probability",
            score="confidence",
            score_text="largest probability of the answer so far",
        ),
        RuleFacts(
            "answer_entropy",
            "the answer so far has at most this entropy",
            "normalised entropy",
            score="entropy",
            score_text=f"how undecided the answer so far is: {ENTROPY}",
            falls=True,
        ),
        RuleFacts(
            "entropy",
            "the layer's own answer has at most this entropy",
            "normalised entropy",
            score="entropy",
            score_text=f"how undecided this layer's answer is: {ENTROPY}",
            falls=True,
        ),
        RuleFacts(
            "max_prob",
            "the layer's own answer is this sure",
            "probability",
            score="confidence",
            score_text="largest probability of this layer's answer",
        ),
        RuleFacts(
            "patience",
            "the layers' own class stayed the same this many times",
            "layers in a row",
            score="agreement",
            score_text="how many times in a row a layer answered the class of the layer before it",
        ),
        RuleFacts(
            "learned",
            "a trained head is this sure that the layer is right",
            "probability",
            score="trust",
            score_text="probability that this layer is right, by a trained head",
        ),
        RuleFacts(
            "agreement",
            "the layer decides as the last one, by calibrated confidence",
            "probability",
            score="certainty",
            score_text="probability that the last layer decides the same, calibrated by layer on validation",
        ),
        RuleFacts("layer", "always after this layer", "layer"),
        RuleFacts(
            "tolerance",
            "the value can change by at most this much (regression)",
            "largest change, in units of the label",
            default_threshold=True,
            promise="value",
            score="possible change",
            score_text="largest change that the later layers can still make, in units of the label",
            falls=True,
        ),
    )
}
RULE_NAMES = tuple(RULE_FACTS)


def facts_of(rule: str) -> RuleFacts | None:
    """Facts of a rule given as `NAME` or `NAME:VALUE`; None for an unknown name."""
    return RULE_FACTS.get(rule.partition(":")[0])


def proven_promise(rule: str) -> Promise | None:
    """The proven guarantee of a rule given as `NAME` or `NAME:VALUE`: `class`, `value`, or None."""
    facts, value = facts_of(rule), rule.partition(":")[2]
    try:
        return facts.promised(float(value) if value else None) if facts else None
    except ValueError:
        return None


def sound_rule(*, mixes: bool, regression: bool) -> str:
    """The rule that stops early and keeps the answer of full depth.

    Args:
        mixes: Whether the model was trained with the DACT loss.
        regression: Whether the model answers with a value.

    Returns:
        `exact`, or `tolerance` for regression; `full` without the DACT loss, where no rule is sound.
    """
    if not mixes:
        return "full"
    return "tolerance" if regression else "exact"


def standard_rules(*, mixes: bool, regression: bool) -> list[str]:
    """The rules of a default evaluation: full depth and the sound rules that the model supports.

    Args:
        mixes: Whether the model was trained with the DACT loss.
        regression: Whether the model answers with a value.
    """
    if not mixes:
        return ["full"]
    return ["full", "tolerance"] if regression else ["full", "paper", "exact"]


def calibrated_rule(*, mixes: bool, agreement: bool = False) -> str:
    """The rule that calibration uses by default.

    Args:
        mixes: Whether the model was trained with the DACT loss.
        agreement: Whether its halting units say how likely it is that the last layer decides otherwise.
    """
    if mixes:
        return "settled"
    return "agreement" if agreement else "entropy"
