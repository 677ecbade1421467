"""A profile as a table."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from dactcli.report.evaluation import histogram
from dactcli.results import Interval, Measurement, ProfileCase, ProfileResult


def render_profile(result: ProfileResult) -> Group:
    """Latency of the stock encoder, full depth and adaptive inference, and their ratios.

    Args:
        result: What `dact profile` measured.
    """
    place = result.environment
    head = Text(
        f"{place['device']} ({place['device_name']}), {place['threads']} threads, torch {place['torch']}, "
        f"transformers {place['transformers']}, {place['dtype']}"
    )
    return Group(head, *(_case(case) for case in result.cases))


def _case(case: ProfileCase) -> Table:
    """One row per figure, one column per way, so that it fits a narrow terminal."""
    length = "real lengths" if case.sequence_length is None else f"{case.sequence_length} tokens"
    table = Table(
        title=f"batch {case.batch_size}, {length}, rule {case.rule}", title_justify="left", title_style="bold"
    )
    table.add_column("")
    for heading in ("stock", "full depth", "adaptive"):
        table.add_column(heading, justify="right")
    ways = (case.stock, case.full, case.adaptive)
    table.add_row("time / stock", "1", _interval(case.full_ratio_to_stock), _interval(case.time_ratio_to_stock))
    table.add_row("examples per second", *(f"{way.examples_per_second:,.0f}" for way in ways))
    for percent in (50, 90, 99):
        table.add_row(f"ms per batch, p{percent}", *(f"{_latency(way, percent):.2f}" for way in ways))
    table.add_row("spread of the rounds", *(f"{way.latency_ms_spread:.0%}" for way in ways))
    table.add_row("mean layers", *("-" if way.layers_mean is None else f"{way.layers_mean:.2f}" for way in ways))
    table.add_row("stops by layer", *(Text(histogram(way.depths or []), style="cyan") for way in ways))
    return table


def _latency(way: Measurement, percent: int) -> float:
    return {50: way.latency_ms_p50, 90: way.latency_ms_p90, 99: way.latency_ms_p99}[percent]


def _interval(ratio: Interval) -> str:
    return f"{ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f})"
