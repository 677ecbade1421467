"""How a training goes, on screen: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Literal

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from dactcli.listening import Progress as CountProgress
from dactcli.report.blocks import histogram, metric_text, short_rule, sparkline, trained_share
from dactcli.report.console import ConsoleListener, messages, visible
from dactcli.report.evaluation import render_evaluation
from dactcli.results import Calibration, EvalResult, KeptEpoch, StepLog, TrainResult

Verbosity = Literal["quiet", "normal", "verbose"]
SPARK = 24  # cells of a sparkline
FITTED = (
    "The halting thresholds were fitted on validation after the last epoch: these figures differ from the last "
    "training line's, and are slightly optimistic. Judge on test."
)


def summary_line(result: EvalResult) -> str:
    """One line for an evaluation: the metric by rule and the layers, and the plain answers' metric."""
    parts = []
    for rule, judged in result.rules.items():
        parts.append(f"{short_rule(rule)} {metric_text(judged)} at {judged.layers_mean:.2f} layers")
    beside = [
        f"{result.reference_name(name)} {found.metric:.4f}"
        for name, found in result.beside.items()
        if found.metric is not None
    ]
    text = f"{result.split} {result.metric.replace('_', ' ')}: {', '.join(parts)}"
    return f"{text} ({', '.join(beside)})" if beside else text


class QuietScreen(ConsoleListener):
    """Nothing but what the user should know."""

    def __enter__(self) -> QuietScreen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class PlainScreen(QuietScreen):
    """One line per log step; for files, pipes and terminals without cursor control.

    Args:
        console: Where to; standard error without.
        verbose: Whether a line holds all that is known of its step.
    """

    def __init__(self, console: Console | None = None, *, verbose: bool = False) -> None:
        super().__init__()
        self.console, self.verbose = console or messages(), verbose
        self.stage, self.step, self.steps = "", 0, 0
        self.started, self.first = time.monotonic(), 0

    def _print(self, text: str) -> None:
        self.console.print(Text(visible(text)), soft_wrap=True)

    def run_started(self, name: str, number: int, runs: int) -> None:
        """A line that names the run of a sweep."""
        self._print(f"run {number}/{runs} {name}")

    def stage_started(self, name: str, number: int, stages: int, steps: int) -> None:
        """A line that names the stage."""
        self.stage, self.steps, self.step = f"stage {number}/{stages} {name}", steps, 0
        self.started, self.first = time.monotonic(), -1
        self._print(f"{self.stage}: {steps} steps")

    def stepped(self, step: int) -> None:
        """Nothing to print; the time left is taken from it."""
        self.step = step
        if self.first < 0:
            self.first, self.started = step, time.monotonic()

    def logged(self, log: StepLog) -> None:
        """A line with loss, mean layers and time left."""
        parts = [f"{self.stage} step {self.step}/{self.steps} loss {log.loss:.4f}"]
        if log.layers_mean is not None:
            parts.append(f"layers {log.layers_mean:.2f}")
        if self.verbose:
            parts.append(f"rate {log.learning_rate:.2e} gradient {log.grad_norm:.2f} epoch {log.epoch:.2f}")
            parts.append(f"{log.examples_per_second:.0f} examples/s")
            if log.halting_weights is not None:
                parts.append("weights " + " ".join(f"{weight:.2f}" for weight in log.halting_weights))
        self._print(" ".join(parts) + self._left())

    def _left(self) -> str:
        done = self.step - self.first
        if done <= 0:
            return ""
        left = (time.monotonic() - self.started) / done * (self.steps - self.step)
        return f" left {int(left // 60)}:{int(left % 60):02d}"

    def evaluated(self, result: EvalResult) -> None:
        """A line with the metric of every rule."""
        self._print(summary_line(result))

    def best_epoch(self, epoch: float) -> None:
        """A line that marks the epoch."""
        self._print(f"best so far: epoch {epoch:g}")


