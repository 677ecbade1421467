"""Figures inside a web page, as SVG whose colours follow the page's light or dark style; by matplotlib."""

from __future__ import annotations

import io
import re
from typing import Any

from dactcli.report.blocks import metric_words
from dactcli.report.plots import check_matplotlib
from dactcli.results import CurvePoint, EvalResult, ReliabilityBin

# matplotlib draws in these colours, and the page replaces each by its own variable
INK, DIM, BAR, GOOD = "#010101", "#020202", "#030303", "#040404"
VARIABLES = {INK: "var(--ink)", DIM: "var(--dim)", BAR: "var(--bar)", GOOD: "var(--good)"}
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "dact",
    "font.size": 12,
    "text.color": INK,
    "axes.edgecolor": DIM,
    "axes.labelcolor": INK,
    "xtick.color": DIM,
    "ytick.color": DIM,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
MARKERS = "osD^vP"


def depth_figure(result: EvalResult, curve: list[CurvePoint], curve_rule: str | None) -> str:
    """The metric against mean layers: the curve of one rule, and a point for every evaluated rule.

    A certified rule is marked by a star.

    Args:
        result: What `dact eval` computed.
        curve: The points of the curve, by ascending layers.
        curve_rule: Its rule.
    """
    with _style():
        figure, axes = _axes((6, 4))
        if curve:
            xs, ys = [point.layers_mean for point in curve], [point.metric for point in curve]
            axes.plot(xs, ys, color=BAR, linewidth=1.5, label=f"{curve_rule}, every threshold")
        shown = [(name, judged) for name, judged in result.rules.items() if judged.metric is not None]
        for number, (name, judged) in enumerate(shown):
            certified = judged.certificate is not None and judged.certificate.get("certified") is True
            marker, size, colour = ("*", 220, GOOD) if certified else (MARKERS[number % len(MARKERS)], 40, INK)
            label = f"{name.partition(':')[0]}{', certified' if certified else ''}"
            axes.scatter(
                [judged.layers_mean], [judged.metric], label=label, zorder=3, marker=marker, s=size, color=colour
            )
        axes.set_xlim(0.9, result.layers + 0.1)
        axes.set_xlabel(f"mean layers of {result.layers}")
        axes.set_ylabel(metric_words(result.metric))
        if shown:
            axes.legend(fontsize=10)
        return _svg(figure, "depth")


def reliability_figure(bins: list[ReliabilityBin]) -> str:
    """Share of right answers against confidence, beside the diagonal of perfect reliability.

    Args:
        bins: Examples by confidence.
    """
    with _style():
        figure, axes = _axes((6, 4))
        at, width = [(one.low + one.high) / 2 for one in bins], bins[0].high - bins[0].low
        axes.bar(at, [one.accuracy for one in bins], 0.92 * width, color=BAR, label="right answers")
        axes.plot([0, 1], [0, 1], color=DIM, linestyle="--", linewidth=1, label="perfect reliability")
        for place, one in zip(at, bins, strict=True):
            axes.text(place, one.accuracy + 0.01, f"{one.examples:,}", ha="center", color=DIM, fontsize=10)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.08)
        axes.set_xlabel("probability of the answer")
        axes.set_ylabel("share of right answers")
        axes.legend(fontsize=10, loc="upper left")
        return _svg(figure, "reliability")


def _style() -> Any:
    check_matplotlib()
    from matplotlib import rc_context

    return rc_context(STYLE)


def _axes(size: tuple[float, float]) -> tuple[Any, Any]:
    figure = check_matplotlib()(figsize=size, layout="constrained")
    return figure, figure.add_subplot()


def _svg(figure: Any, name: str) -> str:
    """A figure as an SVG element; its ids begin with the figure's name, so that none occurs twice in a page."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'( id="| xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, variable)
    return text
