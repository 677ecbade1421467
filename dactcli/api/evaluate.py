"""`dact eval`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dactcli.api.common import (
    AnyRun,
    build_request,
    check_examples,
    check_lists,
    data_file,
    name_of,
    open_any,
    valid_calibration,
)
from dactcli.api.workers import Cluster, check_engine, driver_device
from dactcli.listening import Listener
from dactcli.results import EvalResult

if TYPE_CHECKING:
    from dactcli.data.batches import Encoded
    from dactcli.results import Calibration
    from dactcli.runs.load import Run
    from dactcli.runs.outputs import LayerOutputs

SPLIT = "validation"  # the default split


@dataclass(frozen=True)
class EvaluateRequest:
    """What to evaluate, and how.

    Attributes:
        split: A split of the run's data: validation (the default), calibration, test or train.
        data: A labelled file instead of a split.
        rules: Halting rules, `NAME` or `NAME:VALUE`. Default: the recipe's rules and the calibrated one.
        batch_size: Examples per batch. Default: the recipe's.
        device: auto, cpu, cuda or mps.
        text: Column of the text in `data`. Default: the recipe's.
        pair_column: Column of the second text in `data`. Default: the recipe's.
        label: Column of the label in `data`. Default: the recipe's, if `data` has it.
        engine: `local`, or `ray` for the workers of a Ray cluster.
        address: As in `PredictFilesRequest`, like `workers` and `gpus_per_worker`.
    """

    split: str | None = None
    data: Path | str | None = None
    rules: Sequence[str] | None = None
    batch_size: int | None = None
    device: str = "auto"
    text: str | None = None
    pair_column: str | None = None
    label: str | None = None
    engine: str = "local"
    address: str | None = None
    workers: int | None = None
    gpus_per_worker: float = 0

    def __post_init__(self) -> None:
        check_examples(self)
        check_engine(self)
        check_lists(self, "rules")


def evaluate(
    run: AnyRun = None, request: EvaluateRequest | None = None, *, listener: Listener | None = None, **fields: Any
) -> EvalResult:
    """Metric, mean layers and agreement with full depth, by halting rule; `dact eval`.

    Args:
        run: A run folder or saved model, an export, a run from `open_run`, or None for `runs/latest`.
        request: What to evaluate.
        listener: Hears notices and progress.
        **fields: Fields of `EvaluateRequest`; they override those of `request`.

    Raises:
        UsageError: The split and the file exclude each other, or the model cannot serve a rule.
        DataError: The split or file cannot be read.
        ArtefactError: The run is missing or damaged.
        ResourceError: The device is missing, or memory ran out.
    """
    wanted, hears = build_request(EvaluateRequest, request, fields, listener)
    return judge_run(open_any(run, device=driver_device(wanted)), wanted, hears)


def judge_run(run: Run, request: EvaluateRequest, listener: Listener) -> EvalResult:
    """Evaluate a run that is loaded; the arguments are those of `evaluate`."""
    from dactcli.evaluation.evaluate import EvalSplit, judge
    from dactcli.evaluation.examples import metric_name, rules_to_judge, run_examples

    calibration = valid_calibration(run, listener)
    chosen = list(request.rules or rules_to_judge(run, calibration))
    rules = [run.model.rule(rule) for rule in chosen]
    data, split = data_file(request), request.split or SPLIT
    encoded, difficulty = run_examples(run, split, data, listener.notice)
    if calibration is not None and calibration.rule in chosen:
        _tell_calibrated_share(run, calibration, encoded, listener)
    outputs = outputs_of(
        run, encoded, data.path.stem if data else split, request.batch_size, listener, Cluster.of(request)
    )
    about = EvalSplit(metric_name(run), name_of(run), data.path.name if data else split, difficulty)
    return judge(outputs, rules, encoded.labels, about, calibration=calibration)


def outputs_of(
    run: Run, encoded: Encoded, name: str, size: int | None, listener: Listener, cluster: Cluster | None = None
) -> LayerOutputs:
    """The outputs of all layers, from the run folder or computed.

    Args:
        run: The run.
        encoded: The examples.
        name: Name of the split or file; kept outputs bear it.
        size: Examples per batch, of each process. Default: the run's own.
        listener: Sees the progress of the encoder.
        cluster: Whose workers compute them; None for this process. What GPUs of workers compute is not kept.
    """
    from dactcli.evaluation.examples import batch_size
    from dactcli.runs.outputs import cached_outputs, collect_of_run

    computed: Callable[..., LayerOutputs] = collect_of_run
    if cluster is not None:
        from dactcli.api.cluster_outputs import collect_on_ray

        computed = partial(collect_on_ray, cluster=cluster)
    each = size or batch_size(run)
    with listener.working(f"{name}: {len(encoded.lengths):,} examples") as progress:
        if cluster is not None and cluster.gpus_per_worker:
            return computed(run, encoded, batch_size=each, progress=progress)
        return cached_outputs(run, encoded, name, batch_size=each, progress=progress, computed=computed)


def _tell_calibrated_share(run: Run, calibration: Calibration, encoded: Encoded, listener: Listener) -> None:
    """Say how many of the examples chose the calibrated threshold."""
    from dactcli.evaluation.sample import calibrated_share

    if shared := calibrated_share(run, calibration, encoded):
        listener.notice(
            f"{shared:,} of {len(encoded.lengths):,} examples chose the threshold of {calibration.rule}: its figures "
            "here are not independent of it"
        )