class TrainingView:
    """What a stage has said so far, and how that looks.

    Every number is drawn as it moved: the loss, the mean layers as tau bites, the metric of each evaluation; the
    halting weights as they are now.
    """

    def __init__(self) -> None:
        self.logs: list[StepLog] = []
        self.evaluations: list[EvalResult] = []
        self.best = ""

    def __rich__(self) -> RenderableType:
        grid = Table.grid(padding=(0, 2))
        if self.logs:
            last = self.logs[-1]
            self._row(grid, "loss", f"{last.loss:.3f}", [log.loss for log in self.logs])
            depths = [log.layers_mean for log in self.logs if log.layers_mean is not None]
            if depths:
                self._row(grid, "mean layers", f"{depths[-1]:.2f}", depths)
            if last.halting_weights is not None:
                most = max(range(len(last.halting_weights)), key=last.halting_weights.__getitem__)
                note = f"most on layer {most + 1}: {last.halting_weights[most]:.2f}"
                grid.add_row("halting weights", "", Text(histogram(last.halting_weights), style="cyan"), note)
        if self.evaluations:
            latest = self.evaluations[-1]
            first = [next(iter(one.rules.values())).metric for one in self.evaluations]
            known = [metric for metric in first if metric is not None]
            if known:
                self._row(grid, latest.metric.replace("_", " "), f"{known[-1]:.3f}", known, _beside(latest))
        if self.best:
            grid.add_row("best so far", self.best)
        if self.logs:
            grid.add_row("examples/s", f"{self.logs[-1].examples_per_second:.0f}")
        return grid

    @staticmethod
    def _row(grid: Table, name: str, now: str, values: list[float], note: str = "") -> None:
        grid.add_row(name, now, Text(sparkline(values, SPARK), style="cyan"), note)


def _beside(result: EvalResult) -> str:
    """The constant answer's metric, for the line of the metric."""
    constant = result.references.get("majority")
    if constant is None or constant.metric is None:
        return ""
    return f"{result.reference_name('majority')}: {constant.metric:.3f}"


