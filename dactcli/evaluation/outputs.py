"""What every layer says of a split: computed once, from which any rule is judged.

E examples, N layers, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dactcli.data.batches import Encoded, by_length

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

    from dactcli.model.dact import DactForSequenceClassification


@dataclass(frozen=True)
class LayerOutputs:
    """The outputs of all layers.

    Attributes:
        y: y_n [E, N, C], float32, on the CPU.
        h: h_n [E, N].
    """

    y: Tensor
    h: Tensor


def collect(
    model: DactForSequenceClassification,
    tokenizer: Tokenizer,
    encoded: Encoded,
    *,
    batch_size: int,
    progress: Callable[[int, int], None] | None = None,
) -> LayerOutputs:
    """Run all layers on all examples.

    Args:
        model: The model; left in the mode (training or evaluation) that it was in.
        tokenizer: Its tokenizer.
        encoded: The examples.
        batch_size: Examples per batch.
        progress: Called with the examples done and the examples in all.

    Returns:
        The outputs, in the order of the examples.
    """
    was_training, examples = model.training, len(encoded.lengths)
    model.eval()
    y = torch.empty(examples, model.units.layers, model.classes)
    h = torch.empty(examples, model.units.layers)
    done = 0
    try:
        for positions, batch in by_length(tokenizer, encoded, batch_size, model.device):
            answers, halting = model.layer_outputs(**batch)
            y[positions], h[positions] = answers.float().cpu(), halting.float().cpu()
            done += len(positions)
            if progress is not None:
                progress(done, examples)
    finally:
        model.train(was_training)
    return LayerOutputs(y, h)
