"""`dact finetune --sweep` and `--seeds`: one run for each combination of values, and what they show together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dactcli.api.common import build_request, check_lists, check_numbers
from dactcli.errors import UsageError
from dactcli.listening import Listener
from dactcli.results import SweepResult

if TYPE_CHECKING:
    from dactcli.recipe.schema import Recipe
    from dactcli.training.sweeps import Variant


@dataclass(frozen=True)
class SweepRequest:
    """What to sweep.

    Attributes:
        sweeps: `KEY=V1,V2` each; the runs are all combinations.
        overrides: `KEY=VALUE` each, for all runs.
        device: auto, cpu, cuda or mps.
        seeds: Values of `training.seed`; every combination is trained with each of them.
        sweep_random: Number of combinations to draw at random, with the recipe's seed; a sweep may then be a range,
            `KEY=LOW..HIGH`. None: all combinations.
    """

    sweeps: Sequence[str] = ()
    overrides: Sequence[str] = ()
    device: str = "auto"
    seeds: Sequence[int] = ()
    sweep_random: int | None = None

    def __post_init__(self) -> None:
        check_lists(self, "sweeps", "overrides", "seeds")
        check_numbers(self, sweep_random=1)
        if not self.sweeps and self.sweep_random is not None:
            raise UsageError("requires `sweeps`", place="`sweep_random`", remedy="add `sweeps`, or leave it out")
        if not self.sweeps and not self.seeds:
            raise UsageError("names no values", place="`sweeps`", remedy="write KEY=V1,V2, or give `seeds`")


def sweep(
    recipe: Path | str,
    sweeps: Sequence[str] | SweepRequest = (),
    *,
    listener: Listener | None = None,
    **fields: Any,
) -> SweepResult:
    """Train one run after the other; finished runs are skipped, and an unfinished one is resumed.

    Each run is certified as `fit` certifies it. The runs are compared on validation by the last of the recipe's rules
    that all of them have, because every certified threshold is another one.

    Args:
        recipe: The recipe's file.
        sweeps: `KEY=V1,V2` each, or a whole request.
        listener: Hears how it goes.
        **fields: Fields of `SweepRequest`; they override those of a request.

    Returns:
        The document of sweep.json, which is written after every run.

    Raises:
        DactError: As `fit` raises; what was finished stays.
        UsageError: A sweep is not of the form `KEY=V1,V2`, or names a key twice; or there are fewer combinations than
            are to be drawn; or the runs share no rule.
    """
    from dactcli import distributed
    from dactcli.recipe.load import load_recipe
    from dactcli.runs.folders import check_writable
    from dactcli.storage import write_json
    from dactcli.training.sweeps import SWEEP, front, over_seeds, shared_rule

    given = sweeps if isinstance(sweeps, SweepRequest) else None
    if given is None:
        fields = {"sweeps": sweeps, **fields}
    wanted, hears = build_request(SweepRequest, given, fields, listener)
    base = load_recipe(Path(recipe), wanted.overrides)
    name = base.output.name or base.task.name
    folder = Path(base.output.dir).expanduser() / f"{name}-sweep"
    variants = _variants(wanted, name, base.training.seed)
    extra = [[*one.overrides, f"output.dir={folder}", f"output.name={one.name}"] for one in variants]
    recipes = [load_recipe(Path(recipe), [*wanted.overrides, *keys]) for keys in extra]
    shared_rule([one.evaluation.rules or () for one in recipes])  # known before hours of training
    distributed.on_main(lambda: check_writable(folder))
    result = SweepResult(str(recipe), _swept(wanted), wanted.sweep_random)
    for number, (variant, full) in enumerate(zip(variants, recipes, strict=True), start=1):
        hears.run_started(variant.name, number, len(variants))
        runs = [*result.runs, _run(variant, full, folder, wanted.device, hears)]
        rule = shared_rule([one["rules"] for one in runs])
        result = replace(result, runs=runs, rule=rule, front=front(runs, rule), over_seeds=over_seeds(runs, rule))
        distributed.on_main(partial(write_json, folder / SWEEP, result.to_json()))
    return result


def _variants(wanted: SweepRequest, name: str, seed: int) -> list[Variant]:
    from dactcli.training.combinations import axes_of, draw, grid
    from dactcli.training.sweeps import expand

    axes, count = axes_of(wanted.sweeps), wanted.sweep_random
    combinations = grid(axes) if count is None else draw(axes, count, seed=seed)
    return expand(combinations, name, wanted.seeds)


def _swept(wanted: SweepRequest) -> list[str]:
    seeds = [f"training.seed={','.join(map(str, wanted.seeds))}"] if wanted.seeds else []
    return [*wanted.sweeps, *seeds]


def _run(variant: Variant, recipe: Recipe, folder: Path, device: str, listener: Listener) -> dict[str, Any]:
    """Train one variant unless it is finished; its entry in sweep.json."""
    from dactcli import distributed
    from dactcli.api.fit import train
    from dactcli.runs.calibration import CALIBRATION
    from dactcli.storage import SUMMARY, read_document
    from dactcli.training.sweeps import finished_run, unfinished_run

    run = distributed.on_main(partial(finished_run, recipe, folder, variant.name))
    if run is not None:
        listener.notice(f"{run} is finished, and skipped")
    else:
        begun = distributed.on_main(partial(unfinished_run, recipe, folder, variant.name))
        run = Path(train(recipe, device=device, listener=listener, resume=begun).run)
    judged = json.loads((run / SUMMARY).read_text(encoding="utf-8"))["evaluation"]["validation"]
    found = read_document(run / CALIBRATION)
    own, calibrated = recipe.evaluation.rules or (), found.get("rule")
    rules = {rule: one for rule, one in judged["rules"].items() if rule in own or rule != calibrated}
    told = {key: judged[key] for key in ("references", "decision") if key in judged}
    if found.get("certified") and calibrated in judged["rules"]:
        told["certified"] = {"rule": calibrated, **judged["rules"][calibrated]}
    return {"run": str(run), "values": variant.values, "rules": rules, **told}
