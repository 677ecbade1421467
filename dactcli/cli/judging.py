"""What `dact eval` does with its options: evaluate, calibrate or compare, and show the result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dactcli.cli import options


@dataclass(frozen=True)
class Shown:
    """How the result is shown.

    Attributes:
        as_json: Whether only the JSON document is printed.
        output: The JSON document's file.
        plots: The folder of the plots.
        report: Whether every class is shown with precision, recall and F1.
    """

    as_json: bool
    output: Path | None
    plots: Path | None
    report: bool = False


def check_options(
    calibrate: str | None, rules: list[str] | None, shown: Shown, *, compare: bool, replace: bool
) -> None:
    """Refuse options that ask for different things."""
    from dactcli.errors import UsageError

    if compare and (calibrate or rules):
        other = "--calibrate" if calibrate else "--rule"
        raise UsageError(f"cannot be combined with {other}", place="--compare", remedy="leave one of them out")
    if shown.report and (compare or calibrate):
        other = "--compare" if compare else "--calibrate"
        raise UsageError(f"cannot be combined with {other}", place="--report", remedy="leave one of them out")
    if calibrate is not None and shown.plots is not None:
        raise UsageError("cannot be combined with --calibrate", place="--plots", remedy="leave one of them out")
    if replace and calibrate is None and not compare:
        raise UsageError("requires --calibrate", place="--replace", remedy="add --calibrate, or leave it out")


def check_no_cluster(cluster: dict[str, Any]) -> None:
    """Refuse to compare on a cluster."""
    from dactcli.api.evaluate import EvaluateRequest
    from dactcli.errors import UsageError

    given = [name for name, value in cluster.items() if value != getattr(EvaluateRequest, name)]
    if given:
        remedy = "leave it out; dact eval --engine ray keeps what workers without GPUs found, and --compare reads it"
        place = f"--{given[0].replace('_', '-')}"
        raise UsageError("cannot be combined with --compare", place=place, remedy=remedy)


def evaluate_runs(paths: list[Path | None], fields: dict[str, Any], shown: Shown) -> None:
    """Evaluate each run, and show the rules side by side."""
    from dactcli import distributed
    from dactcli.api.evaluate import EvaluateRequest, evaluate

    request = EvaluateRequest(**fields)
    listener = options.listener()
    results = [evaluate(path, request, listener=listener) for path in paths]
    if not distributed.is_main():
        return
    documents = [result.to_json() for result in results]
    options.emit(documents if len(documents) > 1 else documents[0], as_json=shown.as_json, output=shown.output)
    if not shown.as_json:
        from dactcli.report.console import show
        from dactcli.report.evaluation import render_evaluation

        for result in results:
            show(render_evaluation(result, report=shown.report))
    if shown.plots is not None:
        from dactcli.report.plots import write_depths

        for result in results:
            folder = shown.plots if len(results) == 1 else shown.plots / Path(result.run).name
            options.tell_written(write_depths(result, folder))


def calibrate_run(paths: list[Path | None], goal: Any, fields: dict[str, Any], shown: Shown) -> None:
    """Choose a threshold for one run, and show what it promises."""
    from dactcli.api.calibrate import CalibrateRequest, calibrate
    from dactcli.errors import UsageError

    if len(paths) > 1:
        raise UsageError("takes one run", place="--calibrate", remedy="calibrate one after the other")
    request = CalibrateRequest(goal, **fields)
    found = calibrate(paths[0], request, listener=options.listener())
    options.emit(found.to_json(), as_json=shown.as_json, output=shown.output)
    if not shown.as_json:
        from dactcli.report.calibration import render_calibration
        from dactcli.report.console import show

        show(render_calibration(found))


def compare_runs(paths: list[Path | None], fields: dict[str, Any], shown: Shown) -> None:
    """Compare the rules of the runs, and show their curves."""
    from dactcli import distributed
    from dactcli.api.compare import CompareRequest, compare
    from dactcli.report.comparison import render_comparison
    from dactcli.report.console import show

    comparison = compare(paths, CompareRequest(**fields), listener=options.listener())
    if not distributed.is_main():
        return
    options.emit(comparison.to_json(), as_json=shown.as_json, output=shown.output)
    if shown.plots is not None:
        from dactcli.report.plots import write_curves

        options.tell_written(write_curves(comparison, shown.plots))
    if not shown.as_json:
        show(render_comparison(comparison))
