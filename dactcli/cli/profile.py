"""`dact profile`."""

from __future__ import annotations

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
WHAT, HOW = "What to measure", "How to measure"  # headings of the options


def profile(
    run: Annotated[
        Path | None,
        typer.Argument(
            help="Run folder or saved model. Default: runs/latest, or a random bert-base if there is none.",
            metavar="[RUN]",
            autocompletion=options.runs,
        ),
    ] = None,
    random: Annotated[
        str | None,
        typer.Option(
            help="Profile random weights of this geometry (bert-base, ..., or a config.json).",
            metavar="GEOMETRY",
            rich_help_panel=WHAT,
        ),
    ] = None,
    depths: Annotated[
        str | None,
        typer.Option(
            help="Force exits at these layers in equal shares: uniform, a list, or a file.",
            metavar="uniform|N,N...|FILE",
            rich_help_panel=WHAT,
        ),
    ] = None,
    batch_size: Annotated[
        str, typer.Option(help="Batch sizes to measure.", metavar="N[,N...]", rich_help_panel=WHAT)
    ] = ",".join(map(str, ProfileRequest.batch_sizes)),
    sequence_length: Annotated[
        int | None,
        typer.Option(min=2, help="Pad or cut every example to N tokens.", metavar="N", rich_help_panel=WHAT),
    ] = None,
    split: Annotated[
        str, typer.Option(help="Split of the run's data to measure on.", metavar="NAME", rich_help_panel=WHAT)
    ] = ProfileRequest.split,
    data: Annotated[
        Path | None,
        typer.Option(help="File of texts to measure on instead of a split.", metavar="FILE", rich_help_panel=WHAT),
    ] = None,
    rule: options.RuleName = None,
    examples: Annotated[
        int, typer.Option(min=1, help="Number of examples to measure on.", metavar="N", rich_help_panel=WHAT)
    ] = ProfileRequest.examples,
    train: Annotated[
        bool, typer.Option("--train", help="Time the training step instead of inference.", rich_help_panel=WHAT)
    ] = False,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Data type: fp32, bf16 or fp16. Default: the model's own.", metavar="NAME", rich_help_panel=HOW
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Number of CPU threads.", metavar="N", rich_help_panel=HOW)
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the encoder's layers first.", rich_help_panel=HOW)
    ] = False,
    warmup: Annotated[
        int, typer.Option(min=0, help="Warm-up rounds.", metavar="N", rich_help_panel=HOW)
    ] = ProfileRequest.warmup,
    repeats: Annotated[
        int, typer.Option(min=2, help="Measured rounds.", metavar="N", rich_help_panel=HOW)
    ] = ProfileRequest.repeats,
    seconds: Annotated[
        float | None,
        typer.Option(min=0, help="Add rounds until each case has run for S seconds.", metavar="S", rich_help_panel=HOW),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            help="Compare with an earlier profile, written by --output.", metavar="FILE", rich_help_panel=options.SHOWN
        ),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            help="Write a torch.profiler trace into this folder.", metavar="FOLDER", rich_help_panel=options.SHOWN
        ),
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option(
            help="Write plots of the times into this folder.", metavar="FOLDER", rich_help_panel=options.SHOWN
        ),
    ] = None,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="Include every measurement in the JSON document.", rich_help_panel=options.SHOWN),
    ] = False,
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
        random=random,
        depths=depths,
        batch_sizes=_sizes(batch_size),
        sequence_length=sequence_length,
        split=split,
        data=data,
        rule=rule,
        examples=examples,
        train=train,
        dtype=dtype,
        threads=threads,
        compiled=compiled,
        warmup=warmup,
        repeats=repeats,
        seconds=seconds,
        baseline=baseline,
        trace=trace,
        device=device,
    )
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


def _sizes(text: str) -> list[int]:
    from dactcli.errors import UsageError

    try:
        return [int(size) for size in text.split(",")]
    except ValueError:
        remedy = "give for example 1,32"
        raise UsageError(f"{text!r} is no list of sizes", place="--batch-size", remedy=remedy) from None
