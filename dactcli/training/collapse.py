"""A halting that does not depend on the example, which a training tells."""

from __future__ import annotations

from collections.abc import Sequence

from dactcli.recipe.schema import Recipe

SHARE = 0.95  # of the examples at one layer: halting has collapsed
FEWEST = 100  # examples, below which a share says little


def collapse_notice(recipe: Recipe, rule: str, depths: Sequence[int]) -> str | None:
    """A sentence with the remedy where nearly all examples stop after the same layer.

    Args:
        recipe: The recipe of the run.
        rule: The rule that the run halts by.
        depths: How many validation examples stop after each layer [N].

    Returns:
        None where halting depends on the example, where there is one layer, or where there are too few examples.
    """
    examples, layers = sum(depths), len(depths)
    layer = max(range(layers), key=depths.__getitem__) + 1
    if layers == 1 or examples < FEWEST or depths[layer - 1] <= SHARE * examples:
        return None
    if recipe.model.agreement:
        what = "runs all layers" if layer == layers else f"stops after layer {layer} of {layers}"
        return (
            f"{depths[layer - 1] / examples:.1%} of validation {what} under {rule}, so the depth hardly "
            "depends on the example: train the exit heads longer or on more texts, or allow another evaluation.risk"
        )
    share, tau = f"{depths[layer - 1] / examples:.1%} of validation", recipe.dact.tau if recipe.dact else None
    now = "" if tau is None else f" (now {tau:g})"
    if layer == layers:
        return (
            f"{share} runs all {layers} layers under {rule}, so halting saves nothing: raise dact.tau{now}, "
            "train longer, or allow a larger evaluation.risk"
        )
    return (
        f"{share} stops after layer {layer} of {layers} under {rule}, so the depth hardly depends on the example: if "
        f"full depth is better, lower dact.tau{now} or raise dact.tau_delay; if not, train fewer layers (model.layers)"
    )
