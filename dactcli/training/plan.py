"""Describe and check a recipe's training plan."""

from __future__ import annotations

from dactcli import distributed
from dactcli.errors import RecipeError, listed
from dactcli.halting.answers import Answers, Classes, Values
from dactcli.halting.base import NEEDS
from dactcli.halting.label_sets import LabelSets
from dactcli.halting.rules import make_rule
from dactcli.recipe.schema import Lora, Recipe
from dactcli.recipe.tasks import kind_of
from dactcli.training.lora import check_adapter
from dactcli.training.stages import Stage, final_objective, halting_loss, resolve_stages
from dactcli.training.trackers import check_trackers

TRAINS = {
    "joint": "encoder and exit heads",
    "units": "exit heads, the encoder stays as it is",
    "encoder": "encoder and last exit head, plain fine-tuning",
}


def describe_stages(recipe: Recipe) -> list[str]:
    """One line per stage: what it trains, how long, with which loss; then what is fitted and certified after them.

    Args:
        recipe: A complete recipe.
    """
    weighed = "; classes weighed" if recipe.training.class_weights is not None else ""
    stages = resolve_stages(recipe)
    lines = [_describe(stage, recipe.model.lora) + weighed for stage in stages]
    if recipe.fits_halting:
        loss = halting_loss(stages)
        lines.append(
            f"finally: learns the layers' halting thresholds on validation; DACT loss with tau {loss.tau:g} "
            f"({loss.ponder}, {loss.answer_loss}){weighed}"
        )
    if recipe.model.agreement:
        lines.append("finally: fits the halting units to agreement with the last layer on validation")
    if certifies(recipe):
        lines.append(
            f"then: certifies a risk of {recipe.evaluation.risk:g} (delta {recipe.evaluation.delta:g}) on the "
            "calibration split and makes the certified rule the default"
        )
    return lines


def certifies(recipe: Recipe) -> bool:
    """Whether the run is certified when training ends: it has examples to certify on, and rules to choose from.

    Args:
        recipe: A complete recipe.
    """
    wanted = recipe.evaluation.risk is not None and recipe.data.calibration is not None
    return wanted and kind_of(recipe) != "regression" and final_objective(recipe) != "last"


def check_plan(recipe: Recipe) -> None:
    """Reject invalid plans before any training.

    Args:
        recipe: A complete recipe; checks that need labels are skipped while the labels are unknown.

    Raises:
        UsageError: A rule of `evaluation.rules` is unknown, lacks its threshold, or does not fit the training.
        RecipeError: No epoch could end training early, the class weights do not fit the task, a tracker is unknown or
            not installed, a batch has fewer examples than there are processes, or the adapter requires PEFT, which is
            not installed.
    """
    _check_batches(recipe)
    _check_patience(recipe)
    check_adapter(recipe)
    check_trackers(recipe.training.report_to)
    _check_class_weights(recipe)
    answers = _answers(recipe)
    for rule in recipe.evaluation.rules or ():
        make_rule(
            rule,
            objective=final_objective(recipe),
            answers=answers,
            has=[name for name in NEEDS if getattr(recipe.model, name)],
            place="evaluation.rules",
        )


def _check_patience(recipe: Recipe) -> None:
    """Refuse patience that nothing would heed."""
    if recipe.training.patience is None or recipe.best_epoch_stage is not None:
        return
    remedy = "remove it"
    if recipe.data.label is None:
        fault = "needs a metric, and texts without labels have none"
    elif recipe.last_encoder_stage is None:
        fault = "needs a stage that trains the encoder"
    else:
        fault, remedy = (
            "requires training.keep: best, and the last epoch is kept",
            "set training.keep: best, or remove it",
        )
    raise RecipeError(fault, place="training.patience", remedy=remedy)


def _answers(recipe: Recipe) -> Answers:
    """What the answers of the model will be."""
    kind = kind_of(recipe)
    low, high = recipe.task.range or (0.0, 1.0)
    return Values(low, high) if kind == "regression" else LabelSets() if kind == "multilabel" else Classes()


def _check_batches(recipe: Recipe) -> None:
    smallest = min(stage.keys.batch_size for stage in resolve_stages(recipe))
    if smallest < distributed.world_size():
        raise RecipeError(
            f"is {smallest}, and {distributed.world_size()} processes share each batch",
            place="training.batch_size",
            remedy="raise it, or start fewer processes",
        )


def _check_class_weights(recipe: Recipe) -> None:
    weights, labels, place = recipe.training.class_weights, recipe.task.labels, "training.class_weights"
    if weights is None:
        return
    if (kind := kind_of(recipe)) in ("regression", "multilabel"):
        fault = f"is set, but this task is {'a regression' if kind == 'regression' else 'multilabel'}"
        raise RecipeError(fault, place=place, remedy="remove it")
    if isinstance(weights, list) and labels is not None and len(weights) != len(labels):
        raise RecipeError(
            f"the weights are {len(weights)} and the classes {len(labels)}",
            place=place,
            remedy=f"give one for each of {listed(labels)}, in this order, or write balanced",
        )


def _describe(stage: Stage, lora: Lora | None) -> str:
    keys, loss = stage.keys, stage.loss
    length = f"{keys.max_steps} steps" if keys.max_steps else f"{keys.epochs:g} epochs"
    layers = "" if loss.layer_loss == "none" else f", {loss.layer_loss} losses on all layers"
    if loss.objective == "dact":
        trained_by = f"DACT loss with tau {loss.tau:g} ({loss.ponder}){layers}"
    else:
        trained_by = "loss on the last layer" if loss.objective == "last" else f"no DACT loss{layers}"
    trains = TRAINS[stage.name]
    if lora is not None and stage.name != "units":
        trains = trains.replace("encoder", f"LoRA weights of rank {lora.rank} in the encoder", 1)
    return (
        f"stage {stage.number} {stage.name}: trains {trains}; {length}, batch {keys.batch_size}, "
        f"learning rate {keys.learning_rate:g}, units {keys.unit_learning_rate:g}; {trained_by}"
    )
