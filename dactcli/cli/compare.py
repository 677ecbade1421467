"""`dact eval --compare`: every rule over its whole range of thresholds, for one run or several."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dactcli.cli import options

if TYPE_CHECKING:
    from dactcli.evaluation.comparison import Entrant
    from dactcli.results import Comparison
    from dactcli.runs.load import Run


def compare_runs(
    paths: list[Path | None], *, split: str, data: Path | None, device: str, batch_size: int | None
) -> Comparison:
    """Compare all rules on runs of one task.

    Args:
        paths: The runs.
        split: The split that is drawn; validation chooses the envelopes.
        data: A labelled file that is drawn instead.
        device: Where outputs are computed that are not kept yet.
        batch_size: Examples per batch, for those.
    """
    from dactcli.evaluation.comparison import compare

    entrants = [entrant(path, split=split, data=data, device=device, batch_size=batch_size) for path in paths]
    return compare([one for one, _ in entrants], metric=entrants[0][1], split=data.name if data else split)


def entrant(
    path: Path | None, *, split: str, data: Path | None, device: str, batch_size: int | None
) -> tuple[Entrant, str]:
    """As `entrant_of`, for a run that is to be loaded; the keywords are those of `compare_runs`."""
    run = options.open_run(path, device)
    return entrant_of(run, str(path or run.folder.name), split=split, data=data, batch_size=batch_size)


def entrant_of(
    run: Run, name: str, *, split: str, data: Path | None = None, batch_size: int | None = None
) -> tuple[Entrant, str]:
    """A run with what its layers said, and the name of its metric.

    Args:
        run: The run.
        name: What to call it.
        split: The split that is drawn.
        data: A labelled file that is drawn instead.
        batch_size: Examples per batch, for outputs that are not kept yet.
    """
    import numpy as np

    from dactcli.errors import UsageError
    from dactcli.evaluation.comparison import Entrant
    from dactcli.evaluation.examples import metric_name

    if run.model.regression:
        raise UsageError("compares classifiers only", place="--compare", remedy="use dact eval --rule for regression")

    def labelled(split: str, file: Path | None) -> tuple[Any, Any]:
        encoded, _ = options.run_examples(run, split, file)
        if encoded.labels is None:
            raise UsageError(f"{file or split} has no labels", place="--compare", remedy="give a labelled split")
        outputs = options.outputs_of(run, encoded, file.stem if file else split, batch_size)
        return outputs, np.asarray(encoded.labels)

    test, test_labels = labelled(split, data)
    validation, validation_labels = (test, test_labels) if run.recipe is None else labelled("validation", None)
    found = Entrant(
        run=name,
        variant=_variant(run.recipe) if run.recipe is not None else name,
        validation=validation,
        test=test,
        validation_labels=validation_labels,
        test_labels=test_labels,
    )
    return found, metric_name(run)


def _variant(recipe: Any) -> str:
    """A recipe without its seed, trackers and output: equal for runs that differ in those only."""
    from dactcli.recipe.load import dump_recipe

    training = recipe.training.model_copy(update={"seed": 0, "report_to": []})
    return dump_recipe(recipe.model_copy(update={"training": training, "output": type(recipe.output)()}))
