"""Draw the pictures of the README from a real run of the built-in task.

    scripts/quickstart                                        # trains runs/quickstart-1
    .venv/bin/python scripts/pictures.py runs/quickstart-1    # writes docs/pictures/*.svg

eval, profile and inspect are run; finetune is drawn from what the run logged, at the moment in the middle of its last
stage. The profile is timed on this machine, so its picture is another one each time.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from dactcli import evaluate, inspect, open_run, profile

# internals: draws the views of the commands
from dactcli.report.console import svg_of
from dactcli.report.evaluation import render_evaluation
from dactcli.report.inspection import render_traces
from dactcli.report.profiling import render_profile
from dactcli.report.training import TrainingView
from dactcli.results import StepLog

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
SENTENCES = [
    "the key is rusty .",
    "near the old boats , the keys to the cabinet of the doctors are rusty .",
]


def finetune(run: Path) -> RenderableType:
    """The screen of `dact finetune` in the middle of the run's last stage, from its log."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    stages = list(dict.fromkeys(line["stage"] for line in lines))
    last = [line for line in lines if line["stage"] == stages[-1] and "loss" in line]
    shown = last[: len(last) // 2]
    fields = StepLog.__dataclass_fields__
    view = TrainingView()
    view.logs = [StepLog(**{name: line[name] for name in fields if name in line}) for line in shown]
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn())
    bars = Progress(*columns, expand=True)
    for number, stage in enumerate(stages, start=1):
        steps = max(line["step"] for line in lines if line["stage"] == stage)
        done = shown[-1]["step"] if stage == stages[-1] else steps
        bars.add_task(f"{number}/{len(stages)} {stage.partition('-')[2]}", total=steps, completed=done)
    return Group(bars, view)


def draw(name: str, command: str, view: RenderableType) -> None:
    """Write a view as a picture, as 80 columns show it."""
    console = Console(record=True, file=io.StringIO(), width=80, force_terminal=True)
    console.print(Group(Text(f"$ {command}", style="dim"), view))
    PICTURES.mkdir(exist_ok=True)
    (PICTURES / f"{name}.svg").write_text(svg_of(console, title="dact"), encoding="utf-8")


def main() -> None:
    """Draw all four."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    folder = Path(sys.argv[1])
    run = open_run(folder)
    draw("finetune", "dact finetune recipes/quickstart.yaml", finetune(folder))
    draw("eval", "dact eval --split test", render_evaluation(evaluate(run, split="test")))
    traces = inspect(SENTENCES, run=run)
    draw("inspect", 'dact inspect "..." "..."', render_traces(traces, list(run.model.config.id2label.values())))
    draw("profile", "dact profile --batch-size 32", render_profile(profile(run, batch_sizes=[32], repeats=20)))


if __name__ == "__main__":
    main()
