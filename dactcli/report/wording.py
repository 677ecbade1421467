"""What a halting trace says, in words; the terminal's view and the web page share them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dactcli.halting.names import SURE, RuleFacts, facts_of, proven_promise
from dactcli.report.blocks import short_number, short_rule, short_rules
from dactcli.results import NO_LABEL, ExitTrace, label_text

STOP = "stop"
TOLD = 4  # labels of a set that are told with their probabilities
LABELS = {  # what scores mean for label sets
    "confidence": "how far the least sure label is from its threshold, 0 to 1",
    "entropy": "how undecided the labels are on average, 0 to 1",
}


@dataclass(frozen=True)
class Column:
    """A column of a trace's table, with one text for each layer that ran.

    Attributes:
        name: What the column shows: `weight`, `left`, `this layer`, `answer so far`, or the rule's score.
        meaning: One line about it.
        texts: The cells.
        number: Whether the cells are figures.
        shares: The lengths of their bars, 0..1; empty without bars.
        below: Second line of the heading; empty without one.
    """

    name: str
    meaning: str
    texts: Sequence[str]
    number: bool = False
    shares: Sequence[float] = ()
    below: str = ""

    @property
    def heading(self) -> str:
        """The name, with the second line below it."""
        return f"{self.name}\n{self.below}" if self.below else self.name


@dataclass(frozen=True)
class Columns:
    """The columns that explain where a rule stopped, in the order in which they are shown.

    Attributes:
        answer: The answer if this layer were the last one.
        weight: The layer's share of the answer; only where the rule works on the halting weights.
        left: The share that is left for later layers; only if answers are mixtures.
        alone: The layer's own answer; only beside weights.
        score: The number that the rule compares with its cut; None for a rule without one.
    """

    answer: Column
    weight: Column | None = None
    left: Column | None = None
    alone: Column | None = None
    score: Column | None = None

    def shown(self) -> list[Column]:
        """The columns that there are."""
        weighted = (self.weight, self.left, self.alone, self.answer, self.score)
        order = weighted if self.weight is not None else (self.answer, self.score, self.left)
        return [column for column in order if column is not None]


def summary_lines(traces: Sequence[ExitTrace]) -> list[str]:
    """What several traces have in common: how many are right, agree with full depth, and which are extreme.

    Args:
        traces: All examples.
    """
    lines = []
    labelled = [trace for trace in traces if trace.expected is not None]
    if labelled and labelled[0].probabilities:
        right = sum(trace.expected == trace.label for trace in labelled)
        most = max(Counter(str(trace.expected) for trace in labelled).values())
        lines.append(f"{right:,} of {len(labelled):,} right; always answering the most frequent label: {most:,} right")
    verified = [trace for trace in traces if trace.full_label is not None]
    if verified:
        same = sum(trace.full_label == trace.label for trace in verified)
        full = "full depth (every layer run; of a DACT model, the mixture of their answers)"
        lines.append(f"{same:,} of {len(verified):,} agree with {full}")
    if traces[0].probabilities:
        hardest = min(traces, key=lambda trace: (-trace.exit_layer, trace.margin))
        easiest = min(traces, key=lambda trace: (trace.exit_layer, -trace.margin))
        if hardest.exit_layer > easiest.exit_layer:
            lines += [f"hardest  {_short(hardest)}", f"easiest  {_short(easiest)}"]
        else:
            lines.append(f"closest call  {_short(hardest)}")
    return lines


def _short(trace: ExitTrace) -> str:
    text = trace.text if len(trace.text) <= 60 else f"{trace.text[:59]}…"
    layers = "1 layer" if trace.exit_layer == 1 else f"{trace.exit_layer} layers"
    shares = " ".join(f"{share:.1%}" for share in decided_shares(trace))
    return f"{layers}, {label_text(trace.label_name)} {shares}: {text or '(empty)'}"


def decided_shares(trace: ExitTrace) -> list[float]:
    """The probability of the class, or of the first labels of the set; of the likeliest being absent where it is empty.

    Args:
        trace: An example's trace, not of a regression.
    """
    chosen = trace.label if isinstance(trace.label, list) else [int(trace.label)]
    return [trace.probabilities[index] for index in chosen[:TOLD]] or [1 - max(trace.probabilities)]


def verdicts_of(trace: ExitTrace, names: Sequence[str]) -> list[tuple[str, bool]]:
    """What the label and full depth say of the answer, and whether they agree with it.

    Args:
        trace: The example's trace.
        names: Class names; empty for regression.
    """
    lines = []
    if trace.expected is not None:
        wanted = label_text(trace.expected_name, trace.expected)
        fits = not names or trace.expected == trace.label
        verdict = "" if not names else "right: " if fits else "wrong: "
        lines.append((f"{verdict}labelled {wanted}", fits))
    if trace.full_answer is not None:
        same = not names or trace.full_label == trace.label
        agreed = f"the same {trace.noun}" if same and names else f"another {trace.noun}" if names else "beside it"
        lines.append((f"full depth: {answer_text(trace.full_answer, trace, names)}, {agreed}", same))
    return lines


def weighted(trace: ExitTrace) -> bool:
    """Whether the rule works on the halting weights, so that weight and remainder explain the stop.

    Args:
        trace: An example's trace.
    """
    facts = facts_of(trace.rule)
    return trace.answered_by == "mixture" and facts is not None and facts.promise is not None


def score_facts(trace: ExitTrace) -> RuleFacts | None:
    """The facts of the rule where it compares a number with its cut."""
    facts = facts_of(trace.rule)
    return facts if facts is not None and facts.score and any(one is not None for one in trace.scores) else None


def cut_text(facts: RuleFacts, cut: float) -> str:
    """The score at which the rule stops, such as `0.9`, or `0.3 or less`."""
    return f"{short_number(abs(cut))} or less" if facts.falls else short_number(cut)


def _score_text(trace: ExitTrace, facts: RuleFacts) -> str:
    """What the rule's score means, in the words of the task."""
    text = facts.score_text
    if trace.thresholds is not None and facts.score in LABELS:
        text = LABELS[facts.score] + (SURE if facts.certain_above is not None else "")
    return text.replace("the class", f"the {trace.noun}")


