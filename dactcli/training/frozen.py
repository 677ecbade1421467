"""Which weights a stage trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dactcli.training.stages import Stage

if TYPE_CHECKING:
    from torch import nn

    from dactcli.model.dact import DactForSequenceClassification

LORA = "lora_"  # in the names of PEFT's weights, and in no name of a supported encoder


def freeze_for(model: DactForSequenceClassification, stage: Stage) -> None:
    """Freeze what a stage leaves as it is.

    That is the encoder in a stage of units, its own weights beside LoRA weights, and a kept classifier always.

    Args:
        model: The model, changed in place.
        stage: The stage.
    """
    adapted = lora_size(model.encoder) > 0
    for name, parameter in model.encoder.named_parameters():
        parameter.requires_grad_(stage.name != "units" and (LORA in name or not adapted))
    model.exit_heads.requires_grad_(True)
    if model.kept is not None:
        model.kept.requires_grad_(False)


def lora_size(module: nn.Module) -> int:
    """Number of LoRA weights; 0 without an adapter."""
    return sum(parameter.numel() for name, parameter in module.named_parameters() if LORA in name)


def count_parameters(model: DactForSequenceClassification, stages: Sequence[Stage]) -> tuple[int, int]:
    """Parameters of the saved model, in which LoRA weights are merged, and those that any stage trains.

    Args:
        model: The model before its stages; afterwards it is frozen as for the last one.
        stages: The stages.
    """
    trained: dict[str, int] = {}
    for stage in stages:
        freeze_for(model, stage)
        trained |= {name: value.numel() for name, value in model.named_parameters() if value.requires_grad}
    everything = sum(parameter.numel() for parameter in model.parameters())
    return everything - lora_size(model), sum(trained.values())
