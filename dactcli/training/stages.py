"""The stages of a training, resolved: what each trains, with which keys and which loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dactcli.model.loss import LossSettings, Objective
from dactcli.recipe.schema import Recipe, TrainingKeys


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        number: From 1.
        name: `joint`, `units` (the encoder stays as it is) or `encoder` (plain fine-tuning of the last layer).
        keys: Its training keys.
        loss: Its loss.
        tau_delay: Share of its steps before tau acts; 0 where an earlier stage taught the layers. While all layers
            are at chance nothing speaks against stopping at the first, and under Adam even the smallest price closes
            its unit for good.
    """

    number: int
    name: str
    keys: TrainingKeys
    loss: LossSettings
    tau_delay: float = 0.0

    def loss_at(self, step: int, steps: int) -> LossSettings:
        """The loss of a step, counted from 0, of so many in the stage."""
        if self.loss.layer_loss == "alternate" and step % 2:
            return replace(self.loss, objective="last")
        return replace(self.loss, tau=0.0) if step < self.tau_delay * steps else self.loss

    @property
    def label(self) -> str:
        """As folders and screens name it."""
        return f"{self.number}-{self.name}"


def resolve_stages(recipe: Recipe, class_weights: Sequence[float] | None = None) -> list[Stage]:
    """What the recipe's stages come to, each with its own keys over those of the whole training.

    Args:
        recipe: A complete recipe.
        class_weights: What its class weights come to on its data (`build.class_weights`), for the loss.
    """
    common = {name: getattr(recipe.training, name) for name in TrainingKeys.model_fields}
    base = LossSettings()
    if recipe.dact is not None:
        base = LossSettings(**{"tau": 0.0, **recipe.dact.model_dump(exclude={"tau", "tau_delay"})})
    if class_weights is not None:
        base = replace(base, class_weights=tuple(class_weights))
    stages = []
    for number, section in enumerate(recipe.training.stages, start=1):
        own = {name: getattr(section, name) for name in section.model_fields_set & set(TrainingKeys.model_fields)}
        given = {name: value for name, value in own.items() if value is not None or name == "max_steps"}
        tau = recipe.stage_tau(section)
        in_loop = tau is not None and not (recipe.fits_halting and base.detach)
        objective: Objective = "dact" if in_loop else "layers"
        if recipe.dact is None or section.name == "encoder":
            objective = "last"
        loss = replace(base, objective=objective, tau=float(tau or 0.0))
        taught = any(earlier.name != "encoder" for earlier in recipe.training.stages[: number - 1])
        delay = recipe.dact.tau_delay if recipe.dact is not None and not taught else 0.0
        stages.append(Stage(number, section.name, TrainingKeys(**{**common, **given}), loss, delay))
    return stages


def halting_loss(stages: list[Stage]) -> LossSettings:
    """The DACT loss by which the halting is learned when the stages are through: that of the last one with a tau."""
    priced = [stage.loss for stage in stages if stage.loss.tau]
    return replace(priced[-1] if priced else stages[-1].loss, objective="dact")


def final_objective(recipe: Recipe) -> Objective:
    """What the finished model can be asked for: the most that any stage trained, or the halting's fit."""
    if recipe.fits_halting:
        return "dact"
    trained = {stage.loss.objective for stage in resolve_stages(recipe)}
    return "dact" if "dact" in trained else "layers" if "layers" in trained else "last"
