"""The DACT equations: how much each layer may still contribute, and the resulting answer.

B batch, N layers, C classes. Layers count from 1; tensors index them from 0. Everything here is float32 (or the
float64 of a test), whatever type the encoder runs in.

    p_n = p_(n-1) * h_n                              what the layers after n may still contribute; p_0 = 1
    a_n = p_(n-1) * y_n + (1 - p_(n-1)) * a_(n-1)    the answer after n layers; a_0 = 0
    w_n^(m) = p_(n-1) * prod_{k=n+1..m} (1 - p_(k-1))    the share of y_n in a_m

Inference runs the recursion layer by layer, because later layers may never run. Training takes logarithms of the
unrolled sum instead, so that no probability is ever rounded to 0 or 1 before its logarithm is taken.

Sources: DACT (Eyzaguirre and Soto, CVPR 2020, arXiv 2004.12770); DACT-BERT (Eyzaguirre, del Rio, Araujo and Soto,
NLP Power! 2022, arXiv 2109.11745).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

Ponder = Literal["sum_h", "sum_p"]


def start_bias(layers: int) -> float:
    """Initial halting bias, which gives p_N = 0.5, so that training begins with every layer in use.

    Args:
        layers: N.

    Returns:
        b with sigmoid(b) = 0.5^(1/N).
    """
    log_h = -math.log(2) / layers
    return log_h - math.log(-math.expm1(log_h))


def advance(remaining: Tensor, answer: Tensor, y: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Advance the recursion by one layer.

    Args:
        remaining: p_(n-1) [B].
        answer: a_(n-1) [B, C].
        y: this layer's answer y_n [B, C].
        h: this layer's halting output h_n in [0, 1] [B].

    Returns:
        p_n [B] and a_n [B, C].
    """
    weight = remaining.unsqueeze(-1)
    return remaining * h, weight * y + (1 - weight) * answer  # DACT: p_n, a_n


def _prefixes(layers: int, device: torch.device) -> Tensor:
    """[N, N] mask whose row n marks layers 1..n."""
    return torch.ones(layers, layers, dtype=torch.bool, device=device).tril()


def log_remaining(halting_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of p_n and 1 - p_n, computed without p_n itself.

    Uses a masked sum instead of `cumsum`, which has no deterministic CUDA kernel; N is at most a few dozen.

    Args:
        halting_logits: s_n [B, N].

    Returns:
        log p_n [B, N] and log(1 - p_n) [B, N]; finite, with finite gradients, for |s_n| up to 1e4.
    """
    prefix = _prefixes(halting_logits.shape[-1], halting_logits.device)
    kept, stopped = logsigmoid(halting_logits), logsigmoid(-halting_logits)
    # log p_n = sum_{k<=n} log h_k
    log_p = kept.unsqueeze(-2).masked_fill(~prefix, 0.0).sum(-1)
    # 1 - p_n = sum_{k<=n} p_(k-1) * (1 - h_k)
    shed = (_before(log_p) + stopped).unsqueeze(-2)
    return log_p, shed.masked_fill(~prefix, -torch.inf).logsumexp(-1)


def _before(log_p: Tensor) -> Tensor:
    """Log p_(n-1) from log p_n [..., N]."""
    return torch.cat([torch.zeros_like(log_p[..., :1]), log_p[..., :-1]], dim=-1)


def log_halting_weights(halting_logits: Tensor) -> Tensor:
    """Logarithms of w_n^(N), the weight of each layer's answer in a_N.

    Args:
        halting_logits: s_n [B, N]; h_N does not affect the answer and is ignored.

    Returns:
        log w_n [B, N]; the weights sum to 1.
    """
    log_p, log_not_p = log_remaining(halting_logits)
    # layer k > n multiplies w_n by 1 - p_(k-1): sum log(1 - p_j) over j = n .. N-1
    suffix = _prefixes(halting_logits.shape[-1], halting_logits.device).T.clone()
    suffix[:, -1] = False
    return _before(log_p) + log_not_p.unsqueeze(-2).masked_fill(~suffix, 0.0).sum(-1)


def log_answer(layer_logs: Tensor, halting_logits: Tensor) -> Tensor:
    """The full-depth answer in log space.

    Args:
        layer_logs: log y_n [B, N, C].
        halting_logits: s_n [B, N].

    Returns:
        log a_N [B, C].
    """
    return (log_halting_weights(halting_logits).unsqueeze(-1) + layer_logs).logsumexp(1)


def halting_weights(h: Tensor) -> Tensor:
    """Weights w_n^(m) of the layers in the answer after m layers, where m is the number of layers given.

    Args:
        h: h_1 .. h_m [B, m].

    Returns:
        w_n^(m) [B, m], each row summing to 1.
    """
    before = torch.cat([torch.ones_like(h[:, :1]), h[:, :-1]], dim=1).cumprod(1)  # p_(n-1)
    passed = torch.cat([1 - before[:, 1:], torch.ones_like(h[:, :1])], dim=1)  # 1 - p_n, then 1
    return before * passed.flip(1).cumprod(1).flip(1)


def ponder_cost(halting_logits: Tensor, kind: Ponder) -> Tensor:
    """Ponder cost: the cost of the layers in the loss.

    Args:
        halting_logits: s_n [B, N].
        kind: `sum_h`: sum of h_n (DACT-BERT); `sum_p`: sum of p_n (DACT, CVPR 2020).

    Returns:
        rho [B].
    """
    if kind == "sum_h":
        return torch.sigmoid(halting_logits).sum(-1)
    return log_remaining(halting_logits)[0].exp().sum(-1)
