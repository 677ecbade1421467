"""`dact export`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dactcli.api.common import (
    AnyRun,
    build_request,
    check_lists,
    data_file,
    locate,
    name_of,
    open_run,
    valid_calibration,
)
from dactcli.errors import ArtefactError, DactError, UsageError
from dactcli.listening import Listener
from dactcli.results import Calibration, ChangedAnswers, ExportResult

if TYPE_CHECKING:
    from dactcli.evaluation.requests import RiskRequest
    from dactcli.evaluation.sample import CalibrationSample
    from dactcli.exporting.plan import ExportPlan
    from dactcli.halting.base import Rule
    from dactcli.runs.load import Run
    from dactcli.runs.outputs import LayerOutputs
    from dactcli.runtime import ExportedModel, Manifest

FAR = 1e-3  # a float32 export whose answers are further from the model's is wrong


@dataclass(frozen=True)
class ExportRequest:
    """What to export, and where to.

    Attributes:
        to: The folder to write.
        int8: Whether the encoder's weights become int8.
        stages: The layers after which rows may leave; the last is the model's last. Default: every layer.
        float_layers: Layers whose weights stay in float32 with `int8`.
        layers: One graph of that many layers without early exit, in place of stages.
        rule: Halting rule. A rule that needs a threshold and has none is calibrated. Default: the run's own, calibrated
            again where it is.
        risk: The risk to certify. Default: that of the run's certificate, else its recipe's.
        delta: The probability with which the promise may fail. Default: as for `risk`.
        data: A file of fresh examples to calibrate on. Default: the run's calibration split.
        text: Column of the text in `data`. Default: the recipe's.
        pair_column: Column of the second text in `data`. Default: the recipe's.
        opset: Version of the ONNX operators. Default: 18.
        overwrite: Whether to replace an earlier export.
    """

    to: Path | str
    int8: bool = False
    stages: Sequence[int] | None = None
    float_layers: Sequence[int] | None = None
    layers: int | None = None
    rule: str | None = None
    risk: float | None = None
    delta: float | None = None
    data: Path | str | None = None
    text: str | None = None
    pair_column: str | None = None
    opset: int | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_lists(self, "stages", "float_layers")
        for name in ("stages", "rule", "risk", "delta"):
            if self.layers is not None and getattr(self, name) is not None:
                fault = f"cannot be combined with `{name}`: one graph has no early exit"
                raise UsageError(fault, place="`layers`", remedy="leave one of them out")
        for name in ("risk", "delta"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise UsageError(f"is {value:g}", place=f"`{name}`", remedy="give a number between 0 and 1")
        for name in ("text", "pair_column"):
            if getattr(self, name) is not None and self.data is None:
                remedy = "add `data` FILE, or leave it out"
                raise UsageError("names a column of a file", place=f"`{name}`", remedy=remedy)


def export(
    run: AnyRun = None, request: ExportRequest | None = None, *, listener: Listener | None = None, **fields: Any
) -> ExportResult:
    """Write a run as stages for ONNX Runtime, between which rows leave; `dact export`.

    The threshold is calibrated again, against the full-depth answers of the PyTorch model. The folder is written beside
    its place and renamed last, so that a failure leaves nothing behind.

    Args:
        run: A run folder or saved model, a run from `open_run`, or None for `runs/latest`.
        request: What to export, and where to.
        listener: Hears notices and progress.
        **fields: Fields of `ExportRequest`; they override those of `request`.

    Raises:
        UsageError: The request does not fit the model, or the folder holds something else.
        DataError: No example is left to calibrate on.
        ArtefactError: The run is missing or damaged, or cannot be exported.
        ResourceError: A package is missing, or the folder cannot be written.
    """
    wanted, hears = build_request(ExportRequest, request, fields, listener)
    from dactcli.exporting.plan import check_installed, check_opset
    from dactcli.runtime.manifest import is_export
    from dactcli.staging import check_target, finish, staging, unwritable

    check_installed()
    if wanted.opset is not None:
        check_opset(wanted.opset)
    located, to = locate(run), Path(wanted.to)
    folder = located if isinstance(located, Path) else located.folder
    check_target(to, folder, overwrite=wanted.overwrite, noun="an export", ours=is_export)
    opened = open_run(located, device="cpu")
    with staging(to) as fresh:
        try:
            done = _write(opened, wanted, hears, fresh)
        except OSError as error:
            raise unwritable(to, error) from None
        finish(fresh, to)
    return replace(done, folder=str(to))


@dataclass(frozen=True)
class _Choice:
    """What is exported, and what is calibrated.

    Attributes:
        plan: What the export consists of.
        goal: The risk to certify; None where nothing is calibrated.
        asked: Whether the user asked for the calibration, so that a fault in it is an error and not a notice.
    """

    plan: ExportPlan
    goal: RiskRequest | None
    asked: bool


def _choose(run: Run, request: ExportRequest, listener: Listener) -> _Choice:
    from dactcli.exporting.plan import OPSET, ExportPlan, Precision, check_run, float_layers_of, stages_of
    from dactcli.halting.rules import Full

    check_run(run)
    layers = run.model.exit_heads.layers
    precision: Precision = "int8" if request.int8 else "float32"
    opset, asked = request.opset or OPSET, any((request.risk, request.delta, request.data))
    if request.layers is not None:
        if not 1 <= request.layers <= layers:
            raise UsageError(f"is {request.layers}", place="`layers`", remedy=f"give a number from 1 to {layers}")
        kept = float_layers_of(request.float_layers, request.layers, int8=request.int8)
        return _Choice(ExportPlan((request.layers,), Full(), precision, opset, kept), None, asked)
    stages = stages_of(request.stages, layers)
    kept = float_layers_of(request.float_layers, layers, int8=request.int8)
    rule, goal = _rule(run, request, valid_calibration(run, listener))
    return _Choice(ExportPlan(stages, rule, precision, opset, kept), goal, asked or bool(goal and request.rule))


def _rule(run: Run, request: ExportRequest, found: Calibration | None) -> tuple[Rule, RiskRequest | None]:
    """The rule to export, and the risk to choose its threshold for; None where it stays as it is."""
    from dactcli.evaluation.calibrate import free_rule
    from dactcli.evaluation.examples import default_rule
    from dactcli.halting.names import facts_of

    certified = found if found is not None and found.certified else None
    name = request.rule
    if name is None and certified is not None:
        name = certified.rule.partition(":")[0]
    elif name is None and any((request.risk, request.delta, request.data)) and not run.model.regression:
        name = run.model.calibrated_rule
    facts = None if name is None or ":" in name else facts_of(name)
    if name is not None and facts is not None and facts.needs_threshold:
        return free_rule(run.model, name, place="`rule`"), _goal(run, request, certified)
    if request.risk or request.delta:
        fault = f"rule {name or run.model.sound_rule} has no threshold to choose"
        raise UsageError(fault, place="`risk`", remedy="name a rule without its threshold, such as confidence")
    return run.model.rule(name or default_rule(run, lambda text: None)), None


def _goal(run: Run, request: ExportRequest, certified: Calibration | None) -> RiskRequest:
    """The risk that was asked for, that of the run's certificate, or its recipe's."""
    from dactcli.api.calibrate import default_goal
    from dactcli.evaluation.requests import RiskRequest

    base = default_goal(run)
    if certified is not None and certified.epsilon and certified.delta:
        base = RiskRequest(certified.epsilon, certified.delta, certified.loss or base.loss, certified.by_class)
    return replace(base, risk=request.risk or base.risk, delta=request.delta or base.delta)


@dataclass(frozen=True)
class _Measured:
    """The calibration sample, and what the layers of the export and of the model answer on it."""

    sample: CalibrationSample
    export: LayerOutputs
    model: LayerOutputs


def _write(run: Run, request: ExportRequest, listener: Listener, fresh: Path) -> ExportResult:
    """Write everything into a folder, which is there and empty."""
    from dactcli.evaluation.exports import certify_export, changed_answers
    from dactcli.exporting.folder import rule_facts

    choice = _choose(run, request, listener)
    manifest = _write_stages(run, choice.plan, fresh, listener)
    measured = _measure(run, request, choice, _load(run, fresh), listener)
    changed, certificate, failure = None, None, None
    if measured is not None:
        pair = (measured.export, measured.model)
        changed = changed_answers(*pair, measured.sample.name)
        if choice.goal is not None:
            certificate = certify_export(
                run, choice.plan.rule, choice.goal, measured.sample, pair, arithmetic=manifest.arithmetic
            )
    if certificate is not None and certificate.certified:
        rule = choice.plan.rule.at(cast("float", certificate.threshold))
        manifest = replace(manifest, rule=rule_facts(rule), certificate=certificate.to_json())
    elif choice.goal is not None:
        failure = _failure(choice, choice.goal, certificate, changed)
        rule = run.model.rule(run.model.sound_rule)  # its score is another, so the stages are traced again
        manifest = _write_stages(run, replace(choice.plan, rule=rule), fresh, listener)
    manifest = replace(manifest, changed=changed.to_json() if changed else None)
    _keep(manifest, fresh)
    promise = certificate.promise if manifest.certificate and certificate else _promise(run, manifest)
    return _result(run, manifest, fresh, promise=promise, failure=failure, changed=changed)


def _write_stages(run: Run, plan: ExportPlan, fresh: Path, listener: Listener) -> Manifest:
    from dactcli.exporting.folder import build, write_export

    with listener.working(f"exporting {plan.layers} layers"):
        manifest = write_export(run, plan, build(run, plan), fresh)
    _keep(manifest, fresh)
    return manifest


def _keep(manifest: Manifest, fresh: Path) -> None:
    from dactcli.runtime.manifest import MANIFEST
    from dactcli.storage import write_json

    write_json(fresh / MANIFEST, manifest.to_json())


def _load(run: Run, fresh: Path) -> ExportedModel:
    """The export, once it gives the model's answers; int8 gives others."""
    from dactcli.exporting.probes import largest_difference
    from dactcli.runtime import load

    exported = load(fresh)
    if exported.manifest.precision == "float32" and not (apart := largest_difference(run, exported)) <= FAR:
        raise ArtefactError(
            f"the export's answers are up to {apart:.2g} from the model's, so it is not written",
            place=str(run.folder),
            remedy="predict with the run itself",
        )
    return exported


