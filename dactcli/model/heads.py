"""The units: after every layer a classifier and a halting unit on the pooled hidden states.

B batch, N layers, T tokens, H hidden size, C classes, K heads. Layer n's unit pools the hidden states x_t [H] into z_n:

    mean, first   z_n [B, H]: the mean over real tokens, or the first token
    attention     z_n [B, 2H]: for each of K slices of the hidden states the average weighted by
                  softmax over t of (q_k . x_t), and beside it the maximum over tokens. A single word can decide a
                  class; an average dilutes it, and early layers have not yet spread it to the other tokens

and gives

    f_n = dropout(tanh(W_n z_n + b_n))     logits of y_n = C_n f_n      s_n = S_n f_n

What the halting unit sees besides f_n, or in its place, is what y_n says of itself. With the answer alone

    s_n = SLOPE * (threshold_n - log odds of y_n's largest entry against all others)

so that h_n goes from 1 to 0 as y_n becomes surer than the layer's threshold (`dactcli.training.thresholds` learns
those).

The weights of all layers are stacked, so that full depth runs every unit in one batched product, and adaptive
inference runs one layer's unit from a slice of the same tensors.

    parameter           shape      starts as
    query_weight        [U, K, H]  0 (the plain mean); only with attention  U = N, or 1 when layers share one unit
    dense_weight        [U, H, Z]  normal, encoder's initializer_range      Z = H, or 2H with attention
    dense_bias          [U, H]     0
    classifier_weight   [U, C, H]  normal, encoder's initializer_range
    classifier_bias     [U, C]     0
    halting_weight      [U, F]     0; -SLOPE with the answer alone          F = H, H + 2 with the answer beside the
    halting_bias        [U]        so that p_N = 0.5, or as configured      features, 1 with the answer alone
    certainty_weight    [U, H]     0                                        only with `certainty`: BERxiT's head, which
    certainty_bias      [U]        0                                        predicts whether y_n is right
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

Pooling = Literal["mean", "first", "attention"]
HaltingInputs = Literal["answer", "features", "features+answer"]
SLOPE = 4.0  # sharp enough to decide, soft enough that several layers share an answer near the threshold (docs/LOG.md)


class UnitOutput(NamedTuple):
    """What units say, in float32; with a leading axis of layers where several were asked.

    Attributes:
        logits: Of y_n [B, C].
        halting_logits: s_n [B].
        certainty_logits: Of "y_n is right" [B]; None without that head.
    """

    logits: Tensor
    halting_logits: Tensor
    certainty_logits: Tensor | None = None


def _at_least_float32(values: Tensor) -> Tensor:
    """The values in float32 where their type is narrower: fp16 overflows in a sum, and bf16 loses what it adds."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def mean_pool(hidden: Tensor, attention_mask: Tensor | None) -> Tensor:
    """The mean over real tokens.

    Args:
        hidden: [B, T, H].
        attention_mask: 1 for real tokens, 0 for padding [B, T]; None when nothing is padded.

    Returns:
        [B, H], at least float32.
    """
    hidden = _at_least_float32(hidden)
    if attention_mask is None:
        return hidden.mean(1)
    weights = attention_mask.to(hidden.dtype)
    total = torch.bmm(weights.unsqueeze(1), hidden).squeeze(1)
    return total / weights.sum(1, keepdim=True).clamp_min(1)


def attention_pool(hidden: Tensor, attention_mask: Tensor | None, query: Tensor) -> Tensor:
    """Weighted averages by slices of the hidden states, and the maximum over tokens.

    Args:
        hidden: [B, T, H].
        attention_mask: 1 for real tokens, 0 for padding [B, T]; None when nothing is padded.
        query: q_k [K, H]; K divides H.

    Returns:
        [B, 2H], at least float32.
    """
    hidden, query = _at_least_float32(hidden), query.to(torch.promote_types(hidden.dtype, torch.float32))
    batch, tokens, width = hidden.shape
    scores = functional.linear(hidden, query)  # [B, T, K]
    values = hidden
    if attention_mask is not None:
        padded = (attention_mask == 0).unsqueeze(-1)
        scores, values = (t.masked_fill(padded, torch.finfo(t.dtype).min) for t in (scores, hidden))
    slices = hidden.view(batch, tokens, len(query), -1)  # [B, T, K, H / K]
    weights = scores.softmax(1).transpose(1, 2).unsqueeze(2)  # [B, K, 1, T]
    averages = (weights @ slices.transpose(1, 2)).reshape(batch, width)
    return torch.cat([averages, values.amax(1)], dim=-1)


