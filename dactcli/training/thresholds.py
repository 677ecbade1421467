"""The last act of a training whose halting units see the answer alone: their thresholds, learned on validation.

What a layer says of the examples that it was trained on tells nothing about when to trust it: all layers fit those
alike, so that units which learn with the layers come to stop nearly every example at the same one. A threshold per
layer is all that such a unit has, and a few hundred examples that trained no layer are enough to learn it, by the DACT
loss itself:

    minimise over b_1 .. b_N:   mean of miss(a_N, label) + tau * ponder cost,   s_n = b_n - SLOPE * log odds of y_n

E examples, N layers.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dactcli import distributed
from dactcli.data.batches import Encoded, shared_by_length
from dactcli.halting.recursion import log_answer, ponder_cost
from dactcli.model.finite import unfinite_error, unfinite_rows
from dactcli.model.heads import SLOPE, log_odds
from dactcli.model.loss import LossSettings, charge_for

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

    from dactcli.model.dact import DactForSequenceClassification

STARTS = (1.0, 2.0, 4.0)  # thresholds that all layers begin with, in log odds; the best end is taken
STEPS = 300  # of each start
RATE = 0.05 * SLOPE  # of Adam, on the biases: 0.05 on the thresholds
EXAMPLES = 5000  # most that are looked at, evenly spread over the split


def fit_thresholds(
    model: DactForSequenceClassification,
    tokenizer: Tokenizer,
    encoded: Encoded,
    settings: LossSettings,
    *,
    batch_size: int,
    stepped: Callable[[int], None],
) -> None:
    """Learn the halting biases of a model that is trained otherwise, in place.

    Args:
        model: The model; its halting units see the answer alone.
        tokenizer: Its tokenizer.
        encoded: Labelled examples that trained no layer.
        settings: The DACT loss.
        batch_size: Examples per batch.
        stepped: Told of every step, from 1 to `steps_in_all()`.

    Raises:
        ArtefactError: Answers to some examples are not finite, as where activations overflow.
    """
    count = len(encoded.lengths)
    size = min(count, EXAMPLES)
    some = encoded.select([position * count // size for position in range(size)])
    right, sure = _answers(model, tokenizer, some, batch_size)
    if rows := unfinite_rows(right, sure):
        raise unfinite_error([f"example {row * count // size + 1:,} of validation" for row in rows])
    labels, taken = torch.tensor(some.labels), itertools.count(1)
    ends = [
        _descend(
            right,
            sure,
            labels,
            settings,
            start,
            shared=model.units.shared,
            stepped=lambda: stepped(next(taken)),
        )
        for start in STARTS
    ]
    _, bias = min(ends, key=operator.itemgetter(0))
    with torch.no_grad():
        model.units.halting_weight.fill_(-SLOPE)
        model.units.halting_bias.copy_(bias)


def steps_in_all() -> int:
    """Steps that `fit_thresholds` takes."""
    return STEPS * len(STARTS)


@torch.no_grad()
def _answers(
    model: DactForSequenceClassification, tokenizer: Tokenizer, encoded: Encoded, batch_size: int
) -> tuple[Tensor, Tensor]:
    """The log probability of the label and the log odds of the likeliest class, by layer [E, N]; of all processes."""
    was_training, shape = model.training, (len(encoded.lengths), model.units.layers)
    right, sure = torch.zeros(shape), torch.zeros(shape)
    labels = torch.tensor(encoded.labels)
    model.eval()
    try:
        for positions, batch in shared_by_length(tokenizer, encoded, batch_size, model.device):
            logits = model.every(**batch).logits.transpose(0, 1).float().cpu()  # [B, N, C]
            wanted = labels[positions].view(-1, 1, 1).expand(-1, shape[1], 1)
            right[positions] = logits.log_softmax(-1).gather(-1, wanted).squeeze(-1)
            sure[positions] = log_odds(logits)
    finally:
        model.train(was_training)
    return distributed.all_reduce_sum(right), distributed.all_reduce_sum(sure)


def _descend(
    right: Tensor,
    sure: Tensor,
    labels: Tensor,
    settings: LossSettings,
    start: float,
    *,
    shared: bool,
    stepped: Callable[[], None],
) -> tuple[float, Tensor]:
    """Adam from one start: the loss it ends with, and the biases [U]."""
    bias = torch.full((1 if shared else right.shape[1],), SLOPE * start, requires_grad=True)
    optimizer = torch.optim.Adam([bias], lr=RATE)

    def loss_now() -> Tensor:
        halting_logits = bias - SLOPE * sure
        answer = log_answer(right.unsqueeze(-1), halting_logits).squeeze(-1)  # log a_N[label]
        return charge_for(answer, labels, settings) + settings.tau * ponder_cost(halting_logits, settings.ponder).mean()

    for _ in range(STEPS):
        optimizer.zero_grad()
        loss_now().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        stepped()
    with torch.no_grad():
        return float(loss_now()), bias.detach()
