"""`dact predict`."""

from __future__ import annotations

from typing import Annotated

import typer

from dactcli.api.predict import PredictFilesRequest
from dactcli.cli import options

EXAMPLE = """Examples: dact predict reviews.csv --output answers.jsonl --text review

dact predict 'review*.csv' --text review --output answers.parquet

cat sentences.txt | dact predict - --rule exact

dact predict reviews.csv --text review --processes 2 --output answers.csv"""


def predict(
    context: typer.Context,
    sources: Annotated[
        list[str],
        typer.Argument(
            help="csv, tsv, jsonl, json, parquet or txt files, also .gz and .zst; globs, addresses (s3://, https://, "
            "hf://), pipes, or - for standard input.",
            metavar="INPUT...",
        ),
    ],
    run: options.ModelFolder = None,
    answers: Annotated[
        str | None,
        typer.Option(
            "--output",
            help="Output file: .jsonl, .csv or .parquet; with --engine ray a folder. Default: JSON lines on standard "
            "output.",
            metavar="FILE",
            rich_help_panel=options.SHOWN,
        ),
    ] = None,
    text: options.TextColumn = None,
    pair_column: options.PairColumn = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="Format of INPUT, if its name does not show it: csv, tsv, jsonl, json, parquet or txt.",
            metavar="KIND",
            rich_help_panel=options.READ,
        ),
    ] = None,
    rule: options.RuleName = None,
    max_layers: Annotated[
        int | None, typer.Option(min=1, help="Run at most N layers per example.", metavar="N")
    ] = None,
    on_error: Annotated[
        str,
        typer.Option(
            help="A row without a text, or whose answer is not finite: stop, or skip it. A skipped row stays in its "
            "place with `label: null` and an `error`.",
            metavar="stop|skip",
        ),
    ] = PredictFilesRequest.on_error,
    columns: Annotated[
        str | None,
        typer.Option(
            help="Columns of the answers, some of label, label_id, score, probabilities, named_probabilities, top and "
            "exit_layer. Default: label,label_id,probabilities,exit_layer.",
            metavar="NAME,...",
            rich_help_panel=options.SHOWN,
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="List the K likeliest classes by name in a column `top`, in place of the probabilities.",
            metavar="K",
            rich_help_panel=options.SHOWN,
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume an interrupted output.", rich_help_panel=options.SHOWN)
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Overwrite an existing output.", rich_help_panel=options.SHOWN)
    ] = False,
    device: options.Device = "auto",
    batch_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Most tokens of a batch, padding included. Default: 1,024 on a processor, 16,384 with CUDA.",
            metavar="N",
            rich_help_panel=options.SHOWN,
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            "--processes",
            min=1,
            help="Share the work among N processes of this machine, one for each GPU or for some cores each.",
            metavar="N",
            rich_help_panel=options.CLUSTER,
        ),
    ] = None,
    engine: options.Engine = PredictFilesRequest.engine,
    address: options.Address = None,
    workers: options.Workers = None,
    gpus_per_worker: options.GpusPerWorker = 0,
    block_rows: Annotated[
        int,
        typer.Option(help="Rows that a worker answers at a time.", metavar="N", rich_help_panel=options.CLUSTER),
    ] = PredictFilesRequest.block_rows,
) -> None:
    """Answer the texts of files or of standard input, in order, however many there are.

    Every column of the input is kept, with its type where the format has types. Beside them stand `label`, `label_id`,
    `probabilities` and `exit_layer`; where the input has such a column, ours is called `predicted_label` and so on.
    """
    from dactcli import distributed
    from dactcli.api.predict import predict_files
    from dactcli.cli.processes import WORDS, run_in_processes, without_option
    from dactcli.errors import UsageError
    from dactcli.report.console import print_notice

    request = PredictFilesRequest(
        answers, text, pair_column, kind, rule, max_layers, on_error,
        None if columns is None else [name.strip() for name in columns.split(",") if name.strip()], top,
        resume, overwrite, device, batch_tokens, engine, address, workers, gpus_per_worker, block_rows
    )  # fmt: skip
    if processes is not None and processes > 1 and not distributed.launched():
        if engine != "local":
            raise UsageError("starts workers of its own", place="--engine ray", remedy="use --workers")
        raise typer.Exit(run_in_processes(without_option(context.meta[WORDS]), processes))
    done = predict_files(sources, request, run=run, listener=options.listener())
    if not distributed.is_main():
        return
    if done.already_complete:
        print_notice(f"{answers} is complete, so there is nothing to resume")
    elif answers is not None:
        noun = "prediction" if done.predictions == 1 else "predictions"
        print_notice(f"{done.predictions:,} {noun} in {answers} (rule {done.rule})")
    if done.skipped:
        rows_have = "row has" if done.skipped == 1 else "rows have"
        print_notice(f"{done.skipped:,} {rows_have} no answer (--on-error skip); `error` says why")
