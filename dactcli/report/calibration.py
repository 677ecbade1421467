"""A calibration as a panel: the promise, and what it rests on."""

from __future__ import annotations

from rich.console import Group
from rich.panel import Panel
from rich.text import Text

from dactcli.report.console import visible
from dactcli.results import Calibration


def render_calibration(found: Calibration, layers: int) -> Panel:
    """The rule that was chosen, the promise in words, and the counts behind it.

    Args:
        found: What `dact eval --calibrate` chose.
        layers: N.
    """
    found = visible(found)
    lines = [Text(found.rule, style="bold green" if found.certified or found.kind == "budget" else "bold yellow")]
    lines.append(Text(found.promise, style="italic"))
    if found.layers_mean is not None:
        lines.append(Text(f"{found.layers_mean:.2f} of {layers} layers on the mean of the calibration sample"))
    if found.observed is not None:
        lines.append(Text(f"{found.observed} losses ({found.loss}) among {found.examples:,} examples of {found.split}"))
    lines.append(Text("now the default rule of this run, until its weights, type or length change", style="dim"))
    return Panel(Group(*lines), title="calibration", title_align="left")
