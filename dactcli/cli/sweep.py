"""`dact finetune --sweep`: several runs into one folder, what is finished skipped, and their front."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dactcli.cli import options

if TYPE_CHECKING:
    from dactcli.report.training import Loudness


def sweep(recipe: Path, overrides: list[str], sweeps: list[str], *, device: str, loudness: Loudness) -> dict[str, Any]:
    """Run all variants, one after the other; a run that was interrupted goes on.

    Args:
        recipe: The recipe's file.
        overrides: `--set` of all runs.
        sweeps: `--sweep` as given.
        device: As `--device` is given.
        loudness: How much of each run is shown.

    Returns:
        The document of sweep.json, which is written after every run.
    """
    from dactcli import distributed
    from dactcli.cli.finetune import run_one
    from dactcli.recipe.load import load_recipe
    from dactcli.report.console import print_notice
    from dactcli.runs.folders import check_writable, unfinished
    from dactcli.storage import SUMMARY, write_json
    from dactcli.training.sweeps import SWEEP, expand, finished_run, front

    base = load_recipe(recipe, overrides)
    name = base.output.name or base.task.name
    folder = Path(base.output.dir).expanduser() / f"{name}-sweep"
    variants = expand(sweeps, name)
    recipes = [
        load_recipe(recipe, [*overrides, *one.overrides, f"output.dir={folder}", f"output.name={one.name}"])
        for one in variants
    ]
    distributed.on_main(lambda: check_writable(folder))
    document: dict[str, Any] = {"recipe": str(recipe), "sweep": sweeps, "rule": "", "runs": [], "front": []}
    for variant, full in zip(variants, recipes, strict=True):
        run = distributed.on_main(partial(finished_run, full, folder, variant.name))
        if run is not None:
            print_notice(f"{run} is finished, and skipped")
        else:
            going_on = distributed.on_main(partial(unfinished, folder, variant.name))
            where = options.usable_device(device)
            run = Path(run_one(full, device=where, resume=going_on, loudness=loudness).run)
        summary = json.loads((run / SUMMARY).read_text(encoding="utf-8"))
        judged = summary["evaluation"]["validation"]
        rules, references = judged["rules"], judged.get("references", {})
        found = {"run": str(run), "values": variant.values, "rules": rules, "references": references}
        document["runs"].append(found)
        document["rule"] = list(rules)[-1]
        document["front"] = front(document["runs"], document["rule"])
        distributed.on_main(partial(write_json, folder / SWEEP, document))
    return document
