"""`dact predict`: texts in memory, or files and streams of any size."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from dactcli.api.answering import TextModel, text_model
from dactcli.api.common import (
    AnyRun,
    build_request,
    check_lists,
    check_numbers,
    locate,
    refuse_text,
)
from dactcli.api.workers import check_engine
from dactcli.errors import StoppedError, UsageError, did_you_mean
from dactcli.listening import Listener

if TYPE_CHECKING:
    from dactcli.data.rows import Rows
    from dactcli.prediction.answer_columns import AnswerColumns
    from dactcli.prediction.output import Output
    from dactcli.prediction.windows import Columns, Window
    from dactcli.results import PredictedFile, Prediction

ON_ERROR = ("stop", "skip")
BLOCK_ROWS = 10_000


@dataclass(frozen=True)
class PredictRequest:
    """How to answer texts in memory.

    Attributes:
        pairs: Second texts, for models of pairs.
        rule: Halting rule. Default: the calibrated rule, else the model's own.
        max_layers: No example runs more layers than this.
        on_error: What to do with an answer that is not finite, and in files with a row that has no text: `stop` raises,
            `skip` leaves `label` None and gives the reason in `error`.
        device: auto, cpu, cuda or mps.
        batch_tokens: Most tokens of a batch, padding included; one text may have more. Default: by the device.
    """

    pairs: Sequence[str] | None = None
    rule: str | None = None
    max_layers: int | None = None
    on_error: Literal["stop", "skip"] = "stop"
    device: str = "auto"
    batch_tokens: int | None = None

    def __post_init__(self) -> None:
        check_lists(self, "pairs")
        check_numbers(self, max_layers=1, batch_tokens=1)
        _check_on_error(self.on_error)


@dataclass(frozen=True)
class PredictFilesRequest:
    """What files to answer, how, and where the predictions go.

    Attributes:
        output: A .jsonl, .csv or .parquet file, or an open text stream that takes JSON lines. Default: standard output.
        text: Column of the text. Default: the recipe's.
        pair_column: Column of the second text, for models of pairs. Default: the recipe's.
        format: What the inputs are where their names do not say: csv, tsv, jsonl, json, parquet or txt.
        rule: Halting rule. Default: the calibrated rule, else the model's own.
        max_layers: No example runs more layers than this.
        on_error: As in `PredictRequest`.
        columns: The answers' columns: some of label, label_id, score, probabilities, named_probabilities, top and
            exit_layer. Default: label, label_id, probabilities and exit_layer.
        top: How many of the likeliest classes a column `top` lists. Default: there is no such column; with a number, it
            stands in the place of the probabilities.
        resume: Whether to resume an interrupted output.
        overwrite: Whether to replace an output that is there.
        device: auto, cpu, cuda or mps.
        batch_tokens: As in `PredictRequest`.
        engine: `local`, or `ray` for the workers of a Ray cluster; then `output` is a folder or an address, which gets
            a file for each block of rows.
        address: Of the Ray cluster. Default: one on this machine, for the time of the work.
        workers: Processes that answer, each with a model. Default: one for each processor (or GPU) of the cluster.
        gpus_per_worker: GPUs of each of them; less than 1 shares one.
        block_rows: Rows of a block, which is what a worker answers at a time, and again where it dies.
    """

    output: Path | str | TextIO | None = None
    text: str | None = None
    pair_column: str | None = None
    format: str | None = None
    rule: str | None = None
    max_layers: int | None = None
    on_error: str = "stop"
    columns: Sequence[str] | None = None
    top: int | None = None
    resume: bool = False
    overwrite: bool = False
    device: str = "auto"
    batch_tokens: int | None = None
    engine: str = "local"
    address: str | None = None
    workers: int | None = None
    gpus_per_worker: float = 0
    block_rows: int = BLOCK_ROWS

    def __post_init__(self) -> None:
        from dactcli.data.inputs import KINDS

        if self.format is not None and self.format not in KINDS:
            raise UsageError(f"{self.format!r} is unknown", place="`format`", remedy=did_you_mean(self.format, KINDS))
        check_lists(self, "columns")
        check_numbers(self, max_layers=1, top=1, batch_tokens=1, block_rows=1)
        _check_on_error(self.on_error)
        check_engine(self, "block_rows")
        if self.engine == "ray" and self.path is None:
            raise UsageError("writes into a folder", place="`engine` ray", remedy="add `output` FOLDER")
        self.answers  # noqa: B018 (refuses what is not understood)
        if self.path is None and (self.resume or self.overwrite):
            place = "`resume`" if self.resume else "`overwrite`"
            raise UsageError("is about a file", place=place, remedy="add `output` FILE")

    @property
    def path(self) -> Path | None:
        """The output file; None where the predictions go to a stream."""
        return Path(self.output) if isinstance(self.output, str | Path) else None

    @property
    def answers(self) -> AnswerColumns:
        """The answers' columns."""
        from dactcli.prediction.answer_columns import AnswerColumns

        return AnswerColumns.chosen(self.columns, self.top)

    @property
    def skips(self) -> bool:
        """Whether faulty rows are skipped."""
        return self.on_error == "skip"


