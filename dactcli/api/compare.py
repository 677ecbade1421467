"""`dact eval --compare`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dactcli.api.common import AnyRun, build_request, check_examples, data_file, name_of, open_run
from dactcli.errors import DactError, UsageError
from dactcli.listening import Listener
from dactcli.results import Comparison

if TYPE_CHECKING:
    from dactcli.evaluation.comparison import Entrant
    from dactcli.evaluation.examples import DataFile
    from dactcli.runs.load import Run
    from dactcli.runs.outputs import LayerOutputs


@dataclass(frozen=True)
class CompareRequest:
    """Which examples the rules are compared on.

    Attributes:
        split: The split whose curves are drawn, validation by default. Thresholds are chosen on validation.
        data: A labelled file instead.
        batch_size: Examples per batch. Default: the recipe's.
        device: auto, cpu, cuda or mps.
        text: Column of the text in `data`. Default: the recipe's.
        pair_column: Column of the second text in `data`. Default: the recipe's.
        label: Column of the label in `data`. Default: the recipe's, if `data` has it.
    """

    split: str | None = None
    data: Path | str | None = None
    batch_size: int | None = None
    device: str = "auto"
    text: str | None = None
    pair_column: str | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        check_examples(self)


def compare(
    runs: AnyRun | Sequence[AnyRun] = None,
    request: CompareRequest | None = None,
    *,
    listener: Listener | None = None,
    **fields: Any,
) -> Comparison:
    """Every rule over its whole range of thresholds, for one run or several of one task; `dact eval --compare`.

    Args:
        runs: One run or several, each as `evaluate` takes it.
        request: What to compare on.
        listener: Hears notices and progress.
        **fields: Fields of `CompareRequest`; they override those of `request`.

    Raises:
        UsageError: The task is a regression, the runs have different examples, or none can stop early.
        DataError: The split or file cannot be read.
        ArtefactError: A run is missing or damaged.
        ResourceError: The device is missing, or memory ran out.
    """
    from dactcli.evaluation.comparison import compare as compare_entrants

    wanted, hears = build_request(CompareRequest, request, fields, listener)
    several = runs if isinstance(runs, Sequence) and not isinstance(runs, str) else [runs]
    found = [entrant(one, wanted, listener=hears) for one in several or [None]]
    split = _split(wanted)
    return compare_entrants([one for one, _ in found], metric=found[0][1], split=split)


def entrant(
    run: AnyRun = None, request: CompareRequest | None = None, *, listener: Listener | None = None, **fields: Any
) -> tuple[Entrant, str]:
    """A run with the outputs of its layers on validation and on the split to draw, and the name of its metric.

    The arguments are those of `compare`, for one run.
    """
    from dactcli.api.evaluate import outputs_of
    from dactcli.evaluation.comparison import Entrant
    from dactcli.evaluation.examples import metric_name, run_examples
    from dactcli.evaluation.kinds import measures_of

    wanted, hears = build_request(CompareRequest, request, fields, listener)
    opened, size = open_run(run, device=wanted.device), wanted.batch_size
    if opened.model.regression:
        raise UsageError("compares classifiers only", place="`compare`", remedy="evaluate regressions with `rule`")

    def labelled(split: str, data: DataFile | None) -> tuple[Any, Any]:
        encoded, _ = run_examples(opened, split, data, hears.notice)
        if encoded.labels is None:
            own = opened.recipe is not None and opened.recipe.data.label is None
            remedy = (
                "runs on texts without labels are not compared; evaluate with `rule`"
                if own
                else "give a labelled split"
            )
            raise UsageError(f"{data or split} has no labels", place="`compare`", remedy=remedy)
        truth = measures_of(opened.model.answers).truth(encoded.labels, opened.model.classes)
        return outputs_of(opened, encoded, data.path.stem if data else split, size, hears), truth

    data = data_file(wanted)
    test, test_labels = labelled(wanted.split or "validation", data)
    validation, validation_labels = (test, test_labels) if opened.recipe is None else labelled("validation", None)
    calibration, inputs = _calibration(opened, wanted, hears)
    found = Entrant(
        run=name_of(opened),
        variant=_variant(opened),
        validation=validation,
        test=test,
        validation_labels=validation_labels,
        test_labels=test_labels,
        calibration=calibration,
        inputs=inputs,
    )
    return found, metric_name(opened)


def _calibration(run: Run, request: CompareRequest, listener: Listener) -> tuple[LayerOutputs | None, Any]:
    """Outputs on the calibration split, screened as a certificate screens it, and its distinct inputs; None without."""
    from dactcli.api.evaluate import outputs_of
    from dactcli.evaluation.requests import RiskRequest
    from dactcli.evaluation.sample import calibration_sample
    from dactcli.recipe.schema import RISK

    if run.recipe is None or run.recipe.data.calibration is None:
        return None, None
    try:
        sample = calibration_sample(run, RiskRequest(RISK), split=None, data=None, notice=lambda text: None)
    except DactError as error:
        listener.notice(f"certified layers are not measured: {error.sentence}")
        return None, None
    return outputs_of(run, sample.encoded, sample.name, request.batch_size, listener), sample.inputs


def _split(request: CompareRequest) -> str:
    data = data_file(request)
    return data.path.name if data else request.split or "validation"


def _variant(run: Run) -> str:
    """A recipe without its seed, trackers and output: equal for runs that differ in those only."""
    from dactcli.recipe.load import dump_recipe

    recipe = run.recipe
    if recipe is None:
        return name_of(run)
    training = recipe.training.model_copy(update={"seed": 0, "report_to": []})
    return dump_recipe(recipe.model_copy(update={"training": training, "output": type(recipe.output)()}))
