"""What a rule does on a split at every threshold of a grid, from one scoring of the layers.

E examples, N layers, T thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from dactcli.errors import UsageError
from dactcli.halting.decision import exit_layers
from dactcli.halting.rules import Full

if TYPE_CHECKING:
    from dactcli.halting.base import Rule
    from dactcli.runs.outputs import LayerOutputs


class ThresholdSweep:
    """What a rule does on a split at every threshold.

    Args:
        rule: The rule.
        grid: Thresholds [T]; None stands for the rule as it is.
        outputs: The outputs of all layers.

    Attributes:
        exits: Exit layer of each example, 1..N [T, E].
        classes: Class that it answers there [T, E].
        full: Class at full depth [E].
    """

    def __init__(self, rule: Rule, grid: Sequence[float | None], outputs: LayerOutputs) -> None:
        scores, answers = outputs.score(rule)
        at = [rule if threshold is None else rule.at(threshold) for threshold in grid]
        cuts = torch.tensor([one.cut for one in at], dtype=torch.float64)
        exits = exit_layers(scores, cuts)
        self.exits: NDArray[np.int64] = exits.numpy()
        self.classes: NDArray[np.int64] = answers.T.gather(0, exits - 1).numpy()
        self.full: NDArray[np.int64] = full_classes(outputs)

    def losses(self, loss: str, labels: Sequence[int] | None) -> NDArray[np.bool_]:
        """Which examples count as a loss at each threshold [T, E].

        Args:
            loss: `disagreement`: the class differs from full depth; `harm`: full depth is right and this is wrong.
            labels: Classes [E], for `harm`.

        Raises:
            UsageError: `harm` without labels.
        """
        differs: NDArray[np.bool_] = self.classes != self.full
        if loss == "disagreement":
            return differs
        if labels is None:
            raise UsageError("loss=harm needs labels", place="`calibrate`", remedy="use loss=disagreement")
        harmed: NDArray[np.bool_] = differs & (self.full == np.asarray(labels))
        return harmed

    @property
    def layers_mean(self) -> NDArray[np.float64]:
        """Mean layers at each threshold [T]."""
        means: NDArray[np.float64] = self.exits.mean(1, dtype=np.float64)
        return means


def full_classes(outputs: LayerOutputs) -> NDArray[np.int64]:
    """The class at full depth [E]."""
    found: NDArray[np.int64] = outputs.decide(Full()).answer.argmax(-1).numpy()
    return found
