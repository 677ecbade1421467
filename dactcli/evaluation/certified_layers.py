"""What a certificate would cost: the mean layers of a rule at a certified risk, of one sample or over draws of samples.

A measurement by which nothing is chosen. Where no threshold passes, all N layers run.

E examples, T thresholds, D samples, G distinct inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dactcli.evaluation.certificate import Evidence, distinct_losses, evidence, last_certified

RISKS, DELTA, DRAWS = (0.01, 0.02), 0.05, 1000
CHUNK = 250


@dataclass(frozen=True)
class Population:
    """Examples to draw calibration samples from.

    Attributes:
        losses: Loss of each member at each threshold, from cautious to bold [T, E].
        inputs: The number of each member's distinct input [E].
        weights: Probability of each member [E].
        depths: Mean layers of the population at each threshold [T], and last the depth where none is certified.
        copies: How many times a member that is drawn stands in the sample.
    """

    losses: NDArray[np.bool_]
    inputs: NDArray[np.int64]
    weights: NDArray[np.float64]
    depths: NDArray[np.float64]
    copies: int = 1

    @classmethod
    def even(
        cls,
        losses: NDArray[np.bool_],
        depths: NDArray[np.float64],
        *,
        otherwise: float,
        inputs: Sequence[int] | NDArray[np.int64] | None = None,
    ) -> Population:
        """A population whose members are equally likely.

        Args:
            losses: As in the class.
            depths: Mean layers at each threshold [T].
            otherwise: The layers that run where no threshold is certified.
            inputs: The number of each member's distinct input [E]. Default: all differ.
        """
        members = losses.shape[1]
        numbers = np.arange(members) if inputs is None else np.asarray(inputs)
        return cls(losses, numbers, np.full(members, 1 / members), np.append(depths, otherwise))

    @property
    def risk(self) -> NDArray[np.float64]:
        """The true risk at each threshold [T]."""
        found: NDArray[np.float64] = self.losses.astype(float) @ self.weights
        return found

    def samples(self, size: int, draws: int) -> Iterator[tuple[Evidence, Evidence]]:
        """Draw calibration samples with replacement, the same ones at every call.

        Args:
            size: Examples of a sample.
            draws: How many samples.

        Yields:
            The evidence of up to CHUNK samples: on all rows, and with each distinct input once [D, T].
        """
        generator, losses = np.random.default_rng(0), self.losses.T.astype(np.float32)  # [E, T]
        distinct = distinct_losses(self.losses, self.inputs).T.astype(np.float32)  # [G, T]
        numbers = np.unique(self.inputs, return_inverse=True)[1]
        member_of = np.eye(len(distinct), dtype=np.float32)[numbers]  # [E, G]
        for start in range(0, draws, CHUNK):
            count = min(CHUNK, draws - start)
            drawn = generator.multinomial(size // self.copies, self.weights, size=count).astype(np.float32)
            present = (drawn @ member_of > 0).astype(np.float32)  # [D, G]
            rows = Evidence(np.rint(drawn * self.copies @ losses), size // self.copies * self.copies)
            yield rows, Evidence(np.rint(present @ distinct), present.sum(1, keepdims=True))


def certified_layers(
    losses: NDArray[np.bool_],
    inputs: NDArray[np.int64],
    depths: NDArray[np.float64],
    risk: float,
    *,
    otherwise: float,
) -> float:
    """Mean layers of the threshold that one sample certifies, as `dact eval --calibrate` does it.

    Args:
        losses: Loss of each example at each threshold, from cautious to bold [T, E].
        inputs: The number of each example's distinct input [E].
        depths: Mean layers at each threshold [T].
        risk: The risk to certify, with probability 1 - DELTA.
        otherwise: The layers that run where no threshold is certified.
    """
    chosen = int(last_certified(evidence(losses, inputs), epsilon=risk, delta=DELTA))
    return otherwise if chosen < 0 else float(depths[chosen])


def expected_layers(population: Population, risk: float, *, size: int, draws: int = DRAWS) -> float:
    """Mean layers at a certified risk over the draw of samples.

    The draws are independent of each other, so that a member that is drawn twice counts twice. (Of real data a copy is
    no evidence about other texts, and a certificate counts distinct inputs too.)

    Args:
        population: What samples are drawn from.
        risk: The risk to certify, with probability 1 - DELTA.
        size: Examples of a sample.
        draws: How many samples.
    """
    layers = 0.0
    for rows, _ in population.samples(size, draws):
        chosen = last_certified([rows], epsilon=risk, delta=DELTA)
        layers += float(population.depths[chosen].sum())  # index -1 is the depth where none is certified
    return layers / draws
