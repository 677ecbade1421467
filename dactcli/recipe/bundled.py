"""The recipes that come with dact: found, described, copied."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from dactcli.errors import ResourceError, UsageError, did_you_mean


@dataclass(frozen=True)
class BundledRecipe:
    """A recipe that comes with dact.

    Attributes:
        name: Name in `dact recipes`: the path without its ending, such as `sst2` or `peers/pabee`.
        path: Path of the file.
        about: The first sentence of its header.
    """

    name: str
    path: Path
    about: str


def folder() -> Path:
    """Where the recipes are: in the package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    bundled = package / "bundled"
    return bundled if bundled.is_dir() else package.parent / "recipes"


def bundled_recipes() -> list[BundledRecipe]:
    """All recipes, by name."""
    found = sorted(folder().rglob("*.yaml"))
    return [BundledRecipe(path.relative_to(folder()).with_suffix("").as_posix(), path, _about(path)) for path in found]


def pick(name: str) -> BundledRecipe:
    """A recipe by its name.

    Raises:
        UsageError: No recipe has that name.
    """
    recipes = {one.name: one for one in bundled_recipes()}
    wanted = name.removesuffix(".yaml").removeprefix("recipes/")
    if wanted not in recipes:
        raise UsageError(f"no recipe is called {name!r}", remedy=did_you_mean(wanted, recipes))
    return recipes[wanted]


def copy(recipe: BundledRecipe, target: Path, *, overwrite: bool) -> Path:
    """Copy a recipe to where it can be edited; its first line then names the copy.

    Args:
        recipe: The recipe.
        target: A file, or an existing folder.
        overwrite: Whether to replace an existing file.

    Returns:
        The copy.

    Raises:
        UsageError: The file already exists.
        ResourceError: The copy cannot be written.
    """
    path = target / recipe.path.name if target.is_dir() else target
    if path.exists() and not overwrite:
        raise UsageError("already exists", place=str(path), remedy="add `overwrite`, or name another file")
    text = recipe.path.read_text(encoding="utf-8")
    shown = os.path.relpath(path) if path.is_absolute() else str(path)
    text = text.replace(f"dact finetune recipes/{recipe.name}.yaml", f"dact finetune {shown}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ResourceError(f"cannot be written: {error.strerror}", place=str(path), remedy="name another") from None
    return path


def _about(path: Path) -> str:
    """The first sentence of the header, after the line with the command."""
    words: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        text = line.removeprefix("#").strip()
        if not line.startswith("#") or (words and not text):
            break
        words += text.split()
    sentence, stop, _ = " ".join(words).partition(". ")
    return sentence + "." if stop else sentence
