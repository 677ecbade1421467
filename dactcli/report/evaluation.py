"""An evaluation as a table."""

from __future__ import annotations

from rich.console import Group
from rich.text import Text

from dactcli.report.blocks import Sheet, bar, histogram, short_rule
from dactcli.report.console import visible
from dactcli.results import EvalResult, RuleResult


def render_evaluation(result: EvalResult) -> Group:
    """The metric, the depth and the agreement of every rule, and the share of examples that stopped at each layer.

    Args:
        result: What `dact eval` computed.
    """
    result = visible(result)
    title = f"{result.run}  {result.split}, {result.examples:,} examples, {result.layers} layers"
    table = Sheet(title=Text(title, style="bold"), title_justify="left")
    table.add_column("rule")
    table.add_column(result.metric.replace("_", " "), justify="right")
    table.add_column("mean layers", justify="right")
    table.add_column("of all", justify="right")
    table.add_column("as full depth", justify="right")
    table.add_column(f"stops 1..{result.layers}", no_wrap=True)
    for name, judged in result.rules.items():
        table.add_row(
            Text(short_rule(name)),
            "-" if judged.metric is None else f"{judged.metric:.4f}",
            f"{judged.layers_mean:.2f}",
            f"{judged.layers_share:.0%}",
            f"{judged.agreement_with_full:.2%}",
            Text(histogram(judged.depths), style="cyan"),
        )
    parts: list[Sheet | Text] = [table]
    early = [(name, judged) for name, judged in result.rules.items() if judged.depths[-1] < result.examples]
    if early:
        parts.append(_depths(*early[-1], result.examples))
    for rule, levels in result.depth_by_difficulty.items():
        parts.append(_difficulty(rule, levels))
    return Group(*parts)


def _depths(rule: str, judged: RuleResult, examples: int) -> Text:
    lines = [f"stops under {short_rule(rule)}"]
    for layer, count in enumerate(judged.depths, start=1):
        share = count / examples
        lines.append(f"  layer {layer:>2}  {bar(share, 30)} {share:6.1%}  {count:,}")
    return Text("\n".join(lines))


def _difficulty(rule: str, levels: dict[str, float]) -> Text:
    shown = ", ".join(f"{level}: {mean:.2f}" for level, mean in levels.items() if level != "spearman")
    return Text(f"mean layers by difficulty under {short_rule(rule)}  {shown}  (Spearman {levels['spearman']:.2f})")
