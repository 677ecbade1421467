"""Learn the halting thresholds on validation, after the stages, for halting units that see the answer.

Training confidence is not calibrated: all layers fit the training examples alike, so halting units that learn with
the layers stop nearly every example at the same layer. Such a unit has one threshold per layer, and a few hundred
held-out examples are enough to learn it, by the DACT loss itself:

    minimise over b_1 .. b_N:   mean of miss(a_N, label) + tau * ponder cost,   s_n = b_n - SLOPE * log odds of y_n

E examples, N layers, K entries of the logs that the loss looks at: 1 for classes, 2C for C labels.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dactcli import distributed
from dactcli.data.batches import Encoded, label_tensor, shared_by_length
from dactcli.halting.recursion import log_answer, ponder_cost
from dactcli.model.finite import unfinite_error, unfinite_rows
from dactcli.model.heads import SLOPE
from dactcli.model.loss import charge_for
from dactcli.recipe.settings import HaltingSettings
from dactcli.runs.outputs import collect
from dactcli.training.job import Job
from dactcli.training.label_thresholds import choose_label_thresholds
from dactcli.training.stages import Stage, halting_loss

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

    from dactcli.model.dact import DactForSequenceClassification

STARTS = (1.0, 2.0, 4.0)  # thresholds that all layers begin with, in log odds; the best end is taken
STEPS = 300  # of each start
RATE = 0.05 * SLOPE  # of Adam, on the biases: 0.05 on the thresholds
EXAMPLES = 5000  # most that are looked at, evenly spread over the split
ENTRIES, FEWEST = 2**23, 500  # most entries of their answers, for many labels, but never fewer examples


def fit_thresholds(
    model: DactForSequenceClassification,
    tokenizer: Tokenizer,
    encoded: Encoded,
    settings: HaltingSettings,
    *,
    batch_size: int,
    stepped: Callable[[int], None],
) -> None:
    """Learn the halting biases of a model in place; its other weights stay as they are.

    Args:
        model: The model, whose halting units see the answer.
        tokenizer: Its tokenizer.
        encoded: Labelled held-out examples.
        settings: The DACT loss.
        batch_size: Examples per batch.
        stepped: Called with the number of each step, from 1 to `steps_in_all()`.

    Raises:
        ArtefactError: Answers to some examples are not finite, as where activations overflow.
    """
    count = len(encoded.lengths)
    size = min(count, EXAMPLES, max(ENTRIES // (2 * model.exit_heads.layers * model.classes), FEWEST))
    some = encoded.select([position * count // size for position in range(size)])
    right, sure = _answers(model, tokenizer, some, batch_size)
    if rows := unfinite_rows(right, sure):
        raise unfinite_error([f"example {row * count // size + 1:,} of validation" for row in rows])
    labels, taken = label_tensor(some.labels or [], model.answers.kind, model.classes), itertools.count(1)
    charge = partial(charge_for, labels=labels, settings=settings, answers=model.answers)
    bias = best_biases(right, sure, charge, settings, stepped=lambda: stepped(next(taken)))
    with torch.no_grad():
        model.exit_heads.halting_weight.fill_(-SLOPE)
        model.exit_heads.halting_bias.copy_(bias)


def best_biases(
    right: Tensor,
    sure: Tensor,
    charge: Callable[[Tensor], Tensor],
    settings: HaltingSettings,
    *,
    stepped: Callable[[], None],
) -> Tensor:
    """The halting biases of the smallest loss, of descents from all starts.

    Args:
        right: The logs that the loss looks at [E, N, K].
        sure: How sure each layer is, in log odds [E, N].
        charge: What an answer costs, from its logs [E, K].
        settings: The DACT loss.
        stepped: Called after each step.

    Returns:
        b_n [N].
    """
    ends = [_descend(right, sure, charge, settings, start, stepped=stepped) for start in STARTS]
    return min(ends, key=operator.itemgetter(0))[1]


def halting_from(biases: Tensor, sure: Tensor) -> Tensor:
    """The h_n [E, N] of biases [N], from how sure each layer is [E, N]."""
    return torch.sigmoid(biases - SLOPE * sure)


def fit_agreement(
    model: DactForSequenceClassification, tokenizer: Tokenizer, encoded: Encoded, *, batch_size: int
) -> None:
    """Fit the halting units of a model, in place, to say how likely it is that the last layer decides otherwise.

    Args:
        model: The model, whose halting units see the answer.
        tokenizer: Its tokenizer.
        encoded: Held-out examples; their labels are not read.
        batch_size: Examples per batch.

    Raises:
        ArtefactError: Answers to some examples are not finite.
    """
    fit = collect(model, tokenizer, encoded, batch_size=batch_size).fit_agreement()
    with torch.no_grad():
        model.exit_heads.halting_weight.copy_(-fit.scale.unsqueeze(-1))
        model.exit_heads.halting_bias.copy_(-fit.offset)


def steps_in_all() -> int:
    """Number of steps of `fit_thresholds`."""
    return STEPS * len(STARTS)


@torch.no_grad()
def _answers(
    model: DactForSequenceClassification, tokenizer: Tokenizer, encoded: Encoded, batch_size: int
) -> tuple[Tensor, Tensor]:
    """The logs that the loss looks at [E, N, K], and how sure each layer is [E, N]; of all processes."""
    answers, shape = model.answers, (len(encoded.lengths), model.exit_heads.layers)
    was_training, entries = model.training, 2 * model.classes if answers.kind == "multilabel" else 1
    right, sure = torch.zeros(*shape, entries), torch.zeros(shape)
    labels = label_tensor(encoded.labels or [], answers.kind, model.classes)
    model.eval()
    try:
        for positions, batch in shared_by_length(tokenizer, encoded, batch_size, model.device):
            logits = model.all_exit_outputs(**batch).logits.transpose(0, 1).float().cpu()  # [B, N, C]
            wanted = labels[positions].unsqueeze(1).expand(-1, shape[1], *labels.shape[1:])
            right[positions] = answers.right(answers.logs_of_logits(logits), wanted)
            sure[positions] = answers.sureness(logits)
    finally:
        model.train(was_training)
    return distributed.all_reduce_sum(right), distributed.all_reduce_sum(sure)


def _descend(
    right: Tensor,
    sure: Tensor,
    charge: Callable[[Tensor], Tensor],
    settings: HaltingSettings,
    start: float,
    *,
    stepped: Callable[[], None],
) -> tuple[float, Tensor]:
    """Adam from one start: the loss it ends with, and the biases [N]."""
    bias = torch.full((right.shape[1],), SLOPE * start, requires_grad=True)
    optimizer = torch.optim.Adam([bias], lr=RATE)

    def loss_now() -> Tensor:
        halting_logits = bias - SLOPE * sure
        answer = log_answer(right, halting_logits)  # [E, K]
        return charge(answer) + settings.price * ponder_cost(halting_logits, settings.ponder).mean()

    for _ in range(STEPS):
        optimizer.zero_grad()
        loss_now().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        stepped()
    with torch.no_grad():
        return float(loss_now()), bias.detach()


def fit_all_thresholds(job: Job, stages: list[Stage]) -> None:
    """Choose the thresholds of labels and learn those of halting, on validation. This takes seconds: no checkpoint.

    Either depends on the other: the halting units see how far labels are from their thresholds, and the mixture that
    labels are decided on depends on the halting. The second round starts from the mixture that the first one gives.
    """
    several = job.recipe.task.kind == "multilabel" and job.recipe.data.label is not None
    halts = job.recipe.fits_halting
    rounds = 2 if several and halts else 1
    if several:
        _choose_label_thresholds(job)
    if halts:
        job.listener.stage_started("halting", len(stages) + 1, len(stages) + 1, rounds * steps_in_all())
    for number in range(rounds if halts else 0):
        if number:
            job.model.config.halting = halting_loss(stages)  # from here on the answer is the mixture
            _choose_label_thresholds(job)
        _fit_halting(job, stages, before=number * steps_in_all())
    if job.recipe.model.agreement:
        fit_agreement(job.model, job.tokenizer, job.validation, batch_size=job.recipe.evaluation.batch_size)
    if job.recipe.task.thresholds == "one" and several:
        chosen = job.model.config.label_thresholds
        job.listener.notice(f"labels are there from a probability of {chosen:g} on, the best micro F1 on validation")


def _choose_label_thresholds(job: Job) -> None:
    """Choose from which probability on a label is there."""
    choose_label_thresholds(
        job.model,
        job.tokenizer,
        job.validation,
        job.recipe.task.thresholds,
        batch_size=job.recipe.evaluation.batch_size,
    )


def _fit_halting(job: Job, stages: list[Stage], *, before: int) -> None:
    """Learn the halting thresholds; `before` steps of this kind were taken already."""
    fit_thresholds(
        job.model,
        job.tokenizer,
        job.validation,
        halting_loss(stages),
        batch_size=job.recipe.evaluation.batch_size,
        stepped=lambda step: job.listener.stepped(before + step),
    )
