"""`dact profile`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dactcli.cli import options

if TYPE_CHECKING:
    from dactcli.data.batches import Encoded
    from dactcli.profiling.ways import Subject
    from dactcli.results import ProfileResult

EXAMPLE = (
    "Examples: dact profile runs/sst2-1 --batch-size 1,32 · "
    "dact profile --random bert-base --depths uniform --sequence-length 128"
)
WHAT, HOW = "What is measured", "How it is measured"  # headings of the options
FALLBACK = "bert-base"
TOKENS = 32


def profile(
    context: typer.Context,
    run: Annotated[
        Path | None,
        typer.Argument(
            help="Run folder or saved model; without it runs/latest, and without that a random bert-base.",
            metavar="[RUN]",
            autocompletion=options.runs,
        ),
    ] = None,
    random: Annotated[
        str | None,
        typer.Option(
            help="Random weights of a geometry (bert-base, ..., or a config.json).",
            metavar="GEOMETRY",
            rich_help_panel=WHAT,
        ),
    ] = None,
    depths: Annotated[
        str | None,
        typer.Option(
            help="Make examples stop at these layers in equal shares: uniform, a list, or a file.",
            metavar="uniform|N,N...|FILE",
            rich_help_panel=WHAT,
        ),
    ] = None,
    batch_size: Annotated[
        str, typer.Option(help="Examples per batch, one or several sizes.", metavar="N[,N...]", rich_help_panel=WHAT)
    ] = "1,32",
    sequence_length: Annotated[
        int | None,
        typer.Option(min=2, help="Bring every example to this many tokens.", metavar="N", rich_help_panel=WHAT),
    ] = None,
    split: Annotated[
        str, typer.Option(help="Which split of the run's data to measure on.", metavar="NAME", rich_help_panel=WHAT)
    ] = "validation",
    data: Annotated[
        Path | None, typer.Option(help="A file of texts instead of a split.", metavar="FILE", rich_help_panel=WHAT)
    ] = None,
    rule: options.RuleName = None,
    examples: Annotated[
        int, typer.Option(min=1, help="How many examples to measure on.", metavar="N", rich_help_panel=WHAT)
    ] = 128,
    train: Annotated[
        bool, typer.Option("--train", help="Time the training step instead of inference.", rich_help_panel=WHAT)
    ] = False,
    dtype: Annotated[
        str | None,
        typer.Option(help="fp32, bf16 or fp16; the model's own without.", metavar="NAME", rich_help_panel=HOW),
    ] = (None),
    threads: Annotated[
        int | None, typer.Option(min=1, max=1024, help="CPU threads.", metavar="N", rich_help_panel=HOW)
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the encoder's layers first.", rich_help_panel=HOW)
    ] = False,
    warmup: Annotated[
        int, typer.Option(min=0, help="Rounds that are not counted.", metavar="N", rich_help_panel=HOW)
    ] = 2,
    repeats: Annotated[int, typer.Option(min=2, help="Rounds that are.", metavar="N", rich_help_panel=HOW)] = 10,
    seconds: Annotated[
        float | None,
        typer.Option(min=0, help="More rounds, until each case took this long.", metavar="S", rich_help_panel=HOW),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            help="Compare with an earlier profile (a file of --output).", metavar="FILE", rich_help_panel=options.SHOWN
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
            help="Write pictures of the times into this folder.", metavar="FOLDER", rich_help_panel=options.SHOWN
        ),
    ] = None,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="Every single measurement in the JSON document.", rich_help_panel=options.SHOWN),
    ] = False,
    device: options.Device = "auto",
    as_json: options.Json = False,
    output: options.Output = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Time adaptive inference beside full depth and the stock encoder, on the same examples."""
    sizes = _sizes(batch_size)
    if train and plots is not None:
        from dactcli.errors import UsageError

        raise UsageError("shows inference", place="--plots", remedy="leave out --train")
    options.check_outputs(overwrite=overwrite, output=output, plots=plots, trace=trace)
    where = options.usable_device(device)
    from dataclasses import replace

    from dactcli.profiling.environment import against, environment, read_baseline
    from dactcli.profiling.profile import Effort

    earlier = read_baseline(baseline) if baseline is not None else None
    if threads is not None:
        import torch

        # whoever runs the command inside a longer program keeps the number that it had
        context.call_on_close(partial(torch.set_num_threads, torch.get_num_threads()))
        torch.set_num_threads(threads)
    geometry = _geometry(run, random, data)
    if geometry is not None:
        available = examples
        subject, encoded, score = _random(
            geometry, depths or "uniform", rule, where, examples, sequence_length or TOKENS, dtype
        )
    else:
        subject, encoded, score, available = _trained(
            run, rule, depths, where, split, data, examples, sequence_length, dtype
        )
    if compiled:
        subject.compile()
    fixed = (sequence_length or TOKENS) if geometry is not None else sequence_length
    effort = Effort(warmup, repeats, seconds)
    result = _measured(subject, encoded, sizes, fixed, effort, score, environment(subject.model, compiled=compiled),
                       train=train, trace=trace)  # fmt: skip
    result = replace(result, examples=len(encoded.lengths), available=available)
    if earlier is not None:
        result = against(result, earlier)
    options.emit(result.to_json(raw=raw), as_json=as_json, output=output)
    from dactcli.report.console import print_notice, show

    if not as_json:
        from dactcli.report.profiling import render_profile

        show(render_profile(result))
    for notice in result.notices:
        print_notice(notice)
    if plots is not None:
        from dactcli.report.plots import write_times

        options.tell_written(write_times(result, plots))


