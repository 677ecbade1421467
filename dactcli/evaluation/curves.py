"""A rule's curve of metric against layers, on the data and in every bootstrap sample, and areas under it.

    x = mean layers / N, at most 1          y = metric, or metric / metric of the reference

A curve begins at the rule's first point, because the rule never runs fewer layers. It is linear between points and
constant beyond the last, because a larger budget need not be used. K points, S bootstrap samples; sample 0 is the
data itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dactcli.evaluation.metrics import Array
from dactcli.results import AreaDifference, Interval

NEAR = 0.25  # layers: a rule whose fewest mean layers are this close to 1 covers the whole range
SLACK = 1e-9  # rounding of a mean over seeds
BOUNDS = (0.025, 0.975)  # quantiles of a 95% interval


@dataclass(frozen=True)
class Curves:
    """A rule's points in every sample.

    Attributes:
        xs: Mean layers / N of its points [K, 1 + S].
        ys: Their metric / metric of the reference [K, 1 + S].
        layers: N.
    """

    xs: Array
    ys: Array
    layers: int

    @property
    def starts(self) -> Array:
        """Where the curve begins [1 + S]."""
        first: Array = self.xs.min(0)
        return first

    @property
    def covers(self) -> bool:
        """Whether the rule can run about one layer on average, so that its area spans the whole range."""
        return bool(self.starts[0] * self.layers <= 1 + NEAR)

    def areas(self, starts: Array | None = None) -> Array:
        """The area under the curve, divided by its width, in every sample [1 + S].

        Args:
            starts: Where to begin [1 + S], not before the curve does; its own start when None.
        """
        begins = self.starts if starts is None else starts
        found = [area(x, y, begin) for x, y, begin in zip(self.xs.T, self.ys.T, begins, strict=True)]
        return np.array(found)

    @property
    def interval(self) -> Interval:
        """The area from the curve's start, with its 95 % interval."""
        found = self.areas()
        return Interval(float(found[0]), *(float(q) for q in np.quantile(found[1:], BOUNDS)))

    def less(self, other: Curves) -> AreaDifference:
        """This area less another's, over the layers that both run, paired sample by sample."""
        starts = np.maximum(self.starts, other.starts)
        gaps = self.areas(starts) - other.areas(starts)
        low, high = (float(q) for q in np.quantile(gaps[1:], BOUNDS))
        return AreaDifference(float(gaps[0]), low, high, layers_from=float(starts[0]) * self.layers)


def curve(xs: Array, ys: Array) -> tuple[Array, Array]:
    """The corners of a curve by ascending x, from the first point to 1; two corners at one x make a step.

    Args:
        xs: Mean layers / N of the points [K].
        ys: Their values [K].
    """
    order = np.argsort(xs, kind="stable")
    return np.append(xs[order], 1.0), np.append(ys[order], ys[order[-1]])


def area(xs: Array, ys: Array, start: float) -> float:
    """The area under a curve from a start to 1, divided by that width; the last value where there is no width.

    Args:
        xs: Mean layers / N of the points [K].
        ys: Their values [K].
        start: Where to begin.

    Raises:
        ValueError: The start lies before the first point.
    """
    corners, values = curve(xs, ys)
    if start >= 1 - SLACK:
        return float(values[-1])
    first, beyond = value_at((corners, values), start), corners > start
    if first is None:
        raise ValueError(f"the curve begins at {corners[0]}, after {start}")
    x, y = np.append(start, corners[beyond]), np.append(first, values[beyond])
    return float(np.trapezoid(y, x) / (1 - start))


def value_at(line: tuple[Array, Array], x: float) -> float | None:
    """The curve's value at x; at a step, the one after it; None before its start."""
    corners, values = line
    if x < corners[0] - SLACK:
        return None
    right = int(np.searchsorted(corners, x, side="right"))
    if right == 0:
        return float(values[0])
    if right == len(corners):
        return float(values[-1])
    low, high = corners[right - 1], corners[right]
    return float(values[right - 1] + (values[right] - values[right - 1]) * (x - low) / (high - low))


def layers_for(line: tuple[Array, Array], wanted: float, layers: int) -> float | None:
    """The fewest mean layers at which the curve reaches a value; None if it never does.

    Args:
        line: Its corners.
        wanted: The value.
        layers: N.
    """
    corners, values = line
    for index, (x, y) in enumerate(zip(corners, values, strict=True)):
        if y < wanted:
            continue
        if index == 0 or corners[index - 1] == x:
            return float(x) * layers
        before, below = corners[index - 1], values[index - 1]
        return float(before + (x - before) * (wanted - below) / (y - below)) * layers
    return None
