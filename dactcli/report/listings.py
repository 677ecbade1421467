"""Lists: the recipes that come with dact, the runs of a folder, and what a recipe comes to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from rich.console import Group
from rich.text import Text

from dactcli.report.blocks import Sheet, short_rule
from dactcli.report.console import visible
from dactcli.results import PlanResult, PublishResult, RunFacts, duration


class Recipe(Protocol):
    """What a list shows of a recipe."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def about(self) -> str:
        """What it is for."""


def render_recipes(recipes: Sequence[Recipe]) -> Group:
    """A table of recipes, and what to type next."""
    table = Sheet(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="bold cyan", no_wrap=True)
    table.add_column()
    for one in recipes:
        table.add_row(Text(visible(one.name)), Text(visible(one.about)))
    return Group(table, Text("\ndact recipes copy NAME    makes one yours, to be edited", style="dim"))


def render_runs(runs: Sequence[RunFacts]) -> Sheet:
    """A table of runs."""
    runs = visible(list(runs))
    starred = "* the newest finished one: what commands take without a RUN" if any(one.latest for one in runs) else ""
    if any(one.majority is not None for one in runs):
        starred += "\nunder each metric: that of always answering the majority class"
    table = Sheet(
        box=None, padding=(0, 1, 0, 0), header_style="bold", caption=starred.strip() or None, caption_justify="left"
    )
    table.add_column("run")
    table.add_column("task")
    table.add_column("metric", justify="right", no_wrap=True)
    table.add_column("layers", justify="right", no_wrap=True)
    table.add_column("rule")
    table.add_column("changed", no_wrap=True)
    table.add_column("MB", justify="right", no_wrap=True)
    for one in runs:
        table.add_row(
            Text(one.run, style="bold" if one.latest else "").append(" *" if one.latest else "", style="green"),
            Text(one.task),
            _metric(one),
            f"{one.layers_mean:.2f} of {one.layers}" if one.layers_mean is not None else "-",
            Text(short_rule(one.rule or "")) if one.finished else Text("unfinished", style="yellow"),
            datetime.fromtimestamp(one.modified).strftime("%d %b %H:%M"),
            f"{one.megabytes:,.1f}",
        )
    return table


def _metric(run: RunFacts) -> str:
    """The metric, and below it the majority class's."""
    if run.metric is None:
        return "undefined" if run.metric_name else "-"
    return f"{run.metric:.4f}" + (f"\n{run.majority:.4f}" if run.majority is not None else "")


def render_plan(plan: PlanResult) -> Group:
    """What a recipe comes to, before anything is trained."""
    plan = visible(plan)
    table = Sheet(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("split")
    for name in ("examples", "tokens, median", "95%", "longest", "cut"):
        table.add_column(name, justify="right")
    table.add_column("labels")
    for split, facts in plan.splits.items():
        labels = ", ".join(f"{name} {share:.0%}" for name, share in list(facts.labels.items())[:6])
        more = f", and {len(facts.labels) - 6} more" if len(facts.labels) > 6 else ""
        table.add_row(
            split,
            f"{facts.examples:,}",
            str(facts.tokens_p50),
            str(facts.tokens_p95),
            str(facts.tokens_max),
            f"{facts.cut:,}",
            Text(labels + more or "-"),
        )
    lines = [
        *_majority(plan),
        f"model: {plan.encoder}, {plan.layers} layers, {plan.parameters / 1e6:,.1f} million parameters",
        *plan.stages,
        f"about {duration(plan.seconds)} of training on {plan.device} ({plan.steps:,} steps, "
        f"{plan.seconds_per_step:.2f} s each as measured now), {plan.memory_mib:,.0f} MiB of memory, "
        f"{plan.disk_mib:,.0f} MiB of disk",
    ]
    return Group(table, Text(), *map(Text, lines), Text("the recipe is valid", style="bold green"))


def _majority(plan: PlanResult) -> list[str]:
    """What a constant answer gets right of train and validation, and how many labels an example has."""
    known = {name: plan.splits[name].majority for name in ("train", "validation") if name in plan.splits}
    shares = ", ".join(f"{share:.1%} of {name}" for name, share in known.items() if share is not None)
    several = [one.labels_mean for one in plan.splits.values() if one.labels_mean is not None]
    name = "label set" if several else "class"
    lines = [f"majority {name}: always answering it is right on {shares}"] if shares else []
    if several:
        lines.append(f"labels of an example: {several[0]:.2f} on the mean of {next(iter(plan.splits))}")
    return lines


def render_publication(done: PublishResult) -> Group:
    """What was published, and where it is.

    Args:
        done: What `dact publish` did.
    """
    done = visible(done)
    lines = [f"{done.run} halts by {short_rule(done.rule)}" + (f": {done.promise}" if done.promise else "")]
    if done.folder:
        lines.append(f"written to {done.folder}: {', '.join(done.files)}")
    if done.hub:
        lines.append(f"pushed to {done.hub}")
    return Group(*map(Text, lines))
