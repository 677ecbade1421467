"""Time, measured in turn: every way runs every batch in every round, in an order that rotates.

So a machine that slows down or speeds up does so for all ways alike. Ratios are taken within a round.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from dactcli.errors import ResourceError
from dactcli.results import Interval, Measurement

Way = Callable[[int], object]  # runs the batch of that number
Samples = dict[str, list[list[float]]]  # milliseconds by way, round and batch
WIDE = 0.15  # interquartile range over median from which on a warning is due
BOOTSTRAPS = 2000


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        warmup: Warm-up rounds, which are not counted.
        repeats: Measured rounds; with `seconds`, the fewest.
        seconds: Add rounds until a case has run this long.
    """

    warmup: int = 2
    repeats: int = 10
    seconds: float | None = None


def take_turns(
    ways: Mapping[str, Way],
    batches: int,
    *,
    device: torch.device,
    effort: Effort,
    progress: Callable[[int, int], None] | None = None,
) -> Samples:
    """Time several ways on the same batches.

    Args:
        ways: By name.
        batches: How many batches there are.
        device: Where they run.
        effort: How long to measure.
        progress: Called with the rounds done and the rounds in all.

    Raises:
        ResourceError: Memory ran out.
    """
    named = list(ways.items())
    samples: Samples = {name: [] for name in ways}
    turn, started, rounds = 0, time.perf_counter(), effort.warmup + effort.repeats
    try:
        while turn < rounds or (effort.seconds is not None and time.perf_counter() - started < effort.seconds):
            times = _one_round(named, turn, batches, device)
            if turn >= effort.warmup:
                for name, values in times.items():
                    samples[name].append(values)
            turn += 1
            if progress is not None:
                progress(turn, max(turn, rounds))
    except torch.OutOfMemoryError:
        raise ResourceError("memory ran out", place="dact profile", remedy="lower `batch_sizes`") from None
    return samples


def _one_round(named: list[tuple[str, Way]], turn: int, batches: int, device: torch.device) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name, _ in named}
    for batch in range(batches):
        shift = (turn + batch) % len(named)
        for name, run in named[shift:] + named[:shift]:
            times[name].append(_milliseconds(run, batch, device))
    return times


def _milliseconds(run: Way, batch: int, device: torch.device) -> float:
    """Time of one batch, the device idle before and after; on CUDA between two events of its own clock."""
    synchronise(device)
    if device.type == "cuda":
        event: Any = torch.cuda.Event
        before, after = event(enable_timing=True), event(enable_timing=True)
        before.record(torch.cuda.current_stream(device))
        run(batch)
        after.record(torch.cuda.current_stream(device))
        after.synchronize()
        return float(before.elapsed_time(after))
    started = time.perf_counter()
    run(batch)
    synchronise(device)
    return (time.perf_counter() - started) * 1000


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def measurement(rounds: Sequence[Sequence[float]], examples: int, **known: Any) -> Measurement:
    """Times of one way.

    Args:
        rounds: Milliseconds by round and batch.
        examples: Examples in one round.
        **known: Further fields of the `Measurement`.
    """
    flat = sorted(value for values in rounds for value in values)
    totals = round_totals(rounds)
    middle = statistics.median(totals)
    quarters = statistics.quantiles(totals, n=4) if len(totals) > 1 else [middle] * 3
    return Measurement(
        latency_ms_p50=_percentile(flat, 50),
        latency_ms_p90=_percentile(flat, 90),
        latency_ms_p99=_percentile(flat, 99),
        examples_per_second=examples / middle * 1000,
        latency_relative_iqr=(quarters[2] - quarters[0]) / middle,
        samples_ms=[value for values in rounds for value in values],
        **known,
    )


def round_totals(rounds: Sequence[Sequence[float]]) -> list[float]:
    """Milliseconds of each round."""
    return [sum(values) for values in rounds]


def _percentile(ordered: Sequence[float], percent: float) -> float:
    """By linear interpolation between the two nearest of the ordered values."""
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def ratio(times: Sequence[float], reference: Sequence[float], factor: float = 1.0) -> Interval:
    """The median ratio of paired rounds times a factor, with its 95 % bootstrap interval.

    Args:
        times: Milliseconds per round.
        reference: Milliseconds of the reference in the same rounds.
        factor: What every ratio is multiplied by.
    """
    ratios = [factor * a / b for a, b in zip(times, reference, strict=True)]
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(BOOTSTRAPS))
    return Interval(statistics.median(ratios), _percentile(medians, 2.5), _percentile(medians, 97.5))


def is_wide(*ways: Measurement) -> bool:
    """Whether the rounds differ so much that the numbers should not be trusted."""
    return max(way.latency_relative_iqr for way in ways) > WIDE
