"""List the runs in a folder from their summaries, without loading a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dactcli.errors import DactError
from dactcli.halting.names import sound_rule
from dactcli.recipe.load import load_recipe
from dactcli.results import RunFacts
from dactcli.runs.calibration import CALIBRATION
from dactcli.runs.identity import config_digest, tokenizer_digest
from dactcli.storage import SUMMARY, read_document, sha256

SORTS: dict[str, Callable[[RunFacts], Any]] = {
    "date": lambda run: -run.modified,
    "name": lambda run: run.run,
    "metric": lambda run: -(run.metric if run.metric is not None else float("-inf")),
    "layers": lambda run: run.layers_mean if run.layers_mean is not None else float("inf"),
    "size": lambda run: -run.megabytes,
}


def list_runs(folder: Path) -> list[RunFacts]:
    """The runs in a folder and in its sweeps.

    Args:
        folder: `output.dir`. A folder that does not exist has no runs.
    """
    recipes = [*folder.glob("*/recipe.yaml"), *folder.glob("*/*/recipe.yaml")]
    latest = (folder / "latest").resolve()
    found = [path.parent for path in recipes if not path.parent.is_symlink()]
    return [_facts(run, latest=run.resolve() == latest) for run in found if not _published(run)]


def _published(folder: Path) -> bool:
    """Whether `dact publish` wrote a folder: a model with its card, without the summary of a training."""
    return all((folder / name).is_file() for name in ("README.md", "config.json")) and not (folder / SUMMARY).exists()


def _in_force(run: Path, rules: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """A run's halting rule and its validation figures, if known."""
    config, calibration = read_document(run / "config.json"), read_document(run / CALIBRATION)
    rule = config.get("rule")
    if calibration and _changed(run, calibration):  # the figures belong to another model
        regression = config.get("answer_range") is not None
        return sound_rule(mixes=_objective(config) == "dact", regression=regression), {}
    if rule in rules:
        return rule, rules[rule]
    if isinstance(rule, str) and rules:  # calibrated without kept validation outputs
        return rule, {"layers_mean": calibration.get("layers_mean")}
    last = list(rules)[-1] if rules else None
    return last, rules[last] if last is not None else {}


def _objective(config: dict[str, Any]) -> str:
    """The model's objective; older configurations have it outside `halting`."""
    halting = config.get("halting")
    found = halting if isinstance(halting, dict) else config
    return str(found.get("objective", "dact"))


def _changed(run: Path, calibration: dict[str, Any]) -> bool:
    """Whether a calibration is void, judged by the files. Weights older than the calibration are not read."""
    weights = run / "model.safetensors"
    try:
        if (config_digest(run), tokenizer_digest(run)) != (
            calibration.get("config_sha256"),
            calibration.get("tokenizer_sha256"),
        ):
            return True
        older = weights.stat().st_mtime < (run / CALIBRATION).stat().st_mtime
        return not older and sha256(weights) != calibration.get("weights_sha256")
    except (OSError, ValueError, RecursionError):
        return True


def _facts(run: Path, *, latest: bool) -> RunFacts:
    """The facts of one run; unreadable ones are left out, so that the list never fails."""
    files = [path for path in run.rglob("*") if path.is_file() and not path.is_symlink()]
    summary = read_document(run / SUMMARY)
    validation = summary.get("evaluation", {}).get("validation", {})
    rules = validation.get("rules", {})
    rule, judged = _in_force(run, rules)
    try:
        task = load_recipe(run / "recipe.yaml").task.name
    except DactError:
        task = "?"
    return RunFacts(
        run=str(run),
        task=task,
        finished=bool(summary),
        latest=latest,
        metric_name=validation.get("metric") if "metric" in judged else None,
        metric=judged.get("metric"),
        rule=rule,
        layers_mean=judged.get("layers_mean"),
        layers=validation.get("layers"),
        modified=max((path.stat().st_mtime for path in files), default=run.stat().st_mtime),
        majority=validation.get("references", {}).get("majority", {}).get("metric"),
        megabytes=sum(path.stat().st_size for path in files) / 1e6,
    )
