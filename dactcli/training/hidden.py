"""The outputs of an encoder that a training leaves as it is: computed once, and read in every epoch.

An encoder in evaluation mode gives the same outputs each time, so training exit heads alone runs it once. What is
kept is every token's output of every layer, in half precision, because attention pooling learns which tokens count.
They are held in memory, or in a file below the run's checkpoints where they are larger; nothing is kept where they are
too large for that as well.

E examples, N layers, T tokens, H hidden size, C classes.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dactcli import distributed
from dactcli.data.batches import Encoded, by_length

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

    from dactcli.model.dact import DactForSequenceClassification
    from dactcli.training.stages import Stage

MEMORY = 2 * 2**30  # most bytes that are held in memory
DISK, SHARE = 32 * 2**30, 0.5  # most bytes in a file, and most of what is free
LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class HiddenStates:
    """What the layers gave for each example.

    Attributes:
        values: The tokens of all examples, one after the other [all tokens, N, H], float16.
        starts: Where each example begins [E + 1].
        answers: y_N of each example [E, C].
    """

    values: NDArray[np.float16]
    starts: list[int]
    answers: Tensor

    def batch(self, positions: Sequence[int]) -> Tensor:
        """The outputs of some examples, padded with zeros [N, B, T, H], float16."""
        rows = [self.values[self.starts[position] : self.starts[position + 1]] for position in positions]
        found = torch.zeros(len(rows), max(map(len, rows)), *self.values.shape[1:], dtype=torch.float16)
        for row, kept in zip(found, rows, strict=True):
            row[: len(kept)] = torch.from_numpy(np.array(kept))
        return found.permute(2, 0, 1, 3)


def keeps_hidden(model: DactForSequenceClassification, stage: Stage, encoded: Encoded) -> bool:
    """Whether the encoder gives the same outputs in every epoch of a stage, to rows that are whole examples.

    Args:
        model: The model.
        stage: The stage.
        encoded: The training examples.
    """
    fixed = model.kept is not None and stage.name == "units" and not stage.keys.mask_tokens
    whole = encoded.windows is None or all(len(one) == 1 for one in encoded.windows)
    return fixed and whole and distributed.world_size() == 1


def size_of(model: DactForSequenceClassification, encoded: Encoded) -> int:
    """Bytes of the outputs of all layers for all tokens."""
    return sum(encoded.lengths) * model.exit_heads.layers * int(model.config.hidden_size) * 2


def room_for(size: int, folder: Path) -> str | None:
    """Where outputs of this size are kept: `memory`, `disk`, or nowhere.

    Args:
        size: In bytes.
        folder: Of the file.
    """
    if size <= MEMORY:
        return "memory"
    return "disk" if size <= min(DISK, SHARE * shutil.disk_usage(folder).free) else None


@torch.no_grad()
def run_once(
    model: DactForSequenceClassification, tokenizer: Tokenizer, encoded: Encoded, file: Path | None, *, batch_size: int
) -> HiddenStates | None:
    """Run the encoder over all examples.

    Args:
        model: The model; its mode is restored afterwards.
        tokenizer: Its tokenizer.
        encoded: The examples.
        file: Where to write the outputs; None to hold them in memory.
        batch_size: Examples per batch.

    Returns:
        The outputs; None where one does not fit half precision.
    """
    starts, answers = [0, *accumulate(encoded.lengths)], torch.zeros(len(encoded.lengths), model.classes)
    shape = (starts[-1], model.exit_heads.layers, int(model.config.hidden_size))
    values: Any
    if file is None:
        values = np.empty(shape, np.float16)
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        values = np.memmap(file, np.float16, "w+", shape=shape)
    was_training = model.training
    model.eval()
    try:
        for positions, batch in by_length(tokenizer, encoded, batch_size, model.device):
            outputs = model.layer_hidden(**batch)  # [N, B, T, H]
            answers[positions] = model.last_answer(outputs[-1], batch["attention_mask"]).float().cpu()
            if not bool((outputs.abs() <= LARGEST).all()):
                return None
            rows = outputs.permute(1, 2, 0, 3).to(torch.float16).cpu().numpy()
            for row, position in enumerate(positions):
                start, end = starts[position], starts[position + 1]
                values[start:end] = rows[row, : end - start]
    finally:
        model.train(was_training)
    return HiddenStates(values, starts, answers)
