"""Halting traces, drawn: the layers that ran, what the rule looked at, the answer after each layer, why it stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.text import Text

from dactcli.halting.names import RuleFacts, facts_of, proven_promise
from dactcli.report.blocks import Sheet, bar, guide, legend, short_rule, short_rules
from dactcli.report.console import visible
from dactcli.results import ExitTrace

BAR = 12
BORDER = 4  # cells of a panel beside what is in it
STOP, ALONE = "stop", "this layer"


@dataclass(frozen=True)
class _Parts:
    """What a table of halting weights has room for.

    Attributes:
        bars: A bar for each weight.
        alone: The answer of each layer alone.
        score: The rule's score.
    """

    bars: bool = True
    alone: bool = True
    score: bool = True


PARTS = (_Parts(), _Parts(score=False), _Parts(score=False, bars=False), _Parts(score=False, bars=False, alone=False))


def render_traces(traces: Sequence[ExitTrace], names: Sequence[str], *, every: Sequence[ExitTrace] = ()) -> Group:
    """The examples, one panel each, under a summary where there are several, and above what the columns mean.

    Args:
        traces: The examples to show.
        names: Class names; empty for regression.
        every: All examples that the summary is about; those shown without.
    """
    traces, names, every = visible(list(traces)), visible(list(names)), visible(list(every))
    whole = every or traces
    summary = [_summary(whole, len(traces))] if len(whole) > 1 else []
    return Group(*summary, *([_Panels(traces, names), guide("dact-inspect")] if traces else []))


def summary_lines(traces: Sequence[ExitTrace]) -> list[str]:
    """What several traces have in common: how many are right, agree with full depth, and which are extreme.

    Args:
        traces: All examples.
    """
    lines = []
    labelled = [trace for trace in traces if trace.expected is not None]
    if labelled and labelled[0].probabilities:
        right = sum(trace.expected == trace.label for trace in labelled)
        most = max(Counter(trace.expected for trace in labelled).values())
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


def _summary(traces: Sequence[ExitTrace], shown: int) -> Group:
    layers, count = traces[0].layers, len(traces)
    ran = [trace.exit_layer for trace in traces]
    head = Text(f"{count:,} examples", style="bold")
    head.append(
        f"   {sum(ran) / count:.2f} of {layers} layers on average   rule {short_rule(traces[0].rule)}",
        style="not bold",
    )
    table = Sheet(box=None, padding=(0, 2, 0, 0), show_header=False)
    for layer in range(1, layers + 1):
        stopped = ran.count(layer)
        table.add_row(f"stop after {layer}", Text(bar(stopped / count, 2 * BAR), style="cyan"), f"{stopped:,}")
    lines = [Text(line) for line in summary_lines(traces)]
    if shown < count:
        lines.append(Text(f"{shown:,} shown", style="dim"))
    return Group(head, table, *lines, Text())


def _short(trace: ExitTrace) -> str:
    text = trace.text if len(trace.text) <= 60 else f"{trace.text[:59]}…"
    layers = "1 layer" if trace.exit_layer == 1 else f"{trace.exit_layer} layers"
    return f"{layers}, {trace.label_name} {max(trace.probabilities):.1%}: {text or '(empty)'}"


class _Panels:
    """The examples and what their columns mean; all tables show the same parts, as many as the terminal has room for."""

    def __init__(self, traces: Sequence[ExitTrace], names: Sequence[str]) -> None:
        self.traces, self.names = traces, names

    def needed(self, *, whole: bool) -> int:
        """The fewest cells in which no figure is cut, with those of the panel's border."""
        return max(self._table(trace, PARTS[1 if whole else -1]).needed(whole=whole) for trace in self.traces) + BORDER

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = options.max_width - BORDER
        fitting = (
            parts for parts in PARTS if all(self._table(one, parts).needed(whole=True) <= room for one in self.traces)
        )
        parts = next(fitting, PARTS[-1])
        for trace in self.traces:
            yield self._panel(trace, parts)
        said = meanings(self.traces[0])
        yield legend({heading: text for heading, text in said.items() if parts.alone or heading != ALONE})

    def _table(self, trace: ExitTrace, parts: _Parts) -> Sheet:
        return _layers(trace, self.names, parts)

    def _panel(self, trace: ExitTrace, parts: _Parts) -> Panel:
        text = Text(trace.text or "(empty)", style="bold")
        if trace.text_pair is not None:
            text.append(f"\n{trace.text_pair or '(empty)'}", style="bold")
        notices = [Text(f"note: {notice}", style="yellow") for notice in trace.notices]
        verdicts = [Text(said, style="green" if good else "red") for said, good in verdicts_of(trace, self.names)]
        table, why = self._table(trace, parts), Text(reason(trace), style="italic")
        return Panel(
            Group(text, *notices, _headline(trace), *verdicts, Text(), table, why),
            title=f"{trace.tokens} tokens",
            title_align="right",
        )