def log_odds(logits: Tensor) -> Tensor:
    """How sure an answer is: the log odds of the likeliest class against all others.

    Args:
        logits: [..., C], C at least 2.

    Returns:
        At least -log(C - 1), without upper bound [...].
    """
    first = logits.argmax(-1, keepdim=True)
    others = logits.scatter(-1, first, -torch.inf).logsumexp(-1)
    return logits.gather(-1, first).squeeze(-1) - others


class Units(nn.Module):
    """The units of all layers.

    Args:
        layers: N.
        hidden_size: H.
        classes: C.
        pooling: What a unit sees of its layer.
        heads: K, for `attention`.
        shared: One unit for all layers.
        certainty: Whether there is a head that predicts whether y_n is right (BERxiT, EACL 2021).
        halting_inputs: What the halting unit sees: the `features`, with `features+answer` also the largest entry and
            the entropy of y_n, or the `answer` alone, that is its log odds. Answers are detached.
        dropout: Probability on the features.
        halting_bias: Start of S_n's bias.
        initializer_range: Standard deviation of the weights' start.
    """

    def __init__(
        self,
        *,
        layers: int,
        hidden_size: int,
        classes: int,
        pooling: Pooling = "mean",
        heads: int = 1,
        shared: bool,
        certainty: bool = False,
        halting_inputs: HaltingInputs,
        dropout: float,
        halting_bias: float,
        initializer_range: float,
    ) -> None:
        super().__init__()
        count = 1 if shared else layers
        self.layers, self.shared = layers, shared
        self.halting_inputs: HaltingInputs = halting_inputs
        self.start_bias, self.initializer_range = halting_bias, initializer_range
        self.pooling: Pooling = pooling
        attends = pooling == "attention"
        self.query_weight = nn.Parameter(torch.empty(count, heads, hidden_size)) if attends else None
        self.dense_weight = nn.Parameter(torch.empty(count, hidden_size, hidden_size * (2 if attends else 1)))
        self.dense_bias = nn.Parameter(torch.empty(count, hidden_size))
        self.classifier_weight = nn.Parameter(torch.empty(count, classes, hidden_size))
        self.classifier_bias = nn.Parameter(torch.empty(count, classes))
        seen = {"answer": 1, "features": hidden_size, "features+answer": hidden_size + 2}[halting_inputs]
        self.halting_weight = nn.Parameter(torch.empty(count, seen))
        self.halting_bias = nn.Parameter(torch.empty(count))
        self.certainty_weight = nn.Parameter(torch.empty(count, hidden_size)) if certainty else None
        self.certainty_bias = nn.Parameter(torch.empty(count)) if certainty else None
        self.dropout = nn.Dropout(dropout)

    @torch.no_grad()
    def initialise(self) -> None:
        """Set every parameter as the table at the top says."""
        nn.init.normal_(self.dense_weight, std=self.initializer_range)
        nn.init.normal_(self.classifier_weight, std=self.initializer_range)
        for zero in (self.dense_bias, self.classifier_bias):
            nn.init.zeros_(zero)
        nn.init.constant_(self.halting_weight, -SLOPE if self.halting_inputs == "answer" else 0.0)
        nn.init.constant_(self.halting_bias, self.start_bias)
        for extra in (self.query_weight, self.certainty_weight, self.certainty_bias):
            if extra is not None:
                nn.init.zeros_(extra)

    def pool(self, layer: int, hidden: Tensor, attention_mask: Tensor | None) -> Tensor:
        """What one layer's unit sees of it.

        Args:
            layer: n, from 1.
            hidden: [B, T, H].
            attention_mask: 1 for real tokens, 0 for padding [B, T]; None when nothing is padded.

        Returns:
            z_n [B, H], or [B, 2H] with attention.
        """
        if self.pooling == "first":
            return hidden[:, 0]
        with self._full_precision(hidden):
            if self.query_weight is None:
                return mean_pool(hidden, attention_mask)
            return attention_pool(hidden, attention_mask, self.query_weight[0 if self.shared else layer - 1])

    def one(self, layer: int, pooled: Tensor) -> UnitOutput:
        """The unit after one layer.

        Args:
            layer: n, from 1.
            pooled: z_n, as `pool` gives it.

        Returns:
            logits [B, C] and s_n [B].
        """
        u = 0 if self.shared else layer - 1
        with self._full_precision(pooled):
            return self._one(u, pooled.to(self.dense_weight.dtype))

    def _one(self, u: int, pooled: Tensor) -> UnitOutput:
        features = torch.tanh(functional.linear(pooled, self.dense_weight[u], self.dense_bias[u]))
        features = self.dropout(features) if self.training else features
        logits = functional.linear(features, self.classifier_weight[u], self.classifier_bias[u]).float()
        inputs = self._halting_inputs(features, logits)
        halting = functional.linear(inputs, self.halting_weight[u : u + 1], self.halting_bias[u : u + 1])
        certainty = None
        if self.certainty_weight is not None and self.certainty_bias is not None:
            # the head looks on: it trains nothing but itself
            certainty = (features.detach() @ self.certainty_weight[u] + self.certainty_bias[u]).float()
        return UnitOutput(logits, halting.squeeze(-1).float(), certainty)

    def every(self, pooled: Tensor) -> UnitOutput:
        """The units of all layers at once.

        Args:
            pooled: z_1 .. z_N [N, B, H], or [N, B, 2H] with attention.

        Returns:
            logits [N, B, C] and s_n [N, B].
        """
        if self.shared:
            layers, batch, _ = pooled.shape
            flat = self.one(1, pooled.flatten(0, 1))
            certainty = flat.certainty_logits
            return UnitOutput(
                flat.logits.view(layers, batch, -1),
                flat.halting_logits.view(layers, batch),
                None if certainty is None else certainty.view(layers, batch),
            )
        with self._full_precision(pooled):
            return self._every(pooled.to(self.dense_weight.dtype))

    @staticmethod
    def _full_precision(values: Tensor) -> AbstractContextManager[None]:
        """Keep pooling in float32 and the units in the type of their weights, whatever autocast does elsewhere."""
        kind = values.device.type
        return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()

    def _every(self, pooled: Tensor) -> UnitOutput:
        features = torch.tanh(torch.baddbmm(self.dense_bias.unsqueeze(1), pooled, self.dense_weight.mT))
        features = self.dropout(features) if self.training else features
        logits = torch.baddbmm(self.classifier_bias.unsqueeze(1), features, self.classifier_weight.mT).float()
        inputs = self._halting_inputs(features, logits)
        halting = torch.baddbmm(self.halting_bias[:, None, None], inputs, self.halting_weight.unsqueeze(-1))
        certainty = None
        if self.certainty_weight is not None and self.certainty_bias is not None:
            weight = self.certainty_weight.unsqueeze(-1)
            certainty = torch.baddbmm(self.certainty_bias[:, None, None], features.detach(), weight).squeeze(-1).float()
        return UnitOutput(logits, halting.squeeze(-1).float(), certainty)

    def _halting_inputs(self, features: Tensor, logits: Tensor) -> Tensor:
        if self.halting_inputs == "features":
            return features
        if self.halting_inputs == "answer":
            return log_odds(logits.detach()).unsqueeze(-1).to(features.dtype)
        y = logits.detach().softmax(-1)
        seen = torch.stack([y.amax(-1), torch.special.entr(y).sum(-1)], dim=-1)
        return torch.cat([features, seen.to(features.dtype)], dim=-1)
