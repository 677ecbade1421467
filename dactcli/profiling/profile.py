"""Profile a model: latency per batch at several batch sizes, and the throughput of all examples together."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dactcli.data.batches import Encoded, by_length, tokens_per_batch
from dactcli.errors import DataError, ResourceError
from dactcli.halting.rules import Full
from dactcli.model.encoders import adapt
from dactcli.model.engine import EngineOutput, run_batches
from dactcli.model.finite import unfinite_error, unfinite_rows
from dactcli.profiling.breakdown import break_down
from dactcli.profiling.flops import (
    LayerFlops,
    embedding_flops,
    examples_flops,
    head_flops,
    layer_flops,
    share_of_full,
    shared_flops,
    unit_flops,
)
from dactcli.profiling.latency import (
    Effort,
    Samples,
    Way,
    is_wide,
    measurement,
    ratio,
    round_totals,
    synchronise,
    take_turns,
)
from dactcli.profiling.marks import marked_layers
from dactcli.profiling.memory import peak_memory_mib, silent_profile
from dactcli.profiling.ways import ArrayRows, Batch, Served, Subject, arrays, run_batch, stock_batch
from dactcli.results import Breakdown, OnnxCase, ProfileCase, ProfileResult

TRACED_BATCHES = 3
Positions = list[int]
Score = Callable[[Tensor, Sequence[Any]], float | None]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Measured:
    """The examples that a model is measured on.

    Attributes:
        encoded: The examples.
        sequence_length: Tokens per example where it was fixed; None where the examples keep their lengths.
        score: Name and function of the metric; None for random weights.
    """

    encoded: Encoded
    sequence_length: int | None = None
    score: tuple[str, Score] | None = None

    @property
    def examples(self) -> int:
        """How many examples there are."""
        return len(self.encoded.lengths)

    def metric(self, answer: Tensor) -> tuple[str | None, float | None]:
        """Name and value of the metric of the answers [E, C]; None and None without labels."""
        if self.score is None or self.encoded.labels is None:
            return None, None
        name, score = self.score
        return name, score(answer, self.encoded.labels)


@dataclass(frozen=True)
class Operations:
    """Operations of the parts of a model, for one example."""

    embeddings: LayerFlops
    layers: list[LayerFlops]
    units: list[LayerFlops]
    head: float

    @classmethod
    def of(cls, subject: Subject) -> Operations:
        """Counted on the model itself."""
        embeddings, layers = embedding_flops(subject.model), layer_flops(subject.model)
        units, head = unit_flops(subject.model), head_flops(subject.stock, [embeddings, *layers])
        return cls(embeddings, layers, units, head)

    def per_example(self, encoded: Encoded, depths: Tensor, batches: Sequence[Positions]) -> dict[str, float]:
        """Of each way, on average.

        Args:
            encoded: The examples.
            depths: Layers that adaptive inference runs on each [E].
            batches: The positions of the examples of each batch; where survivors are pooled, before that.
        """
        lengths, texts = rows_of(encoded)

        def mean(parts: Sequence[LayerFlops], ran: Tensor | None = None) -> float:
            own = examples_flops(parts, lengths, None if ran is None else ran[texts])
            return (float(own.sum()) + shared_flops(parts, batches, ran)) / len(depths)

        before = mean([self.embeddings])
        whole = before + mean(self.layers)
        return {
            "stock": whole + self.head,
            "full": whole + mean(self.units),
            "adaptive": before + mean(self.layers, depths) + mean(self.units, depths),
        }


@dataclass(frozen=True)
class _Runs:
    """The runs that a case times.

    Attributes:
        ways: The three ways, by name.
        turns: Calls of a way that cover all examples once.
        batches: The positions of the examples of each batch.
        out: Exit layer and answer of every example under adaptive inference.
        operations: Operations of the model's parts.
        parts: Measures adaptive inference by part; None to leave that out.
    """

    ways: dict[str, Way]
    turns: int
    batches: Sequence[Positions]
    out: EngineOutput
    operations: Operations
    parts: Callable[[], Breakdown] | None = None


def profile_latency(
    subject: Subject, measured: Measured, effort: Effort, *, batch_size: int, progress: Progress | None = None
) -> ProfileCase:
    """Time the three ways batch by batch.

    Args:
        subject: The models and the rule, on their device.
        measured: The examples.
        effort: How long to measure.
        batch_size: Examples per batch.
        progress: Called with rounds done and rounds in all.

    Raises:
        DataError: There is no example.
        ResourceError: Memory ran out.
    """
    config, model = subject.model.config.encoder_config, subject.model
    batches = list(by_length(config, measured.encoded, batch_size, model.device))
    rules = [subject.rule_for(positions) for positions, _ in batches]
    operations = Operations.of(subject)  # outside inference mode: its tensors serve training, too
    with torch.inference_mode():
        runs = _Runs(
            ways=subject.ways(batches),
            turns=len(batches),
            batches=[positions for positions, _ in batches],
            out=_answers(subject, batches, measured.encoded),
            operations=operations,
            parts=partial(break_down, model, rules, [batch for _, batch in batches]),
        )
        return _case(subject, measured, effort, runs, progress)


def profile_throughput(
    subject: Subject, measured: Measured, effort: Effort, *, progress: Progress | None = None
) -> ProfileCase:
    """Time the three ways on all examples together, in batches by tokens; adaptive inference pools survivors.

    Padding the batches is part of the time. Arguments as for `profile_latency`.
    """
    model, budget = subject.model, tokens_per_batch(subject.model.device)
    config, examples = model.config.encoder_config, measured.examples
    rule, operations = subject.rule_for(range(examples)), Operations.of(subject)

    def batches() -> Any:
        return by_length(config, measured.encoded, examples, model.device, tokens=budget)

    def stock(_: int) -> None:
        for _positions, batch in batches():
            subject.stock(**stock_batch(batch))

    def full(_: int) -> None:
        for _positions, batch in batches():
            model(**batch, rule=Full())

    def adaptive(_: int) -> EngineOutput:
        return run_batches(model, rule, batches(), examples, regroup=budget // 2)

    ways: dict[str, Way] = {"stock": stock, "full": full, "adaptive": adaptive}
    if subject.served is not None:
        ways |= _served(subject.served, batches, examples, regroup=budget // 2)
    with torch.inference_mode():
        runs = _Runs(
            ways=ways,
            turns=1,
            batches=[positions for positions, _ in batches()],
            out=adaptive(0),
            operations=operations,
        )
        return _case(subject, measured, effort, runs, progress)


def _served(served: Served, batches: Callable[[], Any], examples: int, *, regroup: int) -> dict[str, Way]:
    """ONNX Runtime's ways over all examples."""

    def rows() -> Iterator[tuple[Any, ArrayRows]]:
        return ((np.array(positions), arrays(batch)) for positions, batch in batches())

    def stock(_: int) -> None:
        for _positions, batch in rows():
            served.stock(batch)

    return {"onnx stock": stock, "export": lambda _: served.export(rows(), examples, regroup)}