def _headline(trace: ExitTrace) -> Text:
    line = Text()
    if trace.label_name is None:
        line.append(f"{trace.label:.3f}", style="bold green")
    else:
        line.append(trace.label_name, style="bold green")
        line.append(f"  {max(trace.probabilities):.1%}")
    line.append("   layers ")
    line.append("■" * trace.exit_layer, style="cyan")
    line.append("□" * (trace.layers - trace.exit_layer), style="dim")
    line.append(f" {trace.exit_layer} of {trace.layers} ran")
    if trace.label_name is not None and trace.settled < trace.exit_layer:
        line.append(f", same class since layer {trace.settled}", style="dim")
    return line


def verdicts_of(trace: ExitTrace, names: Sequence[str]) -> list[tuple[str, bool]]:
    """What the label and full depth say of the answer, and whether they agree with it.

    Args:
        trace: The example's trace.
        names: Class names; empty for regression.
    """
    lines = []
    if trace.expected is not None:
        wanted = trace.expected_name if trace.expected_name is not None else f"{trace.expected:.3f}"
        fits = not names or trace.expected == trace.label
        verdict = "" if not names else "right: " if fits else "wrong: "
        lines.append((f"{verdict}labelled {wanted}", fits))
    if trace.full_answer is not None:
        same = not names or trace.full_label == trace.label
        agreed = "the same class" if same and names else "another class" if names else "beside it"
        lines.append((f"full depth: {answer_text(trace.full_answer, names)}, {agreed}", same))
    return lines


def weighted(trace: ExitTrace) -> bool:
    """Whether the rule works on the halting weights, so that weight and remainder explain the stop.

    Args:
        trace: An example's trace.
    """
    facts = facts_of(trace.rule)
    return trace.answered_by == "mixture" and facts is not None and facts.promise is not None


def _score(trace: ExitTrace) -> RuleFacts | None:
    """The facts of the rule where it compares a number with its cut."""
    facts = facts_of(trace.rule)
    return facts if facts is not None and facts.score and any(one is not None for one in trace.scores) else None


def score_heading(facts: RuleFacts, cut: float) -> str:
    """The heading of the score, with the value at which the rule stops."""
    return f"{facts.score}\nstops at {_cut(facts, cut)}"


def _cut(facts: RuleFacts, cut: float) -> str:
    return f"{abs(cut):.4g} or less" if facts.falls else f"{cut:.4g}"


def _shown(facts: RuleFacts, score: float) -> str:
    return f"{abs(score) if facts.falls else score:.4g}"


def meanings(trace: ExitTrace) -> dict[str, str]:
    """One line for each column of a trace's table, by its heading.

    Args:
        trace: An example's trace.
    """
    facts, mixture = _score(trace), trace.answered_by == "mixture"
    said = {"answer so far": "the answer if this layer were the last one to run"}
    if not mixture:
        said["answer so far"] = "this layer's own answer, which is what the rule answers with"
    if weighted(trace):
        said = {
            "weight": "share of the final answer that comes from this layer",
            "left": "share that is left for later layers; near 0, they cannot change the answer",
            ALONE: "the answer of this layer alone",
            "answer so far": "the layers' answers up to here, mixed by their weights",
        }
    if facts is not None:
        said[facts.score] = f"{facts.score_text}; the example stops at {_cut(facts, trace.cut)}"
    if facts is not None and mixture and not weighted(trace):
        said["left"] = "share of the answer that is left for later layers"
    return {"layer": f"in the order they run; {STOP} marks the last one that ran", **said}


