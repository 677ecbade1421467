"""An evaluation as tables: rules beside plain answers, where examples stop, and how each class fares."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from dactcli.report.blocks import Sheet, bar, histogram, metric_text, short_rule
from dactcli.report.console import visible
from dactcli.results import ClassResult, EvalResult, RuleResult, classes_shown

GAP = 2  # cells between columns
FULL_DEPTH = {
    "mixture": "a_N, the mixture of all layers' answers; the last layer's own answer is y_N",
    "last_layer": "y_N, the last layer's answer",
}


def render_evaluation(result: EvalResult) -> Group:
    """The metric, the depth and the agreement of every rule beside plain answers; where examples stop; each class.

    Args:
        result: What `dact eval` computed.
    """
    result = visible(result)
    parts: list[RenderableType] = [_Rules(result), legend(result)]
    parts += [Text(f"note: {notice}", style="yellow") for notice in result.notices]
    early = [(name, judged) for name, judged in result.rules.items() if judged.depths[-1] < result.examples]
    if early:
        parts += [Text(), _depths(*early[-1], result.examples)]
    for rule, levels in result.depth_by_difficulty.items():
        parts.append(_difficulty(rule, levels))
    shown = result.telling_rule
    if shown is not None and result.rules[shown].by_class:
        parts += [Text(), class_table(shown, result.rules[shown].by_class, result.decision)]
    return Group(*parts)


class _Rules:
    """The table of rules; where each rule stops is in it where the terminal is wide enough."""

    def __init__(self, result: EvalResult) -> None:
        self.result = result

    def needed(self, *, whole: bool) -> int:
        """The fewest cells in which no figure is cut; in a pipe with where each rule stops, and the run in one line."""
        name = max(map(len, self.result.run.split()), default=0)
        return max(self._table(stops=whole).needed(whole=whole), name if whole else 0)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        result = self.result
        title = f"{result.run}  {result.split}, {result.examples:,} examples, {result.layers} layers"
        yield Text(title, style="bold")
        complete = self._table(stops=True)
        yield complete if complete.needed(whole=True) <= options.max_width else self._table(stops=False)

    def _table(self, *, stops: bool) -> Sheet:
        result = self.result
        metric = result.metric.replace("_", "\n")
        headings = (metric, "mean\nlayers", "share\nof all", "agrees\nwith full\ndepth")
        table = _table(GAP)
        table.add_column("rule", overflow="fold")
        for heading in headings:
            table.add_column(heading, justify="right", no_wrap=True)
        if stops:
            table.add_column(f"stops\n1..{result.layers}", no_wrap=True)
        for name, judged in result.rules.items():
            table.add_row(
                Text(short_rule(name)),
                metric_text(judged),
                f"{judged.layers_mean:.2f}",
                f"{judged.layers_share:.0%}",
                f"{judged.agreement_with_full:.2%}",
                *([Text(histogram(judged.depths), style="cyan")] if stops else []),
            )
        for name, beside in result.beside.items():
            layers = (f"{result.layers:.2f}", "100%") if name == "last_layer" else ("-", "-")
            cells = (figure(beside.metric), *layers, f"{beside.agreement_with_full:.2%}")
            table.add_row(Text(result.reference_name(name)), *cells, style="dim")
        return table


def _table(gap: int) -> Sheet:
    return Sheet(box=None, padding=(0, gap, 0, 0))


def figure(metric: float | None) -> str:
    """A metric, or a dash where there is none."""
    return "-" if metric is None else f"{metric:.4f}"


def legend(result: EvalResult) -> Text:
    """What the columns and the plain answers mean.

    Args:
        result: What `dact eval` computed.
    """
    same = "is within 1% of the range of" if "mean" in result.references else "is that of"
    lines = [
        f"Mean layers: layers that ran, averaged over the examples. Agrees with full depth: the "
        f"{'value' if 'mean' in result.references else result.decision} {same} {FULL_DEPTH[result.full_depth]}."
    ]
    for name, beside in result.beside.items():
        if beside.answer is not None:
            answer = f'"{beside.answer}"' if isinstance(beside.answer, str) else f"{beside.answer:.4g}"
            lines.append(f"{result.reference_name(name).capitalize()}: always answers {answer}.")
    return Text(" ".join(lines), style="dim")


def _depths(rule: str, judged: RuleResult, examples: int) -> Text:
    lines = [f"stops under {short_rule(rule)}"]
    for layer, count in enumerate(judged.depths, start=1):
        share = count / examples
        lines.append(f"  layer {layer:>2}  {bar(share, 30)} {share:6.1%}  {count:,}")
    return Text("\n".join(lines))


def _difficulty(rule: str, levels: dict[str, float | None]) -> Text:
    shown = ", ".join(f"{level}: {mean:.2f}" for level, mean in levels.items() if level != "spearman")
    correlation = levels["spearman"]
    text = "undefined" if correlation is None else f"{correlation:.2f}"
    return Text(f"mean layers by difficulty under {short_rule(rule)}  {shown}  (Spearman {text})")


def class_table(rule: str, classes: dict[str, ClassResult], decision: str = "class") -> Group:
    """Recall, harm and disagreement of the classes under a rule; of many classes the worst.

    Args:
        rule: The rule.
        classes: As in `RuleResult.by_class`.
        decision: As in `EvalResult`.
    """
    noun = "label" if decision == "label set" else "class"
    names = classes_shown(classes)
    which = f", the worst {len(names)} of {len(classes):,}" if len(names) < len(classes) else ""
    labelled = any(found.recall is not None for found in classes.values())
    title = Text(f"by {noun if labelled else f'{noun} of full depth'} under {short_rule(rule)}{which}", style="bold")
    table = _table(1)
    table.add_column(noun, overflow="fold", min_width=8)
    judged = ["recall", "at full\ndepth", "harm"] if labelled else []
    for heading in ("examples", *judged, "differs", "mean\nlayers"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name in names:
        found = classes[name]
        shares = [found.recall, found.full_recall, found.harm] if labelled else []
        table.add_row(
            Text(name),
            f"{found.examples:,}",
            *("-" if share is None else f"{share:.2%}" for share in shares),
            f"{found.disagreement:.2%}",
            f"{found.layers_mean:.2f}",
        )
    told = "At full depth: recall of full depth. Harm: full depth is right and the rule is wrong. " if labelled else ""
    return Group(title, table, Text(f"{told}Differs: the rule's class is not full depth's.", style="dim"))
