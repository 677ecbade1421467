"""Halting traces, drawn: the layers that ran, what the rule looked at, the answer after each layer, why it stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.text import Text

from dactcli.report.blocks import Sheet, bar, guide, legend, short_rule
from dactcli.report.console import visible
from dactcli.report.wording import (
    STOP,
    Column,
    Columns,
    columns_of,
    decided_shares,
    meanings,
    reason,
    summary_lines,
    verdicts_of,
)
from dactcli.results import ExitTrace, label_text

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
        yield legend(meanings(self.traces[0], alone=parts.alone))

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
        line.append(label_text(trace.label_name), style="bold green")
        line.append("".join(f"  {share:.1%}" for share in decided_shares(trace)))
    line.append("   layers ")
    line.append("■" * trace.exit_layer, style="cyan")
    line.append("□" * (trace.layers - trace.exit_layer), style="dim")
    line.append(f" {trace.exit_layer} of {trace.layers} ran")
    if trace.label_name is not None and trace.settled < trace.exit_layer:
        line.append(f", same {trace.noun} since layer {trace.settled}", style="dim")
    return line


def _layers(trace: ExitTrace, names: Sequence[str], parts: _Parts) -> Sheet:
    table = Sheet(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("layer", no_wrap=True)
    columns = _fitting(columns_of(trace, names), parts)
    for column in columns.shown():
        table.add_column(
            column.heading,
            justify="right" if column.number and not column.shares else "left",
            no_wrap=bool(column.shares),
        )
    cells = [_cells(column, trace, columns, bars=parts.bars) for column in columns.shown()]
    for index, row in enumerate(zip(*cells, strict=True)):
        last = index + 1 == trace.exit_layer
        layer = Text(f"{index + 1} {STOP}" if last else str(index + 1), style="bold" if last else "")
        table.add_row(layer, *row)
    for index in range(trace.exit_layer, trace.layers):
        table.add_row(Text(str(index + 1), style="dim"), Text("not run", style="dim"))
    return table


def _fitting(columns: Columns, parts: _Parts) -> Columns:
    """The columns that there is room for."""
    if columns.weight is None:
        return columns
    return replace(columns, alone=columns.alone if parts.alone else None, score=columns.score if parts.score else None)


def _cells(column: Column, trace: ExitTrace, columns: Columns, *, bars: bool) -> list[Text]:
    """The cells of a column: bars before weights, and scores green from where the rule stops."""
    if column is columns.score:
        enough = [score is not None and score >= trace.cut for score in trace.scores]
        return [Text(text, "green" if met else "dim") for text, met in zip(column.texts, enough, strict=True)]
    if bars and column.shares:
        drawn = zip(column.texts, column.shares, strict=True)
        return [Text.assemble((f"{bar(share, BAR)} ", "cyan"), text) for text, share in drawn]
    return [Text(text) for text in column.texts]
