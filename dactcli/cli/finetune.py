"""`dact finetune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dactcli.cli import options
from dactcli.errors import UsageError

if TYPE_CHECKING:
    import torch

    from dactcli.recipe.schema import Recipe
    from dactcli.report.training import Loudness
    from dactcli.results import TrainResult

EXAMPLE = "Example: dact finetune recipes/sst2.yaml --set training.epochs=1 --set training.batch_size=16"

RUNS = "Which runs"  # heading of the options


def finetune(
    recipe: options.RecipeFile,
    overrides: options.Overrides = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with the newest unfinished run of the recipe's name.", rich_help_panel=RUNS
        ),
    ] = False,
    weights_only: Annotated[
        bool,
        typer.Option(
            "--weights-only",
            help="With --resume: go on even without the checkpoint's optimizer and random state.",
            rich_help_panel=RUNS,
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the complete recipe and what would run, and stop.", rich_help_panel=RUNS),
    ] = False,
    sweeps: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep", help="Run once for each value; may be repeated.", metavar="KEY=V1,V2", rich_help_panel=RUNS
        ),
    ] = None,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="Only the result and what you should know.", rich_help_panel=options.SHOWN),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", "-v", help="A line per log step with all that is known of it.", rich_help_panel=options.SHOWN
        ),
    ] = False,
    device: options.Device = "auto",
    as_json: options.Json = False,
    output: options.Output = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Fine-tune an encoder so that it halts early, as a recipe says."""
    from dactcli.recipe.load import load_recipe

    loudness = _loudness(quiet=quiet, verbose=verbose)
    if weights_only and not resume:
        raise UsageError("goes with --resume", place="--weights-only", remedy="add --resume, or leave it out")
    options.check_outputs(overwrite=overwrite or resume, output=output)  # the same command again writes the same
    if sweeps:
        _sweep(recipe, overrides or [], sweeps, device=device, as_json=as_json, output=output, loudness=loudness)
        return
    full = load_recipe(recipe, overrides or ())
    if dry_run:
        _show_plan(full, as_json=as_json, output=output)
        return
    from dactcli import distributed
    from dactcli.runs.folders import runs_named, unfinished

    name = full.output.name or full.task.name
    folder = Path(full.output.dir).expanduser()
    going_on = distributed.on_main(lambda: unfinished(folder, name)) if resume else None
    if resume and going_on is None:
        finished = _nothing_to_resume(runs_named(folder, name), folder / name)
        options.emit(finished, as_json=as_json, output=output)
        return
    where = options.usable_device(device)
    result = run_one(full, device=where, resume=going_on, weights_only=weights_only, loudness=loudness)
    options.emit(result.to_json(), as_json=as_json, output=output)
    if not as_json:
        from dactcli.report.console import show
        from dactcli.report.training import render_training

        show(render_training(result, full.data.splits))


def _loudness(*, quiet: bool, verbose: bool) -> Loudness:
    if quiet and verbose:
        raise UsageError("does not go with --verbose", place="--quiet", remedy="leave one of them out")
    return "quiet" if quiet else "verbose" if verbose else "normal"


def run_one(
    recipe: Recipe,
    *,
    device: torch.device,
    resume: Path | None,
    weights_only: bool = False,
    loudness: Loudness = "normal",
) -> TrainResult:
    """Train by a complete recipe, with the screen that this terminal can show."""
    from dactcli.evaluation.evaluate import validator
    from dactcli.report.training import screen
    from dactcli.training.fit import fit

    with screen(loudness) as listener:
        return fit(
            recipe,
            evaluate=validator(recipe),
            listener=listener,
            device=device,
            resume=resume,
            weights_only=weights_only,
        )


def _sweep(
    recipe: Path,
    overrides: list[str],
    sweeps: list[str],
    *,
    device: str,
    as_json: bool,
    output: Path | None,
    loudness: Loudness,
) -> None:
    from dactcli.cli.sweep import sweep

    document = sweep(recipe, overrides, sweeps, device=device, loudness=loudness)
    options.emit(document, as_json=as_json, output=output)
    if not as_json:
        from dactcli.report.console import show
        from dactcli.report.sweeps import render_sweep

        show(render_sweep(document))


def _show_plan(recipe: Recipe, *, as_json: bool, output: Path | None) -> None:
    from dactcli.recipe.load import dump_recipe
    from dactcli.report.console import print_line, print_text
    from dactcli.training.plan import check_plan, describe_stages

    check_plan(recipe)
    stages = describe_stages(recipe)
    options.emit({"recipe": recipe.model_dump(mode="json"), "stages": stages}, as_json=as_json, output=output)
    if not as_json:
        print_text(dump_recipe(recipe))
    for line in stages:
        print_line(line)


def _nothing_to_resume(named: list[Path], wanted: Path) -> dict[str, Any]:
    """The result of the finished run, which is named; an error where there is none either."""
    import json

    from dactcli.errors import ArtefactError
    from dactcli.report.console import print_notice
    from dactcli.runs.folders import is_finished
    from dactcli.storage import SUMMARY

    finished = [run for run in named if is_finished(run)]
    if not finished:
        raise ArtefactError("there is no run to resume", place=f"{wanted}-<n>", remedy="leave out --resume")
    print_notice(f"nothing to resume: {finished[-1]} is finished")
    summary: dict[str, Any] = json.loads((finished[-1] / SUMMARY).read_text(encoding="utf-8"))
    return {key: summary[key] for key in ("run", "steps", "seconds", "resumed", "evaluation")}
