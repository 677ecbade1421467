"""`dact profile`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dactcli.api.common import (
    AnyRun,
    build_request,
    check_numbers,
    check_processor,
    data_file,
    locate,
    open_run,
    rule_for,
)
from dactcli.errors import ArtefactError, UsageError
from dactcli.listening import Listener

if TYPE_CHECKING:
    from dactcli.profiling.latency import Effort
    from dactcli.profiling.profile import Measured
    from dactcli.profiling.ways import Served, Subject
    from dactcli.results import ProfileResult
    from dactcli.runs.load import Run
    from dactcli.runtime import ExportedModel

FALLBACK = "bert-base"  # the geometry that is measured where there is no run
TOKENS = 32  # tokens of a random example


@dataclass(frozen=True)
class ProfileRequest:
    """What to measure, and how.

    Attributes:
        random: Random weights of a geometry (`bert-base`, ..., or a config.json) instead of a run.
        depths: Force examples to stop at these layers in equal shares: `uniform`, a list such as `1,2,2`, or a file.
        batch_sizes: Each is a case.
        sequence_length: Bring every example to this many tokens.
        split: The split of the run's data to measure on.
        data: A file of texts instead of a split.
        rule: Halting rule. Default: the calibrated rule, else the model's own.
        examples: Measure at most so many examples, spread over the lengths.
        plan: Also tell the hours and workers that so many texts like these take.
        train: Whether to time the training step instead of inference.
        dtype: fp32, bf16 or fp16. Default: the model's own.
        threads: CPU threads during the measurement. Default: as they are.
        compiled: Whether to compile the encoder's layers first.
        warmup: Rounds that are not counted.
        repeats: Rounds that are counted.
        seconds: Run more rounds until each case took this long.
        baseline: An earlier profile (a file of `dact profile `output``) to compare with.
        trace: Write a torch.profiler trace into this folder.
        device: auto, cpu, cuda or mps.
    """

    random: str | None = None
    depths: str | None = None
    batch_sizes: Sequence[int] = (1, 32)
    sequence_length: int | None = None
    split: str = "validation"
    data: Path | str | None = None
    rule: str | None = None
    examples: int = 128
    plan: float | None = None
    train: bool = False
    dtype: str | None = None
    threads: int | None = None
    compiled: bool = False
    warmup: int = 2
    repeats: int = 10
    seconds: float | None = None
    baseline: Path | str | None = None
    trace: Path | str | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.batch_sizes or min(self.batch_sizes) < 1:
            sizes = ",".join(map(str, self.batch_sizes))
            raise UsageError(f"{sizes!r} is not a list of sizes", place="`batch_sizes`", remedy="give for example 1,32")
        check_numbers(self, sequence_length=2, examples=1, threads=1, warmup=0, repeats=2, seconds=0.0, plan=1.0)
        if self.plan is not None and not math.isfinite(self.plan):
            raise UsageError(f"is {self.plan}", place="`plan`", remedy="give a number of texts, such as 100e6")
        if self.plan is not None and self.train:
            raise UsageError("is about predictions", place="`plan`", remedy="leave it out, or leave out `train`")
        if self.random is not None and self.data is not None:
            raise UsageError("random weights read no texts", place="`data`", remedy="leave it out, or name a run")


@dataclass(frozen=True)
class _Prepared:
    """A model and the examples that it is measured on.

    Attributes:
        subject: The model, the stock classifier and the rule.
        measured: The examples.
        available: How many examples the split or file holds.
    """

    subject: Subject
    measured: Measured
    available: int


def profile(
    run: AnyRun = None, request: ProfileRequest | None = None, *, listener: Listener | None = None, **fields: Any
) -> ProfileResult:
    """Time adaptive inference against full depth and the stock encoder, on the same examples; `dact profile`.

    Args:
        run: A run folder or saved model, a run from `open_run`, or None for `runs/latest`; where there is no run,
            random bert-base weights are measured at forced depths. An export is measured beside the run that it was
            made from, and beside ONNX Runtime without early exit.
        request: What to measure.
        listener: Hears notices and progress.
        **fields: Fields of `ProfileRequest`; they override those of `request`.

    Raises:
        UsageError: The options exclude each other, or the model cannot serve the rule or the depths.
        DataError: The split or file cannot be read.
        ArtefactError: The run is missing or damaged, or answers are not finite.
        ResourceError: The device is missing, the trace cannot be written, or memory ran out.
    """
    if "examples_most" in fields:  # the name of earlier versions
        fields["examples"] = fields.pop("examples_most")
    wanted, hears = build_request(ProfileRequest, request, fields, listener)
    run = locate(run, exports=True) if run is not None else None
    run, export = _export_of(run, wanted)
    from dactcli.model.device import find_device
    from dactcli.profiling.environment import against, environment, read_baseline
    from dactcli.profiling.latency import Effort

    find_device(wanted.device)
    earlier = read_baseline(Path(wanted.baseline)) if wanted.baseline is not None else None
    with _threads(wanted.threads):
        geometry = _geometry(run, wanted, hears)
        ready = _random(geometry, wanted) if geometry is not None else _trained(run, wanted, hears, export)
        if wanted.compiled:
            ready.subject.compile()
        effort = Effort(wanted.warmup, wanted.repeats, wanted.seconds)
        place = environment(ready.subject.model, compiled=wanted.compiled)
        if export is not None:
            from importlib.metadata import version  # which `dact --help` need not wait for

            place["onnxruntime"] = version("onnxruntime")
        _tell_duration(ready, wanted, effort, hears)
        result = (_training if wanted.train else _inference)(ready, wanted, effort, place, hears)
        result = replace(result, examples=ready.measured.examples, available=ready.available)
        result = _with_notices(result, ready, wanted)
    return against(result, earlier) if earlier is not None else result


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Compute with so many CPU threads; the program around it keeps the number that it had."""
    import torch

    if number is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _geometry(run: AnyRun, request: ProfileRequest, listener: Listener) -> str | None:
    """The geometry to take random weights of, or None where there is a run."""
    from dactcli.runs.folders import find_run

    if request.random is not None:
        if run is not None:
            raise UsageError("a run and `random` cannot be combined", place="dact profile", remedy="give one of them")
        return request.random
    if run is None and request.data is None:
        try:
            find_run(None)
        except ArtefactError:
            listener.notice(
                f"there is no finished run in this folder: random {FALLBACK} weights at forced depths are measured; "
                "name a run, or make one with: dact finetune recipes/quickstart.yaml"
            )
            return FALLBACK
    return None


