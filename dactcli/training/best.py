"""The best epoch of a stage: its weights are kept apart from the checkpoints and survive their retention.

checkpoints/1-joint/best-40/    the model after the best epoch so far, best.json, manifest.json
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from dactcli import distributed
from dactcli.results import EvalResult, KeptEpoch
from dactcli.runs.weights import saved_weights
from dactcli.storage import commit, faults, write_json
from dactcli.training.checkpoints import WRITING
from dactcli.training.stages import Stage

RECORD = "best.json"  # also in a finished stage: the epoch whose weights it has


class BestEpoch:
    """Chooses and keeps the best epoch of a stage. All processes hold the same choice; process 0 writes.

    Args:
        stage: The stage.
        folder: The stage's folder, below the checkpoints.
        patience: Epochs without improvement after which the stage ends; None for no end.
        save: Saves the model into a new folder.
        notice: Called with a sentence about damaged weights.
    """

    def __init__(
        self,
        stage: Stage,
        *,
        folder: Path,
        patience: int | None,
        save: Callable[[Path], None],
        notice: Callable[[str], None],
    ) -> None:
        self.stage, self.folder, self.patience, self.save, self.notice = stage, folder, patience, save, notice
        self.found: KeptEpoch | None = distributed.on_main(self._read)

    def restore(self, model: torch.nn.Module, step: int) -> KeptEpoch | None:
        """Give a model the weights of the best epoch, if its own are those of another step.

        Args:
            model: The model after its last step, changed in place.
            step: That step.

        Returns:
            The best epoch; None if no epoch was evaluated.
        """
        if self.found is not None and self.found.step != step:
            model.load_state_dict(saved_weights(self._named(self.found.step)))
        return self.found

    def judge(self, result: EvalResult, epoch: float, step: int) -> bool:
        """Compare the weights after an epoch with the best so far, and keep them if they are better.

        Args:
            result: The evaluation of the validation split, with the rule `full`.
            epoch: Epochs completed in the stage.
            step: The stage's step.

        Returns:
            Whether this is now the best epoch. Of equal ones the earlier stays.
        """
        now = KeptEpoch(self.stage.label, round(epoch, 4), step, result.rules["full"].metric)
        before = self.found
        self.found = distributed.on_main(lambda: self._better(now))
        return self.found != before

    def exhausted(self, epoch: float) -> bool:
        """Whether so many epochs have brought no improvement that the stage ends."""
        return self.patience is not None and self.found is not None and epoch - self.found.epoch > self.patience - 0.001

    def _better(self, now: KeptEpoch) -> KeptEpoch:
        if self.found is not None and _value(now) <= _value(self.found):
            return self.found
        fresh = self.folder / WRITING
        shutil.rmtree(fresh, ignore_errors=True)
        self.save(fresh)
        write_json(fresh / RECORD, asdict(now))
        commit(fresh, self._named(now.step))
        self._remove_others(now.step)
        return now

    def _named(self, step: int) -> Path:
        return self.folder / f"best-{step}"

    def _remove_others(self, step: int) -> None:
        for path in self.folder.glob("best-*"):
            if path != self._named(step):
                gone = path.with_name(f".{path.name}")  # a partly deleted folder must not look like a whole one
                path.rename(gone)
                shutil.rmtree(gone, ignore_errors=True)

    def _read(self) -> KeptEpoch | None:
        """The best epoch that an earlier process kept. A kill may have left the one before it too."""
        known = []
        for path in self.folder.glob("best-*"):
            if wrong := faults(path):
                name, what = next(iter(wrong.items()))
                self.notice(f"{path / name} {what}; the best epoch is chosen among those that follow")
                shutil.rmtree(path)
                continue
            known.append(read_kept(path / RECORD))
        return max((one for one in known if one), key=lambda one: (_value(one), -one.step), default=None)


def _value(kept: KeptEpoch) -> float:
    """What epochs are compared by; an undefined metric is the worst."""
    return -math.inf if kept.metric is None else kept.metric


def read_kept(path: Path) -> KeptEpoch | None:
    """Read the record of the kept epoch; None if there is none."""
    if not path.is_file():
        return None
    return KeptEpoch.from_json(json.loads(path.read_text(encoding="utf-8")))
