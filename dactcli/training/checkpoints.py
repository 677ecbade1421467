"""Checkpoints of a stage: written atomically, verified before use, with the oldest removed.

    checkpoints/1-joint/checkpoint-40/      weights, optimizer, schedule, random state, Trainer's state, manifest.json
    checkpoints/1-joint/done/               the stage's finished model
    checkpoints/1-joint/.writing/           a checkpoint while it is being written

transformers writes checkpoints in place and takes the one with the highest number; one half-written by a kill or a
full disk would then end every try to resume.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from dactcli.errors import ArtefactError
from dactcli.storage import faults, sync_folder

WRITING = ".writing"
DONE = "done"
KEPT = 2
RESTARTABLE = re.compile(r"optimizer\.pt|scheduler\.pt|scaler\.pt|rng_state(_\d+)?\.pth")
NEEDED = ("model.safetensors", "trainer_state.json", "optimizer.pt", "scheduler.pt")


def numbered(folder: Path) -> list[Path]:
    """The checkpoints of a stage, newest first."""
    found = {path: int(path.name.rpartition("-")[2]) for path in folder.glob("checkpoint-*") if _is_numbered(path)}
    return sorted(found, key=lambda path: -found[path])


def _is_numbered(path: Path) -> bool:
    return path.is_dir() and re.fullmatch(r"checkpoint-\d+", path.name) is not None


def newest_valid(folder: Path, *, weights_only: bool, notice: Callable[[str], None]) -> Path | None:
    """The newest valid checkpoint; damaged ones are reported and skipped.

    Args:
        folder: The stage's folder, which may not exist.
        weights_only: Whether the states of optimizer, schedule and random numbers may be missing or damaged.
        notice: Called with a sentence about each skipped checkpoint.

    Returns:
        None if there is no valid checkpoint.

    Raises:
        ArtefactError: The newest valid checkpoint lacks a state, which would change the training result.
    """
    for path in numbered(folder):
        wrong = faults(path) or {name: "is missing" for name in NEEDED if not (path / name).is_file()}
        states = {name: what for name, what in wrong.items() if RESTARTABLE.fullmatch(name)}
        if not wrong or (weights_only and len(states) == len(wrong)):
            return path
        name, what = next(iter(wrong.items()))
        if states == wrong and all(what == "is missing" for what in wrong.values()):
            raise ArtefactError(
                f"{what}, and training cannot continue exactly without it",
                place=str(path / name),
                remedy="restore it, or add `weights_only` to continue with a fresh optimizer",
            )
        notice(f"{path / name} {what}; the checkpoint is skipped")
    return None


def is_done(folder: Path, notice: Callable[[str], None]) -> bool:
    """Whether a stage is finished with a valid model; a damaged model is reported and its stage continues training.

    Args:
        folder: The stage's folder.
        notice: Called with a sentence about a damaged model.
    """
    done = folder / DONE
    if not done.is_dir():
        return False
    wrong = faults(done)
    if wrong:
        name, what = next(iter(wrong.items()))
        notice(f"{done / name} {what}; training of the stage resumes from its last checkpoint")
    return not wrong


def retain(folder: Path) -> None:
    """Delete all but the newest checkpoints."""
    for path in numbered(folder)[KEPT:]:
        # rename first: a partly deleted checkpoint must not look like a checkpoint
        gone = path.with_name(f".{path.name}")
        path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
    sync_folder(folder)
