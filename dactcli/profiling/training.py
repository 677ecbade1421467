"""The training step, measured in turn with the plain classifier's: forward with losses, backward, optimizer."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dactcli.data.batches import by_length
from dactcli.profiling.latency import Effort, measurement, ratio, round_totals, take_turns
from dactcli.profiling.memory import peak_memory_mib
from dactcli.profiling.profile import Measured, Progress
from dactcli.profiling.ways import Batch, Subject, stock_batch
from dactcli.results import TrainingCase

if TYPE_CHECKING:
    from dactcli.profiling.ways import Batch

CLIP = 1.0
PHASES = ("forward", "backward", "optimizer")


class Stepper:
    """One optimizer step at a time, in phases.

    Args:
        model: A model whose forward gives a loss.
    """

    def __init__(self, model: Any) -> None:
        self.model = model.train()
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        # no rate: a step costs the same, and a profile leaves the weights as they are
        self.optimizer = torch.optim.AdamW(self.parameters, lr=0.0, weight_decay=0.0, fused=True)
        self.loss: Tensor | None = None

    def forward(self, batch: Batch) -> None:
        """Forward with all losses."""
        self.loss = self.model(**batch).loss

    def backward(self) -> None:
        """Gradients."""
        if self.loss is not None:
            self.loss.backward()  # type: ignore[no-untyped-call]

    def optimise(self) -> None:
        """Clip, step, clear."""
        self.loss = None
        torch.nn.utils.clip_grad_norm_(self.parameters, CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def step(self, batch: Batch) -> None:
        """All three."""
        self.forward(batch)
        self.backward()
        self.optimise()


def profile_training(
    subject: Subject, measured: Measured, effort: Effort, *, batch_size: int, progress: Progress | None = None
) -> TrainingCase:
    """Time the training step of the DACT model and of the plain classifier around the same encoder.

    Args:
        subject: The model and its stock counterpart; their weights stay as they are.
        measured: The examples; without labels the first class is taken.
        effort: How long to measure.
        batch_size: Examples per batch.
        progress: Called with rounds done and rounds in all.
    """
    device, encoded = subject.model.device, measured.encoded
    labels = torch.tensor(encoded.labels if encoded.labels is not None else [0] * len(encoded.lengths))
    batches = [
        {**batch, "labels": labels[positions].to(device)}
        for positions, batch in by_length(subject.model.config.encoder_config, encoded, batch_size, device)
    ]
    steppers = {"plain": Stepper(subject.stock), "dact": Stepper(subject.model)}
    own: dict[str, Sequence[Batch]] = {"plain": [stock_batch(batch) for batch in batches], "dact": batches}
    try:
        samples = take_turns(
            {name: partial(_step, one, own[name]) for name, one in steppers.items()},
            len(batches),
            device=device,
            effort=effort,
            progress=progress,
        )
        ways = {
            name: measurement(
                samples[name],
                measured.examples,
                peak_memory_mib=_peak_memory_mib(one, own[name][0], device),
            )
            for name, one in steppers.items()
        }
        phases = {name: _phases(one, own[name], device) for name, one in steppers.items()}
    finally:
        for one in steppers.values():
            one.model.eval()
    plain, dact = (round_totals(samples[name]) for name in ("plain", "dact"))
    return TrainingCase(
        batch_size=max(len(batch["labels"]) for batch in batches),
        sequence_length=measured.sequence_length,
        plain=ways["plain"],
        dact=ways["dact"],
        time_ratio_to_plain=ratio(dact, plain),
        phases_ms=phases,
    )


def _peak_memory_mib(one: Stepper, batch: Batch, device: torch.device) -> float | None:
    """That of a step, with the two moments of AdamW, which are held before and after it."""
    peak = peak_memory_mib(partial(one.step, batch), [one.model], device)
    moments = sum(2 * parameter.numel() * parameter.element_size() for parameter in one.parameters) / 2**20
    return None if peak is None else peak + moments


def _step(one: Stepper, batches: Sequence[Batch], number: int) -> None:
    one.step(batches[number])


def _forward(one: Stepper, batch: Batch, _: int) -> None:
    one.forward(batch)


def _phases(one: Stepper, batches: Sequence[Batch], device: torch.device) -> dict[str, float]:
    """Median milliseconds of each phase over the batches."""
    spent: dict[str, list[float]] = {phase: [] for phase in PHASES}
    for batch in batches:
        parts: dict[str, Callable[[int], object]] = {
            "forward": partial(_forward, one, batch),
            "backward": lambda _: one.backward(),
            "optimizer": lambda _: one.optimise(),
        }
        timed = take_turns(parts, 1, device=device, effort=Effort(warmup=0, repeats=1))
        for phase in PHASES:
            spent[phase].append(timed[phase][0][0])
    return {phase: statistics.median(values) for phase, values in spent.items()}
