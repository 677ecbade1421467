"""Load weights with transformers; refuse any that are missing, of the wrong shape, or not finite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers.utils import logging

from dactcli.errors import ArtefactError, first_line


@contextmanager
def without_bars() -> Iterator[None]:
    """Hide transformers' progress bars inside this context."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def saved_weights(folder: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint, which may hold an adapter that no saved model has.

    Args:
        folder: A folder that `dactcli.storage.faults` finds whole.

    Raises:
        ArtefactError: They cannot be read.
    """
    path = folder / "model.safetensors"
    try:
        found: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ArtefactError(
            f"cannot be read: {first_line(error)}", place=str(path), remedy="leave out `resume` to start a new run"
        ) from None
    return found


def load_weights(name: str | Path, kind: Any, *, partial: bool = False, **options: Any) -> Any:
    """`kind.from_pretrained`; refuse weights that are missing, of the wrong shape, or not finite.

    `partial` allows weights in the file that the model lacks (a pooler, a language-model head, cut layers).
    """
    try:
        with without_bars():
            model, info = kind.from_pretrained(
                str(name),
                use_safetensors=True,
                dtype=torch.float32,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # reported below, by name
                **options,
            )
    except Exception as error:  # damaged files raise exceptions of safetensors, json and torch
        raise ArtefactError(
            f"the weights cannot be loaded: {first_line(error)}",
            place=str(name),
            remedy="check model.safetensors and config.json, or save the model again",
        ) from None
    faults = {what: info[f"{what}_keys"] for what in ("missing", "mismatched", "unexpected")}
    if partial:
        del faults["unexpected"]
    for what, keys in faults.items():
        if keys:
            first = sorted(map(str, keys))[0]
            raise ArtefactError(
                f"{len(keys)} weights are {what}, first {first}",
                place=str(Path(name) / "model.safetensors"),
                remedy="the file does not belong to this config.json; save the model again",
            )
    for parameter, value in model.named_parameters():
        if not torch.isfinite(value).all():
            raise ArtefactError(
                f"{parameter} holds values that are not finite",
                place=str(Path(name) / "model.safetensors"),
                remedy="train it again, or use an earlier checkpoint",
            )
    return model
