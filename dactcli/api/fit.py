"""`dact finetune`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dactcli.api.common import build_request, check_lists
from dactcli.errors import ArtefactError, UsageError
from dactcli.listening import Listener
from dactcli.results import RecipePlan, TrainResult

if TYPE_CHECKING:
    from dactcli.recipe.schema import Recipe


@dataclass(frozen=True)
class FitRequest:
    """What to change about the recipe, and how to begin.

    Attributes:
        overrides: `KEY=VALUE` each, with the recipe's dotted keys.
        resume: Whether to resume the newest unfinished run of the recipe's output name.
        weights_only: Whether to resume even without the checkpoint's optimizer and random state.
        device: auto, cpu, cuda or mps.
    """

    overrides: Sequence[str] = ()
    resume: bool = False
    weights_only: bool = False
    device: str = "auto"

    def __post_init__(self) -> None:
        check_lists(self, "overrides")
        if self.weights_only and not self.resume:
            raise UsageError("goes with `resume`", place="`weights_only`", remedy="add `resume`, or leave it out")


def fit(
    recipe: Recipe | Path | str,
    request: FitRequest | None = None,
    *,
    listener: Listener | None = None,
    **fields: Any,
) -> TrainResult:
    """Fine-tune as a recipe says, in a new run folder; `dact finetune`.

    Args:
        recipe: A recipe, or its file.
        request: Overrides, device and what to resume.
        listener: Hears how it goes, in process 0.
        **fields: Fields of `FitRequest`; they override those of `request`.

    Returns:
        The result; with `resume`, that of the finished run where no run is unfinished.

    Raises:
        RecipeError: The recipe does not validate, or asks for what this machine or encoder cannot do.
        DataError: The data cannot serve.
        ArtefactError: There is no run to resume, the encoder cannot be loaded, or a checkpoint is incomplete.
        DivergedError: A loss, gradient or weight is not finite.
        ResourceError: The output folder cannot be written, or memory ran out.
        StoppedError: SIGINT or SIGTERM came; what was learned is saved.
    """
    from dactcli.api.validate import resolved

    wanted, hears = build_request(FitRequest, request, fields, listener)
    full = resolved(recipe, wanted.overrides)
    if not wanted.resume:
        return train(full, device=wanted.device, listener=hears)
    from dactcli import distributed
    from dactcli.runs.folders import unfinished

    name = full.output.name or full.task.name
    folder = Path(full.output.dir).expanduser()
    begun = distributed.on_main(lambda: unfinished(folder, name))
    if begun is None:
        return _finished(folder, name, hears)
    return train(full, device=wanted.device, listener=hears, resume=begun, weights_only=wanted.weights_only)


def train(
    recipe: Recipe, *, device: str, listener: Listener, resume: Path | None = None, weights_only: bool = False
) -> TrainResult:
    """Train by a resolved recipe, in a new run or in one to resume."""
    from dactcli.evaluation.evaluate import validator
    from dactcli.model.device import find_device

    where = find_device(device)
    from dactcli.training import fit as training

    return training.fit(
        recipe,
        evaluate=validator(recipe),
        listener=listener,
        device=where,
        resume=resume,
        weights_only=weights_only,
    )


def plan(recipe: Recipe | Path | str, overrides: Sequence[str] = ()) -> RecipePlan:
    """The resolved recipe and what each stage would do; `dact finetune --dry-run`.

    Args:
        recipe: A recipe, or its file.
        overrides: `KEY=VALUE` each, with the recipe's dotted keys.

    Raises:
        RecipeError: The recipe does not validate.
        UsageError: A rule of `evaluation.rules` does not fit the training.
    """
    from dactcli.api.validate import resolved
    from dactcli.recipe.load import dump_recipe
    from dactcli.training.plan import check_plan, describe_stages

    full = resolved(recipe, overrides)
    check_plan(full)
    return RecipePlan(full.model_dump(mode="json"), dump_recipe(full), describe_stages(full))


def _finished(folder: Path, name: str, listener: Listener) -> TrainResult:
    """The result of the newest finished run; an error where there is none."""
    from dactcli.runs.folders import is_finished, runs_named
    from dactcli.storage import SUMMARY

    finished = [run for run in runs_named(folder, name) if is_finished(run)]
    if not finished:
        raise ArtefactError("there is no run to resume", place=f"{folder / name}-<n>", remedy="leave out `resume`")
    listener.notice(f"nothing to resume: {finished[-1]} is finished")
    return TrainResult.from_json(json.loads((finished[-1] / SUMMARY).read_text(encoding="utf-8")))