def shown_score(facts: RuleFacts, score: float) -> str:
    """A score as users know it; rules keep one that has to fall as its negative."""
    return short_number(abs(score) if facts.falls else score)


def columns_of(trace: ExitTrace, names: Sequence[str] = ()) -> Columns:
    """The columns of a trace's table.

    Args:
        trace: An example's trace.
        names: Class names; empty for regression.
    """
    facts, mixture, score = score_facts(trace), trace.answered_by == "mixture", None
    if facts is not None:
        score = Column(
            facts.score,
            f"{_score_text(trace, facts)}; the example stops at {cut_text(facts, trace.cut)}",
            ["" if one is None else shown_score(facts, one) for one in trace.scores],
            number=True,
            below=f"stops at {cut_text(facts, trace.cut)}",
        )
    answers = [answer_text(one, trace, names) for one in trace.answers]
    left = [f"{one:.3f}" for one in trace.remaining]
    if not weighted(trace):
        said = "the answer if this layer were the last one to run"
        if not mixture:
            said = "this layer's own answer, which is what the rule answers with"
        remains = Column("left", "share of the answer that is left for later layers", left, number=True)
        return Columns(Column("answer so far", said, answers), left=remains if score and mixture else None, score=score)
    return Columns(
        Column("answer so far", "the layers' answers up to here, mixed by their weights", answers),
        weight=Column(
            "weight",
            "share of the final answer that comes from this layer",
            [f"{one:.3f}" for one in trace.halting_weights],
            number=True,
            shares=trace.halting_weights,
        ),
        left=Column(
            "left", "share that is left for later layers; near 0, they cannot change the answer", left, number=True
        ),
        alone=Column(
            "this layer",
            "the answer of this layer alone",
            [answer_text(one, trace, names) for one in trace.layer_probabilities],
        ),
        score=score,
    )


def meanings(trace: ExitTrace, *, alone: bool = True) -> dict[str, str]:
    """One line for each column of a trace's table, by its name.

    Args:
        trace: An example's trace.
        alone: Whether the answers of single layers are shown.
    """
    columns = columns_of(trace)
    said = {column.name: column.meaning for column in columns.shown() if alone or column is not columns.alone}
    return {"layer": f"in the order they run; {STOP} marks the last one that ran", **said}


def answer_text(values: Sequence[float], trace: ExitTrace, names: Sequence[str]) -> str:
    """The likeliest class and its probability, the likeliest labels of a set with theirs, or the value of a regression.

    Args:
        values: Probabilities, or one value.
        trace: The example's trace.
        names: Class names; empty for regression.
    """
    if not names:
        return f"{values[0]:.3f}"
    decided = trace.decided(values)
    chosen = sorted(decided if isinstance(decided, list) else [decided], key=lambda index: -values[index])
    if not chosen:
        return f"{NO_LABEL} {1 - max(values):.1%}"
    more = f" and {len(chosen) - TOLD} more" if len(chosen) > TOLD else ""
    return ", ".join(f"{names[index]} {values[index]:.1%}" for index in chosen[:TOLD]) + more


def reason(trace: ExitTrace) -> str:
    """Why the example stopped where it did, in one sentence.

    Args:
        trace: The example's trace.
    """
    facts, rule = facts_of(trace.rule), short_rule(trace.rule)
    left = trace.layers - trace.exit_layer
    if facts is not None and not facts.early:
        return f"{rule} runs all {trace.layers} layers"
    if not left:
        return f"{rule} ran to the last layer, because no earlier one was enough"
    stopped = f"{rule} stopped after layer {trace.exit_layer}"
    score = trace.scores[-1]
    if facts is None or not facts.score or score is None:
        return stopped
    seen, cut = shown_score(facts, score), cut_text(facts, trace.cut)
    settled = facts.certain_above is not None and score > facts.certain_above
    if settled or proven_promise(trace.rule) == "class":
        layers = "the last layer answers" if left == 1 else f"the other {left} layers answer"
        certain = f"certain, the {trace.noun} cannot change any more, whatever {layers}"
        return f"{stopped}: {certain}" + ("" if settled else f" (safety {seen} reached {cut})")
    if proven_promise(trace.rule) == "value":
        return f"{stopped}: the value can change by at most {seen}"
    promised = f"; calibrated: {short_rules(trace.promise)}" if trace.promise else ""
    return f"{stopped}: {facts.score} {seen} reached {cut}{promised}"
