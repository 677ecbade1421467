"""Lists: the recipes that come with dact, the runs of a folder, and what a recipe comes to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.padding import Padding
from rich.text import Text

from dactcli.report.blocks import Sheet, guide, legend, short_rule, short_rules, trained_share
from dactcli.report.console import visible
from dactcli.results import PlanResult, PublishResult, RunFacts, SplitFacts, duration

INDENT = 2  # cells
SHARES = 6  # classes whose shares are shown


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


def render_runs(runs: Sequence[RunFacts]) -> Group:
    """A table of runs, and what its columns mean."""
    runs = visible(list(runs))
    said = {
        "metric": "of the task, on validation, under the rule",
        "layers": "that ran on validation under the rule, averaged over the examples",
        "rule": "what the run halts by; unfinished: the training has not ended, and finetune --resume continues it",
        "MB": "of all files of the run",
    }
    if any(one.latest for one in runs):
        said = {"*": "the newest finished run, which commands take where none is named", **said}
    if any(one.majority is not None for one in runs):
        said["metric"] += "; below it, what always answering the majority class gets"
    return Group(_Runs(runs), legend(said), guide("dact-runs"))


class _Runs:
    """The table of runs; where it is too wide for the terminal, a paragraph for each run."""

    def __init__(self, runs: Sequence[RunFacts]) -> None:
        self.runs = runs

    def needed(self, *, whole: bool) -> int:
        """The fewest cells in which no figure is cut; in a pipe, with each run in one line."""
        if whole:
            return self._table().needed(whole=True)
        words = [word for one in self.runs for word in _paragraph(one).split()]
        return max(map(cell_len, words), default=0) + INDENT

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = self._table()
        if table.needed(whole=True) <= options.max_width:
            yield table
            return
        for one in self.runs:
            yield Group(_name(one), Padding(Text(_paragraph(one)), (0, 0, 0, INDENT)))

    def _table(self) -> Sheet:
        table = Sheet(box=None, padding=(0, 1, 0, 0), header_style="bold")
        table.add_column("run")
        table.add_column("task")
        table.add_column("metric", justify="right", no_wrap=True)
        table.add_column("layers", justify="right", no_wrap=True)
        table.add_column("rule")
        table.add_column("changed", no_wrap=True)
        table.add_column("MB", justify="right", no_wrap=True)
        for one in self.runs:
            table.add_row(
                _name(one),
                Text(one.task),
                "\n".join(_metrics(one)),
                _depth(one) or "-",
                Text(short_rule(one.rule or "")) if one.finished else Text("unfinished", style="yellow"),
                _changed(one),
                f"{one.megabytes:,.1f}",
            )
        return table


def _name(run: RunFacts) -> Text:
    return Text(run.run, style="bold" if run.latest else "").append(" *" if run.latest else "", style="green")


def _metrics(run: RunFacts) -> list[str]:
    """The metric, and the majority class's."""
    if run.metric is None:
        return ["undefined" if run.metric_name else "-"]
    return [f"{run.metric:.4f}", *([f"{run.majority:.4f}"] if run.majority is not None else [])]


def _depth(run: RunFacts) -> str:
    return "" if run.layers_mean is None else f"{run.layers_mean:.2f} of {run.layers}"


def _changed(run: RunFacts) -> str:
    return datetime.fromtimestamp(run.modified).strftime("%d %b %H:%M")


def _paragraph(run: RunFacts) -> str:
    """The figures of a run in a sentence."""
    metric, *majority = _metrics(run)
    parts = [run.task]
    if run.metric_name:
        constant = f" (majority class {majority[0]})" if majority else ""
        parts.append(f"{run.metric_name.replace('_', ' ')} {metric}{constant}")
    if depth := _depth(run):
        parts.append(f"{depth} layers")
    parts.append(f"rule {short_rule(run.rule or '-')}" if run.finished else "unfinished")
    return ", ".join([*parts, _changed(run), f"{run.megabytes:,.1f} MB"])


def render_plan(plan: PlanResult) -> Group:
    """What a recipe comes to, before anything is trained."""
    plan = visible(plan)
    table = Sheet(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("split")
    for name in ("examples", "median\ntokens", "95%", "longest", "cut"):
        table.add_column(name, justify="right")
    for split, facts in plan.splits.items():
        counts = (facts.examples, facts.tokens_p50, facts.tokens_p95, facts.tokens_max, facts.cut)
        table.add_row(split, *(f"{count:,}" for count in counts))
    said = {
        "median tokens, 95%, longest": "tokens of half, of 95% and of the longest of the examples, before cutting",
        "cut": "examples longer than data.max_length; data.long says what is read of them",
    }
    lines = [
        *(f"labels of {split}: {_labels(facts)}" for split, facts in plan.splits.items() if facts.labels),
        *_majority(plan),
        f"model: {plan.encoder}, {plan.layers} layers, {plan.parameters / 1e6:,.1f} million parameters, "
        f"{trained_share(plan.trainable_parameters, plan.parameters)} trained",
        *plan.stages,
        f"about {duration(plan.seconds)} of training on {plan.device} ({plan.steps:,} steps, "
        f"{plan.seconds_per_step:.2f} s each as measured now), {plan.memory_mib:,.0f} MiB of memory, "
        f"{plan.disk_mib:,.0f} MiB of disk",
    ]
    return Group(
        table,
        legend(said),
        Text(),
        *map(Text, lines),
        guide("dact-validate"),
        Text("the recipe is valid", style="bold green"),
    )


def _labels(facts: SplitFacts) -> str:
    """Counts and shares of the first classes."""
    shown = [f"{name} {facts.counts[name]:,} ({share:.0%})" for name, share in list(facts.labels.items())[:SHARES]]
    more = f", and {len(facts.labels) - SHARES} more" if len(facts.labels) > SHARES else ""
    return ", ".join(shown) + more


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
    promise = f": {short_rules(done.promise)}" if done.promise else ""
    lines = [f"{done.run} halts by {short_rule(done.rule)}{promise}"]
    if done.folder:
        lines.append(f"written to {done.folder}: {', '.join(done.files)}")
    if done.hub:
        lines.append(f"pushed to {done.hub}")
    return Group(*map(Text, lines))