class RichScreen(QuietScreen):
    """A live view: a bar for each stage, and how loss, layers, halting weights and metric move."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self.console = console or messages()
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            console=self.console,
            expand=True,
        )
        self.task: TaskID | None = None
        self.view = TrainingView()
        self.live = Live(self._view(), console=self.console, refresh_per_second=4)

    def _view(self) -> Group:
        return Group(self.progress, self.view)

    def __enter__(self) -> RichScreen:
        self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()

    def run_started(self, name: str, number: int, runs: int) -> None:
        """The name of the run stays; the bars of the run before go."""
        for task in self.progress.task_ids:
            self.progress.remove_task(task)
        self.console.print(Text(visible(f"run {number}/{runs} {name}"), style="dim"))

    def stage_started(self, name: str, number: int, stages: int, steps: int) -> None:
        """A bar of its own for each stage."""
        self.view = TrainingView()
        self.task = self.progress.add_task(visible(f"{number}/{stages} {name}"), total=steps)
        self.live.update(self._view())

    def stepped(self, step: int) -> None:
        """Move the bar."""
        if self.task is not None:
            self.progress.update(self.task, completed=step)

    def logged(self, log: StepLog) -> None:
        """The numbers below the bar."""
        self.view.logs.append(log)

    def evaluated(self, result: EvalResult) -> None:
        """The metric below the bar, and a line that stays."""
        self.view.evaluations.append(result)
        self.console.print(Text(visible(summary_line(result))), style="dim")

    def best_epoch(self, epoch: float) -> None:
        """The best epoch below the metric."""
        self.view.best = f"epoch {epoch:g}"

    @contextmanager
    def working(self, description: str) -> Iterator[CountProgress]:
        """A bar below those of the stages, for the time of the work; a second live view could not be drawn."""
        task = self.progress.add_task(visible(description), total=None)
        try:
            yield lambda done, total: self.progress.update(task, completed=done, total=total)
        finally:
            self.progress.remove_task(task)

    def notice(self, text: str) -> None:
        """A note above the bar."""
        self.console.print(Text(f"note: {visible(self.spoken(text))}"), style="yellow")


def screen(verbosity: Verbosity = "normal", spoken: Callable[[str], str] = str) -> QuietScreen:
    """The live view on a terminal; plain lines elsewhere and where everything is asked for.

    Args:
        verbosity: How much to show.
        spoken: How a notice is put for this user.
    """
    console = messages()
    made = QuietScreen()
    if verbosity == "verbose" or not console.is_terminal or console.is_dumb_terminal:
        made = PlainScreen(console, verbose=verbosity == "verbose") if verbosity != "quiet" else made
    elif verbosity == "normal":
        made = RichScreen(console)
    made.spoken = spoken
    return made


def render_training(result: TrainResult) -> Panel:
    """How a training ended, and what to type next.

    Args:
        result: What `dact finetune` computed. A command that needs a split that it lacks is not suggested.
    """
    splits = result.splits
    result = visible(result)
    minutes, seconds = divmod(round(result.seconds), 60)
    parts: list[RenderableType] = [] if result.calibration is None else [_promise(result.calibration), Text()]
    parts += [render_evaluation(evaluation) for evaluation in result.evaluation.values()]
    if result.kept is not None:
        parts.append(Text(kept_line(result.kept), style="dim"))
    if result.halting_fitted:
        parts.append(Text(FITTED, style="dim"))
    if result.trainable_parameters is not None and result.trainable_parameters != result.parameters:
        share = trained_share(result.trainable_parameters, result.parameters or 1)
        parts.append(Text(f"trained: {share} of the parameters", style="dim"))
    parts.append(Text(f"{result.steps} steps in {minutes}:{seconds:02d}, saved in {result.run}"))
    halts = any(judged.depths[-1] < one.examples for one in result.evaluation.values() for judged in one.rules.values())
    commands = {
        f"dact eval {result.run} --split test": "test" in splits,
        f"dact eval {result.run} --calibrate risk=0.01,delta=0.05": (
            halts and result.calibration is None and "calibration" in splits
        ),
        f"dact profile {result.run}": halts,
        f'dact inspect --run {result.run} "some text"': True,
    }
    parts.append(
        Text(
            "next: " + "\n      ".join(command for command, fits in commands.items() if fits),
            style="dim",
            overflow="fold",
        )
    )
    return Panel(Group(*parts), title="finished", title_align="left")


def kept_line(kept: KeptEpoch) -> str:
    """Which epoch was kept, and by what.

    Args:
        kept: The epoch.
    """
    metric = "undefined" if kept.metric is None else f"{kept.metric:.4f}"
    return f"kept: epoch {kept.epoch:g} of stage {kept.stage}, the best at full depth on validation ({metric})"


def _promise(found: Calibration) -> Text:
    """What the run promises from now on, in one line; where nothing is certified, why, and what to do.

    Args:
        found: The calibration that the training ended with.
    """
    risk, delta = f"{100 * (found.epsilon or 0):g}%", f"{100 * (found.delta or 0):g}%"
    layers = f"at {found.layers_mean or 0:.2f} of {found.layers} layers"
    if found.certified:
        text = f"certified: {short_rule(found.rule)} disagrees with full depth on at most {risk} of examples "
        return Text(f"{text}(delta {delta}), {layers}", style="bold green")
    if found.outdone is not None:
        text = f"certain: {found.rule} always gives the class of full depth, {layers}; "
        bolder = f"{short_rule(found.outdone)}, certified at {risk}, runs {found.outdone_layers_mean or 0:.2f}"
        return Text(f"{text}{bolder}", style="bold green")
    remedy = "use more calibration examples (data.calibration) or a larger evaluation.risk"
    return Text(f"not certified: {found.failure}, so {found.rule} stays; {remedy}", style="bold yellow")
