"""A sweep as a table: metric and layers of every run, and which of them make the front."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.text import Text

from dactcli.report.blocks import Sheet, guide, legend, short_rule
from dactcli.report.console import visible

FIGURES = ("metric", "at full depth", "mean layers")
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
    said = dict(MEANINGS)
    known = {run.get("references", {}).get("majority", {}).get("metric") for run in document["runs"]} - {None}
    if known:
        metrics = ", ".join(f"{metric:.4f}" for metric in sorted(known))
        said["majority class"] = f"always answering it has the metric {metrics}"
    table = Sheet(
        title=Text(f"validation, rule {short_rule(rule)}"),
        title_justify="left",
    )
    for heading in ("", "run", "set", *FIGURES):
        table.add_column(heading, justify="right" if heading in FIGURES else "left", no_wrap=heading == "set")
    for run in sorted(document["runs"], key=lambda one: one["rules"][rule]["layers_mean"]):
        judged, full = run["rules"][rule], run["rules"].get("full", run["rules"][rule])
        table.add_row(
            "*" if run["run"] in document["front"] else "",
            Text(run["run"].rpartition("/")[2]),
            Text(", ".join(f"{key}={value}" for key, value in run["values"].items())),
            *("undefined" if one["metric"] is None else f"{one['metric']:.4f}" for one in (judged, full)),
            f"{judged['layers_mean']:.2f}",
        )
    return Group(table, legend(said), guide("dact-finetune-sweep"))
