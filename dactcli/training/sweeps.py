"""Sweeps: the runs that `--sweep KEY=V1,V2` stands for, and the front that they make."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dactcli.errors import UsageError
from dactcli.recipe.load import dump_recipe, load_recipe
from dactcli.recipe.schema import Recipe
from dactcli.recipe.tasks import metric_of
from dactcli.runs.folders import is_finished, runs_named

PLACE = "`sweeps`"
SWEEP = "sweep.json"
LONGEST = 100  # characters of a run's name
DIGEST = 8  # hexadecimal digits


@dataclass(frozen=True)
class Variant:
    """One run of a sweep.

    Attributes:
        values: What it sets, as written, by key.
        name: The `output.name` of its run.
    """

    values: dict[str, str]
    name: str

    @property
    def overrides(self) -> list[str]:
        """As `--set` takes them."""
        return [f"{key}={value}" for key, value in self.values.items()]


def expand(sweeps: Sequence[str], base: str) -> list[Variant]:
    """All combinations of the values of all sweeps.

    Args:
        sweeps: `KEY=V1,V2` each; a comma inside brackets or braces belongs to a value.
        base: Name that the runs' names begin with.

    Raises:
        UsageError: One is not of that form, or names a key twice.
    """
    axes: dict[str, list[str]] = {}
    for sweep in sweeps:
        key, equals, text = sweep.partition("=")
        values = _split(text)
        if not equals or not key or not all(values):
            raise UsageError(f"{sweep!r} is not understood", place=PLACE, remedy="write KEY=V1,V2")
        if key in axes:
            raise UsageError(f"{key} is swept twice", place=PLACE, remedy="write all its values in one list")
        axes[key] = list(dict.fromkeys(values))
    combinations = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    return [Variant(values, _name(base, values)) for values in combinations]


def _split(text: str) -> list[str]:
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _name(base: str, values: dict[str, str]) -> str:
    """A readable name; it ends with a digest where another combination could have the same readable name."""
    whole = f"{base}-" + "-".join(f"{key.rpartition('.')[2]}-{value}" for key, value in values.items())
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", whole)
    ambiguous = len(values) > 1 and any("-" in value for value in values.values())
    if readable == whole and len(readable) <= LONGEST and not ambiguous:
        return readable
    digest = hashlib.sha256(repr((base, values)).encode()).hexdigest()[:DIGEST]
    return f"{readable[: LONGEST - DIGEST - 1].rstrip('-')}-{digest}"


def finished_run(recipe: Recipe, folder: Path, name: str) -> Path | None:
    """The newest finished run of a recipe in a sweep's folder, if there is one.

    Args:
        recipe: The complete recipe.
        folder: The sweep's folder.
        name: The run's `output.name`.
    """
    return next((run for run in _runs_of(recipe, folder, name) if is_finished(run)), None)


def unfinished_run(recipe: Recipe, folder: Path, name: str) -> Path | None:
    """The newest unfinished run of a recipe in a sweep's folder, if there is one.

    Args:
        recipe: The complete recipe.
        folder: The sweep's folder.
        name: The run's `output.name`.
    """
    return next((run for run in _runs_of(recipe, folder, name) if not is_finished(run)), None)


def _runs_of(recipe: Recipe, folder: Path, name: str) -> Iterator[Path]:
    """The runs of a name whose recipe is this one, newest first."""
    for run in reversed(runs_named(folder, name)):
        if (run / "recipe.yaml").is_file() and _is_run_of(load_recipe(run / "recipe.yaml"), recipe):
            yield run


def _is_run_of(kept: Recipe, recipe: Recipe) -> bool:
    """Whether a run's recipe is this one, together with what the run found in its data.

    A run finds the kind of answer, the labels and the range where the recipe leaves them out, and the metric follows the
    kind.
    """
    left = [key for key in ("kind", "labels", "range") if getattr(recipe.task, key) is None]
    found = {key: getattr(kept.task, key) for key in left}
    task = recipe.task.model_copy(update=found)
    if task.kind is not None:
        task = task.model_copy(update={"metric": metric_of(recipe, task.kind)})
    return dump_recipe(recipe.model_copy(update={"task": task})) == dump_recipe(kept)


def front(runs: Sequence[dict[str, Any]], rule: str) -> list[str]:
    """The runs that no other beats in metric at as few layers, by ascending layers; none whose metric is undefined.

    Args:
        runs: Entries of sweep.json.
        rule: The rule that they are judged by.
    """
    defined = [run for run in runs if run["rules"][rule]["metric"] is not None]
    judged = [(run["rules"][rule]["layers_mean"], -run["rules"][rule]["metric"], run["run"]) for run in defined]
    best, kept = float("inf"), []
    for _, loss, name in sorted(judged):
        if loss < best:
            best = loss
            kept.append(name)
    return kept
