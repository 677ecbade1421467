"""`dact predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dactcli.cli import options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dactcli.data.rows import Rows
    from dactcli.errors import StoppedError
    from dactcli.halting.base import Rule
    from dactcli.prediction.output import Output
    from dactcli.prediction.windows import Answer, Columns, Window
    from dactcli.runs.load import Run

EXAMPLE = """Examples: dact predict reviews.csv --output answers.jsonl --text review

dact predict 'review*.csv' --text review --output answers.parquet

cat sentences.txt | dact predict - --rule exact"""

READ = "What is read"  # heading of the options
ON_ERROR = ("stop", "skip")


def predict(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="csv, tsv, jsonl, json, parquet or txt files, also .gz and .zst; globs, addresses (s3://, https://, "
            "hf://), pipes, or - for standard input.",
            metavar="INPUT...",
        ),
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
            help="What INPUT is, where its name does not say: csv, tsv, jsonl, json, parquet or txt.",
            metavar="KIND",
            rich_help_panel=READ,
        ),
    ] = None,
    rule: options.RuleName = None,
    max_layers: Annotated[
        int | None, typer.Option(min=1, help="No example runs more layers than this.", metavar="N")
    ] = None,
    on_error: Annotated[
        str,
        typer.Option(
            help="A row without a text, or whose answer is not finite: stop, or skip it. A skipped row stays in its "
            "place with `label: null` and an `error`.",
            metavar="stop|skip",
        ),
    ] = "stop",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted output.", rich_help_panel=options.SHOWN)
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an output that is there.", rich_help_panel=options.SHOWN)
    ] = False,
    device: options.Device = "auto",
) -> None:
    """Answer the texts of files or of standard input, in order, however many there are.

    Every column of the input is kept, with its type where the format has types. Beside them stand `label`, `label_id`,
    `probabilities` and `exit_layer`; where the input has such a column, ours is called `predicted_label` and so on.
    """
    from contextlib import nullcontext

    from dactcli import distributed
    from dactcli.errors import UsageError
    from dactcli.prediction.signals import stoppable
    from dactcli.report.console import print_notice

    _check_options(kind, on_error)
    if answers is None and (resume or overwrite):
        raise UsageError("is about a file", place="--resume" if resume else "--overwrite", remedy="add --output FILE")
    rows = _open_rows(sources, kind) if distributed.is_main() else None
    output = _output(answers, rows, skips=on_error == "skip") if rows is not None else None
    if distributed.on_main(lambda: output is not None and output.complete(resume=resume)):
        print_notice(f"{answers} is complete, and there is nothing to go on with")
        return
    if rows is None:
        _help_out(run, device, rule, max_layers)
        return
    with stoppable(output.stopped if output is not None else _stopped):
        if output is not None:
            output.check(resume=resume, overwrite=overwrite)
        with output or nullcontext():
            opened = options.open_run(run, device)
            chosen = _rule(opened, rule, max_layers)
            columns = _columns(opened, rows, text, pair_column, skips=on_error == "skip")
            work = _Work(opened, rows, chosen, columns)
            written = work.print() if output is None else work.write(output, resume=resume)
    if answers is not None:
        print_notice(f"{written:,} {'prediction' if written == 1 else 'predictions'} in {answers} (rule {chosen})")
    if work.skipped:
        rows_have = "row has" if work.skipped == 1 else "rows have"
        print_notice(f"{work.skipped:,} {rows_have} no answer (--on-error skip); `error` says why")


def _check_options(kind: str | None, on_error: str) -> None:
    from dactcli.data.inputs import KINDS
    from dactcli.errors import UsageError, did_you_mean

    if kind is not None and kind not in KINDS:
        raise UsageError(f"{kind!r} is unknown", place="--format", remedy=did_you_mean(kind, KINDS))
    if on_error not in ON_ERROR:
        raise UsageError(f"{on_error!r} is unknown", place="--on-error", remedy=did_you_mean(on_error, ON_ERROR))


def _open_rows(sources: list[str], kind: str | None) -> Rows:
    import sys

    from dactcli.data.inputs import STDIN, find_inputs
    from dactcli.data.rows import Rows
    from dactcli.report.console import print_notice

    inputs = find_inputs(sources, kind)
    for one in inputs:
        if kind is None and one.pipe and one.name != STDIN:
            print_notice(f"{one.name} is read as plain lines, one text each; --format says what else it is")
    return Rows(inputs, sys.stdin.buffer)


def _output(path: Path | None, rows: Rows, *, skips: bool) -> Output | None:
    from dactcli.prediction.output import Output
    from dactcli.report.console import print_notice

    return None if path is None else Output(path, rows.inputs, skips=skips, notice=print_notice)


def _stopped(number: int, name: str) -> StoppedError:
    """The error of a prediction on standard output that a signal ended."""
    from dactcli.errors import StoppedError

    return StoppedError(number, f"stopped by {name}", remedy="with --output FILE it can be resumed")


def _help_out(path: Path | None, device: str, rule: str | None, max_layers: int | None) -> None:
    """Predict with process 0, which alone reads and writes."""
    from dactcli.prediction.shared import help_out

    opened = options.open_run(path, device)
    help_out(_answer(opened, _rule(opened, rule, max_layers)))


def _answer(run: Run, rule: Rule, progress: Callable[[int], None] | None = None) -> Answer:
    """What predicts a list of texts."""
    from functools import partial

    from dactcli.prediction.predict import predict_texts

    return partial(predict_texts, run.model, run.tokenizer, rule=rule, progress=progress)


def _rule(run: Run, rule: str | None, max_layers: int | None) -> Rule:
    from dactcli.evaluation.examples import promise_of
    from dactcli.halting.limits import AtMost
    from dactcli.report.console import print_notice

    chosen = run.model.rule(rule or options.default_rule(run))
    if max_layers is None or max_layers >= run.model.units.layers:
        return chosen
    # a void calibration was told of already
    if promise := promise_of(run, str(chosen), lambda text: None):
        print_notice(f"with --max-layers {max_layers} the promise of {chosen} no longer holds: {promise}")
    return AtMost(chosen, max_layers)


def _columns(run: Run, rows: Rows, text: str | None, pair: str | None, *, skips: bool) -> Columns:
    """Which columns hold the texts: as asked, as in the recipe, or the only one of plain lines."""
    from dactcli.errors import UsageError
    from dactcli.prediction.windows import Columns

    recipe = run.recipe.data if run.recipe is not None else None
    second = pair or (recipe.text_pair if recipe else None)
    plain = next((one for one in rows.inputs if one.kind == "txt"), None)
    if plain is not None:
        if text is not None:
            raise UsageError(
                "names a column, and plain lines have none",
                place=f"--text {text}",
                remedy="leave it out, or say what the input is with --format",
            )
        if second is not None:
            raise UsageError(
                "this model judges pairs of texts, and plain lines hold one each",
                place=plain.name,
                remedy="give csv, tsv, jsonl, json or parquet",
            )
    return Columns(text or (recipe.text if recipe else "sentence"), second, skips)


class _Work:
    """The answering of all rows.

    Attributes:
        skipped: Rows without an answer so far.
    """

    def __init__(self, run: Run, rows: Rows, rule: Rule, columns: Columns) -> None:
        self.run, self.rows, self.rule, self.columns = run, rows, rule, columns
        self.skipped = 0

    def write(self, output: Output, *, resume: bool) -> int:
        """Answer into a file; returns how many predictions it holds."""
        from dactcli.runs.identity import identify

        facts = {
            "rule": str(self.rule),
            "model": identify(self.run).digest,
            "columns": [self.columns.text, self.columns.pair],
            "on_error": "skip" if self.columns.skip else "stop",
        }
        there = output.begin(facts, resume=resume)
        self.skipped = output.rows.failed
        output.add(self._windows(there))
        output.finish()
        return output.count

    def print(self) -> int:
        """Answer on standard output; returns how many predictions went there."""
        import sys

        from dactcli.prediction.printed import print_windows
        from dactcli.report.console import print_notice

        return print_windows(self._windows(0), sys.stdout, skips=self.columns.skip, notice=print_notice)

    def _windows(self, there: int) -> Iterator[Window]:
        """The windows as they come, with a bar on standard error: examples, rate and time left."""
        from dactcli.data.batches import tokens_per_batch
        from dactcli.prediction.shared import helped
        from dactcli.prediction.windows import answered, most_tokens
        from dactcli.report.console import flowing

        done = there
        with flowing(f"predicting {self.rows.name}", there) as progress:

            def move(rows: int) -> None:
                progress(done + rows, self.rows.done, self.rows.size)

            tokens = most_tokens(self.run.model, tokens_per_batch(self.run.model.device))
            with helped(_answer(self.run, self.rule, progress=move)) as answer:
                for window in answered(self.rows, answer, self.columns, tokens=tokens, skip=there):
                    done += len(window.answers)
                    self.skipped += sum(one.error is not None for one in window.answers)
                    move(0)
                    yield window
