"""Latency: the stock encoder, full depth and adaptive inference on the same batches, measured in turn.

Ways are measured one after the other on each batch, in an order that rotates from round to round, so that a machine
that slows down or speeds up does so for all of them. Ratios are taken within a round.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dactcli.errors import ResourceError
from dactcli.model.engine import run_adaptive
from dactcli.model.rules import ForcedDepths, Full, Rule
from dactcli.results import Interval, Measurement, ProfileCase

if TYPE_CHECKING:
    from dactcli.model.dact import DactForSequenceClassification

Batch = dict[str, Tensor]
WIDE = 0.15  # interquartile range over median from which on a warning is due
BOOTSTRAPS = 2000


@dataclass(frozen=True)
class Ways:
    """The three ways to run a batch; each runs one batch and gives the layers that its rows ran, if it knows."""

    stock: Callable[[Batch], Tensor | None]
    full: Callable[[Batch], Tensor | None]
    adaptive: Callable[[Batch], Tensor | None]

    def items(self) -> list[tuple[str, Callable[[Batch], Tensor | None]]]:
        """By name."""
        return [("stock", self.stock), ("full", self.full), ("adaptive", self.adaptive)]


def stock_classifier(model: DactForSequenceClassification) -> Any:
    """Transformers' own sequence classifier around the same encoder weights.

    Args:
        model: The DACT model whose encoder is used.

    Returns:
        The stock model, in evaluation mode on the same device. Its head is fresh; only its time is of interest.
    """
    from transformers import AutoModelForSequenceClassification

    config = type(model.encoder.config).from_dict({**model.encoder.config.to_dict(), "num_labels": model.classes})
    stock = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    stock.base_model.load_state_dict(model.encoder.state_dict(), strict=False)
    return stock.to(device=model.device, dtype=model.dtype).eval()


def make_ways(model: DactForSequenceClassification, rule: Rule, depths: dict[int, Tensor] | None = None) -> Ways:
    """The three ways for a model.

    Args:
        model: The model, in evaluation mode.
        rule: What adaptive inference halts by.
        depths: Forced depths by the `id` of a batch; they replace the rule.
    """
    stock = stock_classifier(model)

    def run_stock(batch: Batch) -> None:
        stock(**batch)

    def run_full(batch: Batch) -> None:
        model(**batch, rule=Full())

    def adaptive(batch: Batch) -> Tensor:
        chosen = rule if depths is None else ForcedDepths(depths[id(batch)])
        return run_adaptive(model, chosen, *_arguments(batch)).exit_layer

    return Ways(run_stock, run_full, adaptive)


def _arguments(batch: Batch) -> tuple[Tensor, Tensor | None, Tensor | None]:
    return batch["input_ids"], batch.get("attention_mask"), batch.get("token_type_ids")


def measure(
    ways: Ways,
    batches: Sequence[Batch],
    *,
    device: torch.device,
    layers: int,
    rule: str,
    sequence_length: int | None,
    warmup: int,
    repeats: int,
    progress: Callable[[int, int], None] | None = None,
) -> ProfileCase:
    """Time the three ways on the same batches.

    Args:
        ways: The ways.
        batches: The batches, on the device, all of one size but perhaps the last.
        device: Where they run.
        layers: N.
        rule: Name of the rule, for the result.
        sequence_length: Tokens per example where it was fixed, None for real lengths.
        warmup: Rounds that are not counted.
        repeats: Rounds that are.
        progress: Called with the rounds done and the rounds in all.

    Returns:
        Times per batch, ratios to stock with 95 % bootstrap intervals over rounds.

    Raises:
        ResourceError: Memory ran out.
    """
    named = ways.items()
    samples: dict[str, list[list[float]]] = {name: [] for name, _ in named}
    depths: Tensor | None = None
    try:
        with torch.inference_mode():
            for turn in range(warmup + repeats):
                times: dict[str, list[float]] = {name: [] for name, _ in named}
                exits = []
                for position, batch in enumerate(batches):
                    shift = (turn + position) % len(named)
                    for name, run in named[shift:] + named[:shift]:
                        milliseconds, ran = _time(run, batch, device)
                        times[name].append(milliseconds)
                        if ran is not None:
                            exits.append(ran)
                if turn >= warmup:
                    for name, values in times.items():
                        samples[name].append(values)
                depths = torch.cat(exits) if exits else None
                if progress is not None:
                    progress(turn + 1, warmup + repeats)
    except torch.OutOfMemoryError:
        raise ResourceError("memory ran out", place="dact profile", remedy="lower --batch-size") from None
    sizes = [len(batch["input_ids"]) for batch in batches]
    totals = {name: [sum(values) for values in rounds] for name, rounds in samples.items()}
    return ProfileCase(
        batch_size=max(sizes),
        sequence_length=sequence_length,
        rule=rule,
        stock=_measurement(samples["stock"], sum(sizes)),
        full=_measurement(samples["full"], sum(sizes)),
        adaptive=_measurement(samples["adaptive"], sum(sizes), depths, layers),
        time_ratio_to_stock=ratio(totals["adaptive"], totals["stock"]),
        full_ratio_to_stock=ratio(totals["full"], totals["stock"]),
    )


def _time(run: Callable[[Batch], Tensor | None], batch: Batch, device: torch.device) -> tuple[float, Tensor | None]:
    """Milliseconds of one batch, the device idle before and after."""
    synchronise(device)
    started = time.perf_counter()
    ran = run(batch)
    synchronise(device)
    return (time.perf_counter() - started) * 1000, ran


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _measurement(
    rounds: list[list[float]], examples: int, depths: Tensor | None = None, layers: int = 0
) -> Measurement:
    flat = sorted(value for values in rounds for value in values)
    totals = [sum(values) for values in rounds]
    middle = statistics.median(totals)
    quarters = statistics.quantiles(totals, n=4) if len(totals) > 1 else [middle] * 3
    counts = depths.bincount(minlength=layers + 1)[1:].tolist() if depths is not None else None
    return Measurement(
        latency_ms_p50=_percentile(flat, 50),
        latency_ms_p90=_percentile(flat, 90),
        latency_ms_p99=_percentile(flat, 99),
        examples_per_second=examples / middle * 1000,
        latency_ms_spread=(quarters[2] - quarters[0]) / middle,
        layers_mean=float(depths.double().mean()) if depths is not None else None,
        depths=counts,
        samples_ms=[value for values in rounds for value in values],
    )


def _percentile(ordered: list[float], percent: float) -> float:
    """By linear interpolation between the two nearest of the ordered values."""
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def ratio(times: Sequence[float], reference: Sequence[float]) -> Interval:
    """The median ratio of paired rounds, with its 95 % bootstrap interval.

    Args:
        times: Milliseconds per round.
        reference: Milliseconds of the reference in the same rounds.
    """
    ratios = [a / b for a, b in zip(times, reference, strict=True)]
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(BOOTSTRAPS))
    return Interval(statistics.median(ratios), _percentile(medians, 2.5), _percentile(medians, 97.5))


def is_wide(case: ProfileCase) -> bool:
    """Whether the rounds of a case differ so much that its numbers should not be trusted."""
    return max(way.latency_ms_spread for way in (case.stock, case.full, case.adaptive)) > WIDE


def write_trace(ways: Ways, batches: Sequence[Batch], folder: Path, device: torch.device) -> Path:
    """A torch.profiler trace of each way on the batches, in the form that TensorBoard's plugin and Perfetto open.

    Args:
        ways: The ways.
        batches: A few batches.
        folder: Where the trace goes: a log folder of TensorBoard.
        device: Where they run.

    Returns:
        The trace file.
    """
    from torch.profiler import ProfilerActivity, profile, record_function, tensorboard_trace_handler

    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    before = set(folder.glob("*.pt.trace.json"))
    with (
        torch.inference_mode(),
        profile(
            activities=activities,
            record_shapes=True,
            profile_memory=True,
            on_trace_ready=tensorboard_trace_handler(str(folder)),
        ),
    ):
        for batch in batches:
            for name, run in ways.items():
                with record_function(f"dact.{name}"):
                    run(batch)
        synchronise(device)
    return max(set(folder.glob("*.pt.trace.json")) - before)


def environment(model: DactForSequenceClassification) -> dict[str, Any]:
    """Where a measurement was taken."""
    import platform
    from importlib.metadata import version

    names = ("dactcli", "torch", "transformers")
    device = model.device
    found: dict[str, Any] = {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "dtype": str(model.dtype).removeprefix("torch."),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    return {**found, **{name: version(name) for name in names}}


def _processor() -> str:
    import platform

    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
