"""`dact eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dactcli.cli import options

EXAMPLE = "Example: dact eval runs/sst2-1 --split test --rule full --rule exact"
SPLITS = ("validation", "calibration", "test", "train")


def evaluate(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(help="Run folders or saved models; runs/latest without any.", metavar="[RUN]..."),
    ] = None,
    split: Annotated[
        str,
        typer.Option(help="Which split of the run's data: validation, calibration, test or train.", metavar="NAME"),
    ] = "validation",
    data: Annotated[
        Path | None,
        typer.Option(help="A csv, tsv, jsonl or parquet file instead of a split.", metavar="FILE"),
    ] = None,
    rules: Annotated[
        list[str] | None,
        typer.Option("--rule", help="Halting rule; may be repeated. The recipe's without.", metavar="NAME[:VALUE]"),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Examples per batch.", metavar="N")] = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    output: options.Output = None,
) -> None:
    """Evaluate runs: the metric, the layers, and the agreement with full depth, by halting rule."""
    from dactcli.errors import UsageError, did_you_mean

    if split not in SPLITS:
        raise UsageError(f"split {split!r} is unknown", place="--split", remedy=did_you_mean(split, SPLITS))
    results = []
    chosen: list[Path | None] = [*runs] if runs else [None]
    for path in chosen:
        run = options.open_run(path, device)
        from dactcli.evaluation.evaluate import evaluate as judge_split
        from dactcli.evaluation.evaluate import standard_rules

        encoded, difficulty = options.run_examples(run, split, data)
        recipe = run.recipe
        results.append(
            judge_split(
                run.model,
                run.tokenizer,
                encoded,
                rules or (recipe.evaluation.rules if recipe else None) or standard_rules(run.model),
                metric=(recipe.task.metric if recipe else None) or ("pearson" if run.model.regression else "accuracy"),
                batch_size=batch_size or (recipe.evaluation.batch_size if recipe else 64),
                run=str(path or run.folder.name),
                split=data.name if data is not None else split,
                difficulty=difficulty,
            )
        )
    documents = [result.to_json() for result in results]
    options.emit(documents if len(documents) > 1 else documents[0], as_json=as_json, output=output)
    if not as_json:
        from dactcli.report.console import results as console
        from dactcli.report.evaluation import render_evaluation

        for result in results:
            console().print(render_evaluation(result))
