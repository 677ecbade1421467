"""The report on a run as a web page; needs matplotlib (the extra `plots`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dactcli.report.blocks import GUIDE, metric_text, metric_words, short_rule, short_rules
from dactcli.report.console import visible
from dactcli.report.evaluation import figure, meanings, noun_of, report_cells, reported
from dactcli.report.figures import depth_figure, reliability_figure
from dactcli.report.page import Cell, Table, example, fill
from dactcli.report.wording import STOP
from dactcli.report.wording import meanings as trace_meanings
from dactcli.results import ExitTrace, RunReport, duration
from dactcli.storage import write_named

MATRIX = 12  # most classes of a matrix on the page; of more, only the confusions are listed
OBJECTIVES = {
    "dact": "trained with the DACT loss",
    "layers": "trained with a loss on every layer's answer",
    "last": "plain fine-tuning",
}


def write_report(report: RunReport, path: Path | str) -> None:
    """Write a report as one HTML file that needs no network and no script.

    Args:
        report: What `report_run` computed.
        path: The file.

    Raises:
        ResourceError: matplotlib is not installed, or the file cannot be written.
    """
    write_named(Path(path), report_page(report), remedy="name another file")


def report_page(report: RunReport) -> str:
    """A report as HTML; texts and labels are escaped, and their control characters shown by number.

    Args:
        report: What `report_run` computed.

    Raises:
        ResourceError: matplotlib is not installed.
    """
    from markupsafe import Markup

    report = visible(report)
    result, names = report.evaluation, report.model.names
    curve = depth_figure(result, report.curve, report.curve_rule)
    reliability = reliability_figure(report.reliability) if report.reliability else ""
    traces = [*report.hardest, *report.disagreeing]
    return fill(
        "report.html",
        report=report,
        what=_what(report),
        result=result_sentence(report),
        guarantee=_guarantee(report),
        certificate=_certificate(report),
        metric=metric_words(result.metric),
        curve=Markup(curve),  # drawn here, from numbers and names of rules
        curve_text=_curve_text(report),
        rules=_rules(report),
        rule=short_rule(report.rule),
        detailed=result.rules[report.rule],
        classes=_classes(report),
        matrix=_matrix(report),
        confusions=_confusions(report),
        reliability=Markup(reliability),
        reliability_text=_reliability_text(report),
        lengths=_lengths(report),
        examples=_examples(report),
        stop=STOP,
        columns=trace_meanings(traces[0]) if traces else {},
        times=_times(report),
        training=_training(report),
        recipe=report.recipe,
        guide=f"{GUIDE}#dact-report",
        names=names,
    )


def result_sentence(report: RunReport) -> str:
    """The result in one sentence.

    Args:
        report: What `report_run` computed.
    """
    result = report.evaluation
    judged, full = result.rules[report.rule], result.rules["full"]
    ran = f"{judged.layers_mean:.2f} of {result.layers} layers on average ({judged.layers_share:.0%})"
    where = f"{result.examples:,} {result.split} examples"
    same = f"the same answer on {judged.agreement_with_full:.2%} of them"
    if judged.metric is None or full.metric is None:
        return f"Under {short_rule(report.rule)}, {where} run {ran}; running every layer gives {same}."
    return (
        f"Under {short_rule(report.rule)}, {metric_words(result.metric)} is {judged.metric:.4f} on {where} with {ran}; "
        f"running every layer gives {full.metric:.4f}, and {same}."
    )


def _what(report: RunReport) -> str:
    """What the model is."""
    model = report.model
    task = f" for {model.task}" if model.task else ""
    encoder = f"{model.encoder}, a {model.family} encoder" if model.encoder else f"a {model.family} encoder"
    several = "labels, any number of them" if report.evaluation.decision == "label set" else "classes"
    kind = f"{len(model.names)} {several}" if model.names else "one value"
    objective = OBJECTIVES.get(model.objective, model.objective)
    ends = {
        "head+tail": "; of a longer text, the first and the last ones",
        "window": " at once, and longer texts in windows",
    }
    return (
        f"An early-exit classifier{task} ({kind}): {encoder} with {model.layers} layers and {model.parameters:,} "
        f"parameters, {objective}. It reads at most {model.max_length} tokens{ends.get(model.long_texts, '')}."
    )


def _guarantee(report: RunReport) -> str:
    if report.promise is None:
        return f"None: {short_rule(report.rule)} is neither certified nor provably equal to full depth."
    text = short_rules(report.promise)
    return f"{text[:1].upper()}{text[1:]}."


def _certificate(report: RunReport) -> Table | None:
    """The facts of the certificate in force."""
    found = report.calibration
    if found is None or found.rule != report.rule or not found.certified:
        return None
    facts = {
        "rule": short_rule(found.rule),
        "promise": found.terms,
        "calibration sample": f"{found.examples:,} examples of {found.split}, {found.distinct:,} distinct",
        "losses in the sample": "-" if found.observed is None else f"{found.observed:,}",
        "mean layers in the sample": "-" if found.layers_mean is None else f"{found.layers_mean:.2f}",
        "attempt on this sample": "-" if found.attempt is None else f"{found.attempt}",
    }
    return _facts(facts, "Certificate")


def _facts(facts: Mapping[str, str], caption: str) -> Table:
    return Table(["", ""], [(name, [Cell(text)]) for name, text in facts.items()], caption)


def _curve_text(report: RunReport) -> str:
    result = report.evaluation
    curve = f" The line is {report.curve_rule} at every threshold." if report.curve else ""
    return f"{metric_words(result.metric).capitalize()} against mean layers on {result.split}, by halting rule.{curve}"


def _rules(report: RunReport) -> Table:
    result = report.evaluation
    rows = [
        (
            short_rule(name),
            [
                Cell(metric_text(judged), number=True),
                Cell(f"{judged.layers_mean:.2f}", number=True),
                Cell(f"{judged.layers_share:.0%}", number=True, share=judged.layers_share),
                Cell(f"{judged.agreement_with_full:.2%}", number=True),
            ],
        )
        for name, judged in result.rules.items()
    ]
    for name, beside in result.beside.items():
        layers = (f"{result.layers:.2f}", "100%") if name == "last_layer" else ("-", "-")
        texts = (figure(beside.metric), *layers, f"{beside.agreement_with_full:.2%}")
        rows.append((result.reference_name(name), [Cell(text, number=True) for text in texts]))
    said = meanings(result, stops=False)
    headings = ["rule", metric_words(result.metric), "mean layers", "share of layers", "same as full depth"]
    return Table(headings, rows, "Rules, beside plain answers", said)


def _classes(report: RunReport) -> Table | None:
    found = report.evaluation.rules[report.rule].by_class
    if not found:
        return None
    rows = [(name, [Cell(text, number=True) for text in report_cells(one)]) for name, one in found.items()]
    unlabelled = report.evaluation.by_class_of == "full_depth"
    caption = "Without labels, examples count for their class at full depth" if unlabelled else ""
    noun = noun_of(report.evaluation.decision)
    said = reported(noun)
    return Table([noun, *said], rows, caption, said)


def _matrix(report: RunReport) -> Table | None:
    counts, names = report.confusion_matrix, report.model.names
    if counts is None or len(counts) > MATRIX:
        return None
    rows = [
        (
            name,
            [
                Cell(f"{count:,}", number=True, share=count / max(sum(row), 1), shaded=True, strong=at == column)
                for column, count in enumerate(row)
            ],
        )
        for at, (name, row) in enumerate(zip(names, counts, strict=True))
    ]
    return Table(["label", *names], rows, "Examples by label (rows) and answer (columns)")


def _confusions(report: RunReport) -> Table | None:
    if not report.confusions:
        return None
    rows = [
        (
            one.label,
            [Cell(one.answer), Cell(f"{one.examples:,}", number=True), Cell(f"{one.share:.1%}", share=one.share)],
        )
        for one in report.confusions
    ]
    return Table(["label", "answer", "examples", "share of the label"], rows, "Wrong answers, the most frequent first")


def _reliability_text(report: RunReport) -> str:
    if report.calibration_error is None:
        return ""
    return (
        "Share of right answers by the probability of the answer, with the number of examples above each bar. "
        f"The expected calibration error is {report.calibration_error:.4f}."
    )


def _lengths(report: RunReport) -> Table:
    layers = report.model.layers
    judged = any(one.accuracy is not None for one in report.by_length)
    rows = []
    for one in report.by_length:
        tokens = f"{one.shortest}" if one.shortest == one.longest else f"{one.shortest} to {one.longest}"
        cells = [
            Cell(f"{one.examples:,}", number=True),
            Cell(f"{one.layers_mean:.2f}", number=True, share=one.layers_mean / layers),
        ]
        if one.accuracy is not None:
            cells.append(Cell(f"{one.accuracy:.2%}", number=True))
        rows.append((tokens, cells))
    return Table(["tokens", "examples", "mean layers", *(["accuracy"] if judged else [])], rows)


def _examples(report: RunReport) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """Heading, explanation and examples of each group."""

    def shown(traces: list[ExitTrace]) -> list[dict[str, Any]]:
        return [example(trace, report.model.names) for trace in traces]

    return [
        ("Hardest examples", "The deepest, closest calls first.", shown(report.hardest)),
        (
            "Examples that differ from full depth",
            "The most confident first. Stopping early changed these answers.",
            shown(report.disagreeing),
        ),
    ]


def _times(report: RunReport) -> Table | None:
    if not report.times:
        return None
    rows = []
    for one in report.times:
        texts = [f"{value:,.1f}" for value in (one.stock_ms, one.full_ms, one.adaptive_ms)]
        ratio = f"{one.ratio:.2f} ({one.ratio_low:.2f} to {one.ratio_high:.2f})"
        name = "whole data set, pooled" if one.pooled else f"batches of {one.batch_size}"
        rows.append((name, [Cell(text, number=True) for text in [*texts, ratio]]))
    keys = ("device_name", "device", "threads", "dtype", "torch")
    machine = ", ".join(f"{key.replace('_', ' ')} {report.machine[key]}" for key in keys if key in report.machine)
    headings = ["", "stock encoder, ms", "full depth, ms", "early exit, ms", "early exit / stock"]
    return Table(headings, rows, f"Median times by dact profile: {machine}")


def _training(report: RunReport) -> Table | None:
    facts = {name: str(value) for name, value in report.training.items()}
    if isinstance(seconds := report.training.get("seconds"), int | float):
        facts["seconds"] = duration(seconds)
    facts = {"time" if name == "seconds" else name: text for name, text in facts.items()}
    facts |= report.versions
    return _facts(facts, "Training run") if facts else None
