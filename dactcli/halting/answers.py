"""The three kinds of answers: one class, a set of labels, or a value.

A kind says how logits become an answer, what the answer decides, what a wrong one costs, and when no later layer can
change the decision. Rules, model, training and evaluation ask it instead of asking which kind there is.

    kind             answer y_n and a_n                         what it decides               logs (see below)
    `Classes`        probabilities of the classes [C]           the largest entry             log y [C]
    `LabelSets`      a probability for each label [C]           the labels with a >= t        log(1 - y), log y [2C]
    `Values`         a value within a range [1]                 the value                     the value [1]

Training mixes the layers' answers in logarithms. A label set has two for each label, because neither a nor 1 - a may
be computed from the other when it is nearly 1; the recursion mixes both with the same weights.

`LabelSets` has a module of its own (`dactcli.halting.label_sets`).

B batch, C classes or labels, F entries of the logs. The leading axes of a tensor are free where `...` stands.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from dactcli.halting.recursion import log_answer, log_halting_weights

Kind = Literal["classes", "multilabel", "regression"]
THRESHOLD = 0.5  # of a label's probability, where none was chosen
NEAR = 0.01  # of a regression's range: values that close count as the same


def wide(values: Tensor) -> Tensor:
    """The values in float64; on the CPU if the device has no float64 (MPS)."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def top_two(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """The two largest entries, float64 [B] each; the second is 0 if there is only one class."""
    top = wide(probabilities).topk(min(2, probabilities.shape[-1]), dim=-1).values
    return top[:, 0], top[:, 1] if top.shape[1] > 1 else torch.zeros_like(top[:, 0])


def normalised_entropy(probabilities: Tensor) -> Tensor:
    """Entropy divided by that of the uniform distribution, float64 in [0, 1] [B]."""
    entropy: Tensor = torch.special.entr(wide(probabilities)).sum(-1)
    return entropy / math.log(max(probabilities.shape[-1], 2))


def finite_log(probabilities: Tensor) -> Tensor:
    """Logarithms that stay finite where a probability has underflowed."""
    return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()


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


class Answers(ABC):
    """What the answers of a model are.

    Attributes:
        kind: `classes`, `multilabel` or `regression`.
        noun: What a decision is called in sentences.
    """

    kind: ClassVar[Kind]
    noun: ClassVar[str]

    @property
    def decides(self) -> bool:
        """Whether the answer decides among classes or labels; False for a value."""
        return True

    @abstractmethod
    def read(self, logits: Tensor) -> Tensor:
        """y_n from the logits of an exit head [..., C]."""

    @abstractmethod
    def logs_of_logits(self, logits: Tensor) -> Tensor:
        """The logs [..., F] of the answer that logits [..., C] give."""

    @abstractmethod
    def logs(self, answer: Tensor) -> Tensor:
        """The logs [..., F] of an answer [..., C], finite where a probability has underflowed."""

    def logits(self, logs: Tensor) -> Tensor:
        """What `forward` returns for logs [..., F]: a pipeline turns it into the answer [..., C]."""
        return logs

    def mix(self, logs: Tensor, halting_logits: Tensor) -> Tensor:
        """The logs of the full-depth answer.

        Args:
            logs: Of y_n [B, N, F].
            halting_logits: s_n [B, N].

        Returns:
            [B, F].
        """
        return log_answer(logs, halting_logits)

    @abstractmethod
    def right(self, logs: Tensor, labels: Tensor) -> Tensor:
        """The entries of the logs [..., F] that the loss looks at, [..., K].

        Args:
            logs: Of an answer.
            labels: The labels, whose leading axes are those of the logs.
        """

    @abstractmethod
    def average(self, costs: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
        """The cost of each row [B].

        Args:
            costs: Of the entries that `right` gives [B, K].
            labels: The labels [B] or [B, C].
            weights: Factor of a row by its class [C]; None for 1.
        """

    def miss(self, logs: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """The negative log-likelihood of each row [B]; for values the squared error.

        Args:
            logs: Of the answers [B, F].
            labels: Classes [B], probabilities of the classes or of the labels [B, C], or values [B].
            weights: Factor of a row by its class [C]; None for 1.
        """
        return self.average(-self.right(logs, labels), labels, weights)

    def distance(self, teacher: Tensor, students: Tensor) -> Tensor:
        """The cross entropy between logs [..., F], for values the squared error; a scalar."""
        return -(teacher.exp() * students).sum(-1).mean()

    @abstractmethod
    def is_right(self, logs: Tensor, labels: Tensor) -> Tensor:
        """Whether each layer's decision is right, 0..1 [B, N], from logs [B, N, F]."""

    @abstractmethod
    def decide(self, answer: Tensor) -> Tensor:
        """The decision of an answer [..., C]: class numbers [...], booleans [..., C], or values [...]."""

    @abstractmethod
    def same(self, one: Tensor, other: Tensor) -> Tensor:
        """Whether two answers [..., C] decide alike [...]."""

    @abstractmethod
    def confidence(self, answer: Tensor) -> Tensor:
        """How sure an answer [B, C] is, float64 [B]."""

    def lowest(self, classes: int) -> float:
        """The lowest confidence that an answer can have."""
        return 1 / max(classes, 2)

    @abstractmethod
    def entropy(self, answer: Tensor) -> Tensor:
        """The entropy of an answer [B, C], 0..1, float64 [B]."""

    @abstractmethod
    def sureness(self, logits: Tensor) -> Tensor:
        """What a halting unit sees of an answer [...], in log odds, from its logits [..., C]."""

    @abstractmethod
    def certainty(self, answer: Tensor, remaining: Tensor, left: int) -> Tensor:
        """The left side of `exact`, without its margin for rounding: from 1 on the decision cannot change.

        Args:
            answer: a_n [B, C].
            remaining: p_n [B].
            left: Layers that have not run, d.

        Returns:
            float64 [B].
        """

    @abstractmethod
    def paper_certainty(self, answer: Tensor, remaining: Tensor, left: int) -> Tensor:
        """The left side of `paper` less its right side: from 0 on the decision cannot change; as `certainty`."""


