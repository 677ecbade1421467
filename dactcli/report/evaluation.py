"""An evaluation as tables: rules beside plain answers, where examples stop, and how each class fares."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from dactcli.report.blocks import Sheet, bar, guide, histogram, legend, metric_text, short_rule
from dactcli.report.console import visible
from dactcli.results import REFERENCES, ClassResult, EvalResult, RuleResult, classes_shown

GAP = 2  # cells between columns
FULL_DEPTH = {
    "mixture": "the mixture of all layers' answers (a_N), not the last layer's own (y_N)",
    "last_layer": "the last layer's answer (y_N)",
}
METRICS = {
    "accuracy": "share of examples whose label is answered",
    "f1": "harmonic mean of precision and recall of the second class",
    "matthews_correlation": "agreement of answers and labels: 1 is perfect, 0 is chance",
    "pearson": "linear correlation of answers and labels: 1 is perfect, 0 is none",
    "spearman": "correlation of the ranks of answers and labels: 1 is perfect, 0 is none",
}


def render_evaluation(result: EvalResult, *, report: bool = False) -> Group:
    """The metric, the depth and the agreement of every rule beside plain answers; where examples stop; each class.

    Args:
        result: What `dact eval` computed.
        report: Whether to show precision, recall and F1 of every class, rather than what stopping early costs it.
    """
    result = visible(result)
    parts: list[RenderableType] = [_Rules(result)]
    parts += [Text(f"note: {notice}", style="yellow") for notice in result.notices]
    early = [(name, judged) for name, judged in result.rules.items() if judged.depths[-1] < result.examples]
    if early:
        parts += [Text(), _depths(*early[-1], result.examples)]
    for rule, levels in result.depth_by_difficulty.items():
        parts.append(_difficulty(rule, levels))
    shown = result.telling_rule
    if shown is not None and result.rules[shown].by_class:
        table = report_table if report else class_table
        parts += [Text(), table(shown, result.rules[shown].by_class)]
    return Group(*parts, guide("dact-eval"))


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
        stops = self._table(stops=True).needed(whole=True) <= options.max_width
        yield self._table(stops=stops)
        yield legend(meanings(result, stops=stops))

    def _table(self, *, stops: bool) -> Sheet:
        result = self.result
        metric = result.metric.replace("_", "\n")
        headings = (metric, "mean\nlayers", "share of\nlayers", "same as\nfull depth")
        table = _table(GAP)
        table.add_column("rule", overflow="fold")
        for heading in headings:
            table.add_column(heading, justify="right", no_wrap=True)
        if stops:
            table.add_column(f"stops at\n1 to {result.layers}", no_wrap=True)
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
            table.add_row(Text(REFERENCES[name]), *cells, style="dim")
        return table


def _table(gap: int) -> Sheet:
    return Sheet(box=None, padding=(0, gap, 0, 0))


def figure(metric: float | None) -> str:
    """A metric, or a dash where there is none."""
    return "-" if metric is None else f"{metric:.4f}"


def meanings(result: EvalResult, *, stops: bool) -> dict[str, str]:
    """One line for each column and each plain answer, by its heading.

    Args:
        result: What `dact eval` computed.
        stops: Whether the table shows where each rule stops.
    """
    near = "value within 1% of the range of" if "mean" in result.references else "class of"
    said = {
        "rule": "when an example stops; full runs every layer",
        result.metric.replace("_", " "): METRICS.get(result.metric, "the task's metric"),
        "mean layers": "layers that ran, averaged over the examples",
        "share of layers": f"mean layers of all {result.layers}",
        "same as full depth": f"examples answered with the {near} {FULL_DEPTH[result.full_depth]}",
    }
    if stops:
        said[f"stops at 1 to {result.layers}"] = "how many examples stop after each layer; a dot is none"
    for name, beside in result.beside.items():
        if beside.answer is not None:
            answer = f'"{beside.answer}"' if isinstance(beside.answer, str) else f"{beside.answer:.4g}"
            said[REFERENCES[name]] = f"always answers {answer}"
        elif name == "last_layer":
            said[REFERENCES[name]] = "the last layer's own answer (y_N), without mixing"
    return said


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


def class_table(rule: str, classes: dict[str, ClassResult]) -> Group:
    """Recall, harm and disagreement of the classes under a rule; of many classes the worst.

    Args:
        rule: The rule.
        classes: As in `RuleResult.by_class`.
    """
    names = classes_shown(classes)
    which = f", the worst {len(names)} of {len(classes):,}" if len(names) < len(classes) else ""
    labelled = any(found.recall is not None for found in classes.values())
    title = Text(f"by {'class' if labelled else 'class of full depth'} under {short_rule(rule)}{which}", style="bold")
    table = _table(1)
    table.add_column("class", overflow="fold", min_width=8)
    judged = ["recall", "recall at\nfull depth", "harm"] if labelled else []
    for heading in ("examples", *judged, "changed", "mean\nlayers"):
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
    said = {"examples": "examples of the class", "changed": "answered otherwise than at full depth"}
    if labelled:
        said |= {
            "recall": "examples of the class that the rule answers with it",
            "recall at full depth": "the same if every layer runs",
            "harm": "full depth is right and the rule is wrong",
        }
    return Group(title, table, legend({**said, "mean layers": "layers that ran, averaged over the class"}))


REPORTED = {
    "precision": "answers with the class that are right",
    "recall": "examples of the class that are answered with it",
    "F1": "harmonic mean of precision and recall",
    "support": "examples of the class",
    "mean layers": "layers that ran, averaged over the class",
}


def report_table(rule: str, classes: dict[str, ClassResult]) -> Group:
    """Precision, recall, F1, support and mean exit layer of every class under a rule.

    Args:
        rule: The rule.
        classes: As in `RuleResult.by_class`.
    """
    table = _table(2)
    table.add_column("class", overflow="fold", min_width=8)
    for heading in REPORTED:
        table.add_column(heading.replace(" ", "\n"), justify="right", no_wrap=True)
    for name, found in classes.items():
        table.add_row(Text(name), *report_cells(found))
    labelled = any(found.recall is not None for found in classes.values())
    kind = "class" if labelled else "class of full depth, because there are no labels,"
    return Group(Text(f"every {kind} under {short_rule(rule)}", style="bold"), table, legend(REPORTED))


def report_cells(found: ClassResult) -> list[str]:
    """The figures of a class, in the order of `REPORTED`; a dash for an undefined one.

    Args:
        found: The class.
    """
    shares = (found.precision, found.recall, found.f1)
    said = ["-" if share is None else f"{share:.2%}" for share in shares]
    return [*said, f"{found.examples:,}", f"{found.layers_mean:.2f}"]
