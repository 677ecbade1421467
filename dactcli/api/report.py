"""`dact report`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dactcli.api.common import (
    AnyRun,
    build_request,
    check_examples,
    check_numbers,
    data_file,
    open_run,
    rule_for,
    valid_calibration,
)
from dactcli.api.evaluate import SPLIT, outputs_of
from dactcli.listening import Listener
from dactcli.results import EvalResult, ExitTrace, ReportedModel, ReportedTime, RunReport

if TYPE_CHECKING:
    from dactcli.data.examples import Examples
    from dactcli.halting.base import Rule
    from dactcli.halting.decision import Decision
    from dactcli.runs.load import Run
    from dactcli.runs.outputs import LayerOutputs

PROFILE = "profile.json"
TRAINING = ("steps", "seconds", "device", "processes", "threads", "seed")  # keys of summary.json


@dataclass(frozen=True)
class ReportRequest:
    """What to report on.

    Attributes:
        split: A split of the run's data: validation (the default), calibration, test or train.
        data: A file instead of a split.
        rule: The halting rule to describe in detail. Default: the calibrated rule, else the model's own.
        examples: Number of hardest and of disagreeing examples.
        batch_size: Examples per batch. Default: the recipe's.
        device: auto, cpu, cuda or mps.
        text: Column of the text in `data`. Default: the recipe's.
        pair_column: Column of the second text in `data`. Default: the recipe's.
        label: Column of the label in `data`. Default: the recipe's, if `data` has it.
    """

    split: str | None = None
    data: Path | str | None = None
    rule: str | None = None
    examples: int = 5
    batch_size: int | None = None
    device: str = "auto"
    text: str | None = None
    pair_column: str | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        check_examples(self)
        check_numbers(self, examples=0)


def report_run(
    run: AnyRun = None, request: ReportRequest | None = None, *, listener: Listener | None = None, **fields: Any
) -> RunReport:
    """Everything about a run on one split, for `write_report`; `dact report`.

    Args:
        run: A run folder or saved model, a run from `open_run`, or None for `runs/latest`.
        request: What to report on.
        listener: Hears notices and progress.
        **fields: Fields of `ReportRequest`; they override those of `request`.

    Raises:
        UsageError: The split and the file exclude each other, or the model cannot serve the rule.
        DataError: The split or file cannot be read.
        ArtefactError: The run is missing or damaged, or answers are not finite.
        ResourceError: The device is missing, or memory ran out.
    """
    wanted, hears = build_request(ReportRequest, request, fields, listener)
    opened = open_run(run, device=wanted.device)
    from dactcli.evaluation.evaluate import EvalSplit, judge
    from dactcli.evaluation.examples import encode_examples, given_examples, metric_name, promise_under, rules_to_judge

    calibration, rule = valid_calibration(opened, hears), rule_for(opened, wanted.rule, Listener())
    rules = [opened.model.rule(name) for name in {"full": 0, **dict.fromkeys(rules_to_judge(opened, calibration))}]
    rules += [] if str(rule) in map(str, rules) else [rule]
    data, split = data_file(wanted), wanted.split or SPLIT
    examples = given_examples(opened, split, data, hears.notice)
    encoded = encode_examples(opened, examples, hears.notice)
    outputs = outputs_of(opened, encoded, data.path.stem if data else split, wanted.batch_size, hears)
    about = EvalSplit(metric_name(opened), opened.folder.resolve().name, data.path.name if data else split)
    judged = judge(outputs, rules, encoded.labels, about, calibration=calibration)
    decision = outputs.decide(rule)
    return RunReport(
        model=_model(opened),
        evaluation=judged,
        rule=str(rule),
        promise=promise_under(rule, calibration),
        calibration=calibration,
        **_figures(judged, outputs, rule, decision, examples, encoded.lengths),
        **_examples(opened, outputs, rule, decision, examples, wanted.examples),
        **_kept(opened, hears),
    )


def _model(run: Run) -> ReportedModel:
    from dactcli.evaluation.measures import unique_names
    from dactcli.publishing.folder import shareable

    model, encoder = run.model, None if run.recipe is None else shareable(run.recipe).model.encoder
    labels = [str(model.config.id2label[index]) for index in range(model.config.num_labels)]
    return ReportedModel(
        task=None if run.recipe is None else run.recipe.task.name,
        encoder=encoder if isinstance(encoder, str) else None,
        family=model.config.encoder_config.model_type,
        layers=model.exit_heads.layers,
        parameters=model.num_parameters(),
        max_length=run.tokenizer.model_max_length,
        long_texts=model.config.long_texts,
        objective=model.config.objective,
        names=[] if model.regression else unique_names(labels, len(labels)),
    )


def _figures(
    judged: EvalResult,
    outputs: LayerOutputs,
    rule: Rule,
    decision: Decision,
    examples: Examples,
    lengths: Sequence[int],
) -> dict[str, Any]:
    """The fields of a report about the whole split."""
    from dactcli.evaluation import report
    from dactcli.evaluation.kinds import measures_of
    from dactcli.evaluation.measures import unique_names
    from dactcli.halting.names import calibrated_rule

    if examples.labels is None or not outputs.answers.decides:
        return {"by_length": report.by_length(lengths, decision.exit_layer, None)}
    swept = rule.name if rule.threshold is not None else calibrated_rule(mixes=outputs.mixes)
    labels = measures_of(outputs.answers).truth(examples.labels, outputs.classes)
    curve = report.sweep_curve(outputs, swept, labels, judged.metric, judged.run)
    drawn = {"curve_rule": swept if curve else None, "curve": curve}
    answered = outputs.answers.decide(decision.answer).numpy()
    if outputs.answers.kind == "multilabel":
        right = (answered == labels).all(-1)
        return {**drawn, "by_length": report.by_length(lengths, decision.exit_layer, right)}
    names = unique_names(outputs.names, outputs.classes)
    bins, error = report.reliability_bins(decision.answer, labels)
    return {
        **drawn,
        "confusions": report.confusion_counts(answered, labels, names),
        "confusion_matrix": report.confusion_matrix(answered, labels, outputs.classes),
        "reliability": bins,
        "calibration_error": error,
        "by_length": report.by_length(lengths, decision.exit_layer, answered == labels),
    }


def _examples(
    run: Run, outputs: LayerOutputs, rule: Rule, decision: Decision, examples: Examples, count: int
) -> dict[str, Any]:
    """The hardest and the disagreeing examples, layer by layer."""
    from dactcli.evaluation.report import disagreeing_examples, hardest_examples
    from dactcli.halting.rules import Full
    from dactcli.inspection.trace import Texts, trace

    def traces(positions: list[int]) -> list[ExitTrace]:
        if not positions:
            return []
        chosen = examples.select(positions)
        given = Texts(chosen.texts, chosen.pairs, chosen.labels)
        return trace(run.model, run.tokenizer, given, rule=rule, verify=True)

    hardest = traces(hardest_examples(decision, count))
    if not outputs.answers.decides:
        return {"hardest": hardest}
    same = outputs.answers.same(decision.answer, outputs.decide(Full()).answer)
    return {"hardest": hardest, "disagreeing": traces(disagreeing_examples(decision, same, count))}


def _kept(run: Run, listener: Listener) -> dict[str, Any]:
    """The fields of a report that come from files of the run."""
    from dactcli.publishing.folder import shareable
    from dactcli.recipe.load import dump_recipe
    from dactcli.storage import SUMMARY, read_document

    summary, profile = read_document(run.folder / SUMMARY), read_document(run.folder / PROFILE)
    versions = summary.get("versions")
    times: list[ReportedTime] = []
    machine: dict[str, Any] = {}
    if (run.folder / PROFILE).exists():
        try:
            times = [_time(case) for case in profile["cases"]] + [
                _time(case, pooled=True) for case in profile["throughput"]
            ]
            machine = dict(profile["environment"])
        except (KeyError, TypeError, ValueError):
            listener.notice(f"{run.folder / PROFILE} is no profile of `dact profile`; the report has no times")
            times = []
    return {
        "training": {key: summary[key] for key in TRAINING if summary.get(key) is not None},
        "versions": {str(key): str(value) for key, value in versions.items()} if isinstance(versions, Mapping) else {},
        "times": times,
        "machine": machine,
        "recipe": None if run.recipe is None else dump_recipe(shareable(run.recipe)),
    }


def _time(case: Mapping[str, Any], *, pooled: bool = False) -> ReportedTime:
    """A case of profile.json."""
    ratio = case["time_ratio_to_stock"]
    return ReportedTime(
        batch_size=int(case["batch_size"]),
        pooled=pooled,
        **{f"{way}_ms": float(case[way]["latency_ms_p50"]) for way in ("stock", "full", "adaptive")},
        ratio=float(ratio["median"]),
        ratio_low=float(ratio["low"]),
        ratio_high=float(ratio["high"]),
    )
