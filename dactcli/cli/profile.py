"""`dact profile`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dactcli.cli import options

EXAMPLE = "Example: dact profile runs/sst2-1 --batch-size 1,32 --device cpu --trace runs/sst2-1/tensorboard"


def profile(
    run: Annotated[
        Path | None,
        typer.Argument(help="Run folder or saved model; runs/latest without it.", metavar="[RUN]"),
    ] = None,
    batch_size: Annotated[
        str, typer.Option(help="Examples per batch, one or several sizes.", metavar="N[,N...]")
    ] = "1,32",
    split: Annotated[
        str, typer.Option(help="Which split of the run's data to measure on.", metavar="NAME")
    ] = "validation",
    data: Annotated[Path | None, typer.Option(help="A file of texts instead of a split.", metavar="FILE")] = None,
    rule: options.RuleName = None,
    examples: Annotated[int, typer.Option(min=1, help="How many examples to measure on.", metavar="N")] = 128,
    warmup: Annotated[int, typer.Option(min=0, help="Rounds that are not counted.", metavar="N")] = 2,
    repeats: Annotated[int, typer.Option(min=2, help="Rounds that are.", metavar="N")] = 10,
    trace: Annotated[
        Path | None, typer.Option(help="Write a torch.profiler trace into this folder.", metavar="FOLDER")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Every single measurement in the JSON document.")] = False,
    device: options.Device = "auto",
    as_json: options.Json = False,
    output: options.Output = None,
) -> None:
    """Time adaptive inference beside full depth and the stock encoder, on the same examples."""
    sizes = _sizes(batch_size)
    opened = options.open_run(run, device)
    encoded, _ = options.run_examples(opened, split, data)
    from dactcli.profiling.profile import profile_run
    from dactcli.report.console import counting, print_notice, results

    with counting("measuring") as progress:
        result = profile_run(
            opened.model,
            opened.tokenizer,
            encoded,
            rule=opened.model.rule(rule or options.default_rule(opened)),
            batch_sizes=sizes,
            examples=examples,
            warmup=warmup,
            repeats=repeats,
            trace=trace,
            progress=progress,
        )

    options.emit(result.to_json(raw=raw), as_json=as_json, output=output)
    if not as_json:
        from dactcli.report.profiling import render_profile

        results().print(render_profile(result))
    for notice in result.notices:
        print_notice(notice)


def _sizes(text: str) -> list[int]:
    from dactcli.errors import UsageError

    try:
        sizes = [int(size) for size in text.split(",")]
    except ValueError:
        sizes = [0]
    if min(sizes) < 1:
        raise UsageError(f"{text!r} is no list of sizes", place="--batch-size", remedy="write for example 1,32")
    return sizes
