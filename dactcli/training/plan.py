"""What a recipe would do, in words."""

from __future__ import annotations

from dactcli.data.tasks import is_regression
from dactcli.model.rules import make_rule
from dactcli.recipe.schema import Recipe
from dactcli.training.stages import Stage, final_objective, resolve_stages

TRAINS = {
    "joint": "encoder and units",
    "units": "units, the encoder stays as it is",
    "encoder": "encoder and last unit, plain fine-tuning",
}


def describe_stages(recipe: Recipe) -> list[str]:
    """One line per stage: what it trains, how long, with which loss.

    Args:
        recipe: A complete recipe.
    """
    return [_describe(stage) for stage in resolve_stages(recipe)]


def check_rules(recipe: Recipe) -> None:
    """Refuse rules that the finished model could not serve, before it is trained.

    Args:
        recipe: A complete recipe.

    Raises:
        UsageError: A rule of `evaluation.rules` is unknown, lacks its threshold, or does not fit the training.
    """
    low, high = recipe.task.range or (0.0, 1.0)
    for rule in recipe.evaluation.rules or ():
        make_rule(
            rule,
            objective=final_objective(resolve_stages(recipe)),
            answer_range=(low, high) if is_regression(recipe.task) else None,
            certainty=recipe.model.certainty,
            place="evaluation.rules",
        )


def _describe(stage: Stage) -> str:
    keys, loss = stage.keys, stage.loss
    length = f"{keys.max_steps} steps" if keys.max_steps else f"{keys.epochs:g} epochs"
    layers = "" if loss.layer_loss == "none" else f", {loss.layer_loss} losses on all layers"
    losses = {
        "dact": f"DACT loss with tau {loss.tau:g} ({loss.ponder}){layers}",
        "layers": f"no DACT loss{layers}",
        "last": "loss on the last layer",
    }
    return (
        f"stage {stage.number} {stage.name}: trains {TRAINS[stage.name]}; {length}, batch {keys.batch_size}, "
        f"learning rate {keys.learning_rate:g}, units {keys.unit_learning_rate:g}; {losses[loss.objective]}"
    )
