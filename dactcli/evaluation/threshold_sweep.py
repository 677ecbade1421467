"""What a rule does on a split at every threshold of a grid, from one scoring of the layers.

E examples, N layers, T thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

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
        reference: The outputs whose full depth is the reference. Default: the same.

    Attributes:
        exits: Exit layer of each example, 1..N [T, E].
        classes: Class that it answers there, or the number of the label set [T, E].
        full: The same at full depth of the reference [E].
        sets: The label sets by their numbers [K, C]; None for classes.
    """

    def __init__(
        self,
        rule: Rule,
        grid: Sequence[float | None],
        outputs: LayerOutputs,
        reference: LayerOutputs | None = None,
    ) -> None:
        scores, decided = outputs.score(rule)
        full = full_decisions(reference or outputs)
        self.sets: NDArray[np.bool_] | None = None
        if decided.dim() == 3:
            self.sets, numbers = np.unique(
                np.concatenate([decided.flatten(0, 1).numpy(), full]), axis=0, return_inverse=True
            )
            decided, full = torch.from_numpy(numbers[: -len(full)]).view(decided.shape[:2]), numbers[-len(full) :]
        at = [rule if threshold is None else rule.at(threshold) for threshold in grid]
        cuts = torch.tensor([one.cut for one in at], dtype=torch.float64)
        exits = exit_layers(scores, cuts)
        self.exits: NDArray[np.int64] = exits.numpy()
        self.classes: NDArray[np.int64] = decided.T.gather(0, exits - 1).numpy()
        self.full: NDArray[np.int64] = full

    def decided(self, index: int) -> NDArray[Any]:
        """What the rule decides at a threshold: classes [E], or the labels of label sets [E, C]."""
        numbers: NDArray[Any] = self.classes[index]
        return numbers if self.sets is None else self.sets[numbers]

    def losses(self, loss: str, labels: Sequence[Any] | NDArray[Any] | None) -> NDArray[np.bool_]:
        """Which examples count as a loss at each threshold [T, E].

        Args:
            loss: `disagreement`: the class or label set differs from full depth; `harm`: full depth is right and this
                is wrong.
            labels: Classes [E] or labels of label sets [E, C], for `harm`.

        Raises:
            UsageError: `harm` without labels.
        """
        differs: NDArray[np.bool_] = self.classes != self.full
        if loss == "disagreement":
            return differs
        if labels is None:
            raise UsageError("loss=harm needs labels", place="`calibrate`", remedy="use loss=disagreement")
        known = np.asarray(labels)
        right = self.full == known if self.sets is None else (self.sets[self.full] == known).all(-1)
        harmed: NDArray[np.bool_] = differs & right
        return harmed

    @property
    def layers_mean(self) -> NDArray[np.float64]:
        """Mean layers at each threshold [T]."""
        means: NDArray[np.float64] = self.exits.mean(1, dtype=np.float64)
        return means


def full_decisions(outputs: LayerOutputs) -> NDArray[Any]:
    """The classes [E], or the labels of label sets [E, C], at full depth."""
    found: NDArray[Any] = outputs.answers.decide(outputs.decide(Full()).answer).numpy()
    return found
