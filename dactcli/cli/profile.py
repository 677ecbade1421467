"""`dact profile`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dactcli.api.profile import ProfileRequest
from dactcli.cli import options

if TYPE_CHECKING:
    from dactcli.results import ProfileResult

EXAMPLE = (
    "Examples: dact profile runs/sst2-1 --batch-size 1,32 · "
    "dact profile --random bert-base --depths uniform --sequence-length 128"
)
# an option under each heading of the help text
what = partial(typer.Option, rich_help_panel="What to measure")
how = partial(typer.Option, rich_help_panel="How to measure")
shown = partial(typer.Option, rich_help_panel=options.SHOWN)


def profile(
    run: Annotated[
        Path | None,
        typer.Argument(
            help="Run folder, saved model or export. Default: runs/latest, or a random bert-base if there is none.",
            metavar="[RUN]",
            autocompletion=options.runs,
        ),
    ] = None,
    random: Annotated[
        str | None,
        what(help="Profile random weights of this geometry (bert-base, ..., or a config.json).", metavar="GEOMETRY"),
    ] = None,
    depths: Annotated[
        str | None,
        what(
            help="Force exits at these layers in equal shares: uniform, a list, or a file.",
            metavar="uniform|N,N...|FILE",
        ),
    ] = None,
    batch_size: Annotated[str, what(help="Batch sizes to measure.", metavar="N[,N...]")] = ",".join(
        map(str, ProfileRequest.batch_sizes)
    ),
    sequence_length: Annotated[
        int | None, what(min=2, help="Pad or cut every example to N tokens.", metavar="N")
    ] = None,
    split: Annotated[str, what(help="Split of the run's data to measure on.", metavar="NAME")] = ProfileRequest.split,
    data: Annotated[Path | None, what(help="File of texts to measure on instead of a split.", metavar="FILE")] = None,
    rule: options.RuleName = None,
    examples: Annotated[
        int, what(min=1, help="Number of examples to measure on.", metavar="N")
    ] = ProfileRequest.examples,
    train: Annotated[bool, what("--train", help="Time the training step instead of inference.")] = False,
    dtype: Annotated[
        str | None, how(help="Data type: fp32, bf16 or fp16. Default: the model's own.", metavar="NAME")
    ] = None,
    threads: Annotated[int | None, how(min=1, max=1024, help="Number of CPU threads.", metavar="N")] = None,
    compiled: Annotated[bool, how("--compile", help="Compile the encoder's layers first.")] = False,
    warmup: Annotated[int, how(min=0, help="Warm-up rounds.", metavar="N")] = ProfileRequest.warmup,
    repeats: Annotated[int, how(min=2, help="Measured rounds.", metavar="N")] = ProfileRequest.repeats,
    seconds: Annotated[
        float | None, how(min=0, help="Add rounds until each case has run for S seconds.", metavar="S")
    ] = None,
    baseline: Annotated[
        Path | None, shown(help="Compare with an earlier profile, written by --output.", metavar="FILE")
    ] = None,
    trace: Annotated[
        Path | None, shown(help="Write a torch.profiler trace into this folder.", metavar="FOLDER")
    ] = None,
    plan: Annotated[
        str | None,
        shown(help="Tell the hours and workers that so many texts take, such as 100e6.", metavar="TEXTS"),
    ] = None,
    plots: Annotated[Path | None, shown(help="Write plots of the times into this folder.", metavar="FOLDER")] = None,
    raw: Annotated[bool, shown("--raw", help="Include every measurement in the JSON document.")] = False,
    device: options.Device = "auto",
    as_json: options.Json = False,
    output: options.Output = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Time adaptive inference beside full depth and the stock encoder, on the same examples."""
    from dactcli.errors import UsageError

    if train and plots is not None:
        raise UsageError("shows inference", place="--plots", remedy="leave out --train")
    request = ProfileRequest(
        random=random, depths=depths, batch_sizes=_sizes(batch_size), sequence_length=sequence_length, split=split,
        data=data, rule=rule, examples=examples, train=train, dtype=dtype, threads=threads, compiled=compiled,
        warmup=warmup, repeats=repeats, seconds=seconds, baseline=baseline, trace=trace, device=device,
        plan=_texts(plan),
    )  # fmt: skip
    options.check_outputs(overwrite=overwrite, output=output, plots=plots, trace=trace)
    from dactcli.api.profile import profile as profile_run

    result = profile_run(run, request, listener=options.listener())
    options.emit(result.to_json(raw=raw), as_json=as_json, output=output)
    _show(result, as_json=as_json, plots=plots)


def _show(result: ProfileResult, *, as_json: bool, plots: Path | None) -> None:
    from dactcli.cli.flags import with_flags
    from dactcli.report.console import print_notice, show

    if not as_json:
        from dactcli.report.profiling import render_profile

        show(render_profile(result))
    for notice in result.notices:
        print_notice(with_flags(notice))
    if plots is not None:
        from dactcli.report.plots import write_times

        options.tell_written(write_times(result, plots))


def _texts(text: str | None) -> float | None:
    from dactcli.errors import UsageError

    try:
        return None if text is None else float(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a number", place="--plan", remedy="write for example 100e6") from None


def _sizes(text: str) -> list[int]:
    from dactcli.errors import UsageError

    try:
        return [int(size) for size in text.split(",")]
    except ValueError:
        remedy = "give for example 1,32"
        raise UsageError(f"{text!r} is not a list of sizes", place="--batch-size", remedy=remedy) from None
