"""`dact predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dactcli.cli import options

if TYPE_CHECKING:
    from dactcli.data.stream import RowStream
    from dactcli.model.checkpoint import Run
    from dactcli.model.rules import Rule

EXAMPLE = """Examples: dact predict reviews.csv --output answers.jsonl --text review

cat sentences.txt | dact predict - --rule exact"""

READ = "What is read"  # heading of the options


def predict(
    source: Annotated[
        str, typer.Argument(help="A csv, tsv, jsonl, parquet or txt file, or - for standard input.", metavar="INPUT")
    ],
    run: options.RunFolder = None,
    answers: Annotated[
        Path | None,
        typer.Option(
            "--output",
            help="A .jsonl, .csv or .parquet file; JSON lines on standard output without.",
            metavar="FILE",
            dir_okay=False,
            rich_help_panel=options.SHOWN,
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(help="Column of the text; the recipe's without.", metavar="COLUMN", rich_help_panel=READ),
    ] = None,
    pair_column: Annotated[
        str | None,
        typer.Option(
            help="Column of the second text, for models of pairs; the recipe's without.",
            metavar="COLUMN",
            rich_help_panel=READ,
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="What INPUT is, where its name does not say: csv, tsv, jsonl, parquet or txt.",
            metavar="KIND",
            rich_help_panel=READ,
        ),
    ] = None,
    rule: options.RuleName = None,
    max_layers: Annotated[
        int | None, typer.Option(min=1, help="No example runs more layers than this.", metavar="N")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted output.", rich_help_panel=options.SHOWN)
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an output that is there.", rich_help_panel=options.SHOWN)
    ] = False,
    device: options.Device = "auto",
) -> None:
    """Answer the texts of a file or of standard input, in order, however many there are."""
    import sys

    from dactcli import group
    from dactcli.data.stream import KINDS, open_stream
    from dactcli.errors import UsageError, did_you_mean

    if answers is None and (resume or overwrite):
        raise UsageError("is about a file", place="--resume" if resume else "--overwrite", remedy="add --output FILE")
    if kind is not None and kind not in KINDS:
        raise UsageError(f"{kind!r} is unknown", place="--format", remedy=did_you_mean(kind, KINDS))
    if not group.is_main():
        _help_out(run, device, rule, max_layers)
        return
    with open_stream(source, kind, sys.stdin.buffer) as stream:
        opened = options.open_run(run, device)
        chosen = _rule(opened, rule, max_layers)
        columns = _columns(opened, stream, text, pair_column)
        written = _write(opened, stream, chosen, columns, answers, resume=resume, overwrite=overwrite)
    if answers is not None:
        from dactcli.report.console import print_notice

        print_notice(f"{written:,} predictions in {answers} (rule {chosen})")


def _help_out(path: Path | None, device: str, rule: str | None, max_layers: int | None) -> None:
    """Predict with process 0, which alone reads and writes."""
    from dactcli.prediction.shared import help_out

    opened = options.open_run(path, device)
    help_out(_answer(opened, _rule(opened, rule, max_layers)))


def _answer(run: Run, rule: Rule) -> Any:
    """What predicts a list of texts."""
    from functools import partial

    from dactcli.prediction.predict import predict_texts

    return partial(predict_texts, run.model, run.tokenizer, rule=rule)


def _rule(run: Run, rule: str | None, max_layers: int | None) -> Rule:
    from dactcli.evaluation.examples import promise_of
    from dactcli.model.rules import AtMost
    from dactcli.report.console import print_notice

    chosen = run.model.rule(rule or options.default_rule(run))
    if max_layers is None or max_layers >= run.model.units.layers:
        return chosen
    # a void calibration was told of already
    if promise := promise_of(run, str(chosen), lambda text: None):
        print_notice(f"with --max-layers {max_layers} the promise of {chosen} no longer holds: {promise}")
    return AtMost(chosen, max_layers)


def _columns(run: Run, stream: RowStream, text: str | None, pair: str | None) -> tuple[str, str | None]:
    """Which columns hold the texts: as asked, as in the recipe, or the only one of plain lines."""
    from dactcli.data.stream import TEXT
    from dactcli.errors import UsageError

    recipe = run.recipe.data if run.recipe is not None else None
    second = pair or (recipe.text_pair if recipe else None)
    if stream.kind == "txt":
        if text is not None:
            raise UsageError(
                "names a column, and plain lines have none",
                place=f"--text {text}",
                remedy="leave it out, or say what the input is with --format",
            )
        if second is not None:
            raise UsageError(
                "this model judges pairs of texts, and plain lines hold one each",
                place=stream.name,
                remedy="give csv, tsv, jsonl or parquet",
            )
        return TEXT, None
    return text or (recipe.text if recipe else "sentence"), second


def _write(
    run: Run,
    stream: RowStream,
    rule: Rule,
    columns: tuple[str, str | None],
    path: Path | None,
    *,
    resume: bool,
    overwrite: bool,
) -> int:
    import sys

    from dactcli.model.checkpoint import weights_digest
    from dactcli.prediction.files import Output, lines_of, write_lines
    from dactcli.prediction.shared import helped

    first, second = columns
    if path is None:
        with helped(_answer(run, rule)) as answer:
            return write_lines(_shown(lines_of(stream, answer, text=first, pair=second), stream, 0), sys.stdout)
    facts = {
        "input": stream.name,
        "bytes": stream.size,
        "rule": str(rule),
        "weights_sha256": weights_digest(run.folder),
        "columns": list(columns),
    }
    output = Output(path, facts)
    there = output.begin(resume=resume, overwrite=overwrite)
    with output.append() as file, helped(_answer(run, rule)) as answer:
        windows = lines_of(stream, answer, text=first, pair=second, skip=there)
        written = write_lines(_shown(windows, stream, there), file)
    output.finish()
    return there + written


def _shown(windows: Any, stream: RowStream, there: int) -> Any:
    """The windows as they come, with a bar on standard error: examples, rate and time left."""
    from dactcli.report.console import flowing

    with flowing(f"predicting {stream.name}", there) as progress:
        done = there
        for window in windows:
            done += len(window)
            progress(done, stream.done, stream.size)
            yield window
