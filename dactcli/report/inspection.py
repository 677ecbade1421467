"""Halting traces, drawn: the layers that ran, what the rule looked at, the answer after each layer, why it stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.text import Text

from dactcli.halting.names import RuleFacts
from dactcli.report.blocks import Sheet, bar, guide, legend, short_rule
from dactcli.report.console import visible
from dactcli.report.wording import (
    ALONE,
    STOP,
    answer_text,
    meanings,
    reason,
    score_facts,
    score_heading,
    shown_score,
    summary_lines,
    verdicts_of,
    weighted,
)
from dactcli.results import ExitTrace

BAR = 12
BORDER = 4  # cells of a panel beside what is in it


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
    parts: list[RenderableType] = [_summary(whole, len(traces))] if len(whole) > 1 else []
    if traces:
        parts += [_Panels(traces, names), guide("dact-inspect")]
    return Group(*parts)


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


class _Panels:
    """The examples and what their columns mean; all tables show the same parts, as many as fit the terminal."""

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
    facts = score_facts(trace) if parts.score else None
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
    facts = score_facts(trace)
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


def _score_cell(trace: ExitTrace, facts: RuleFacts, index: int) -> Text:
    score = trace.scores[index]
    enough = score is not None and score >= trace.cut
    return Text("" if score is None else shown_score(facts, score), style="green" if enough else "dim")
