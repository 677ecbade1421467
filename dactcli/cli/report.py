"""`dact report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dactcli.cli import options

EXAMPLE = """Examples: dact report runs/sst2-1 --split test --output sst2.html

dact report runs/sst2-1 --data reviews.csv --text review --label stars --output reviews.html"""

PAGE = Path("report.html")


def report(
    run: Annotated[
        Path | None,
        typer.Argument(
            help="Run folder or saved model. Default: runs/latest.", metavar="[RUN]", autocompletion=options.runs
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Split of the run's data: validation, calibration, test or train.",
            metavar="NAME",
            rich_help_panel=options.READ,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="A csv, tsv, jsonl, json or parquet file instead of a split.",
            metavar="FILE",
            rich_help_panel=options.READ,
        ),
    ] = None,
    text: options.TextColumn = None,
    pair_column: options.PairColumn = None,
    label: Annotated[
        str | None,
        typer.Option(
            help="Label column of FILE. Default: the recipe's, if FILE has it.",
            metavar="COLUMN",
            rich_help_panel=options.READ,
        ),
    ] = None,
    rule: options.RuleName = None,
    examples: Annotated[
        int,
        typer.Option(
            min=0,
            help="Number of hardest examples, and of examples that differ from full depth.",
            metavar="N",
            rich_help_panel=options.SHOWN,
        ),
    ] = 5,
    page: Annotated[
        Path, typer.Option("--output", help="The page to write.", metavar="FILE", rich_help_panel=options.SHOWN)
    ] = PAGE,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Examples per batch.", metavar="N", rich_help_panel=options.SHOWN)
    ] = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Write one page about a run that can be sent round: result, guarantee, classes, confusions, examples, recipe.

    The page is one HTML file that needs no network and no script.
    """
    from dactcli.report.plots import check_matplotlib

    check_matplotlib("dact report")
    options.check_outputs(overwrite=overwrite, output=page)
    from dactcli.api.report import ReportRequest, report_run
    from dactcli.report.console import print_notice
    from dactcli.report.run_page import write_report

    request = ReportRequest(split, data, rule, examples, batch_size, device, text, pair_column, label)
    found = report_run(run, request, listener=options.listener())
    write_report(found, page)
    options.emit(found.to_json(), as_json=as_json, output=None)
    print_notice(f"written to {page}")
