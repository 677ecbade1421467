"""`dact finetune --sweep`: one run for each combination of values, and the front that they make."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dactcli.api.common import build_request, check_lists
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
    """

    sweeps: Sequence[str] = ()
    overrides: Sequence[str] = ()
    device: str = "auto"

    def __post_init__(self) -> None:
        check_lists(self, "sweeps", "overrides")


def sweep(
    recipe: Path | str,
    sweeps: Sequence[str] | SweepRequest = (),
    *,
    listener: Listener | None = None,
    **fields: Any,
) -> SweepResult:
    """Train one run after the other; finished runs are skipped, and an unfinished one is resumed.

    Each run is certified as `fit` certifies it. The runs are compared on validation by the last of the recipe's rules,
    because every certified threshold is another one.

    Args:
        recipe: The recipe's file.
        sweeps: `KEY=V1,V2` each, or a whole request.
        listener: Hears how it goes.
        **fields: Fields of `SweepRequest`; they override those of a request.

    Returns:
        The document of sweep.json, which is written after every run.

    Raises:
        DactError: As `fit` raises; what was finished stays.
        UsageError: A sweep is not of the form `KEY=V1,V2`, or names a key twice.
    """
    from dactcli import distributed
    from dactcli.recipe.load import load_recipe
    from dactcli.runs.folders import check_writable
    from dactcli.storage import write_json
    from dactcli.training.sweeps import SWEEP, expand, front

    given = sweeps if isinstance(sweeps, SweepRequest) else None
    if given is None:
        fields = {"sweeps": sweeps, **fields}
    wanted, hears = build_request(SweepRequest, given, fields, listener)
    base = load_recipe(Path(recipe), wanted.overrides)
    name = base.output.name or base.task.name
    folder = Path(base.output.dir).expanduser() / f"{name}-sweep"
    variants = expand(wanted.sweeps, name)
    extra = [[*one.overrides, f"output.dir={folder}", f"output.name={one.name}"] for one in variants]
    recipes = [load_recipe(Path(recipe), [*wanted.overrides, *keys]) for keys in extra]
    distributed.on_main(lambda: check_writable(folder))
    result = SweepResult(str(recipe), list(wanted.sweeps))
    for number, (variant, full) in enumerate(zip(variants, recipes, strict=True), start=1):
        hears.run_started(variant.name, number, len(variants))
        runs = [*result.runs, _run(variant, full, folder, wanted.device, hears)]
        rule = list(runs[-1]["rules"])[-1]
        result = replace(result, runs=runs, rule=rule, front=front(runs, rule))
        distributed.on_main(partial(write_json, folder / SWEEP, result.to_json()))
    return result


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
    own, calibrated = recipe.evaluation.rules or (), read_document(run / CALIBRATION).get("rule")
    rules = {rule: found for rule, found in judged["rules"].items() if rule in own or rule != calibrated}
    told = {key: judged[key] for key in ("references", "decision") if key in judged}
    return {"run": str(run), "values": variant.values, "rules": rules, **told}
