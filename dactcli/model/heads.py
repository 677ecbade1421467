"""The exit heads: after every layer a classifier and a halting unit on the pooled hidden states.

B batch, N layers, T tokens, H hidden size, C classes, K attention heads. The exit head of layer n pools
the hidden states x_t [H] into z_n:

    mean, first   z_n [B, H]: the mean over real tokens, or the first token
    attention     z_n [B, 2H]: for each of K slices of the hidden states the average weighted by
                  softmax over t of (q_k . x_t), and beside it the maximum over tokens. A single word can decide a
                  class; an average dilutes it, and early layers have not yet spread it to the other tokens

and gives

    f_n = dropout(tanh(W_n z_n + b_n))     logits of y_n = C_n f_n      s_n = S_n f_n

With `halting_inputs: answer` the halting unit sees the answer y_n in place of f_n:

    s_n = SLOPE * (threshold_n - log odds of y_n's largest entry against all others)

(for label sets, `Answers.sureness`: the smallest distance of a label's log odds from those of its threshold)

so that h_n goes from 1 to 0 as y_n becomes surer than the layer's threshold (`dactcli.training.thresholds` learns
the thresholds).

The weights of all layers are stacked: full depth runs all exit heads in one batched product, and adaptive inference
runs the head of one layer from a slice of the same tensors.

    parameter           shape      starts as
    query_weight        [N, K, H]  0 (the plain mean); only with attention
    dense_weight        [N, H, Z]  normal, encoder's initializer_range      Z = H, or 2H with attention
    dense_bias          [N, H]     0
    classifier_weight   [N, C, H]  normal, encoder's initializer_range
    classifier_bias     [N, C]     0
    halting_weight      [N, F]     0; -SLOPE with the answer                F = H, or 1 with the answer
    halting_bias        [N]        so that p_N = 0.5
    certainty_weight    [N, H]     0                                        only with `certainty`: BERxiT's head, which
    certainty_bias      [N]        0                                        predicts whether y_n is right
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from dactcli.halting.answers import log_odds
from dactcli.halting.recursion import start_bias
from dactcli.recipe.settings import HaltingInputs, Pooling

SLOPE = 4.0  # sharp enough to decide, soft enough that several layers share an answer near the threshold (docs/LOG.md)


class ExitOutput(NamedTuple):
    """The output of an exit head in float32. The output of all heads has a leading axis of layers.

    Attributes:
        logits: Logits of y_n [B, C].
        halting_logits: s_n [B].
        certainty_logits: Logits of "y_n is right" [B]; None without that head.
    """

    logits: Tensor
    halting_logits: Tensor
    certainty_logits: Tensor | None = None


class LayerStates(NamedTuple):
    """The result of a pass through all layers.

    Attributes:
        pooled: z_n, stacked [N, B, ...].
        kept: Logits of a kept classifier [B, C].
        hidden: The input of layer 1 and the output of each layer, N + 1 times [B, T, H]; empty unless asked for.
    """

    pooled: Tensor
    kept: Tensor | None
    hidden: tuple[Tensor, ...]

    def none(self) -> LayerStates:
        """The same without any row."""
        kept = None if self.kept is None else self.kept[:0]
        return LayerStates(self.pooled[:, :0], kept, tuple(values[:0] for values in self.hidden))


def _at_least_float32(values: Tensor) -> Tensor:
    """The values in float32 where their type is narrower: fp16 overflows in a sum, and bf16 loses what it adds."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def text_means(values: Tensor, texts: Tensor | None) -> Tensor:
    """The mean over the windows of each text.

    The classifiers are linear, so that the mean of the features gives the mean of the logits, which is the answer of
    the mean of the windows' log answers.

    Args:
        values: Of each window [..., B, F].
        texts: The text of each window, ascending from 0 [B]; None where every row is a text of its own.

    Returns:
        Of each text [..., D, F], summed in at least float32.
    """
    if texts is None:
        return values
    wide = _at_least_float32(values)
    windows = texts.bincount()
    sums = wide.new_zeros(*wide.shape[:-2], len(windows), wide.shape[-1])
    return (sums.index_add(-2, texts, wide) / windows.unsqueeze(-1)).to(values.dtype)


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


@dataclass(frozen=True, kw_only=True)
class HeadSizes:
    """Sizes and initialisation of exit heads, mostly taken from their encoder.

    Attributes:
        layers: N.
        hidden_size: H.
        classes: C.
        attention_heads: K, the number of slices that attention pooling weighs by itself.
        dropout: Dropout probability on the features.
        initializer_range: Standard deviation of the initial weights.
    """

    layers: int
    hidden_size: int
    classes: int
    attention_heads: int = 1
    dropout: float = 0.0
    initializer_range: float = 0.02


