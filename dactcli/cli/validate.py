"""`dact validate`."""

from __future__ import annotations

from dactcli.cli import options

EXAMPLE = "Example: dact validate mine.yaml --set training.batch_size=16"


def validate(
    recipe: options.RecipeFile,
    overrides: options.Overrides = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    output: options.Output = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Check everything about a recipe that can be checked without training, and estimate time and memory."""
    from dactcli.recipe.load import load_recipe
    from dactcli.report.console import print_notice, show, waiting
    from dactcli.report.listings import render_plan

    options.check_outputs(overwrite=overwrite, output=output)
    full = load_recipe(recipe, overrides or ())
    where = options.usable_device(device)
    from dactcli.training.examine import examine

    with waiting(f"reading {recipe}, its data and its encoder"):
        plan = examine(full, device=where)
    options.emit(plan.to_json(), as_json=as_json, output=output)
    for notice in plan.notices:
        print_notice(notice)
    if not as_json:
        show(render_plan(plan))
