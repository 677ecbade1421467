"""`dact eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dactcli.cli import options
from dactcli.cli.goal import parse_goal

EXAMPLE = """Examples: dact eval runs/sst2-1 --split test --rule full --rule exact

dact eval runs/sst2-1 --data reviews.csv --text review --label stars

dact eval runs/sst2-1 --calibrate risk=0.01,delta=0.05

dact eval runs/sst2-1 runs/sst2-plain-1 --compare --split test --plots curves"""

WHAT, ASKED = options.READ, "Task"  # headings of the options


def evaluate(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Run folders, saved models or exports. Default: runs/latest.",
            metavar="[RUN]...",
            autocompletion=options.runs,
        ),
    ] = None,
    split: options.Split = None,
    data: options.DataFile = None,
    text: options.TextColumn = None,
    pair_column: options.PairColumn = None,
    label: options.LabelColumn = None,
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
    report: Annotated[
        bool,
        typer.Option(
            "--report",
            help="Show precision, recall, F1, support and mean exit layer of every class.",
            rich_help_panel=options.SHOWN,
        ),
    ] = False,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Examples per batch.", metavar="N", rich_help_panel=WHAT)
    ] = None,
    device: options.Device = "auto",
    engine: options.Engine = "local",
    address: options.Address = None,
    workers: options.Workers = None,
    gpus_per_worker: options.GpusPerWorker = 0,
    as_json: options.Json = False,
    output: options.Output = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Evaluate runs: the metric, the layers, and the agreement with full depth, by halting rule.

    Beside the rules stand the last layer alone and the majority class. Full depth of a DACT model is the mixture of all
    layers' answers, and not the last layer's own.
    """
    from dactcli.cli import judging

    shown = judging.Shown(as_json, output, plots, report)
    judging.check_options(calibrate, rules, shown, compare=compare, replace=replace)
    options.check_outputs(overwrite=overwrite, output=output, plots=plots)
    paths: list[Path | None] = [*runs] if runs else [None]
    examples: dict[str, Any] = {"split": split, "data": data, "text": text, "pair_column": pair_column, "label": label}
    examples |= {"batch_size": batch_size, "device": device}
    cluster = {"engine": engine, "address": address, "workers": workers, "gpus_per_worker": gpus_per_worker}
    if compare:
        judging.check_no_cluster(cluster)
        judging.compare_runs(paths, examples, shown)
    elif calibrate is not None:
        judging.calibrate_run(paths, parse_goal(calibrate, rules), {**examples, **cluster, "replace": replace}, shown)
    else:
        judging.evaluate_runs(paths, {**examples, **cluster, "rules": rules}, shown)
