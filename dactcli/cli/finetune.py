"""`dact finetune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dactcli.api.common import quieten_libraries
from dactcli.cli import options
from dactcli.cli.flags import with_flags
from dactcli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dactcli.api.fit import FitRequest
    from dactcli.api.sweep import SweepRequest
    from dactcli.report.training import Verbosity

EXAMPLE = "Example: dact finetune recipes/sst2.yaml --set training.epochs=1 --set training.batch_size=16"

RUNS = "Run control"  # heading of the options


def finetune(
    recipe: options.RecipeFile,
    overrides: options.Overrides = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Resume the newest unfinished run of this recipe.", rich_help_panel=RUNS),
    ] = False,
    weights_only: Annotated[
        bool,
        typer.Option(
            "--weights-only",
            help="With --resume: accept a checkpoint without optimizer and random state.",
            rich_help_panel=RUNS,
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print the resolved recipe and its stages; train nothing.", rich_help_panel=RUNS
        ),
    ] = False,
    sweeps: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep",
            help="Train once per value; if repeated, once per combination.",
            metavar="KEY=V1,V2",
            rich_help_panel=RUNS,
        ),
    ] = None,
    sweep_random: Annotated[
        int | None,
        typer.Option(
            "--sweep-random",
            help="With --sweep: draw N combinations at random; values may be a range, KEY=LOW..HIGH.",
            metavar="N",
            rich_help_panel=RUNS,
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            "--seeds",
            help="Train once per seed; print mean and standard deviation.",
            metavar="S1,S2",
            rich_help_panel=RUNS,
        ),
    ] = None,
    quiet: options.Quiet = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", "-v", help="Print one detailed line per log step.", rich_help_panel=options.SHOWN),
    ] = False,
    device: options.Device = "auto",
    as_json: options.Json = False,
    output: options.Output = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Fine-tune an encoder so that it halts early, as a recipe says."""
    verbosity = _verbosity(quiet=quiet, verbose=verbose)
    from dactcli.api.fit import FitRequest

    request = FitRequest(overrides or (), resume, weights_only, device)
    options.check_outputs(overwrite=overwrite or resume, output=output)  # the same command again writes the same
    if sweeps or seeds is not None or sweep_random is not None:
        from dactcli.api.sweep import SweepRequest

        _check_sweep("--sweep" if sweeps else "--seeds", dry_run=dry_run, weights_only=weights_only)
        swept = SweepRequest(sweeps or (), overrides or (), device, _seeds(seeds), sweep_random)
        _sweep(recipe, swept, verbosity, as_json=as_json, output=output)
    elif dry_run:
        _plan(recipe, request.overrides, as_json=as_json, output=output)
    else:
        _fit(recipe, request, verbosity, as_json=as_json, output=output)


def _verbosity(*, quiet: bool, verbose: bool) -> Verbosity:
    if quiet and verbose:
        raise UsageError("cannot be combined with --verbose", place="--quiet", remedy="leave one of them out")
    return "quiet" if quiet else "verbose" if verbose else "normal"


def _check_sweep(place: str, *, dry_run: bool, weights_only: bool) -> None:
    for flag, given in (("--dry-run", dry_run), ("--weights-only", weights_only)):
        if given:
            raise UsageError(f"cannot be combined with {flag}", place=place, remedy="leave one of them out")


def _seeds(text: str | None) -> list[int]:
    """The seeds of `--seeds 0,1,2`."""
    try:
        return [int(part) for part in text.split(",")] if text is not None else []
    except ValueError:
        raise UsageError(f"{text!r} is not understood", place="--seeds", remedy="write for example 0,1,2") from None


def _fit(recipe: Path, request: FitRequest, verbosity: Verbosity, *, as_json: bool, output: Path | None) -> None:
    from dactcli.api.fit import fit
    from dactcli.report.console import show
    from dactcli.report.training import render_training, screen

    quieten_libraries()
    with screen(verbosity, with_flags) as listener:
        result = fit(recipe, request, listener=listener)
    options.emit(result.to_json(), as_json=as_json, output=output)
    if not as_json and not result.already_finished:
        show(render_training(result))


def _sweep(recipe: Path, request: SweepRequest, verbosity: Verbosity, *, as_json: bool, output: Path | None) -> None:
    from dactcli.api.sweep import sweep
    from dactcli.report.console import show
    from dactcli.report.sweeps import render_sweep
    from dactcli.report.training import screen

    quieten_libraries()
    with screen(verbosity, with_flags) as listener:
        document = sweep(recipe, request, listener=listener).to_json()
    options.emit(document, as_json=as_json, output=output)
    if not as_json:
        show(render_sweep(document))


def _plan(recipe: Path, overrides: Sequence[str], *, as_json: bool, output: Path | None) -> None:
    from dactcli.api.fit import plan
    from dactcli.report.console import print_line, print_text

    planned = plan(recipe, overrides)
    options.emit(planned.to_json(), as_json=as_json, output=output)
    if not as_json:
        print_text(planned.text)
    for line in planned.stages:
        print_line(line)
