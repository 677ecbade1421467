"""How long a profile will take, from a few batches of each case."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from dactcli.data.batches import Encoded, by_length, tokens_per_batch
from dactcli.profiling.latency import Effort, synchronise
from dactcli.profiling.training import Stepper
from dactcli.profiling.ways import Batch, Subject, stock_batch

ALONGSIDE = 2  # rounds' worth of work beside those that are timed: the answers, the breakdown, the peak memory


def estimate_seconds(
    subject: Subject, encoded: Encoded, *, batch_sizes: Sequence[int], effort: Effort, train: bool
) -> float:
    """About how many seconds a profile takes.

    Args:
        subject: What is profiled, on its device.
        encoded: The examples.
        batch_sizes: Examples per batch; each is a case of its own.
        effort: How long to measure.
        train: Whether the training step is timed instead of inference.
    """
    config, device = subject.model.config.encoder_config, subject.model.device
    cases = [list(by_length(config, encoded, size, device)) for size in batch_sizes]
    if not train:  # the whole data set, too
        examples, budget = len(encoded.lengths), tokens_per_batch(device)
        cases.append(list(by_length(config, encoded, examples, device, tokens=budget)))
    rounds = [_training_round(subject, case) if train else _round(subject, case) for case in cases]
    whole = effort.warmup + effort.repeats + ALONGSIDE
    return sum(max(whole * seconds, effort.seconds or 0.0) for seconds in rounds)


def _round(subject: Subject, batches: list[Any]) -> float:
    with torch.inference_mode():
        return sum(_timed(run, len(batches), subject.model.device) for run in subject.ways(batches).values())


def _training_round(subject: Subject, batches: list[Any]) -> float:
    labels = torch.zeros(len(batches[0][0]), dtype=torch.long, device=subject.model.device)
    labelled: list[Batch] = [{**batch, "labels": labels[: len(positions)]} for positions, batch in batches]
    spent = 0.0
    for model, own in ((subject.stock, [stock_batch(one) for one in labelled]), (subject.model, labelled)):
        stepper = Stepper(model)
        try:
            spent += _timed(lambda number: stepper.step(own[number]), len(batches), subject.model.device)  # noqa: B023
        finally:
            model.eval()
    return spent


def _timed(run: Callable[[int], object], batches: int, device: torch.device) -> float:
    """Seconds of a round, from its longest, middle and shortest batch; the first run of all is not counted."""
    picked = sorted({0, batches // 2, batches - 1})
    run(picked[-1])
    synchronise(device)
    started = time.perf_counter()
    for number in picked:
        run(number)
    synchronise(device)
    return (time.perf_counter() - started) / len(picked) * batches
