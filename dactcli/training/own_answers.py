"""What a kept classifier answers to texts without labels: the answers that the exit heads learn.

E examples, C classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dactcli import distributed
from dactcli.data.batches import Encoded, shared_by_length
from dactcli.model.finite import unfinite_error, unfinite_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

    from dactcli.model.dact import DactForSequenceClassification


@torch.no_grad()
def own_answers(
    model: DactForSequenceClassification, tokenizer: Tokenizer, encoded: Encoded, *, batch_size: int
) -> Tensor:
    """The answers of the last layer; before any training, those of the classifier that the model keeps.

    Args:
        model: The model; its mode is restored afterwards.
        tokenizer: Its tokenizer.
        encoded: The texts.
        batch_size: Texts per batch and process.

    Returns:
        Probabilities of the classes or labels [E, C], float32; of all processes.

    Raises:
        ArtefactError: Answers to some texts are not finite.
    """
    found = torch.zeros(len(encoded.lengths), model.classes)
    was_training = model.training
    model.eval()
    try:
        for positions, batch in shared_by_length(tokenizer, encoded, batch_size, model.device):
            answers, _, _ = model.layer_outputs(**batch)
            found[positions] = answers[:, -1].float().cpu()
    finally:
        model.train(was_training)
    found = distributed.all_reduce_sum(found)
    if rows := unfinite_rows(found):
        raise unfinite_error([f"example {row + 1:,}" for row in rows])
    return found
