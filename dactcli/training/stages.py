"""The resolved stages of a training: what each stage trains, with which keys and which loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dactcli.recipe.schema import Recipe, TrainingKeys
from dactcli.recipe.settings import HaltingKeys, HaltingSettings, Objective


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        number: From 1.
        name: `joint`, `units` (the encoder stays as it is) or `encoder` (plain fine-tuning of the last layer).
        keys: Its training keys.
        loss: Its loss.
        tau_delay: Share of its steps before tau acts; 0 where an earlier stage trained the layers. While all layers
            are at chance, no loss keeps an example from stopping at the first layer, and under Adam even the
            smallest price closes that halting unit for good.
    """

    number: int
    name: str
    keys: TrainingKeys
    loss: HaltingSettings
    tau_delay: float = 0.0

    def loss_at(self, step: int, steps: int) -> HaltingSettings:
        """The loss of one step of a stage.

        Args:
            step: The step, counted from 0.
            steps: Steps of the stage.
        """
        if self.loss.layer_loss == "alternate" and step % 2:
            return self.loss.but(objective="last")
        delayed = self.loss.tau is not None and step < self.tau_delay * steps
        return self.loss.but(tau=0.0) if delayed else self.loss

    @property
    def label(self) -> str:
        """Its name in folders and on screens."""
        return f"{self.number}-{self.name}"


def resolve_stages(recipe: Recipe, class_weights: Sequence[float] | None = None, tau_unit: float = 1.0) -> list[Stage]:
    """The stages of a recipe, each with its own keys in place of those of the whole training.

    Args:
        recipe: A complete recipe.
        class_weights: The class weights of the loss, as `build.class_weights` computes them from the data.
        tau_unit: The answer loss that counts as 1 for tau, as `build.tau_unit` computes it from the data.
    """
    common = {name: getattr(recipe.training, name) for name in TrainingKeys.model_fields}
    base = _settings(recipe, class_weights, tau_unit)
    stages = []
    for number, section in enumerate(recipe.training.stages, start=1):
        own = {name: getattr(section, name) for name in section.model_fields_set & set(TrainingKeys.model_fields)}
        given = {name: value for name, value in own.items() if value is not None or name == "max_steps"}
        tau = recipe.stage_tau(section)
        objective: Objective = "dact" if recipe.trains_halting(section) else "layers"
        if recipe.dact is None or section.name == "encoder":
            objective = "last"
        loss = base.but(objective=objective, tau=tau)
        taught = any(earlier.name != "encoder" for earlier in recipe.training.stages[: number - 1])
        delay = recipe.dact.tau_delay if recipe.dact is not None and not taught else 0.0
        stages.append(Stage(number, section.name, TrainingKeys(**{**common, **given}), loss, delay))
    return stages


def _settings(recipe: Recipe, class_weights: Sequence[float] | None, tau_unit: float) -> HaltingSettings:
    """The halting settings of the recipe, before its stages change objective and price."""
    weights = None if class_weights is None else tuple(class_weights)
    if recipe.dact is None:
        return HaltingSettings(objective="last", tau=None, class_weights=weights)
    keys = {name: getattr(recipe.dact, name) for name in HaltingKeys.model_fields}
    return HaltingSettings(**keys, class_weights=weights, tau_unit=tau_unit)


def halting_loss(stages: list[Stage]) -> HaltingSettings:
    """The DACT loss of the last stage that has a tau, by which halting thresholds are learned after the stages."""
    priced = [stage.loss for stage in stages if stage.loss.tau is not None]
    return priced[-1].but(objective="dact")


def final_settings(recipe: Recipe, stages: list[Stage]) -> HaltingSettings:
    """The halting settings of the finished model."""
    objective = final_objective(recipe)
    return halting_loss(stages) if objective == "dact" else stages[-1].loss.but(objective=objective)


def final_objective(recipe: Recipe) -> Objective:
    """The objective of the finished model: the most that any stage, or the fit of thresholds, trained."""
    if recipe.fits_halting:
        return "dact"
    trained = {stage.loss.objective for stage in resolve_stages(recipe)}
    return "dact" if "dact" in trained else "layers" if "layers" in trained else "last"
