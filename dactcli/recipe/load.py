"""A recipe file with its `--set a.b=c` to `Recipe` and back; faults are told with file, line and remedy."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dactcli.errors import ArtefactError, RecipeError
from dactcli.recipe.explain import Fault, contradictions, explain, removed_keys
from dactcli.recipe.schema import SPLITS, Recipe
from dactcli.recipe.tasks import complete
from dactcli.recipe.yaml12 import MAX_DEPTH, Key, YamlReader, dotted, dump_yaml, read_text, shown, value_at
from dactcli.storage import check_format

NOTHING = "not set"


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads, overrides and checks a recipe.

    Args:
        path: The YAML file. Data files and an encoder folder written in it are relative to its folder.
        overrides: `--set` arguments such as `dact.tau=0.1` or `training.stages.0.epochs=2`, applied in order;
            their values are YAML, and their paths are relative to the current folder.

    Returns:
        The resolved recipe: what the task's name implies is filled in (`dactcli.recipe.tasks.complete`), paths are
        absolute (but for `output.dir`, kept as given), and `output.name` is set.

    Raises:
        RecipeError: The file cannot be read, is no YAML, or does not fit the schema. The sentence opens with
            `file:line` or `overrides` with the override, tells the first fault and counts the others.
    """
    document = _Document(path, overrides)
    document.check_format()
    document.drop_removed()
    try:
        recipe = Recipe.model_validate(document.values)
    except ValidationError as error:
        raise document.error(explain(error, document.values)) from None
    if faults := list(contradictions(recipe)):
        raise document.error(faults)
    _make_absolute(document, recipe)
    return complete(Recipe.model_validate(document.values))


def dump_recipe(recipe: Recipe) -> str:
    """Complete YAML of a recipe, for `recipe.yaml` in a run folder; `load_recipe` reads back an equal one.

    A stage keeps only the keys that were set in it: `tau: null` there (layer losses only) is not the same as
    no `tau` (that of the recipe).
    """
    values = recipe.model_dump()
    values["training"]["stages"] = [stage.model_dump(exclude_unset=True) for stage in recipe.training.stages]
    return dump_yaml(values)


def difference(then: str, now: str) -> str | None:
    """Where two complete recipes differ, as `dump_recipe` writes them: `training.seed was 0 and is 3`.

    Args:
        then: The older.
        now: The newer.

    Returns:
        The first three keys that differ, and how many more; None where no key does. Keys of earlier or later versions
        that have their default are no difference.
    """
    try:
        kept = YamlReader(str, {}).read(then, empty="")
        list(removed_keys(kept))
        before = _flat(_completed(kept))
    except RecipeError:
        return "the kept one is damaged"
    after = _flat(YamlReader(str, {}).read(now, empty=""))
    keys = [key for key in dict.fromkeys([*after, *before]) if before.get(key, NOTHING) != after.get(key, NOTHING)]
    if not keys:
        return None
    told = [f"{key} was {before.get(key, NOTHING)} and is {after.get(key, NOTHING)}" for key in keys[:3]]
    return "; ".join(told) + (f"; and {len(keys) - 3} more" if len(keys) > 3 else "")


def _completed(values: Any) -> Any:
    """The values of a recipe with the defaults of keys that it lacks; as they are where they do not fit."""
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError:
        return values
    return YamlReader(str, {}).read(dump_recipe(recipe), empty="")


def _flat(values: Any, key: Key = ()) -> dict[str, str]:
    """The leaves of nested mappings and lists by their dotted keys."""
    if not isinstance(values, dict | list) or not values:
        return {dotted(key): shown(values)}
    items = values.items() if isinstance(values, dict) else enumerate(values)
    return {name: leaf for part, value in items for name, leaf in _flat(value, (*key, part)).items()}


