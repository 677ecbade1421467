"""What runs a folder holds, from their summaries; no model is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dactcli.errors import DactError
from dactcli.recipe.load import load_recipe
from dactcli.results import RunFacts
from dactcli.training.runs import SUMMARY


def list_runs(folder: Path) -> list[RunFacts]:
    """The runs of a folder, and of the sweeps in it.

    Args:
        folder: `output.dir`; one that does not exist has no runs.
    """
    recipes = [*folder.glob("*/recipe.yaml"), *folder.glob("*/*/recipe.yaml")]
    latest = (folder / "latest").resolve()
    found = [path.parent for path in recipes if not path.parent.is_symlink()]
    return [_facts(run, latest=run.resolve() == latest) for run in found]


def _facts(run: Path, *, latest: bool) -> RunFacts:
    """One run; what cannot be read is left out, because a list is no place to fail."""
    files = [path for path in run.rglob("*") if path.is_file() and not path.is_symlink()]
    summary = _summary(run)
    validation = summary.get("evaluation", {}).get("validation", {})
    rules = validation.get("rules", {})
    rule = list(rules)[-1] if rules else None
    judged = rules.get(rule, {})
    try:
        task = load_recipe(run / "recipe.yaml").task.name
    except DactError:
        task = "?"
    return RunFacts(
        run=str(run),
        task=task,
        finished=bool(summary),
        latest=latest,
        metric_name=validation.get("metric"),
        metric=judged.get("metric"),
        rule=rule,
        layers_mean=judged.get("layers_mean"),
        layers=validation.get("layers"),
        modified=max((path.stat().st_mtime for path in files), default=run.stat().st_mtime),
        majority=validation.get("references", {}).get("majority", {}).get("metric"),
        megabytes=sum(path.stat().st_size for path in files) / 1e6,
    )


def _summary(run: Path) -> dict[str, Any]:
    try:
        document = json.loads((run / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