class ExitHeads(nn.Module):
    """The exit heads of all layers.

    Args:
        sizes: Their sizes.
        pooling: What a head sees of its layer.
        halting_inputs: What the halting unit sees: the `features`, or the log odds of the `answer`, which is detached.
        certainty: Whether a further head predicts if y_n is right (BERxiT, EACL 2021).
        sureness: How sure the answer of logits [..., C] is [...].
    """

    def __init__(
        self,
        sizes: HeadSizes,
        *,
        pooling: Pooling,
        halting_inputs: HaltingInputs,
        certainty: bool = False,
        sureness: Callable[[Tensor], Tensor] = log_odds,
    ) -> None:
        super().__init__()
        self.sureness = sureness
        self.sizes, self.layers = sizes, sizes.layers
        self.pooling: Pooling = pooling
        self.halting_inputs: HaltingInputs = halting_inputs
        layers, width, attends = sizes.layers, sizes.hidden_size, pooling == "attention"
        self.query_weight = nn.Parameter(torch.empty(layers, sizes.attention_heads, width)) if attends else None
        self.dense_weight = nn.Parameter(torch.empty(layers, width, width * (2 if attends else 1)))
        self.dense_bias = nn.Parameter(torch.empty(layers, width))
        self.classifier_weight = nn.Parameter(torch.empty(layers, sizes.classes, width))
        self.classifier_bias = nn.Parameter(torch.empty(layers, sizes.classes))
        self.halting_weight = nn.Parameter(torch.empty(layers, 1 if halting_inputs == "answer" else width))
        self.halting_bias = nn.Parameter(torch.empty(layers))
        self.certainty_weight = nn.Parameter(torch.empty(layers, width)) if certainty else None
        self.certainty_bias = nn.Parameter(torch.empty(layers)) if certainty else None
        self.dropout = nn.Dropout(sizes.dropout)

    @torch.no_grad()
    def initialise(self) -> None:
        """Set every parameter as the table at the top says."""
        nn.init.normal_(self.dense_weight, std=self.sizes.initializer_range)
        nn.init.normal_(self.classifier_weight, std=self.sizes.initializer_range)
        for zero in (self.dense_bias, self.classifier_bias):
            nn.init.zeros_(zero)
        nn.init.constant_(self.halting_weight, -SLOPE if self.halting_inputs == "answer" else 0.0)
        nn.init.constant_(self.halting_bias, start_bias(self.layers))
        for extra in (self.query_weight, self.certainty_weight, self.certainty_bias):
            if extra is not None:
                nn.init.zeros_(extra)

    def pool(self, layer: int, hidden: Tensor, attention_mask: Tensor | None) -> Tensor:
        """What the exit head of one layer sees.

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
            return attention_pool(hidden, attention_mask, self.query_weight[layer - 1])

    def outputs(self, layer: int, pooled: Tensor, texts: Tensor | None = None) -> ExitOutput:
        """The output of the exit head after one layer.

        Args:
            layer: n, from 1.
            pooled: z_n, as `pool` gives it.
            texts: The text of each row [B], where rows are windows of longer texts; None where each is a text.

        Returns:
            One output for each text.
        """
        with self._full_precision(pooled):
            return self._outputs(layer - 1, pooled.to(self.dense_weight.dtype), texts)

    def _outputs(self, head: int, pooled: Tensor, texts: Tensor | None) -> ExitOutput:
        features = torch.tanh(functional.linear(pooled, self.dense_weight[head], self.dense_bias[head]))
        features = text_means(self.dropout(features) if self.training else features, texts)
        logits = functional.linear(features, self.classifier_weight[head], self.classifier_bias[head]).float()
        inputs = self._halting_inputs(features, logits)
        halting = functional.linear(inputs, self.halting_weight[head : head + 1], self.halting_bias[head : head + 1])
        certainty = None
        if self.certainty_weight is not None and self.certainty_bias is not None:
            # the head looks on: it trains nothing but itself
            certainty = (features.detach() @ self.certainty_weight[head] + self.certainty_bias[head]).float()
        return ExitOutput(logits, halting.squeeze(-1).float(), certainty)

    def all_outputs(self, pooled: Tensor, texts: Tensor | None = None) -> ExitOutput:
        """The outputs of all exit heads at once.

        Args:
            pooled: z_1 .. z_N [N, B, H], or [N, B, 2H] with attention.
            texts: The text of each row [B], where rows are windows of longer texts; None where each is a text.

        Returns:
            logits [N, B, C] and s_n [N, B], for texts in place of rows where `texts` is given.
        """
        with self._full_precision(pooled):
            return self._all_outputs(pooled.to(self.dense_weight.dtype), texts)

    @staticmethod
    def _full_precision(values: Tensor) -> AbstractContextManager[None]:
        """Switch autocast off: pooling runs in float32, and exit heads in the type of their weights."""
        kind = values.device.type
        return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()

    def _all_outputs(self, pooled: Tensor, texts: Tensor | None) -> ExitOutput:
        features = torch.tanh(torch.baddbmm(self.dense_bias.unsqueeze(1), pooled, self.dense_weight.mT))
        features = text_means(self.dropout(features) if self.training else features, texts)
        logits = torch.baddbmm(self.classifier_bias.unsqueeze(1), features, self.classifier_weight.mT).float()
        inputs = self._halting_inputs(features, logits)
        halting = torch.baddbmm(self.halting_bias[:, None, None], inputs, self.halting_weight.unsqueeze(-1))
        certainty = None
        if self.certainty_weight is not None and self.certainty_bias is not None:
            weight = self.certainty_weight.unsqueeze(-1)
            certainty = torch.baddbmm(self.certainty_bias[:, None, None], features.detach(), weight).squeeze(-1).float()
        return ExitOutput(logits, halting.squeeze(-1).float(), certainty)

    def _halting_inputs(self, features: Tensor, logits: Tensor) -> Tensor:
        if self.halting_inputs == "features":
            return features
        return self.sureness(logits.detach()).unsqueeze(-1).to(features.dtype)
