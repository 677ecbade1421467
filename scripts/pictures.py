"""Draw the pictures of the README from a real run of the built-in task.

    scripts/quickstart                                        # trains runs/quickstart-1
    .venv/bin/python scripts/pictures.py runs/quickstart-1    # writes docs/pictures/*.svg

eval, profile and inspect are run; finetune is drawn from the run's summary. The profile is timed on this machine, so
its picture is another one each time.
"""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.text import Text

from dactcli import evaluate, inspect, open_run, profile

# internals: draws the views of the commands, and reads the summary of a run
from dactcli.report.console import svg_of
from dactcli.report.evaluation import render_evaluation
from dactcli.report.inspection import render_traces
from dactcli.report.profiling import render_profile
from dactcli.report.training import render_training
from dactcli.results import TrainResult
from dactcli.runs.load import Run
from dactcli.storage import SUMMARY

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
SENTENCES = [
    "the key is rusty .",
    "near the old boats , the keys to the cabinet of the doctors are rusty .",
]


def finetune(run: Run) -> RenderableType:
    """The last panel of `dact finetune`, from the run's summary."""
    result = TrainResult.from_json(json.loads((run.folder / SUMMARY).read_text(encoding="utf-8")))
    return render_training(replace(result, splits=tuple(run.recipe.data.splits) if run.recipe else ()))


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
    run = open_run(sys.argv[1])
    draw("finetune", "dact finetune recipes/quickstart.yaml", finetune(run))
    draw("eval", "dact eval --split test", render_evaluation(evaluate(run, split="test")))
    traces = inspect(SENTENCES, run=run)
    draw("inspect", 'dact inspect "..." "..."', render_traces(traces, list(run.model.config.id2label.values())))
    draw("profile", "dact profile --batch-size 32", render_profile(profile(run, batch_sizes=[32], repeats=20)))


if __name__ == "__main__":
    main()
