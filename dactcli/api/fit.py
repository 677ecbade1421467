"""`dact finetune`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dactcli.api.common import build_request, check_lists
from dactcli.errors import ArtefactError, DactError, UsageError, first_line
from dactcli.listening import Listener
from dactcli.results import EvalResult, RecipePlan, TrainResult

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
            raise UsageError("requires `resume`", place="`weights_only`", remedy="add `resume`, or leave it out")


def fit(
    recipe: Recipe | Path | str,
    request: FitRequest | None = None,
    *,
    listener: Listener | None = None,
    **fields: Any,
) -> TrainResult:
    """Fine-tune as a recipe says, in a new run folder, and certify its risk; `dact finetune`.

    Where the recipe has a calibration split, `evaluation.risk` is certified on it when the run is saved. The certified
    rule is then the run's default rule.

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
    return go_on(full, device=wanted.device, listener=hears, weights_only=wanted.weights_only)


def go_on(full: Recipe, *, device: str, listener: Listener, weights_only: bool = False) -> TrainResult:
    """Resume the newest unfinished run of a resolved recipe; the result of the newest finished one if there is none."""
    from dactcli import distributed
    from dactcli.runs.folders import unfinished

    name = full.output.name or full.task.name
    folder = Path(full.output.dir).expanduser()
    begun = distributed.on_main(lambda: unfinished(folder, name))
    if begun is None:
        return _finished(folder, name, device, listener)
    return train(full, device=device, listener=listener, resume=begun, weights_only=weights_only)


def train(
    recipe: Recipe, *, device: str, listener: Listener, resume: Path | None = None, weights_only: bool = False
) -> TrainResult:
    """Train by a resolved recipe, in a new run or in one to resume, and certify the risk that it asks for."""
    from dactcli import distributed
    from dactcli.evaluation.evaluate import validator
    from dactcli.model.device import find_device

    where = find_device(device)
    from dactcli.training import fit as training

    with distributed.process_group():
        result = training.fit(
            recipe,
            evaluate=validator(recipe),
            listener=listener,
            device=where,
            resume=resume,
            weights_only=weights_only,
        )
        result = _certified(recipe, result, device, listener)
        if distributed.is_main():
            _tell_collapse(recipe, result, listener)
        return result


def _tell_collapse(recipe: Recipe, result: TrainResult, listener: Listener) -> None:
    """Give notice where nearly all validation examples stop after the same layer."""
    from dactcli.halting.names import facts_of
    from dactcli.training.collapse import collapse_notice

    rules = result.evaluation["validation"].rules
    early = [rule for rule in rules if (facts := facts_of(rule)) is not None and facts.early]
    rule = result.calibration.rule if result.calibration is not None else next(reversed(early), None)
    if rule in early and (notice := collapse_notice(recipe, rule, rules[rule].depths)):
        listener.notice(notice)


def _certified(recipe: Recipe, result: TrainResult, device: str, listener: Listener) -> TrainResult:
    """Certify the recipe's risk on the calibration split, where it asks for that, as `dact eval --calibrate` does.

    The run is finished and saved before. What goes wrong here is a notice, and the sound rule stays in force.
    """
    from dactcli import distributed, hub
    from dactcli.api.calibrate import CalibrateRequest, calibrate
    from dactcli.evaluation.requests import RiskRequest
    from dactcli.storage import SUMMARY, read_document
    from dactcli.training.build import from_hub
    from dactcli.training.plan import certifies

    risk, delta = recipe.evaluation.risk, recipe.evaluation.delta
    if risk is None or not certifies(recipe):
        return result
    hears = listener if distributed.is_main() else Listener()
    request = CalibrateRequest(RiskRequest(risk, delta), device=device)
    try:
        with hub.reachable(from_hub(recipe), lambda text: None):  # the training told it
            found = calibrate(result.run, request, listener=hears)
    except KeyboardInterrupt:
        hears.notice("the run is finished and saved; `resume` certifies its risk")
        raise
    except _faults() as error:
        sentence = error.sentence if isinstance(error, DactError) else first_line(error)
        hears.notice(f"the run is finished and saved, but certifying its risk failed: {sentence}")
        return result
    validation = distributed.on_main(lambda: read_document(Path(result.run) / SUMMARY)["evaluation"]["validation"])
    evaluation = result.evaluation | {"validation": EvalResult.from_json(validation)}
    return replace(result, evaluation=evaluation, calibration=found)


def _faults() -> tuple[type[Exception], ...]:
    """The errors of a calibration that a finished training survives.

    Where several processes calibrate, memory runs out in one of them alone, and the others would wait for it.
    """
    from torch import OutOfMemoryError

    from dactcli import distributed

    alone = distributed.world_size() == 1
    return (DactError, OSError, *((MemoryError, OutOfMemoryError) if alone else ()))


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


def _finished(folder: Path, name: str, device: str, listener: Listener) -> TrainResult:
    """The result of the newest finished run, certified now if it was interrupted before; an error where there is none.

    Only a run whose recipe names a risk is certified: those of earlier versions keep their rule.
    """
    from dactcli import distributed
    from dactcli.recipe.load import load_recipe
    from dactcli.runs.calibration import CALIBRATION
    from dactcli.runs.folders import is_finished, runs_named
    from dactcli.storage import SUMMARY

    finished = [run for run in runs_named(folder, name) if is_finished(run)]
    if not finished:
        raise ArtefactError("there is no run to resume", place=f"{folder / name}-<n>", remedy="leave out `resume`")
    run = finished[-1]
    listener.notice(f"nothing to resume: {run} is finished")
    result = TrainResult.from_json(json.loads((run / SUMMARY).read_text(encoding="utf-8")))
    recipe = load_recipe(run / "recipe.yaml")
    with distributed.process_group():
        certified = distributed.on_main((run / CALIBRATION).is_file)
        if certified or "risk" not in recipe.evaluation.model_fields_set:
            return result
        return _certified(recipe, replace(result, run=str(run)), device, listener)