def _answers(subject: Subject, batches: Sequence[tuple[Positions, Batch]], encoded: Encoded) -> EngineOutput:
    """Where every example stops and what it answers, in the order of the examples.

    Raises:
        ArtefactError: Answers to some examples are not finite, as where activations overflow.
    """
    exits = torch.empty(len(encoded.lengths), dtype=torch.long)
    answers = torch.empty(len(encoded.lengths), subject.model.classes)
    for positions, batch in batches:
        out = run_batch(subject.model, subject.rule_for(positions), batch)
        exits[positions], answers[positions] = out.exit_layer.cpu(), out.answer.float().cpu()
    if rows := unfinite_rows(answers):
        raise unfinite_error([f"example {row + 1:,}" for row in rows])
    return EngineOutput(exits, answers, None)


def _case(subject: Subject, measured: Measured, effort: Effort, runs: _Runs, progress: Progress | None) -> ProfileCase:
    """Time the ways and derive the figures of the case."""
    model, device = subject.model, subject.model.device
    samples = take_turns(runs.ways, runs.turns, device=device, effort=effort, progress=progress)
    totals = {name: round_totals(rounds) for name, rounds in samples.items()}
    depths = runs.out.exit_layer.cpu()
    lengths, texts = rows_of(measured.encoded)
    share = share_of_full(runs.operations.layers, lengths, depths[texts])
    modules = {"stock": subject.stock, "full": model, "adaptive": model}
    peaks = {name: peak_memory_mib(partial(runs.ways[name], 0), [own], device) for name, own in modules.items()}
    flops = runs.operations.per_example(measured.encoded, depths, runs.batches)

    def way(name: str, **known: Any) -> Any:
        return measurement(
            samples[name], measured.examples, flops_per_example=flops[name], peak_memory_mib=peaks[name], **known
        )

    counts = depths.bincount(minlength=model.exit_heads.layers + 1)[1:].tolist()
    metric_name, metric = measured.metric(runs.out.answer.cpu())
    return ProfileCase(
        batch_size=max(map(len, runs.batches)),
        sequence_length=measured.sequence_length,
        rule=subject.rule_name,
        stock=way("stock"),
        full=way("full"),
        adaptive=way("adaptive", layers_mean=float(depths.double().mean()), depths=counts),
        time_ratio_to_stock=ratio(totals["adaptive"], totals["stock"]),
        full_ratio_to_stock=ratio(totals["full"], totals["stock"]),
        ideal_ms=share * statistics.median(totals["stock"]),
        realised_share=ratio(totals["stock"], totals["adaptive"], share),
        breakdown=runs.parts() if runs.parts is not None else None,
        metric=metric,
        metric_name=metric_name,
        onnx=None if subject.served is None else _onnx_case(subject.served, measured, runs, samples, totals),
    )


