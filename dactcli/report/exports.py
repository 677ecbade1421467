"""What `dact export` wrote, and what it promises."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from dactcli.report.blocks import short_rule, short_rules
from dactcli.report.console import visible
from dactcli.results import ExportResult

MIB = 2**20


def render_export(done: ExportResult) -> Group:
    """The rule with its promise, what the export alone changes, and the files.

    Args:
        done: What `dact export` did.
    """
    done = visible(done)
    lines: list[RenderableType] = [
        Text(short_rule(done.rule), style="bold yellow" if done.failure else "bold green"),
    ]
    if done.failure:
        lines.append(Text(f"no certificate: {short_rules(done.failure)}", style="yellow"))
    if done.promise:
        lines.append(Text(short_rules(done.promise), style="italic"))
    if (changed := done.changed) is not None:
        lines.append(
            Text(
                f"at full depth, {changed.different:,} of {changed.examples:,} answers on {changed.split} differ from "
                f"the PyTorch model's ({100 * changed.rate:.2g}%)"
            )
        )
    lines.append(Text(_about(done), style="dim"))
    lines.append(Text(f"written to {done.folder}: {', '.join(done.files)}", style="dim"))
    return Group(Panel(Group(*lines), title="export", title_align="left"))


def _about(done: ExportResult) -> str:
    exits = (
        f"one graph of {done.layers} {'layer' if done.layers == 1 else 'layers'}"
        if len(done.stages) == 1
        else f"rows may leave after layers {', '.join(map(str, done.stages))}"
    )
    noun = "layer" if len(done.float_layers) == 1 else "layers"
    kept = f" but for {noun} {', '.join(map(str, done.float_layers))}" if done.float_layers else ""
    size = f"{done.bytes / MIB:.1f} MiB, {100 * done.bytes / done.model_bytes:.0f}% of the run's weights and tokenizer"
    return f"{done.precision}{kept}; {exits}; attention is fused in {done.fused} of {done.layers} layers; {size}"
