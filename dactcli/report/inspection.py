"""Halting traces, drawn: the layers that ran, the halting weights, the answer after each layer, why it stopped."""

from __future__ import annotations

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from dactcli.report.console import bar
from dactcli.results import ExitTrace

BAR = 12
# Rules that stop only when the class is settled, whatever the layers that did not run would say.
SOUND = ("exact", "paper")


def render_traces(traces: list[ExitTrace], names: list[str]) -> Group:
    """All examples, one panel each.

    Args:
        traces: What `dact inspect` computed.
        names: Class names; empty for regression.
    """
    return Group(*(_panel(trace, names) for trace in traces))


def _panel(trace: ExitTrace, names: list[str]) -> Panel:
    text = Text(trace.text or "(empty)", style="bold")
    if trace.text_pair is not None:
        text.append(f"\n{trace.text_pair or '(empty)'}", style="bold")
    notices = [Text(f"note: {notice}", style="yellow") for notice in trace.notices]
    return Panel(
        Group(
            text,
            *notices,
            _headline(trace),
            Text(),
            _layers(trace, names),
            Text(reason(trace), style="italic"),
        ),
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
    return line


def _layers(trace: ExitTrace, names: list[str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("layer", justify="right")
    table.add_column("weight w")
    table.add_column("", justify="right")
    table.add_column("later p", justify="right")
    table.add_column("layer says")
    table.add_column("answer so far")
    for index in range(trace.layers):
        if index >= trace.exit_layer:
            table.add_row(Text(str(index + 1), style="dim"), Text("did not run", style="dim"))
            continue
        weight = trace.halting_weights[index]
        table.add_row(
            str(index + 1),
            Text(bar(weight, BAR), style="cyan"),
            f"{weight:.3f}",
            f"{trace.remaining[index]:.3f}",
            Text(_answer(trace.layer_probabilities[index], names)),
            Text(_answer(trace.answers[index], names)),
        )
    return table


def _answer(values: list[float], names: list[str]) -> str:
    if not names:
        return f"{values[0]:.3f}"
    best = max(range(len(values)), key=values.__getitem__)
    return f"{names[best]} {values[best]:.1%}"


def reason(trace: ExitTrace) -> str:
    """Why the example stopped where it did, in one sentence.

    Args:
        trace: The example's trace.
    """
    name = trace.rule.partition(":")[0]
    left = trace.layers - trace.exit_layer
    if name == "full":
        return f"full: all {trace.layers} layers run"
    if not left:
        return f"{trace.rule}: ran to the last layer, because no earlier one was enough"
    score = trace.scores[-1]
    reached = f"{score:.4f} >= {trace.cut:.4f}" if score is not None else ""
    if name in SOUND:
        layers = "the last layer answers" if left == 1 else f"the other {left} layers answer"
        return (
            f"{trace.rule}: stopped after layer {trace.exit_layer}; "
            f"the class cannot change any more, whatever {layers} ({reached})"
        )
    if name == "tolerance":
        return (
            f"{trace.rule}: stopped after layer {trace.exit_layer}; the value can change by at most {-(score or 0):.4f}"
        )
    return f"{trace.rule}: stopped after layer {trace.exit_layer} ({reached})"