def _random(geometry: str, request: ProfileRequest) -> _Prepared:
    """Random weights, on random examples, at forced depths."""
    from dactcli.halting.rules import Full
    from dactcli.profiling.geometry import depth_profile, random_examples, random_model
    from dactcli.profiling.profile import Measured

    if request.rule is not None:
        raise UsageError("random weights halt at forced depths", place="`rule`", remedy="leave it out, use `depths`")
    model, tokens = random_model(geometry), request.sequence_length or TOKENS
    forced = depth_profile(request.depths or "uniform", model.exit_heads.layers, request.examples)
    encoded = random_examples(model, request.examples, tokens)
    return _Prepared(_subject(model, request, Full(), forced), Measured(encoded, tokens), request.examples)


def _export_of(run: AnyRun, request: ProfileRequest) -> tuple[AnyRun, ExportedModel | None]:
    """The run to measure, and the export that stands in its place, if one does.

    Raises:
        UsageError: An export cannot be measured in the way that is asked for.
        ArtefactError: The run that it was made from is not there any more, or it has changed.
    """
    from dactcli.runtime.manifest import is_export

    if not isinstance(run, Path) or not is_export(run):
        return run, None
    for name in ("rule", "depths"):
        if getattr(request, name) is not None:
            fault = "cannot be combined with an export, which halts by its own rule"
            raise UsageError(fault, place=f"`{name}`", remedy="leave it out, or name the run")
    if request.train:
        raise UsageError("an export cannot be trained", place="`train`", remedy="name the run")
    check_processor(request.device)
    import torch

    from dactcli.exporting.opened import origin
    from dactcli.runtime import load

    return origin(run), load(run, threads=request.threads or torch.get_num_threads())


def _served(run: Run, export: ExportedModel) -> Served:
    """ONNX Runtime's ways to answer."""
    import torch

    from dactcli.exporting.stock import StockOnnx
    from dactcli.profiling.ways import Served
    from dactcli.runtime.engine import answer_rows

    def answer(batches: Any, examples: int, regroup: int) -> Any:
        return answer_rows(export.runner, batches, examples, regroup=regroup).exit_layer

    manifest = export.manifest
    stock = StockOnnx(run, manifest, torch.get_num_threads())
    return Served(manifest.arithmetic, manifest.rule.text, stock, answer)


