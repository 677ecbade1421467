"""A sweep as tables: metric and layers of every run, which runs make the front, and mean and spread over seeds."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from dactcli.report.blocks import Sheet, guide, legend, short_rule
from dactcli.report.console import visible

FIGURES = ("metric", "at full depth", "mean layers")
SEEDS = {
    "(standard deviation)": "of the sample of seeds: how much the figure changes if only training.seed does",
    "agreement": "share of the examples that get the answer of full depth",
}
MEANINGS = {
    "*": "no other run is better with as few layers",
    "set": "the recipe keys of this run",
    "metric": "on validation, under the rule",
    "at full depth": "the same metric if every layer runs",
    "mean layers": "layers that ran under the rule, averaged over the examples",
}


def render_sweep(document: dict[str, Any]) -> Group:
    """One row per run, by ascending layers.

    Args:
        document: As sweep.json holds it.
    """
    document = visible(document)
    rule = document["rule"]
    summaries = document.get("over_seeds", [])
    front = [] if summaries else document["front"]  # a seed is no choice: the front is that of the means
    said = {heading: text for heading, text in MEANINGS.items() if heading != "*" or front}
    known = {run.get("references", {}).get("majority", {}).get("metric") for run in document["runs"]} - {None}
    if known:
        metrics = ", ".join(f"{metric:.4f}" for metric in sorted(known))
        decision = document["runs"][0].get("decision", "class")
        said[f"majority {decision}"] = f"always answering it has the metric {metrics}"
    table = Sheet(
        title=Text(f"validation, rule {short_rule(rule)}"),
        title_justify="left",
    )
    for heading in ("", "run", "set", *FIGURES):
        table.add_column(heading, justify="right" if heading in FIGURES else "left", no_wrap=heading == "set")
    for run in sorted(document["runs"], key=lambda one: one["rules"][rule]["layers_mean"]):
        judged, full = run["rules"][rule], run["rules"].get("full", run["rules"][rule])
        table.add_row(
            "*" if run["run"] in front else "",
            Text(run["run"].rpartition("/")[2]),
            Text(", ".join(f"{key}={value}" for key, value in run["values"].items())),
            *("undefined" if one["metric"] is None else f"{one['metric']:.4f}" for one in (judged, full)),
            f"{judged['layers_mean']:.2f}",
        )
    return Group(table, legend(said), *_over_seeds(summaries), guide("dact-finetune-sweep"))


def _over_seeds(summaries: list[dict[str, Any]]) -> list[RenderableType]:
    """One row per combination and rule: mean and standard deviation over the seeds."""
    if not summaries:
        return []
    values = any(summary["values"] for summary in summaries)
    counts = " or ".join(map(str, sorted({len(summary["seeds"]) for summary in summaries})))
    table = Sheet(title=Text(f"validation, mean (standard deviation) over {counts} seeds"), title_justify="left")
    said = {"*": "no other combination is better with as few layers", **SEEDS} if values else SEEDS
    for heading in (*(("", "set") if values else ()), "rule"):
        table.add_column(heading)
    for heading in ("metric", "mean layers", "agreement"):
        table.add_column(heading, justify="right")
    for summary in summaries:
        text = Text(", ".join(f"{key}={value}" for key, value in summary["values"].items()))
        named = ["*" if summary["on_front"] else "", text] if values else []
        for rule, found in summary["rules"].items():
            table.add_row(
                *named,
                short_rule(rule),
                _spread(found["metric"], "{:.4f}"),
                _spread(found["layers_mean"], "{:.2f}"),
                _spread(found["agreement_with_full"], "{:.1%}"),
            )
    return [Text(), table, legend(said)]


def _spread(found: dict[str, float | None], form: str) -> str:
    mean, sd = found["mean"], found["sd"]
    return "undefined" if mean is None or sd is None else f"{form.format(mean)} ({form.format(sd)})"
