"""A comparison of rules as a table, and its curves in characters."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.text import Text

from dactcli.report.blocks import Sheet, guide, legend, short_rule
from dactcli.report.console import visible
from dactcli.report.evaluation import figure
from dactcli.results import ComparedRule, Comparison

WIDTH, HEIGHT = 60, 14
MARKS = "●○▲△■□◆◇+x*"


def render_comparison(comparison: Comparison) -> Group:
    """Metric at shares of the layers, layers for 99% of the reference, area; then the curves.

    Args:
        comparison: What `dact eval --compare` computed.
    """
    comparison = visible(comparison)
    metric = comparison.metric.replace("_", " ")
    title = f"{', '.join(comparison.runs)}  {comparison.split}, {comparison.examples:,} examples"
    table = Sheet(box=None, padding=(0, 1, 0, 0))
    table.add_column("rule")
    for share in next(iter(comparison.rules.values())).metric_at:
        table.add_column(f"up to\n{float(share) * comparison.layers:g}\nlayers", justify="right")
    table.add_column("layers\nfor 99%", justify="right")
    table.add_column("area under\nthe curve", justify="right")
    table.add_column("+/-", justify="right")
    risks = list(next(iter(comparison.rules.values())).certified_layers)
    for risk in risks:
        table.add_column(f"risk\n{float(risk):.0%}", justify="right")
    for mark, (name, rule) in zip(MARKS, comparison.rules.items(), strict=False):
        table.add_row(f"{mark} {short_rule(name)}", *_figures(rule), *(_layers(rule, risk) for risk in risks))
    reference = (
        f"{comparison.reference_metric:.4f}, the {comparison.reference_kind} of {', '.join(comparison.reference_runs)}"
    )
    said = {
        "rule": "each with the mark of its points in the plot below",
        "up to ... layers": f"best {metric} with at most so many mean layers; - where no threshold runs so few",
        "layers for 99%": f"fewest mean layers that keep 99% of {reference}; never, where no threshold does",
        "area under the curve": f"{metric} averaged over 1 to {comparison.layers} mean layers, as a "
        "share of the same reference; only for rules that can stop everything at layer 1",
        "+/-": "half the 95% interval of that area",
    }
    if risks:
        said["risk 1%, 2%"] = (
            "mean layers where the calibration split certifies at most so much disagreement with full depth; "
            f"{comparison.layers} where it certifies nothing"
        )
    notices = [Text(f"note: {notice}", style="yellow") for notice in comparison.notices]
    return Group(
        Text(title, style="bold"),
        table,
        legend(said),
        Text(beside(comparison), style="dim"),
        *notices,
        _Curves(comparison),
        guide("dact-eval-compare"),
    )


def beside(comparison: Comparison) -> str:
    """The plain answers that the curves are held against, in a sentence; empty where they are not known.

    Args:
        comparison: What `dact eval --compare` computed.
    """
    known = {
        f"the majority {comparison.decision}": comparison.majority_metric,
        "the last layer alone (y_N)": comparison.last_layer_metric,
    }
    figures = [f"{name} {metric:.4f}" for name, metric in known.items() if metric is not None]
    if comparison.reference_kind == "full depth":
        figures.append("full depth of a DACT model is the mixture of all layers' answers (a_N)")
    return f"Beside it: {'; '.join(figures)}." if figures else ""


def _figures(rule: ComparedRule) -> list[str]:
    kept = "never" if rule.layers_for_99 is None else f"{rule.layers_for_99:.2f}"
    area = ["-", "-"]
    if rule.area is not None:
        area = [f"{rule.area.value:.4f}", f"{(rule.area.high - rule.area.low) / 2:.4f}"]
    return [*(figure(value) for value in rule.metric_at.values()), kept, *area]


def _layers(rule: ComparedRule, risk: str) -> str:
    layers = rule.certified_layers.get(risk)
    return "-" if layers is None else f"{layers:.2f}"


class _Curves:
    """Every point of every rule, metric upwards, mean layers to the right, as wide as there is room."""

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        last = self.comparison.layers
        points = [
            (point.layers_mean, point.metric, mark)
            for mark, rule in zip(MARKS, self.comparison.rules.values(), strict=False)
            for point in rule.points
        ]
        low, high = min(y for _, y, _ in points), max(y for _, y, _ in points)
        span = high - low or 1.0
        width = max(min(WIDTH, options.max_width - 8), 1)
        cells = [[" "] * width for _ in range(HEIGHT)]
        for x, y, mark in reversed(points):  # the best rule is drawn last, on top
            column = round((x - 1) / max(last - 1, 1) * (width - 1))
            cells[HEIGHT - 1 - round((y - low) / span * (HEIGHT - 1))][column] = mark
        for number, row in enumerate(cells):
            label = {0: f"{high:.3f}", HEIGHT - 1: f"{low:.3f}"}.get(number, "")
            yield Text(f"{label:>6} │{''.join(row)}")
        yield Text(" " * 7 + "└" + "─" * width)
        yield Text(" " * 8 + "1" + f"{last} layers".rjust(width - 1))
