"""`dact recipes`: list, show, copy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dactcli.api import recipes as api
from dactcli.cli import options

EXAMPLE = "Example: dact recipes copy sst2 mine.yaml"
app = typer.Typer(no_args_is_help=False, invoke_without_command=True, help="The recipes that come with dact.")
Name = Annotated[
    str,
    typer.Argument(
        help="Name of the recipe, as `dact recipes` lists it.", metavar="NAME", autocompletion=options.recipes
    ),
]


@app.callback(epilog=EXAMPLE)
def recipes(context: typer.Context) -> None:
    """The recipes that come with dact: list, show or copy them."""
    if context.invoked_subcommand is None:
        list_()


@app.command("list")
def list_(as_json: options.Json = False) -> None:
    """Name them all, with what each is for."""
    from dactcli.report.console import show
    from dactcli.report.listings import render_recipes

    found = api.recipes()
    options.emit([{"name": one.name, "about": one.about} for one in found], as_json=as_json, output=None)
    if not as_json:
        show(render_recipes(found))


@app.command("show")
def show(name: Name) -> None:
    """Print one, to be read or redirected."""
    from dactcli.report.console import print_text

    print_text(api.show_recipe(name))


@app.command("copy")
def copy(
    name: Name,
    target: Annotated[
        Path, typer.Argument(help="Target file or folder. Default: the current folder.", metavar="[TO]")
    ] = Path(),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Overwrite an existing file.")] = False,
) -> None:
    """Copy one to where you can change it."""
    from dactcli.report.console import print_notice

    path = api.copy_recipe(name, target, overwrite=overwrite)
    print_notice(f"{path} is yours to edit; check it with: dact validate {path}")
