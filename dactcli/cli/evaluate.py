"""`dact eval`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dactcli.cli import options

if TYPE_CHECKING:
    from dactcli.results import EvalResult
    from dactcli.runs.load import Run

EXAMPLE = """Examples: dact eval runs/sst2-1 --split test --rule full --rule exact

dact eval runs/sst2-1 --calibrate risk=0.01,delta=0.05

dact eval runs/sst2-1 runs/sst2-plain-1 --compare --split test --plots curves"""

WHAT, ASKED = "What is judged", "What is asked"  # headings of the options


def evaluate(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Run folders or saved models; runs/latest without any.",
            metavar="[RUN]...",
            autocompletion=options.runs,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Which split of the run's data: validation, calibration, test or train.",
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
            help="Halting rule; may be repeated. The recipe's without.",
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
            help="With --calibrate: let the result replace a certificate that promises more.",
            rich_help_panel=ASKED,
        ),
    ] = False,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare", help="Every rule over its whole range of thresholds, for all runs.", rich_help_panel=ASKED
        ),
    ] = False,
    plots: Annotated[
        Path | None,
        typer.Option(
            help="Write pictures here: of the depths, or with --compare of the curves.",
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
    from dactcli.errors import UsageError, did_you_mean
    from dactcli.recipe.schema import SPLITS

    if split is not None and split not in SPLITS:
        raise UsageError(f"split {split!r} is unknown", place="--split", remedy=did_you_mean(split, SPLITS))
    if split is not None and data is not None:
        raise UsageError("is in place of --split", place="--data", remedy="leave one of them out")
    if compare and (calibrate or rules):
        other = "--calibrate" if calibrate else "--rule"
        raise UsageError(f"does not go with {other}", place="--compare", remedy="leave one of them out")
    if calibrate is not None and plots is not None:
        raise UsageError("does not go with --calibrate", place="--plots", remedy="leave one of them out")
    options.check_outputs(overwrite=overwrite, output=output, plots=plots)
    paths: list[Path | None] = [*runs] if runs else [None]
    if compare:
        _compare(paths, split or "validation", data, device, batch_size, plots, as_json, output)
        return
    if replace and calibrate is None:
        raise UsageError("goes with --calibrate", place="--replace", remedy="add --calibrate, or leave it out")
    if calibrate is not None:
        _calibrate(paths, calibrate, split, data, rules, batch_size, device, as_json, output, replace=replace)
        return
    results = []
    for path in paths:
        run = options.open_run(path, device)
        results.append(judged(run, str(path or run.folder.name), split or "validation", data, rules, batch_size))
    _show(results, plots, as_json=as_json, output=output)


def _show(results: list[EvalResult], plots: Path | None, *, as_json: bool, output: Path | None) -> None:
    from dactcli import distributed

    if not distributed.is_main():
        return
    documents = [result.to_json() for result in results]
    options.emit(documents if len(documents) > 1 else documents[0], as_json=as_json, output=output)
    if not as_json:
        from dactcli.report.console import show
        from dactcli.report.evaluation import render_evaluation

        for result in results:
            show(render_evaluation(result))
    if plots is not None:
        from dactcli.report.plots import write_depths

        for result in results:
            folder = plots if len(results) == 1 else plots / Path(result.run).name
            options.tell_written(write_depths(result, folder))


def judged(
    run: Run, name: str, split: str, data: Path | None, rules: list[str] | None, batch_size: int | None
) -> EvalResult:
    """A loaded run on a split or file, by the rules asked for, else by its own and the calibrated one."""
    from dactcli.evaluation.evaluate import EvalSplit, judge
    from dactcli.evaluation.examples import metric_name, rules_to_judge

    calibration = options.valid_calibration(run)
    chosen = rules or rules_to_judge(run, calibration)
    made = [run.model.rule(rule) for rule in chosen]
    encoded, difficulty = options.run_examples(run, split, data)
    if calibration is not None and calibration.rule in chosen:
        options.tell_calibrated_share(run, calibration, encoded)
    outputs = options.outputs_of(run, encoded, data.stem if data else split, batch_size)
    about = EvalSplit(metric_name(run), name, data.name if data is not None else split, difficulty)
    return judge(outputs, made, encoded.labels, about, calibration=calibration)


def _calibrate(
    paths: list[Path | None],
    text: str,
    split: str | None,
    data: Path | None,
    rules: list[str] | None,
    batch_size: int | None,
    device: str,
    as_json: bool,
    output: Path | None,
    *,
    replace: bool,
) -> None:
    from dactcli.cli.calibrate import calibrate, parse
    from dactcli.errors import UsageError

    request = parse(text, rules)
    if len(paths) > 1:
        raise UsageError("takes one run", place="--calibrate", remedy="calibrate one after the other")
    run = options.open_run(paths[0], device)
    found = calibrate(run, request, split=split, data=data, batch_size=batch_size, replace=replace)
    options.emit(found.to_json(), as_json=as_json, output=output)
    if not as_json:
        from dactcli.report.calibration import render_calibration
        from dactcli.report.console import show

        show(render_calibration(found, run.model.units.layers))


def _compare(
    paths: list[Path | None],
    split: str,
    data: Path | None,
    device: str,
    batch_size: int | None,
    plots: Path | None,
    as_json: bool,
    output: Path | None,
) -> None:
    from dactcli import distributed
    from dactcli.cli.compare import compare_runs
    from dactcli.report.comparison import render_comparison
    from dactcli.report.console import show

    comparison = compare_runs(paths, split=split, data=data, device=device, batch_size=batch_size)
    if not distributed.is_main():
        return
    options.emit(comparison.to_json(), as_json=as_json, output=output)
    if plots is not None:
        from dactcli.report.plots import write_curves

        options.tell_written(write_curves(comparison, plots))
    if not as_json:
        show(render_comparison(comparison))
