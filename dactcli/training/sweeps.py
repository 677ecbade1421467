"""Sweeps: the runs that `--sweep KEY=V1,V2` stands for, their front, and how much they vary with the seed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from dactcli.errors import UsageError
from dactcli.recipe.load import dump_recipe, load_recipe
from dactcli.recipe.schema import Recipe
from dactcli.recipe.tasks import metric_of
from dactcli.results import SeedSummary, Spread
from dactcli.runs.folders import is_finished, runs_named

SEED = "training.seed"
SWEEP = "sweep.json"
LONGEST = 100  # characters of a run's name
DIGEST = 8  # hexadecimal digits
CERTIFIED = "certified"  # stands for a run's certified rule
FIGURES = ("metric", "layers_mean", "agreement_with_full")  # of a rule, that vary with the seed


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


def expand(combinations: Sequence[dict[str, str]], base: str, seeds: Sequence[int] = ()) -> list[Variant]:
    """A run for each combination of values, and for each seed where there are several.

    Args:
        combinations: Values by key.
        base: Name that the runs' names begin with.
        seeds: Values of `training.seed`.

    Raises:
        UsageError: The seed is swept as well.
    """
    if not seeds:
        return [Variant(values, _name(base, values)) for values in combinations]
    if any(SEED in values for values in combinations):
        raise UsageError(f"{SEED} is swept as well", place="`seeds`", remedy=f"leave out {SEED}")
    repeated = [{**values, SEED: str(seed)} for values in combinations for seed in dict.fromkeys(seeds)]
    return [Variant(values, _name(base, values)) for values in repeated]


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

    A run finds the kind of answer, the labels and the range where the recipe leaves them out, and the metric follows
    the kind.
    """
    left = [key for key in ("kind", "labels", "range") if getattr(recipe.task, key) is None]
    found = {key: getattr(kept.task, key) for key in left}
    task = recipe.task.model_copy(update=found)
    if task.kind is not None:
        task = task.model_copy(update={"metric": metric_of(recipe, task.kind)})
    return dump_recipe(recipe.model_copy(update={"task": task})) == dump_recipe(kept)


def shared_rule(rules: Sequence[Iterable[str]]) -> str:
    """The last rule of the first list that all lists have: the one that can compare their runs.

    Args:
        rules: The rules of each run.

    Raises:
        UsageError: The runs share no rule.
    """
    lists = [list(one) for one in rules]
    shared = [rule for rule in lists[0] if all(rule in one for one in lists)]
    if not shared:
        raise UsageError(
            "the runs would share no rule that compares them", place="`sweeps`", remedy="add full to evaluation.rules"
        )
    return shared[-1]


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


def over_seeds(runs: Sequence[dict[str, Any]], rule: str) -> list[SeedSummary]:
    """How much the figures of each combination vary with the seed, and the front of the means.

    Args:
        runs: Entries of sweep.json.
        rule: The rule that the combinations are judged by.

    Returns:
        A summary for each combination with two seeds or more, of the rules that all its runs have; `certified` is the
        certified rule of each run.
    """
    groups: dict[tuple[tuple[str, str], ...], list[dict[str, Any]]] = {}
    for run in runs:
        if SEED in run["values"]:
            rest = tuple((key, value) for key, value in run["values"].items() if key != SEED)
            groups.setdefault(rest, []).append(run)
    found = [
        SeedSummary(
            values=dict(rest),
            seeds=[run["values"][SEED] for run in group],
            rules=_spreads([_rules_of(run) for run in group]),
        )
        for rest, group in groups.items()
        if len(group) > 1
    ]
    means = [
        {"run": str(number), "rules": {rule: {name: one.rules[rule][name].mean for name in FIGURES}}}
        for number, one in enumerate(found)
    ]
    best = front(means, rule)
    return [replace(one, on_front=str(number) in best) for number, one in enumerate(found)]


def _rules_of(run: dict[str, Any]) -> dict[str, Any]:
    """The figures of a run by rule; the certified rule is called so, because every run has a threshold of its own."""
    rules: dict[str, Any] = run["rules"]
    return rules | ({CERTIFIED: run[CERTIFIED]} if CERTIFIED in run else {})


def _spreads(judged: Sequence[dict[str, Any]]) -> dict[str, dict[str, Spread]]:
    """The spread of every figure, by the rules that all runs have."""
    return {
        rule: {figure: _spread([one[rule][figure] for one in judged]) for figure in FIGURES}
        for rule in judged[0]
        if all(rule in one for one in judged)
    }


def _spread(values: Sequence[float | None]) -> Spread:
    known = [value for value in values if value is not None]
    return Spread(fmean(known), stdev(known)) if len(known) == len(values) else Spread(None, None)
