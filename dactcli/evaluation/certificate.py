"""Learn-then-Test with fixed-sequence testing: which thresholds a sample certifies.

Fixed beforehand are the model, the rule, the loss, the grid of thresholds and its order from cautious to bold, epsilon
and delta. At each threshold every calibration example has a loss of 0 or 1. Testing goes on while the exact binomial
p-value of "risk > epsilon" is at most delta, and stops at the first that fails; the last that passed is taken. With
probability at least 1 - delta over the draw of the sample its risk is then at most epsilon: the first threshold whose
risk is larger is reached only if its own test errs (Angelopoulos, Bates, Candes, Jordan and Lei, "Learn then Test",
arXiv 2110.01052).

A threshold has to pass several tests at once, each at the full delta. Each test can only make the result more
cautious, so the promise of the first one stands:

- on all rows, and with each distinct input once: copies of a text are not evidence about other texts;
- by class, where the promise is for every class (an intersection-union test: the threshold is certified only if it
  passes in each).

E examples, G distinct inputs, T thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Booleans = NDArray[np.bool_]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Evidence:
    """The data of one test.

    Attributes:
        losses: Losses observed at each threshold, from cautious to bold, for one or many samples [..., T].
        examples: Size of the sample, a number or [..., 1].
    """

    losses: NDArray[np.int64] | NDArray[np.float64]
    examples: int | NDArray[np.int64] | NDArray[np.float64]


def last_certified(tests: Sequence[Evidence], *, epsilon: float, delta: float) -> Integers:
    """Fixed-sequence testing, where a threshold passes only if it passes every test.

    Args:
        tests: At least one; all of the same thresholds.
        epsilon: The risk that is promised.
        delta: The probability with which the promise may fail.

    Returns:
        Index of the last threshold that passed, -1 where the first already fails [...].
    """
    from scipy.stats import binom

    # the p-value of "risk > epsilon" after k losses is P(Binomial(examples, epsilon) <= k)
    failed = np.logical_or.reduce([binom.cdf(test.losses, test.examples, epsilon) > delta for test in tests])
    first = np.where(failed.any(-1), failed.argmax(-1), failed.shape[-1])
    return np.asarray(first - 1, dtype=np.int64)


def smallest_sample(*, epsilon: float, delta: float) -> int:
    """Fewest examples that can certify a risk, if none of them has a loss."""
    return math.ceil(math.log(delta) / math.log1p(-epsilon))


def distinct_losses(losses: Booleans, inputs: Integers) -> Booleans:
    """The losses with each distinct input once; it has a loss if any of its copies does.

    Args:
        losses: [T, E].
        inputs: The number of each example's distinct input [E].

    Returns:
        [T, G].
    """
    order = np.argsort(inputs, kind="stable")
    starts = np.flatnonzero(np.diff(inputs[order], prepend=inputs[order][0] - 1))
    found: Booleans = np.logical_or.reduceat(losses[:, order], starts, axis=1)
    return found


def evidence(losses: Booleans, inputs: Integers) -> list[Evidence]:
    """The two tests of a sample: on all rows, and with each distinct input once.

    Args:
        losses: [T, E].
        inputs: The number of each example's distinct input [E].
    """
    distinct = distinct_losses(losses, inputs)
    return [Evidence(losses.sum(1), losses.shape[1]), Evidence(distinct.sum(1), distinct.shape[1])]


def evidence_by_class(
    losses: Booleans, inputs: Integers, classes: Integers, smallest: int
) -> dict[int, list[Evidence]]:
    """The two tests of each class that has enough distinct inputs.

    Args:
        losses: [T, E].
        inputs: The number of each example's distinct input [E].
        classes: The class that each example counts for [E].
        smallest: Fewest distinct inputs; a class with fewer could not pass even without a loss.
    """
    found = {}
    for number in np.unique(classes).tolist():
        own = classes == number
        if len(np.unique(inputs[own])) >= smallest:
            found[int(number)] = evidence(losses[:, own], inputs[own])
    return found
