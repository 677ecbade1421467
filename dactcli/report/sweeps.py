"""A sweep as a table: metric and layers of every run, and which of them make the front."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from dactcli.report.blocks import Sheet, short_rule
from dactcli.report.console import visible

FIGURES = ("metric", "full depth", "mean layers")


def render_sweep(document: dict[str, Any]) -> Sheet:
    """One row per run, by ascending layers.

    Args:
        document: As sweep.json holds it.
    """
    document = visible(document)
    rule = document["rule"]
    known = {run.get("references", {}).get("majority", {}).get("metric") for run in document["runs"]} - {None}
    decision = document["runs"][0].get("decision", "class")
    figures = ", ".join(f"{metric:.4f}" for metric in sorted(known))
    majority = f"the majority {decision}: {figures}" if known else None
    table = Sheet(
        caption=majority,
        caption_justify="left",
        title=Text(f"validation, rule {short_rule(rule)}; * no run is better at as few layers"),
        title_justify="left",
    )
    for heading in ("", "run", "set", "metric", "full depth", "mean layers"):
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
    return table