def predict(
    texts: Sequence[str],
    request: PredictRequest | None = None,
    *,
    run: AnyRun = None,
    listener: Listener | None = None,
    **fields: Any,
) -> list[Prediction]:
    """Answer texts in memory, each with no more layers than it needs; `dact predict`.

    Args:
        texts: The texts.
        request: How to answer them.
        run: A run folder, saved model or export, a run from `open_run`, or None for `runs/latest`.
        listener: Hears notices.
        **fields: Fields of `PredictRequest`; they override those of `request`.

    Returns:
        One prediction per text, in order.

    Raises:
        UsageError: The model cannot serve the rule.
        ArtefactError: The run is missing or damaged, or an answer is not finite and `on_error` is `stop`.
        ResourceError: The device is missing, or memory ran out.
    """
    refuse_text(texts, "texts")
    wanted, hears = build_request(PredictRequest, request, fields, listener)
    run = locate(run, exports=True)
    from dactcli.prediction.predict import check

    pairs = None if wanted.pairs is None else list(wanted.pairs)
    answers = list(text_model(run, wanted, hears).answer(None)(list(texts), pairs))
    if wanted.on_error == "stop":
        check(answers, lambda position: f"text {position + 1}")
    return answers


def predict_files(
    inputs: Sequence[str],
    request: PredictFilesRequest | None = None,
    *,
    run: AnyRun = None,
    listener: Listener | None = None,
    **fields: Any,
) -> PredictedFile:
    """Answer the texts of files or streams, in order, however many there are; `dact predict`.

    Args:
        inputs: Files, globs, addresses (s3://, https://, hf://), pipes, or `-` for standard input.
        request: How to answer them, where, and where the predictions go.
        run: A run folder, saved model or export, a run from `open_run`, or None for `runs/latest`.
        listener: Hears notices and progress.
        **fields: Fields of `PredictFilesRequest`; they override those of `request`.

    Raises:
        UsageError: An input or output does not fit the request, or the model cannot serve the rule.
        DataError: An input cannot be read, or a row has no text.
        ArtefactError: The run is missing or damaged, or an answer is not finite.
        ResourceError: The output cannot be written, the device is missing, or memory ran out.
        StoppedError: SIGINT or SIGTERM came; what was answered is kept.
    """
    from dactcli import distributed
    from dactcli.results import PredictedFile

    refuse_text(inputs, "inputs")
    wanted, hears = build_request(PredictFilesRequest, request, fields, listener)
    if wanted.engine == "ray":
        from dactcli.api.cluster import predict_on_ray
        from dactcli.data.inputs import find_inputs

        return predict_on_ray(find_inputs(list(inputs), wanted.format), wanted, run=run, listener=hears)
    rows = _open_rows(list(inputs), wanted, hears) if distributed.is_main() else None
    output = _output(wanted, rows, hears)
    if distributed.on_main(lambda: output is not None and output.complete(resume=wanted.resume)):
        return PredictedFile(str(wanted.path), None, None, already_complete=True)
    run = locate(run, exports=True)
    if rows is None:
        _help_out(run, wanted, hears)
        return PredictedFile(None, None, None)
    from dactcli.prediction.signals import stoppable

    with stoppable(output.stopped if output is not None else _stopped):
        if output is not None:
            output.check(resume=wanted.resume, overwrite=wanted.overwrite)
        with output or nullcontext():
            work = Work(text_model(run, wanted, hears), rows, wanted, hears)
            written = work.print() if output is None else work.write(output)
    place = str(wanted.path) if wanted.path is not None else None
    return PredictedFile(place, work.rule, written, work.skipped)