@dataclass(frozen=True)
class Classes(Answers):
    """One of several classes."""

    kind = "classes"
    noun = "class"

    def read(self, logits: Tensor) -> Tensor:
        """Softmax."""
        return logits.softmax(-1)

    def logs_of_logits(self, logits: Tensor) -> Tensor:
        """Log-softmax."""
        return logits.log_softmax(-1)

    def logs(self, answer: Tensor) -> Tensor:
        """Logarithms of the probabilities."""
        return finite_log(answer)

    def right(self, logs: Tensor, labels: Tensor) -> Tensor:
        """The logarithm of the label's probability [..., 1]; all of them for probabilities as labels [..., C]."""
        return logs if labels.is_floating_point() else logs.gather(-1, labels.unsqueeze(-1))

    def average(self, costs: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
        """The cost of the label, weighted by its class; for probabilities as labels the expected one."""
        if labels.is_floating_point():
            expected = costs * labels.to(costs.dtype)
            return (expected if weights is None else expected * weights).sum(-1)
        return costs.squeeze(-1) if weights is None else costs.squeeze(-1) * weights[labels]

    def is_right(self, logs: Tensor, labels: Tensor) -> Tensor:
        """Whether the likeliest class is the label; for probabilities as labels, its probability."""
        guess = logs.argmax(-1)  # [B, N]
        right = labels.gather(-1, guess) if labels.is_floating_point() else guess == labels.unsqueeze(-1)
        return right.to(logs.dtype)

    def decide(self, answer: Tensor) -> Tensor:
        """The likeliest class."""
        return answer.argmax(-1)

    def same(self, one: Tensor, other: Tensor) -> Tensor:
        """Whether the likeliest class is the same."""
        return one.argmax(-1) == other.argmax(-1)

    def confidence(self, answer: Tensor) -> Tensor:
        """The largest probability."""
        return top_two(answer)[0]

    def entropy(self, answer: Tensor) -> Tensor:
        """Divided by that of the uniform distribution."""
        return normalised_entropy(answer)

    def sureness(self, logits: Tensor) -> Tensor:
        """The log odds of the likeliest class."""
        return log_odds(logits)

    def certainty(self, answer: Tensor, remaining: Tensor, left: int) -> Tensor:
        """(1 - p)^d (1 + top - second)."""
        top, second = top_two(answer)
        kept: Tensor = (1 - wide(remaining)) ** left
        return kept * (1 + (top - second))

    def paper_certainty(self, answer: Tensor, remaining: Tensor, left: int) -> Tensor:
        """Top (1 - p)^d - second - p d."""
        p = wide(remaining)
        top, second = top_two(answer)
        return top * (1 - p) ** left - second - p * left


CLASSES = Classes()


@dataclass(frozen=True)
class Values(Answers):
    """A value within a range.

    Attributes:
        low: The lowest answer.
        high: The highest answer.
    """

    low: float
    high: float
    kind = "regression"
    noun = "value"

    @property
    def decides(self) -> bool:
        """False."""
        return False

    def read(self, logits: Tensor) -> Tensor:
        """A sigmoid stretched to the range."""
        return self.low + (self.high - self.low) * torch.sigmoid(logits)

    def logs_of_logits(self, logits: Tensor) -> Tensor:
        """The value itself."""
        return self.read(logits)

    def logs(self, answer: Tensor) -> Tensor:
        """The value itself."""
        return answer

    def mix(self, logs: Tensor, halting_logits: Tensor) -> Tensor:
        """The weighted mean of the values."""
        return (log_halting_weights(halting_logits).exp().unsqueeze(-1) * logs).sum(1)

    def right(self, logs: Tensor, labels: Tensor) -> Tensor:
        """The value."""
        return logs

    def average(self, costs: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
        """The cost as it is."""
        return costs[..., 0]

    def miss(self, logs: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """The squared error."""
        return (logs[..., 0] - labels.to(logs.dtype)) ** 2

    def distance(self, teacher: Tensor, students: Tensor) -> Tensor:
        """The mean squared error."""
        return ((students - teacher) ** 2).mean()

    def is_right(self, logs: Tensor, labels: Tensor) -> Tensor:
        """Whether the value is near the label."""
        return (self._apart(logs[..., 0], labels.unsqueeze(-1)) <= NEAR).to(logs.dtype)

    def decide(self, answer: Tensor) -> Tensor:
        """The value."""
        return answer[..., 0]

    def same(self, one: Tensor, other: Tensor) -> Tensor:
        """Whether the values are within 1% of the range."""
        return (one - other).abs()[..., 0] <= NEAR * (self.high - self.low)

    def _apart(self, one: Tensor, other: Tensor) -> Tensor:
        return (one - other).abs() / (self.high - self.low)

    def confidence(self, answer: Tensor) -> Tensor:
        """Not defined: a value does not say how sure it is."""
        raise NotImplementedError

    def entropy(self, answer: Tensor) -> Tensor:
        """Not defined: a value does not say how sure it is."""
        raise NotImplementedError

    def sureness(self, logits: Tensor) -> Tensor:
        """Not defined: a value does not say how sure it is."""
        raise NotImplementedError

    def certainty(self, answer: Tensor, remaining: Tensor, left: int) -> Tensor:
        """Not defined: `tolerance` is the sound rule of a value."""
        raise NotImplementedError

    def paper_certainty(self, answer: Tensor, remaining: Tensor, left: int) -> Tensor:
        """Not defined: `tolerance` is the sound rule of a value."""
        raise NotImplementedError