def _measure(
    run: Run, request: ExportRequest, choice: _Choice, exported: ExportedModel, listener: Listener
) -> _Measured | None:
    """What export and model answer on the calibration examples; None where there are none and nobody asked for them."""
    from dactcli.api.evaluate import outputs_of
    from dactcli.api.outputs import export_outputs
    from dactcli.evaluation.requests import RiskRequest
    from dactcli.evaluation.sample import calibration_sample
    from dactcli.recipe.schema import RISK

    data, told = data_file(request), listener.notice if choice.goal is not None else lambda text: None
    try:
        sample = calibration_sample(run, choice.goal or RiskRequest(RISK), split=None, data=data, notice=told)
    except DactError as error:
        if choice.asked:
            raise
        told(f"the export is not calibrated: {error.sentence}")
        return None
    name = data.path.stem if data else sample.name
    model = outputs_of(run, sample.encoded, name, None, listener)
    return _Measured(sample, export_outputs(run, exported, sample.encoded), model)


def _failure(
    choice: _Choice, goal: RiskRequest, certificate: Calibration | None, changed: ChangedAnswers | None
) -> str:
    """Why there is no certificate, and what to do."""
    if certificate is None or changed is None:
        return "there are no examples to calibrate on; give fresh ones with `data` FILE"
    if choice.plan.precision == "int8" and changed.rate > goal.risk:
        return (
            f"int8 alone changes {changed.different:,} of {changed.examples:,} answers of the PyTorch model "
            f"({100 * changed.rate:.2g}%), which is more than the risk of {100 * goal.risk:g}%; allow a larger `risk`, "
            "leave layers in float32 with `float_layers`, or leave out `int8`"
        )
    return f"{certificate.failure}; allow a larger `risk`, or give more examples with `data` FILE"


def _promise(run: Run, manifest: Manifest) -> str | None:
    """What a rule promises without a certificate: a proof is about the export's own layers."""
    promise = run.model.rule(manifest.rule.text).promise
    return promise.replace("full depth", "this export's own full depth") if promise else None


def _result(
    run: Run,
    manifest: Manifest,
    fresh: Path,
    *,
    promise: str | None,
    failure: str | None,
    changed: ChangedAnswers | None,
) -> ExportResult:
    from dactcli.runs.identity import TOKENIZER_FILES
    from dactcli.storage import files_below

    own = [run.folder / name for name in ("model.safetensors", *TOKENIZER_FILES)]
    files = files_below(fresh)
    return ExportResult(
        run=name_of(run),
        folder="",
        precision=manifest.precision,
        float_layers=manifest.float_layers,
        layers=manifest.layers,
        model_layers=manifest.model_layers,
        stages=manifest.exits,
        rule=manifest.rule.text,
        promise=promise,
        failure=failure,
        changed=changed,
        fused=manifest.fused,
        bytes=sum(path.stat().st_size for path in files),
        model_bytes=sum(path.stat().st_size for path in own if path.is_file()),
        files=[path.name for path in files],
    )
