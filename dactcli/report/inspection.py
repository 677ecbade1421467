"""Halting traces, drawn: the layers that ran, the halting weights, the answer after each layer, why it stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.text import Text

from dactcli.halting.names import facts_of, proven_promise
from dactcli.report.blocks import Sheet, bar, short_rule
from dactcli.report.console import visible
from dactcli.results import NO_LABEL, ExitTrace, label_text

BAR = 12
TOLD = 4  # labels of a set that are told with their probabilities
BORDER = 4  # cells of a panel beside what is in it
NARROW, WIDE = 70, 90  # columns from which on the bars, and the rule's score, have room


def render_traces(traces: Sequence[ExitTrace], names: Sequence[str], *, every: Sequence[ExitTrace] = ()) -> Group:
    """The examples, one panel each, under a summary where there are several.

    Args:
        traces: The examples to show.
        names: Class names; empty for regression.
        every: All examples that the summary is about; those shown without.
    """
    traces, names, every = visible(list(traces)), visible(list(names)), visible(list(every))
    whole = every or traces
    parts: list[RenderableType] = [_Panel(trace, names) for trace in traces]
    return Group(*([_summary(whole, len(traces)), *parts] if len(whole) > 1 else parts))


def _summary(traces: Sequence[ExitTrace], shown: int) -> Group:
    layers, count = traces[0].layers, len(traces)
    ran = [trace.exit_layer for trace in traces]
    head = Text(f"{count:,} examples", style="bold")
    head.append(
        f"   {sum(ran) / count:.2f} of {layers} layers on the mean   rule {short_rule(traces[0].rule)}",
        style="not bold",
    )
    table = Sheet(box=None, padding=(0, 2, 0, 0), show_header=False)
    for layer in range(1, layers + 1):
        stopped = ran.count(layer)
        table.add_row(f"stop after {layer}", Text(bar(stopped / count, 2 * BAR), style="cyan"), f"{stopped:,}")
    lines: list[RenderableType] = [head, table]
    labelled = [trace for trace in traces if trace.expected is not None]
    if labelled and labelled[0].probabilities:
        right = sum(trace.expected == trace.label for trace in labelled)
        most = max(Counter(str(trace.expected) for trace in labelled).values())
        lines.append(
            Text(f"{right:,} of {len(labelled):,} right; always answering the most frequent label: {most:,} right")
        )
    verified = [trace for trace in traces if trace.full_label is not None]
    if verified:
        same = sum(trace.full_label == trace.label for trace in verified)
        full = "full depth (every layer run; of a DACT model, the mixture of their answers)"
        lines.append(Text(f"{same:,} of {len(verified):,} agree with {full}"))
    if traces[0].probabilities:
        hardest = min(traces, key=lambda trace: (-trace.exit_layer, trace.margin))
        easiest = min(traces, key=lambda trace: (trace.exit_layer, -trace.margin))
        lines.append(Text.assemble(("hardest  ", "dim"), _short(hardest)))
        lines.append(Text.assemble(("easiest  ", "dim"), _short(easiest)))
    if shown < count:
        lines.append(Text(f"{shown:,} shown", style="dim"))
    return Group(*lines, Text())


def _short(trace: ExitTrace) -> str:
    text = trace.text if len(trace.text) <= 60 else f"{trace.text[:59]}…"
    layers = "1 layer" if trace.exit_layer == 1 else f"{trace.exit_layer} layers"
    return f"{layers}, {_answer(trace.probabilities, trace)}: {text or '(empty)'}"


class _Panel:
    """One example; bars and the rule's score are in its table where the terminal is wide enough."""

    def __init__(self, trace: ExitTrace, names: Sequence[str]) -> None:
        self.trace, self.names = trace, names

    def needed(self, *, whole: bool) -> int:
        """The fewest cells in which no figure is cut, with those of the panel's border."""
        table = _layers(self.trace, self.names, width=NARROW if whole else 0)
        return table.needed(whole=whole) + BORDER

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        trace = self.trace
        text = Text(trace.text or "(empty)", style="bold")
        if trace.text_pair is not None:
            text.append(f"\n{trace.text_pair or '(empty)'}", style="bold")
        notices = [Text(f"note: {notice}", style="yellow") for notice in trace.notices]
        yield Panel(
            Group(
                text,
                *notices,
                _headline(trace),
                *_verdicts(trace, self.names),
                Text(),
                _layers(trace, self.names, width=options.max_width),
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
        line.append(label_text(trace.label_name), style="bold green")
        chosen = trace.label if isinstance(trace.label, list) else [trace.label]
        line.append("".join(f"  {trace.probabilities[int(index)]:.1%}" for index in chosen[:TOLD]))
    line.append("   layers ")
    line.append("■" * trace.exit_layer, style="cyan")
    line.append("□" * (trace.layers - trace.exit_layer), style="dim")
    line.append(f" {trace.exit_layer} of {trace.layers} ran")
    if trace.label_name is not None and trace.settled < trace.exit_layer:
        line.append(f", the answer settled at {trace.settled}", style="dim")
    return line


def _verdicts(trace: ExitTrace, names: Sequence[str]) -> list[Text]:
    """What the label and full depth say of the answer."""
    lines = []
    if trace.expected is not None:
        wanted = label_text(trace.expected_name, trace.expected)
        fits = not names or trace.expected == trace.label
        verdict = "" if not names else "right: " if fits else "wrong: "
        lines.append(Text(f"{verdict}labelled {wanted}", style="green" if fits else "red"))
    if trace.full_answer is not None:
        same = not names or trace.full_label == trace.label
        agreed = "the same" if same and names else f"another {trace.noun}" if names else "beside it"
        said = f"full depth: {_answer(trace.full_answer, trace, names)}, {agreed}"
        lines.append(Text(said, style="green" if same else "red"))
    return lines


def _layers(trace: ExitTrace, names: Sequence[str], *, width: int) -> Sheet:
    table = Sheet(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("layer", justify="right")
    bars = width >= NARROW
    if bars:
        table.add_column("weight w")
    table.add_column("" if bars else "weight", justify="right")
    table.add_column("later p", justify="right")
    table.add_column("layer says")
    table.add_column("answer so far")
    scored = width >= WIDE and any(score is not None for score in trace.scores)
    if scored:
        table.add_column(f"{trace.rule.partition(':')[0]} >= {trace.cut:.4g}", justify="right")
    for index in range(trace.layers):
        if index >= trace.exit_layer:
            blank = [""] * (3 if bars else 2)
            table.add_row(Text(str(index + 1), style="dim"), *blank, Text("did not run", style="dim"))
            continue
        weight, score = trace.halting_weights[index], trace.scores[index]
        cells = [
            Text(str(index + 1)),
            *([Text(bar(weight, BAR), style="cyan")] if bars else []),
            Text(f"{weight:.3f}"),
            Text(f"{trace.remaining[index]:.3f}"),
            Text(_answer(trace.layer_probabilities[index], trace, names)),
            Text(_answer(trace.answers[index], trace, names)),
        ]
        if scored:
            enough = score is not None and score >= trace.cut
            cells.append(Text("" if score is None else f"{score:.4g}", style="green" if enough else "dim"))
        table.add_row(*cells)
    return table


def _answer(values: Sequence[float], trace: ExitTrace, names: Sequence[str] = ()) -> str:
    """What an answer decides, with its probability; of a label set the likeliest labels.

    Args:
        values: Probabilities by class or label, or a value.
        trace: The example's trace.
        names: Names of the classes; empty for regression, or to use the trace's own for the answer at the halt.
    """
    if not trace.probabilities:
        return f"{values[0]:.3f}"
    decided = trace.decided(values)
    chosen = decided if isinstance(decided, list) else [decided]
    own = trace.label_name if isinstance(trace.label_name, list) else [trace.label_name or ""]
    told = dict(zip(chosen, own, strict=True)) if not names else {index: names[index] for index in chosen}
    if not chosen:
        return f"{NO_LABEL} {1 - max(values):.1%}"
    likeliest = sorted(chosen, key=lambda index: -values[index])
    more = f" and {len(likeliest) - TOLD} more" if len(likeliest) > TOLD else ""
    return ", ".join(f"{told[index]} {values[index]:.1%}" for index in likeliest[:TOLD]) + more


def reason(trace: ExitTrace) -> str:
    """Why the example stopped where it did, in one sentence.

    Args:
        trace: The example's trace.
    """
    facts, rule = facts_of(trace.rule), short_rule(trace.rule)
    left = trace.layers - trace.exit_layer
    if facts is not None and not facts.early:
        return f"full: all {trace.layers} layers run"
    if not left:
        return f"{rule}: ran to the last layer, because no earlier one was enough"
    score = trace.scores[-1]
    reached = f"{score:.4f} >= {trace.cut:.4f}" if score is not None else ""
    if proven_promise(trace.rule) == "class":
        layers = "the last layer answers" if left == 1 else f"the other {left} layers answer"
        return (
            f"{rule}: stopped after layer {trace.exit_layer}; "
            f"certain: the {trace.noun} cannot change any more, whatever {layers} ({reached})"
        )
    if proven_promise(trace.rule) == "value":
        return f"{rule}: stopped after layer {trace.exit_layer}; the value can change by at most {-(score or 0):.4f}"
    promised = f"; calibrated: {trace.promise}" if trace.promise else ""
    return f"{rule}: stopped after layer {trace.exit_layer} ({reached}){promised}"