def _geometry(run: Path | None, random: str | None, data: Path | None) -> str | None:
    """The geometry to take random weights of, or None where there is a run."""
    from dactcli.errors import ArtefactError, UsageError
    from dactcli.report.console import print_notice
    from dactcli.runs.load import find_run

    if random is not None:
        if run is not None:
            raise UsageError("a run and --random exclude each other", place="dact profile", remedy="give one of them")
        if data is not None:
            raise UsageError("random weights read no texts", place="--data", remedy="leave it out, or name a run")
        return random
    if run is None and data is None:
        try:
            find_run(None)
        except ArtefactError:
            print_notice(
                f"there is no finished run in this folder: random {FALLBACK} weights at forced depths are measured; "
                "name a run, or make one with: dact finetune recipes/quickstart.yaml"
            )
            return FALLBACK
    return None


def _random(
    geometry: str, depths: str, rule: str | None, where: Any, examples: int, tokens: int, dtype: str | None
) -> tuple[Subject, Encoded, None]:
    from dactcli.errors import UsageError
    from dactcli.halting.rules import Full
    from dactcli.profiling.geometry import depth_profile, random_examples, random_model

    if rule is not None:
        raise UsageError("random weights halt at forced depths", place="--rule", remedy="leave it out, use --depths")
    model = random_model(geometry)
    forced = depth_profile(depths, model.units.layers, examples)
    encoded = random_examples(model, examples, tokens)
    return _subject(model, where, dtype, Full(), forced), encoded, None


def _trained(
    run: Path | None,
    rule: str | None,
    depths: str | None,
    where: Any,
    split: str,
    data: Path | None,
    examples: int,
    tokens: int | None,
    dtype: str | None,
) -> tuple[Subject, Encoded, Any, int]:
    from dactcli.evaluation.evaluate import answer_metrics
    from dactcli.evaluation.examples import metric_name
    from dactcli.profiling.geometry import depth_profile, stretched
    from dactcli.profiling.profile import sample
    from dactcli.runs.load import load_run

    opened = load_run(run)
    encoded, _ = options.run_examples(opened, split, data)
    available = len(encoded.lengths)
    encoded = sample(encoded, examples)
    if tokens is not None:
        encoded = stretched(encoded, min(tokens, opened.tokenizer.model_max_length))
    model = opened.model
    forced = None if depths is None else depth_profile(depths, model.units.layers, len(encoded.lengths))
    chosen = model.rule(rule or options.default_rule(opened))
    name = metric_name(opened)

    def score(answer: Any, labels: Any) -> float | None:
        return answer_metrics(answer, labels, model.answer_range)[name]

    return _subject(model, where, dtype, chosen, forced), encoded, (name, score), available


def _subject(model: Any, where: Any, dtype: str | None, rule: Any, depths: Any) -> Subject:
    from dactcli.profiling.ways import Subject, find_dtype, stock_classifier

    model = model.to(where).eval()
    if dtype is not None:
        model = model.to(find_dtype(dtype))
    return Subject(model, stock_classifier(model), rule, depths)


def _measured(
    subject: Subject,
    encoded: Encoded,
    sizes: list[int],
    tokens: int | None,
    effort: Any,
    score: Any,
    place: dict[str, Any],
    *,
    train: bool,
    trace: Path | None,
) -> ProfileResult:
    from contextlib import suppress
    from dataclasses import replace

    from dactcli.errors import ArtefactError
    from dactcli.profiling.estimate import estimate_seconds
    from dactcli.profiling.profile import profile_latency, profile_throughput, wide_notices, write_trace
    from dactcli.profiling.training import profile_training
    from dactcli.report.console import counting, print_notice
    from dactcli.report.listings import duration
    from dactcli.results import ProfileResult

    settings: dict[str, Any] = {"sequence_length": tokens, "effort": effort}
    with suppress(ArtefactError):  # the measurement itself names the examples whose answers are not finite
        expected = estimate_seconds(subject, encoded, batch_sizes=sizes, effort=effort, train=train)
        rounds = f"{effort.warmup + effort.repeats} rounds of {len(encoded.lengths):,} examples"
        print_notice(f"about {duration(expected)}: {rounds} for each case")
    if train:
        steps = []
        for size in sizes:
            with counting(f"training step, batch {size}") as progress:
                steps.append(profile_training(subject, encoded, batch_size=size, progress=progress, **settings))
        result = ProfileResult(place, [], training=steps)
    else:
        cases = []
        for size in sizes:
            with counting(f"latency, batch {size}") as progress:
                cases += profile_latency(
                    subject, encoded, batch_sizes=[size], score=score, progress=progress, **settings
                )
        with counting(f"throughput, {len(encoded.lengths):,} examples") as progress:
            whole = profile_throughput(subject, encoded, score=score, progress=progress, **settings)
        result = ProfileResult(place, cases, [whole])
    notices = wide_notices(result)
    if trace is None:
        return replace(result, notices=notices)
    written = write_trace(subject, encoded, sizes[-1], trace)
    notices.append(
        f"trace written to {written}; open it with: tensorboard --logdir {trace} (tab PyTorch Profiler), "
        "or drop the file on ui.perfetto.dev"
    )
    return replace(result, notices=notices, trace=str(written))


def _sizes(text: str) -> list[int]:
    from dactcli.errors import UsageError

    try:
        sizes = [int(size) for size in text.split(",")]
    except ValueError:
        sizes = [0]
    if min(sizes) < 1:
        raise UsageError(f"{text!r} is no list of sizes", place="--batch-size", remedy="write for example 1,32")
    return sizes
