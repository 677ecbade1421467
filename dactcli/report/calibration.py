"""A calibration as a panel: the promise, and what it rests on."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from dactcli.report.blocks import guide, short_rule, short_rules
from dactcli.report.console import visible
from dactcli.report.evaluation import class_table
from dactcli.results import Calibration

LOSSES = {
    "": "losses among",
    "disagreement": "answers differ from full depth, out of",
    "harm": "answers are wrong where full depth is right, out of",
}


def render_calibration(found: Calibration) -> Group:
    """The rule that was chosen, the promise in words, and the counts behind it.

    Args:
        found: What `dact eval --calibrate` chose.
    """
    found = visible(found)
    lines: list[RenderableType] = [
        Text(short_rule(found.rule), style="bold yellow" if _failed(found) else "bold green"),
        Text(short_rules(found.promise), style="italic"),
    ]
    if found.layers_mean is not None:
        of = f" of {found.layers}" if found.layers is not None else ""
        lines.append(Text(f"{found.layers_mean:.2f}{of} layers on average on the calibration sample"))
    if found.observed is not None:
        losses = LOSSES.get(found.loss or "", LOSSES[""])
        lines.append(Text(f"{found.observed:,} {losses} {_counted(found)} of {found.split}"))
    if found.attempt is not None:
        lines.append(Text(_attempt(found)))
    lines.append(Text(f"sample {found.data_fingerprint[:12]}", style="dim"))
    if found.classes:
        lines += [Text(), class_table(found.rule, found.classes), Text()]
    lines.append(
        Text("now the default rule of this run, until anything that can change an answer changes", style="dim")
    )
    return Group(Panel(Group(*lines), title="calibration", title_align="left"), guide("dact-eval-calibrate"))


def _failed(found: Calibration) -> bool:
    """Whether a risk was asked for and nothing could be certified."""
    return found.kind == "risk" and not found.certified and found.outdone is None


def _counted(found: Calibration) -> str:
    left = sum(found.left_out.values())
    out = f", {left:,} left out because training used them" if left else ""
    return f"{found.examples:,} examples ({found.distinct:,} distinct inputs{out})"


def _attempt(found: Calibration) -> str:
    """Which attempt this was on the sample, and what it was tested at."""
    spent = f"tested at delta {found.delta_spent:g} of {found.delta:g}"
    rules = f", shared by {len(found.rules_tried)} rules" if len(found.rules_tried) > 1 else ""
    return f"attempt {found.attempt} on this sample: {spent}{rules}"
