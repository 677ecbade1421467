"""A profile as tables: latency per batch, throughput of all examples, the training step."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from dactcli.report.blocks import Sheet, bar, guide, histogram, legend, short_rule
from dactcli.report.console import visible
from dactcli.results import (
    Breakdown,
    CapacityPlan,
    Interval,
    Measurement,
    OnnxCase,
    ProfileCase,
    ProfileResult,
    TrainingCase,
)

BAR = 20  # cells
ANSWER = ("full depth", "adaptive", "of the ideal\nspeed-up", "mean\nlayers")
WAYS = {
    "stock": "the same encoder as transformers runs it, with one classifier on top",
    "full depth": "every layer and every exit head runs",
    "adaptive": "each example stops as early as the rule allows; below 1 is faster than stock",
}
ROWS = {
    "p50, p90, p99": "half, 90% and 99% of the measurements took at most so long",
    "spread of the rounds": "how far the rounds lie apart (interquartile range of the median); above 5%, measure again",
    "GFLOP per example": "10^9 operations, padding included",
}


def render_profile(result: ProfileResult) -> Group:
    """Every measurement of a profile, and where it was taken.

    Args:
        result: What `dact profile` measured.
    """
    result = visible(result)
    place = result.environment
    head = Text(
        f"{place['device']} ({place['device_name']}), threads {place['threads']}, torch {place['torch']}, "
        f"transformers {place['transformers']}, {place['dtype']}"
    )
    if "onnxruntime" in place:
        head.append(f", onnxruntime {place['onnxruntime']}")
    views: list[RenderableType] = [head]
    if result.cases or result.throughput:
        views.append(_answer(result))
    if any(case.onnx for case in result.throughput):
        views.append(_onnx_answer(result))
    for case in result.cases:
        views.append(_case(case, f"latency, batch {case.batch_size}"))
        if case.breakdown is not None:
            views.append(_breakdown(case.breakdown))
        if case.onnx is not None:
            views.append(_onnx(case.onnx, f"latency, batch {case.batch_size}"))
    for case in result.throughput:
        views.append(_case(case, f"throughput, {_examples(result)}", whole=True))
        if case.onnx is not None:
            views.append(_onnx(case.onnx, f"throughput, {_examples(result)}", whole=True))
    views += [_training(case) for case in result.training]
    if result.plan is not None:
        views.append(_plan(result.plan, threads=place["threads"]))
    return Group(*views, legend(_meanings(result)), guide("dact-profile"))


def _answer(result: ProfileResult) -> Sheet:
    """What one wants to know first: how much time is saved, and how much of what could be."""
    rule = short_rule((result.cases or result.throughput)[0].rule)
    table = _table(f"time, as a multiple of the stock encoder's; rule {rule}", *ANSWER)
    table.box, table.padding = None, (0, 2, 0, 0)
    named = [(f"batch {case.batch_size}", case) for case in result.cases]
    for name, case in [*named, *(("pooled", case) for case in result.throughput)]:
        table.add_row(
            name,
            _interval(case.full_ratio_to_stock),
            Text(_interval(case.time_ratio_to_stock), style="bold"),
            _interval(case.realised_share),
            _number(case.adaptive.layers_mean, 1, 2),
        )
    return table


def _onnx_answer(result: ProfileResult) -> Sheet:
    """The same for ONNX Runtime."""
    named = [(f"batch {case.batch_size}", case.onnx) for case in result.cases]
    named += [("pooled", case.onnx) for case in result.throughput]
    found = [(name, case) for name, case in named if case is not None]
    title = f"ONNX Runtime, {found[0][1].precision}; rule {short_rule(found[0][1].rule)}"
    table = _table(title, "stock/\nPyTorch", "export/\nPyTorch", "export/\nstock", *ANSWER[2:])
    table.box, table.padding = None, (0, 2, 0, 0)
    for name, case in found:
        table.add_row(
            name,
            _interval(case.stock_ratio_to_stock),
            _interval(case.time_ratio_to_stock),
            Text(_interval(case.time_ratio_to_onnx_stock), style="bold"),
            _interval(case.realised_share),
            _number(case.export.layers_mean, 1, 2),
        )
    return table


def _onnx(case: OnnxCase, title: str, *, whole: bool = False) -> Sheet:
    table = _table(f"ONNX Runtime {case.precision}: {title}", "stock", "export")
    ways = (case.stock, case.export)
    _speed(table, ways, "pass" if whole else "batch")
    table.add_row("mean layers", *(_number(way.layers_mean, 1, 2) for way in ways))
    table.add_row("stops by layer", *(Text(histogram(way.depths or []), style="cyan") for way in ways))
    return table


def _meanings(result: ProfileResult) -> dict[str, str]:
    """One line for each column, and for the rows that need one."""
    said: dict[str, str] = {}
    if result.cases or result.throughput:
        said = {
            **WAYS,
            "of the ideal speed-up": "time of the layers that ran, at the stock encoder's speed, divided by the "
            "adaptive time; 1 means that stopping costs nothing",
            "mean layers": "layers that ran, averaged over the examples",
            "in brackets": "95% interval",
        }
    if any(case.onnx for case in result.throughput):
        said["export/stock"] = (
            "time of the export over that of ONNX Runtime's stock: one graph at full depth with one classifier, by the "
            "same optimiser and in the same precision"
        )
    if result.training:
        said["plain"] = "a training step of the stock encoder"
        said["DACT"] = "a training step with all exit heads and the whole loss"
    return said | ROWS


def _examples(result: ProfileResult) -> str:
    if result.examples is None:
        return "examples pooled"
    if result.examples == result.available:
        return f"whole data set of {result.examples:,} examples"
    return f"{result.examples:,} {'' if result.available is None else f'of {result.available:,} '}examples"


def _length(tokens: int | None) -> str:
    return "real lengths" if tokens is None else f"{tokens} tokens"


def _table(title: str, *headings: str) -> Sheet:
    table = Sheet(title=title, title_justify="left", title_style="bold")
    table.add_column("")
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _case(case: ProfileCase, title: str, *, whole: bool = False) -> Sheet:
    """One row per figure, one column per way, so that it fits a narrow terminal."""
    table = _table(f"{title}, {_length(case.sequence_length)}", "stock", "full depth", "adaptive")
    ways = (case.stock, case.full, case.adaptive)
    _speed(table, ways, "pass" if whole else "batch")
    table.add_row("GFLOP per example", *(_operations(way.flops_per_example) for way in ways))
    table.add_row("peak memory, MiB", *(_number(way.peak_memory_mib, 1, 0) for way in ways))
    table.add_row("mean layers", *(_number(way.layers_mean, 1, 2) for way in ways))
    table.add_row("stops by layer", *(Text(histogram(way.depths or []), style="cyan") for way in ways))
    if case.metric_name is not None:
        table.add_row(case.metric_name, "", "", "undefined" if case.metric is None else f"{case.metric:.4f}")
    if case.baseline is not None:
        table.add_row("time against stock, now / baseline", "", "", f"{case.baseline['time_ratio_to_stock']:.2f} x")
        table.add_row("ms, now / baseline", "", "", f"{case.baseline['latency_ms_p50']:.2f} x")
    return table


def _speed(table: Sheet, ways: Sequence[Measurement], unit: str) -> None:
    table.add_row("examples per second", *(f"{way.examples_per_second:,.0f}" for way in ways))
    for percent in (50, 90, 99):
        table.add_row(f"ms per {unit}, p{percent}", *(f"{_latency(way, percent):,.2f}" for way in ways))
    table.add_row("spread of the rounds", *(f"{way.latency_relative_iqr:.0%}" for way in ways))


def _breakdown(parts: Breakdown) -> Sheet:
    """Where the adaptive time went, with bars."""
    named = [("embeddings", parts.embeddings_ms)]
    named += [(f"layer {number}", spent) for number, spent in enumerate(parts.layers_ms, 1)]
    named += [
        ("exit heads", parts.units_ms),
        ("rule", parts.rule_ms),
        ("regrouping", parts.regrouping_ms),
        ("other", parts.other_ms),
    ]
    total = sum(spent for _, spent in named) or 1.0
    table = _table("where the adaptive time goes", "ms", "share", "")
    table.columns[-1].justify = "left"
    for name, spent in named:
        table.add_row(name, f"{spent:,.2f}", f"{spent / total:.1%}", Text(bar(spent / total, BAR), style="cyan"))
    return table


def _training(case: TrainingCase) -> Sheet:
    table = _table(f"training step, batch {case.batch_size}, {_length(case.sequence_length)}", "plain", "DACT")
    ways = (case.plain, case.dact)
    table.add_row("time, plain = 1", "1.00", _interval(case.time_ratio_to_plain))
    _speed(table, ways, "step")
    for phase in case.phases_ms["plain"]:
        table.add_row(f"ms, {phase}", *(f"{case.phases_ms[name][phase]:,.2f}" for name in ("plain", "dact")))
    table.add_row("peak memory, MiB", *(_number(way.peak_memory_mib, 1, 0) for way in ways))
    return table


def _plan(plan: CapacityPlan, *, threads: int) -> Sheet:
    """Hours of one worker, and the workers that meet each deadline."""
    noun = "thread" if threads == 1 else "threads"
    title = f"{plan.texts:,.0f} texts like these, on workers like this process ({threads} {noun})"
    ends = [f"workers,\n{hours} h" for hours in plan.deadlines]
    table = _table(title, "examples\nper second", "hours,\none worker", *ends)
    for way in plan.ways:
        table.add_row(
            way.name,
            f"{way.examples_per_second:,.0f}",
            f"{way.hours:,.1f}",
            *(f"{count:,}" for count in way.workers),
        )
    return table


def _latency(way: Measurement, percent: int) -> float:
    return {50: way.latency_ms_p50, 90: way.latency_ms_p90, 99: way.latency_ms_p99}[percent]


def _operations(flops: float | None) -> str:
    """In units of 10^9, with three digits, whether the model is small or large."""
    return "-" if flops is None else f"{flops * 1e-9:.3g}"


def _number(value: float | None, factor: float, digits: int) -> str:
    return "-" if value is None else f"{value * factor:,.{digits}f}"


def _interval(ratio: Interval) -> str:
    return f"{ratio.value:.2f} ({ratio.low:.2f}-{ratio.high:.2f})"