def _onnx_case(
    served: Served, measured: Measured, runs: _Runs, samples: Samples, totals: dict[str, list[float]]
) -> OnnxCase:
    """The figures of ONNX Runtime."""
    layers = len(runs.operations.layers)
    run: Callable[[int], Any] = runs.ways["export"]
    depths = np.concatenate([run(number) for number in range(runs.turns)])
    counts = np.bincount(depths, minlength=layers + 1)[1:].tolist()
    mean = float(depths.mean())
    stock, export = totals["onnx stock"], totals["export"]
    return OnnxCase(
        precision=served.precision,
        rule=served.rule,
        stock=measurement(samples["onnx stock"], measured.examples),
        export=measurement(samples["export"], measured.examples, layers_mean=mean, depths=counts),
        stock_ratio_to_stock=ratio(stock, totals["stock"]),
        time_ratio_to_stock=ratio(export, totals["stock"]),
        time_ratio_to_onnx_stock=ratio(export, stock),
        realised_share=ratio(stock, export, mean / layers),
    )


def sample(encoded: Encoded, examples: int) -> Encoded:
    """Evenly spaced examples, when there are more than wanted.

    Raises:
        DataError: There is none.
    """
    total = len(encoded.lengths)
    if not total:
        raise DataError("there is no example to measure on", remedy="give a split or file with texts")
    step = max(total / examples, 1.0)
    positions = sorted({int(index * step) for index in range(min(examples, total))})
    return encoded.select(positions)


def rows_of(encoded: Encoded) -> tuple[Tensor, Tensor]:
    """Tokens of each row that the encoder reads, and the example of each row; a longer text may have several."""
    windows = encoded.windows or [[length] for length in encoded.lengths]
    lengths = torch.tensor([length for row in windows for length in row])
    return lengths, torch.repeat_interleave(torch.tensor([len(row) for row in windows]))


def wide_notices(result: ProfileResult) -> list[str]:
    """A sentence for every case whose rounds differ so much that its numbers should not be trusted."""
    remedy = "close other programs or raise `repeats`"
    named = [(f"batch {case.batch_size}", (case.stock, case.full, case.adaptive)) for case in result.cases]
    named += [("throughput", (case.stock, case.full, case.adaptive)) for case in result.throughput]
    found = [f"{name}: the rounds differ widely; {remedy}" for name, ways in named if is_wide(*ways)]
    wide = [case for case in result.training if is_wide(case.plain, case.dact)]
    return found + [f"training, batch {case.batch_size}: the rounds differ widely; {remedy}" for case in wide]


def write_trace(subject: Subject, encoded: Encoded, batch_size: int, folder: Path) -> Path:
    """A torch.profiler trace of each way, in the form that TensorBoard's plugin and Perfetto open.

    Each batch of a way is a step of the profiler, named `dact.WAY`, with each layer in it named `dact.layer.N`.

    Args:
        subject: What is profiled.
        encoded: The examples; a few batches of them run.
        batch_size: Examples per batch.
        folder: Where the trace goes: a log folder of TensorBoard.

    Returns:
        The trace file.

    Raises:
        ResourceError: The folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _record(subject, encoded, batch_size, folder)
    except OSError as error:
        raise ResourceError(
            f"the trace cannot be written: {error.strerror}", place=str(folder), remedy="choose another `trace`"
        ) from None


def _record(subject: Subject, encoded: Encoded, batch_size: int, folder: Path) -> Path:
    from torch.profiler import ProfilerAction, ProfilerActivity, record_function, tensorboard_trace_handler

    device = subject.model.device
    config = subject.model.config.encoder_config
    batches = list(by_length(config, encoded, batch_size, device))[:TRACED_BATCHES]
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    before = set(folder.glob("*.pt.trace.json"))
    with (
        torch.inference_mode(),
        marked_layers([subject.model.adapter.layers, adapt(subject.stock.base_model).layers]) as restart,
        silent_profile(
            activities=activities,
            schedule=lambda step: ProfilerAction.RECORD,  # or the profiler does not mark its steps
            record_shapes=True,
            profile_memory=True,
            on_trace_ready=tensorboard_trace_handler(str(folder)),
        ) as profiler,
    ):
        for name, run in subject.ways(batches).items():
            for number in range(len(batches)):
                restart()
                with record_function(f"dact.{name}"):
                    run(number)
                    synchronise(device)
                profiler.step()
    return max(set(folder.glob("*.pt.trace.json")) - before)
