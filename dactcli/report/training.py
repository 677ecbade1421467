"""How a training goes, on screen: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console, Group
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from dactcli.report.console import messages, print_notice
from dactcli.report.evaluation import render_evaluation
from dactcli.results import EvalResult, TrainResult


def summary_line(result: EvalResult) -> str:
    """One line for an evaluation: the metric by rule, and the layers."""
    parts = []
    for rule, judged in result.rules.items():
        metric = "-" if judged.metric is None else f"{judged.metric:.4f}"
        parts.append(f"{rule} {metric} at {judged.layers_mean:.2f} layers")
    return f"{result.split} {result.metric.replace('_', ' ')}: {', '.join(parts)}"


class PlainScreen:
    """One line per log step; for files, pipes and terminals without cursor control."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or messages()
        self.stage, self.step, self.steps = "", 0, 0
        self.started, self.first = time.monotonic(), 0

    def __enter__(self) -> PlainScreen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)

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

    def logged(self, values: dict[str, float]) -> None:
        """A line with loss, mean layers and time left."""
        layers = f" layers {values['layers_mean']:.2f}" if "layers_mean" in values else ""
        self._print(f"{self.stage} step {self.step}/{self.steps} loss {values['loss']:.4f}{layers}{self._left()}")

    def _left(self) -> str:
        done = self.step - self.first
        if done <= 0:
            return ""
        left = (time.monotonic() - self.started) / done * (self.steps - self.step)
        return f" left {int(left // 60)}:{int(left % 60):02d}"

    def evaluated(self, result: EvalResult) -> None:
        """A line with the metric of every rule."""
        self._print(summary_line(result))

    def notice(self, text: str) -> None:
        """A note."""
        print_notice(text)


class RichScreen:
    """A live bar: stage, steps, loss, metric, mean layers, time left."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or messages()
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            expand=True,
        )
        self.task: TaskID | None = None
        self.numbers: dict[str, str] = {}

    def __enter__(self) -> RichScreen:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def stage_started(self, name: str, number: int, stages: int, steps: int) -> None:
        """A bar of its own for each stage."""
        self.numbers = {}
        self.task = self.progress.add_task(f"{number}/{stages} {name}", total=steps, numbers="")

    def stepped(self, step: int) -> None:
        """Move the bar."""
        if self.task is not None:
            self.progress.update(self.task, completed=step)

    def logged(self, values: dict[str, float]) -> None:
        """Loss and mean layers beside the bar."""
        self.numbers["loss"] = f"loss {values['loss']:.3f}"
        if "layers_mean" in values:
            self.numbers["layers"] = f"layers {values['layers_mean']:.2f}"
        self._show()

    def evaluated(self, result: EvalResult) -> None:
        """The metric beside the bar, and a line that stays."""
        first = next(iter(result.rules.values()))
        if first.metric is not None:
            self.numbers["metric"] = f"{result.metric.replace('_', ' ')} {first.metric:.3f}"
        self.progress.console.print(summary_line(result), markup=False, style="dim")
        self._show()

    def _show(self) -> None:
        if self.task is not None:
            self.progress.update(self.task, numbers="  ".join(self.numbers.values()))

    def notice(self, text: str) -> None:
        """A note above the bar."""
        self.progress.console.print(f"note: {text}", markup=False, style="yellow")


def screen() -> RichScreen | PlainScreen:
    """The live bar on a terminal, plain lines elsewhere."""
    console = messages()
    return RichScreen(console) if console.is_terminal and not console.is_dumb_terminal else PlainScreen(console)


def render_training(result: TrainResult) -> Panel:
    """How a training ended, and what to type next.

    Args:
        result: What `dact finetune` computed.
    """
    minutes, seconds = divmod(round(result.seconds), 60)
    parts: list[Group | Text] = [render_evaluation(evaluation) for evaluation in result.evaluation.values()]
    parts.append(Text(f"{result.steps} steps in {minutes}:{seconds:02d}, saved in {result.run}"))
    parts.append(
        Text(
            f'next: dact eval {result.run} --split test\n      dact inspect --run {result.run} "some text"',
            style="dim",
        )
    )
    return Panel(Group(*parts), title="finished", title_align="left")
