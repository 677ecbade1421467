"""The settings of halting: written once, with their defaults, and carried whole from recipe to model to loss.

A recipe's `dact` section sets `HaltingKeys`. Its stages resolve these to `HaltingSettings`, which a model's
configuration stores and the loss reads.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Objective = Literal["dact", "layers", "last"]
Ponder = Literal["sum_p", "sum_h"]
AnswerLoss = Literal["error", "nll"]
LayerLoss = Literal["equal", "depth", "alternate", "none"]
Pooling = Literal["attention", "mean", "first"]
HaltingInputs = Literal["answer", "features"]

NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]

REGRESSION_TAU = 0.05  # in squared errors per layer


class Section(BaseModel):
    """A part of a recipe: strict types, no unknown keys, finite numbers, frozen once read."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class HaltingKeys(Section):
    """What a recipe says about the loss."""

    tau: NonNegative | None = 0.02
    """Price of a layer: with the defaults below, the accuracy (or micro F1) that one more layer must bring (0.02: two
    points). For a regression the default is 0.05. null: no DACT loss; only the layers are trained."""
    ponder: Ponder = "sum_p"
    """Ponder cost: the sum of p_n (expected layers), or of h_n (the DACT-BERT form)."""
    answer_loss: AnswerLoss = "error"
    """Loss of a_N: the probability it gives to wrong classes, or its NLL (the papers' loss)."""
    layer_loss: LayerLoss = "equal"
    """Weights of the layers' own losses: equal, by depth, equal and last layer in turn (BERxiT), or none."""
    layer_loss_weight: NonNegative = 1.0
    """Factor of the layers' own losses."""
    detach: bool = True
    """Whether the DACT loss trains the halting only, and leaves the layers' answers to their own losses."""
    distill: NonNegative = 0.0
    """Factor of the distillation from the last layer into the others."""


class HaltingSettings(HaltingKeys):
    """Everything that the loss of a model depends on.

    Without an `objective`, `tau: null` means `layers`, and any number means `dact`.
    """

    objective: Objective = "dact"
    """What is trained: `dact`, the whole loss; `layers`, every layer's answer without the DACT loss; or `last`, the
    last layer's answer alone (plain fine-tuning). Halting rules that a model cannot serve are refused."""
    class_weights: Annotated[tuple[Positive, ...], Field(strict=False)] | None = None
    """Factor of an example's loss by its class. null: 1 for every class."""
    tau_unit: Positive = 1.0
    """Answer loss that counts as 1 for tau. For label sets 2 * labels of an example / C, so that tau counts micro F1:
    few of many labels are ever there, and the mean error over all of them is small."""

    @property
    def price(self) -> float:
        """The price of a layer in units of the answer loss; 0 without a DACT loss."""
        return (self.tau or 0.0) * self.tau_unit

    @model_validator(mode="before")
    @classmethod
    def _objective_of_no_price(cls, values: Any) -> Any:
        if isinstance(values, dict) and "objective" not in values and values.get("tau", 0) is None:
            return {**values, "objective": "layers"}
        return values

    @model_validator(mode="after")
    def _has_a_price(self) -> HaltingSettings:
        if self.objective == "dact" and self.tau is None:
            raise ValueError("objective dact needs a number for tau")
        return self

    def but(self, **changes: Any) -> HaltingSettings:
        """The same settings with some of them changed.

        Raises:
            ValidationError: The changed settings are not valid.
        """
        return HaltingSettings(**{**dict(self), **changes})


def first_fault(error: ValidationError) -> tuple[str, str]:
    """The first fault of settings that are not valid.

    Returns:
        The key, empty for the settings as a whole, and what is wrong with it: `must be greater than 0`.
    """
    detail = error.errors()[0]
    key = ".".join(map(str, detail["loc"]))
    if detail["type"] == "extra_forbidden":
        return key, "is unknown"
    return key, detail["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