class _Document:
    """A recipe file with its overrides as plain values, and where each key was written."""

    def __init__(self, path: Path, overrides: Sequence[str]) -> None:
        self.path, self.overrides = path, overrides
        self.lines: dict[Key, int] = {}  # a line of the file, or -n for the n-th override
        reader = YamlReader(self._at_line, self.lines)
        self.values: Any = reader.read(read_text(path), empty="the file is empty")
        if not isinstance(self.values, dict):
            raise RecipeError(
                f"a recipe is a mapping of sections, not {shown(self.values)}",
                place=self._at_line(self.lines[()]),
                remedy="begin with data: and model:",
            )
        for number, text in enumerate(overrides, start=1):
            self._override(text, -number)

    def check_format(self) -> None:
        """Refuse a recipe whose keys may mean something else, before they are looked at."""
        try:
            check_format(self.values.get("format"), self._at_line(self.lines.get(("format",), 1)))
        except ArtefactError as error:
            raise RecipeError(error.fault, place=error.place, remedy=error.remedy) from None

    def drop_removed(self) -> None:
        """Drop keys of earlier versions that have their default, and refuse others."""
        if faults := list(removed_keys(self.values)):
            raise self.error(faults)

    def line(self, key: Key) -> int:
        """Where a key was written, or else the section that should hold it."""
        while key not in self.lines:
            key = key[:-1]
        return self.lines[key]

    def error(self, faults: list[Fault]) -> RecipeError:
        """One error for all: the first in the file, else in the overrides, is told, the others counted."""
        first = min(faults, key=lambda fault: (self.line(fault.key) < 0, abs(self.line(fault.key))))
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        return RecipeError(first.text + more, place=self._at_line(self.line(first.key)), remedy=first.remedy)

    def _at_line(self, line: int) -> str:
        return f"{self.path}:{line}" if line > 0 else f"`overrides` {self.overrides[-line - 1]}"

    def _override(self, text: str, mark: int) -> None:
        place = self._at_line(mark)
        target, equals, source = text.partition("=")
        parts = [part.strip() for part in target.split(".")]
        if not (equals and all(parts) and len(parts) <= MAX_DEPTH):
            raise RecipeError("this is not KEY=VALUE", place=place, remedy="write for example dact.tau=0.1")
        reader = YamlReader(lambda line: place, {})
        value = reader.read(source, empty="the value is empty; write null to unset it")
        key: Key = ()
        holder = self.values
        for part in parts[:-1]:
            step = _step(holder, part, key, place)
            key = (*key, step)
            if value_at(self.values, key) is None:
                holder[step], self.lines[key] = {}, mark
            holder = holder[step]
        step = _step(holder, parts[-1], key, place)
        key = (*key, step)
        holder[step] = value
        for below in [known for known in self.lines if known[: len(key)] == key]:
            del self.lines[below]
        self.lines[key] = mark


def _step(holder: Any, part: str, key: Key, place: str) -> str | int:
    """The key or index by which an override goes one level down."""
    if isinstance(holder, dict):
        return part
    if not isinstance(holder, list):
        whole = f"{dotted(key)}={{{part}: ...}}"
        raise RecipeError(f"{dotted(key)} is {shown(holder)} and has no keys", place=place, remedy=f"set {whole}")
    if not (re.fullmatch(r"[0-9]{1,5}", part) and int(part) < len(holder)):
        raise RecipeError(
            f"{dotted(key)} is a list with {len(holder)} entries and none is {dotted((part,))}",
            place=place,
            remedy=f"count from 0: {dotted(key)}.0 is the first",
        )
    return int(part)


def _make_absolute(document: _Document, recipe: Recipe) -> None:
    """Make paths absolute and name the output, in the values of the document."""

    def absolute(text: str, key: Key) -> str:
        if "://" in text:  # a remote address
            return text
        folder = Path.cwd() if document.line(key) < 0 else document.path.parent
        return os.path.abspath(os.path.join(folder, os.path.expanduser(text)))

    values = document.values
    for split in SPLITS if recipe.data.source == "files" else ():
        files, key = values["data"].get(split), ("data", split)
        if isinstance(files, str):
            values["data"][split] = absolute(files, key)
        elif isinstance(files, list):
            values["data"][split] = [absolute(file, (*key, i)) for i, file in enumerate(files)]
    encoder, key = recipe.model.encoder, ("model", "encoder")
    if isinstance(encoder, str):
        written_as_path = encoder.startswith(("./", "../", "/", "~")) or encoder in (".", "..")
        if written_as_path or os.path.isdir(absolute(encoder, key)):
            values["model"]["encoder"] = absolute(encoder, key)
    if recipe.output.name is None:
        named = "name" in recipe.task.model_fields_set
        wish = recipe.task.name if named else document.path.stem
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", wish).lstrip("._-")[:100] or "run"
        values.setdefault("output", {})["name"] = name
