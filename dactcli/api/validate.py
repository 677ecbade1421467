"""`dact validate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dactcli.api.common import build_request, check_lists
from dactcli.listening import Listener
from dactcli.results import PlanResult

if TYPE_CHECKING:
    from dactcli.recipe.schema import Recipe


@dataclass(frozen=True)
class ValidateRequest:
    """What to change about the recipe, and where to measure.

    Attributes:
        overrides: `KEY=VALUE` each, with the recipe's dotted keys.
        device: auto, cpu, cuda or mps.
    """

    overrides: Sequence[str] = ()
    device: str = "auto"

    def __post_init__(self) -> None:
        check_lists(self, "overrides")


def validate(
    recipe: Recipe | Path | str,
    request: ValidateRequest | None = None,
    *,
    listener: Listener | None = None,
    **fields: Any,
) -> PlanResult:
    """Check a recipe, its data and its encoder without training, and estimate time and memory; `dact validate`.

    Args:
        recipe: A recipe, or its file.
        request: Overrides and device.
        listener: Hears notices and progress.
        **fields: Fields of `ValidateRequest`; they override those of `request`.

    Raises:
        DactError: As `fit` raises before its first step.
    """
    from dactcli.model.device import find_device

    wanted, hears = build_request(ValidateRequest, request, fields, listener)
    full = resolved(recipe, wanted.overrides)
    where = find_device(wanted.device)
    from dactcli.training.examine import examine

    name = "the recipe" if not isinstance(recipe, str | Path) else recipe
    with hears.working(f"reading {name}, its data and its encoder"):
        plan = examine(full, device=where)
    plan = replace(plan, notices=[*plan.notices, *_too_few(full, plan)])
    for text in plan.notices:
        hears.notice(text)
    return plan


def _too_few(recipe: Recipe, plan: PlanResult) -> list[str]:
    """A notice where the calibration split is too small to certify the recipe's risk, whatever the model does."""
    from dactcli.evaluation.certificate import smallest_sample
    from dactcli.training.plan import certifies

    risk, delta = recipe.evaluation.risk, recipe.evaluation.delta
    if risk is None or not certifies(recipe):
        return []
    examples, needed = plan.splits["calibration"].examples, smallest_sample(epsilon=risk, delta=delta / 2)
    if examples >= needed:
        return []
    return [
        f"calibration has {examples:,} examples, and a risk of {risk:g} takes at least {needed:,}: nothing will be "
        "certified; enlarge the split or evaluation.risk"
    ]


def resolved(recipe: Recipe | Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """The resolved recipe of a file, or of a recipe built in Python."""
    from dactcli.errors import UsageError
    from dactcli.recipe.load import load_recipe
    from dactcli.recipe.tasks import complete

    if isinstance(recipe, str | Path):
        return load_recipe(Path(recipe), overrides)
    if overrides:
        raise UsageError("require a recipe file", place="`overrides`", remedy="change the recipe itself")
    return complete(recipe)
