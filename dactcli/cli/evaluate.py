"""`dact eval`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from dactcli.cli import options
from dactcli.cli.goal import parse_goal

EXAMPLE = """Examples: dact eval runs/sst2-1 --split test --rule full --rule exact

dact eval runs/sst2-1 --calibrate risk=0.01,delta=0.05

dact eval runs/sst2-1 runs/sst2-plain-1 --compare --split test --plots curves"""

WHAT, ASKED = "Runs and data", "Task"  # headings of the options


def evaluate(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Run folders or saved models. Default: runs/latest.",
            metavar="[RUN]...",
            autocompletion=options.runs,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Split of the run's data: validation, calibration, test or train.",
            metavar="NAME",
            rich_help_panel=WHAT,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="A csv, tsv, jsonl, json or parquet file instead of a split.", metavar="FILE", rich_help_panel=WHAT
        ),
    ] = None,
    rules: Annotated[
        list[str] | None,
        typer.Option(
            "--rule",
            help="Halting rule; may be repeated. Default: the recipe's rules and the certified one.",
            metavar="NAME[:VALUE]",
            autocompletion=options.rules,
            rich_help_panel=WHAT,
        ),
    ] = None,
    calibrate: Annotated[
        str | None,
        typer.Option(
            help="Choose a threshold on the calibration split: risk=0.01,delta=0.05[,loss=harm][,by=class], or "
            "budget=3.0.",
            metavar="WHAT",
            rich_help_panel=ASKED,
        ),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="With --calibrate: allow a weaker guarantee to replace the certificate.",
            rich_help_panel=ASKED,
        ),
    ] = False,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare", help="Compare all rules, each over its whole range of thresholds.", rich_help_panel=ASKED
        ),
    ] = False,
    plots: Annotated[
        Path | None,
        typer.Option(
            help="Write plots into this folder: depths, or curves with --compare.",
            metavar="FOLDER",
            rich_help_panel=options.SHOWN,
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Examples per batch.", metavar="N", rich_help_panel=WHAT)
    ] = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    output: options.Output = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Evaluate runs: the metric, the layers, and the agreement with full depth, by halting rule.

    Beside the rules stand the last layer alone and the majority class. Full depth of a DACT model is the mixture of all
    layers' answers, and not the last layer's own.
    """
    _check_options(calibrate, rules, compare=compare, replace=replace, plots=plots)
    options.check_outputs(overwrite=overwrite, output=output, plots=plots)
    paths: list[Path | None] = [*runs] if runs else [None]
    examples = {"split": split, "data": data, "batch_size": batch_size, "device": device}
    shown = _Shown(as_json, output, plots)
    if compare:
        _compare(paths, examples, shown)
    elif calibrate is not None:
        _calibrate(paths, parse_goal(calibrate, rules), {**examples, "replace": replace}, shown)
    else:
        _evaluate(paths, {**examples, "rules": rules}, shown)


@dataclass(frozen=True)
class _Shown:
    """How the result is shown: the options of the same names."""

    as_json: bool
    output: Path | None
    plots: Path | None


def _check_options(
    calibrate: str | None, rules: list[str] | None, *, compare: bool, replace: bool, plots: Path | None
) -> None:
    """Refuse options that ask for different things."""
    from dactcli.errors import UsageError

    if compare and (calibrate or rules):
        other = "--calibrate" if calibrate else "--rule"
        raise UsageError(f"does not go with {other}", place="--compare", remedy="leave one of them out")
    if calibrate is not None and plots is not None:
        raise UsageError("does not go with --calibrate", place="--plots", remedy="leave one of them out")
    if replace and calibrate is None and not compare:
        raise UsageError("goes with --calibrate", place="--replace", remedy="add --calibrate, or leave it out")


def _evaluate(paths: list[Path | None], fields: dict[str, Any], shown: _Shown) -> None:
    from dactcli import distributed
    from dactcli.api.evaluate import EvaluateRequest, evaluate

    request = EvaluateRequest(**fields)
    listener = options.listener()
    results = [evaluate(path, request, listener=listener) for path in paths]
    if not distributed.is_main():
        return
    documents = [result.to_json() for result in results]
    options.emit(documents if len(documents) > 1 else documents[0], as_json=shown.as_json, output=shown.output)
    if not shown.as_json:
        from dactcli.report.console import show
        from dactcli.report.evaluation import render_evaluation

        for result in results:
            show(render_evaluation(result))
    if shown.plots is not None:
        from dactcli.report.plots import write_depths

        for result in results:
            folder = shown.plots if len(results) == 1 else shown.plots / Path(result.run).name
            options.tell_written(write_depths(result, folder))


def _calibrate(paths: list[Path | None], goal: Any, fields: dict[str, Any], shown: _Shown) -> None:
    from dactcli.api.calibrate import CalibrateRequest, calibrate
    from dactcli.errors import UsageError

    if len(paths) > 1:
        raise UsageError("takes one run", place="--calibrate", remedy="calibrate one after the other")
    request = CalibrateRequest(goal, **fields)
    found = calibrate(paths[0], request, listener=options.listener())
    options.emit(found.to_json(), as_json=shown.as_json, output=shown.output)
    if not shown.as_json:
        from dactcli.report.calibration import render_calibration
        from dactcli.report.console import show

        show(render_calibration(found))


def _compare(paths: list[Path | None], fields: dict[str, Any], shown: _Shown) -> None:
    from dactcli import distributed
    from dactcli.api.compare import CompareRequest, compare
    from dactcli.report.comparison import render_comparison
    from dactcli.report.console import show

    comparison = compare(paths, CompareRequest(**fields), listener=options.listener())
    if not distributed.is_main():
        return
    options.emit(comparison.to_json(), as_json=shown.as_json, output=shown.output)
    if shown.plots is not None:
        from dactcli.report.plots import write_curves

        options.tell_written(write_curves(comparison, shown.plots))
    if not shown.as_json:
        show(render_comparison(comparison))
