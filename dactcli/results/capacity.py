"""What it takes to answer many texts, from the throughput that a profile measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dactcli.results.profile import ProfileCase

DEADLINES = (1, 8, 24)  # hours


@dataclass(frozen=True)
class PlannedWay:
    """One way to answer the texts.

    Attributes:
        name: `stock`, `full depth`, `adaptive`, `ONNX stock` or `export`.
        examples_per_second: Of one worker, as the profile measured it.
        hours: Of one worker for all texts.
        workers: Workers that end within each of the plan's deadlines.
    """

    name: str
    examples_per_second: float
    hours: float
    workers: list[int]


@dataclass(frozen=True)
class CapacityPlan:
    """Hours and workers for a number of texts, with early exit and without.

    Workers share nothing but the list of blocks, so a cluster has the throughput of one worker times their number. A
    worker is a process like the one that was profiled: its device, threads and lengths of texts. Not counted: the start
    of the workers, and a store that reads or writes more slowly than they answer.

    Attributes:
        texts: How many texts.
        deadlines: In hours.
        ways: Each way to answer them.
    """

    texts: float
    deadlines: list[int]
    ways: list[PlannedWay]

    @classmethod
    def of(cls, case: ProfileCase, texts: float) -> CapacityPlan:
        """The plan for texts like those of a profile.

        Args:
            case: The throughput of all examples.
            texts: How many texts.
        """
        ways = {"stock": case.stock, "full depth": case.full, "adaptive": case.adaptive}
        if case.onnx is not None:
            ways |= {"ONNX stock": case.onnx.stock, "export": case.onnx.export}
        hours = {name: texts / way.examples_per_second / 3600 for name, way in ways.items()}
        planned = [
            PlannedWay(
                name,
                way.examples_per_second,
                hours[name],
                [math.ceil(hours[name] / deadline) for deadline in DEADLINES],
            )
            for name, way in ways.items()
        ]
        return cls(texts, list(DEADLINES), planned)
