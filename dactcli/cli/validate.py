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
    from dactcli.api.validate import ValidateRequest
    from dactcli.api.validate import validate as validate_recipe
    from dactcli.report.console import show
    from dactcli.report.listings import render_plan

    options.check_outputs(overwrite=overwrite, output=output)
    request = ValidateRequest(overrides or (), device)
    plan = validate_recipe(recipe, request, listener=options.listener())
    options.emit(plan.to_json(), as_json=as_json, output=output)
    if not as_json:
        show(render_plan(plan))