def _layers(trace: ExitTrace, names: Sequence[str], parts: _Parts) -> Sheet:
    table = Sheet(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("layer", no_wrap=True)
    cells = _weight_cells(table, trace, names, parts) if weighted(trace) else _score_cells(table, trace, names)
    for index, row in enumerate(cells):
        last = index + 1 == trace.exit_layer
        layer = Text(f"{index + 1} {STOP}" if last else str(index + 1), style="bold" if last else "")
        table.add_row(layer, *row)
    for index in range(trace.exit_layer, trace.layers):
        table.add_row(Text(str(index + 1), style="dim"), Text("not run", style="dim"))
    return table


def _weight_cells(table: Sheet, trace: ExitTrace, names: Sequence[str], parts: _Parts) -> list[list[Text]]:
    """The columns and cells of a rule that works on the halting weights."""
    facts = _score(trace) if parts.score else None
    table.add_column("weight", no_wrap=True)
    table.add_column("left", justify="right")
    if parts.alone:
        table.add_column(ALONE)
    table.add_column("answer so far")
    if facts is not None:
        table.add_column(score_heading(facts, trace.cut), justify="right")
    rows = []
    for index in range(trace.exit_layer):
        weight = trace.halting_weights[index]
        row = [
            Text.assemble((f"{bar(weight, BAR)} " if parts.bars else "", "cyan"), f"{weight:.3f}"),
            Text(f"{trace.remaining[index]:.3f}"),
            *([Text(answer_text(trace.layer_probabilities[index], names))] if parts.alone else []),
            Text(answer_text(trace.answers[index], names)),
        ]
        rows.append([*row, *([_score_cell(trace, facts, index)] if facts is not None else [])])
    return rows


def _score_cells(table: Sheet, trace: ExitTrace, names: Sequence[str]) -> list[list[Text]]:
    """The columns and cells of a rule that compares a score with its threshold, or that looks at nothing."""
    facts = _score(trace)
    mixture = facts is not None and trace.answered_by == "mixture"
    table.add_column("answer so far")
    if facts is not None:
        table.add_column(score_heading(facts, trace.cut), justify="right")
    if mixture:
        table.add_column("left", justify="right")
    rows = []
    for index in range(trace.exit_layer):
        cells = [Text(answer_text(trace.answers[index], names))]
        if facts is not None:
            cells.append(_score_cell(trace, facts, index))
        if mixture:
            cells.append(Text(f"{trace.remaining[index]:.3f}"))
        rows.append(cells)
    return rows


def score_text(trace: ExitTrace, index: int) -> str:
    """The rule's score after a layer; empty where it has none.

    Args:
        trace: An example's trace.
        index: The layer, from 0.
    """
    facts, score = _score(trace), trace.scores[index]
    return "" if facts is None or score is None else _shown(facts, score)


def _score_cell(trace: ExitTrace, facts: RuleFacts, index: int) -> Text:
    score = trace.scores[index]
    enough = score is not None and score >= trace.cut
    return Text("" if score is None else _shown(facts, score), style="green" if enough else "dim")


def answer_text(values: Sequence[float], names: Sequence[str]) -> str:
    """The likeliest class and its probability, or the value of a regression.

    Args:
        values: Probabilities, or one value.
        names: Class names; empty for regression.
    """
    if not names:
        return f"{values[0]:.3f}"
    best = max(range(len(values)), key=values.__getitem__)
    return f"{names[best]} {values[best]:.1%}"


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
    seen, cut = _shown(facts, score), _cut(facts, trace.cut)
    if proven_promise(trace.rule) == "class":
        layers = "the last layer answers" if left == 1 else f"the other {left} layers answer"
        return f"{stopped}: certain, the class cannot change any more, whatever {layers} (safety {seen} reached {cut})"
    if proven_promise(trace.rule) == "value":
        return f"{stopped}: the value can change by at most {seen}"
    promised = f"; calibrated: {short_rules(trace.promise)}" if trace.promise else ""
    return f"{stopped}: {facts.score} {seen} reached {cut}{promised}"
