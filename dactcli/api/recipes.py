"""`dact recipes`: list, show, copy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dactcli.recipe.bundled import BundledRecipe


def recipes() -> list[BundledRecipe]:
    """The recipes that come with dact, by name; `dact recipes list`."""
    from dactcli.recipe.bundled import bundled_recipes

    return bundled_recipes()


def show_recipe(name: str) -> str:
    """The text of a recipe; `dact recipes show`.

    Args:
        name: As `recipes` lists it.

    Raises:
        UsageError: There is no recipe of that name.
    """
    from dactcli.recipe.bundled import pick

    return pick(name).path.read_text(encoding="utf-8")


def copy_recipe(name: str, target: Path | str = ".", *, overwrite: bool = False) -> Path:
    """Copy a recipe to where you can change it; `dact recipes copy`.

    Args:
        name: As `recipes` lists it.
        target: A file, or a folder that exists.
        overwrite: Whether to replace a file that is there.

    Returns:
        The copy.

    Raises:
        UsageError: There is no recipe of that name, or a file already exists.
        ResourceError: The copy cannot be written.
    """
    from dactcli.recipe.bundled import copy, pick

    return copy(pick(name), Path(target), overwrite=overwrite)
