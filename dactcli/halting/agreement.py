"""Confidence calibrated by layer: how likely it is that a layer decides as full depth does.

Every layer has its own scale of confidence. A logistic fit by layer puts them on one: the probability that the layer's
decision is that of full depth, from the log odds of its answer. The fit needs full depth's own decisions and no labels.

    P(layer n decides as full depth) = sigmoid(scale_n * sureness_n + offset_n) = 1 - h_n

E examples, N layers.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

STEPS = 100  # most of L-BFGS; a fit of two numbers for each layer takes about 20
SPREAD = (1.0, 10.0)  # standard deviations of a normal prior on scale (around 1) and offset (around 0)


class AgreementFit(NamedTuple):
    """The fitted numbers of each layer.

    Attributes:
        scale: [N].
        offset: [N].
    """

    scale: Tensor
    offset: Tensor

    def changes(self, sureness: Tensor) -> Tensor:
        """h_n: the probability that full depth decides otherwise [..., N], from the sureness [..., N]."""
        return torch.sigmoid(-(self.scale * sureness.double() + self.offset)).to(sureness.dtype)


@torch.enable_grad()
def fit_agreement(sureness: Tensor, same: Tensor) -> AgreementFit:
    """Fit the probability that a layer decides as full depth does (Platt scaling, by layer).

    A weak prior keeps the fit finite where a layer always decides alike: it says that log odds mean what they say.

    Args:
        sureness: How sure each layer's answer is, in log odds [E, N].
        same: Whether its decision is that of full depth [E, N].

    Returns:
        The fit, float64.
    """
    seen, target = sureness.double(), same.double()
    layers = seen.shape[1]
    numbers = torch.stack([torch.ones(layers), torch.zeros(layers)]).double().requires_grad_()
    prior, deviations = numbers.detach().clone(), torch.tensor(SPREAD).double().unsqueeze(1)
    optimizer = torch.optim.LBFGS([numbers], max_iter=STEPS, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def loss_now() -> Tensor:
        optimizer.zero_grad()
        logits = numbers[0] * seen + numbers[1]
        misses = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        loss: Tensor = misses + 0.5 * ((numbers - prior) / deviations).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(loss_now)  # type: ignore[no-untyped-call]
    scale, offset = numbers.detach()
    return AgreementFit(scale, offset)