def _trained(
    run: AnyRun, request: ProfileRequest, listener: Listener, export: ExportedModel | None = None
) -> _Prepared:
    """A run, on a sample of its split or of a file; and its export, where that is to be measured."""
    from dactcli.evaluation.examples import metric_name, run_examples
    from dactcli.evaluation.kinds import answer_metrics
    from dactcli.profiling.geometry import depth_profile, stretched
    from dactcli.profiling.profile import Measured, sample

    opened = open_run(run, device=request.device)
    encoded, _ = run_examples(opened, request.split, data_file(request), listener.notice)
    available, tokens = len(encoded.lengths), request.sequence_length
    encoded = sample(encoded, request.examples)
    if tokens is not None:
        encoded = stretched(encoded, min(tokens, opened.tokenizer.model_max_length))
    model, name = opened.model, metric_name(opened)
    depths = request.depths
    forced = None if depths is None else depth_profile(depths, model.exit_heads.layers, len(encoded.lengths))

    def score(answer: Any, labels: Any) -> float | None:
        return answer_metrics(answer, labels, model.answers)[name]

    asked = request.rule if export is None else export.manifest.rule.text
    rule = rule_for(opened, asked, listener)
    if export is None and opened is run and (request.dtype is not None or request.compiled):
        model = deepcopy(model)  # the caller's model keeps its type and its layers
    served = None if export is None else _served(opened, export)
    subject = replace(_subject(model, request, rule, forced, fresh=opened is not run), served=served)
    return _Prepared(subject, Measured(encoded, tokens, (name, score)), available)


def _subject(model: Any, request: ProfileRequest, rule: Any, depths: Any, *, fresh: bool = True) -> Subject:
    from dactcli.model.device import find_device
    from dactcli.profiling.ways import Subject, find_dtype, stock_classifier

    if fresh:
        model = model.to(find_device(request.device)).eval()
    if request.dtype is not None:
        model = model.to(find_dtype(request.dtype))
    return Subject(model, stock_classifier(model), rule, depths)


def _tell_duration(ready: _Prepared, request: ProfileRequest, effort: Effort, listener: Listener) -> None:
    """Say how long the measurement takes."""
    from dactcli.profiling.estimate import estimate_seconds
    from dactcli.results import duration

    with suppress(ArtefactError):  # the measurement itself names the examples whose answers are not finite
        seconds = estimate_seconds(
            ready.subject, ready.measured.encoded, batch_sizes=request.batch_sizes, effort=effort, train=request.train
        )
        rounds = f"{effort.warmup + effort.repeats} rounds of {ready.measured.examples:,} examples"
        listener.notice(f"about {duration(seconds)}: {rounds} for each case")


def _training(
    ready: _Prepared, request: ProfileRequest, effort: Effort, place: dict[str, Any], listener: Listener
) -> ProfileResult:
    """Time the training step for each batch size."""
    from dactcli.profiling.training import profile_training
    from dactcli.results import ProfileResult

    steps = []
    for size in request.batch_sizes:
        with listener.working(f"training step, batch {size}") as progress:
            steps.append(profile_training(ready.subject, ready.measured, effort, batch_size=size, progress=progress))
    return ProfileResult(place, [], training=steps)


def _inference(
    ready: _Prepared, request: ProfileRequest, effort: Effort, place: dict[str, Any], listener: Listener
) -> ProfileResult:
    """Time latency for each batch size, and throughput over all examples."""
    from dactcli.profiling.profile import profile_latency, profile_throughput
    from dactcli.results import CapacityPlan, ProfileResult

    subject, measured = ready.subject, ready.measured
    cases = []
    for size in request.batch_sizes:
        with listener.working(f"latency, batch {size}") as progress:
            cases.append(profile_latency(subject, measured, effort, batch_size=size, progress=progress))
    with listener.working(f"throughput, {measured.examples:,} examples") as progress:
        whole = profile_throughput(subject, measured, effort, progress=progress)
    plan = CapacityPlan.of(whole, request.plan) if request.plan is not None else None
    return ProfileResult(place, cases, [whole], plan=plan)


def _with_notices(result: ProfileResult, ready: _Prepared, request: ProfileRequest) -> ProfileResult:
    """Add what the reader should know, and write the trace where one is wanted."""
    from dactcli.profiling.profile import wide_notices, write_trace

    notices = wide_notices(result)
    if request.trace is None:
        return replace(result, notices=notices)
    written = write_trace(ready.subject, ready.measured.encoded, request.batch_sizes[-1], Path(request.trace))
    notices.append(
        f"trace written to {written}; open it with: tensorboard --logdir {request.trace} (tab PyTorch Profiler), "
        "or drop the file on ui.perfetto.dev"
    )
    return replace(result, notices=notices, trace=str(written))