def _check_on_error(on_error: str) -> None:
    if on_error not in ON_ERROR:
        raise UsageError(f"{on_error!r} is unknown", place="`on_error`", remedy=did_you_mean(on_error, ON_ERROR))


def _open_rows(sources: list[str], request: PredictFilesRequest, listener: Listener) -> Rows:
    from dactcli.data.inputs import STDIN, find_inputs
    from dactcli.data.rows import Rows

    inputs = find_inputs(sources, request.format)
    for one in inputs:
        if request.format is None and one.pipe and one.name != STDIN:
            listener.notice(f"{one.name} is read as plain lines, one text each; `format` says what else it is")
    return Rows(inputs, sys.stdin.buffer)


def _output(request: PredictFilesRequest, rows: Rows | None, listener: Listener) -> Output | None:
    from dactcli.prediction.output import Output

    if request.path is None or rows is None:
        return None
    return Output(request.path, rows.inputs, skips=request.skips, answers=request.answers, notice=listener.notice)


def _stopped(number: int, name: str) -> StoppedError:
    """The error of a prediction to a stream that a signal ended."""
    return StoppedError(number, f"stopped by {name}", remedy="with `output` FILE it can be resumed")


def _help_out(run: AnyRun, request: PredictFilesRequest, listener: Listener) -> None:
    """Predict with process 0, which alone reads and writes."""
    from dactcli.prediction.shared import help_out

    help_out(text_model(run, request, listener).answer(None))


def _columns(model: TextModel, rows: Rows, request: PredictFilesRequest) -> Columns:
    """Which columns hold the texts: as asked, as in the recipe, or the only one of plain lines."""
    from dactcli.prediction.windows import Columns

    second = request.pair_column or model.pair
    plain = next((one for one in rows.inputs if one.kind == "txt"), None)
    if plain is not None:
        if request.text is not None:
            raise UsageError(
                "names a column, and plain lines have none",
                place=f"`text` {request.text}",
                remedy="leave it out, or say what the input is with `format`",
            )
        if second is not None:
            raise UsageError(
                "this model takes pairs of texts, and plain lines hold one each",
                place=plain.name,
                remedy="give csv, tsv, jsonl, json or parquet",
            )
    return Columns(request.text or model.text, second, request.skips)


class Work:
    """The answering of all rows.

    Attributes:
        rule: The halting rule.
        skipped: Rows without an answer so far.
    """

    def __init__(self, model: TextModel, rows: Rows, request: PredictFilesRequest, listener: Listener) -> None:
        self.model, self.rows, self.request, self.listener = model, rows, request, listener
        self.rule = model.rule
        self.columns = _columns(model, rows, request)
        request.answers.check(regression=model.regression)
        self.skipped = 0

    def write(self, output: Output) -> int:
        """Answer into a file; returns how many predictions it holds."""
        facts = {
            "rule": self.rule,
            "model": self.model.digest(),
            "columns": [self.columns.text, self.columns.pair],
            "on_error": self.request.on_error,
            "answer columns": self.request.answers.fact,
            "batch tokens": self.request.batch_tokens,
        }
        there = output.begin(facts, resume=self.request.resume)
        self.skipped = output.rows.failed
        output.add(self._windows(there))
        output.finish()
        return output.count

    def print(self) -> int:
        """Answer into a stream; returns how many predictions went there."""
        from dactcli.prediction.printed import print_windows

        stream = self.request.output
        target = sys.stdout if stream is None or isinstance(stream, str | Path) else stream
        return print_windows(
            self._windows(0),
            target,
            answers=self.request.answers,
            skips=self.columns.skip,
            notice=self.listener.notice,
        )

    def _windows(self, there: int) -> Iterator[Window]:
        """The windows as they come; the listener sees examples and bytes."""
        from dactcli.prediction.shared import helped
        from dactcli.prediction.windows import answered

        done = there
        with self.listener.streaming(f"predicting {self.rows.name}", there) as progress:

            def move(rows: int) -> None:
                progress(done + rows, self.rows.done, self.rows.size)

            with helped(self.model.answer(move)) as answer:
                for window in answered(self.rows, answer, self.columns, tokens=self.model.tokens, skip=there):
                    done += len(window.answers)
                    self.skipped += sum(one.error is not None for one in window.answers)
                    move(0)
                    yield window
