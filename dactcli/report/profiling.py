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
    length = "real lengths" if case.sequence_length is None else f"{case.sequence_length} tokens"
    table = Table(
        title=f"batch {case.batch_size}, {length}, rule {case.rule}", title_justify="left", title_style="bold"
    )
    table.add_column("")
    for heading in ("ms p50", "ms p90", "ms p99", "spread", "examples/s", "layers", "time / stock"):
        table.add_column(heading, justify="right")
    table.add_column("stops")
    _row(table, "stock", case.stock, None)
    _row(table, "full depth", case.full, case.full_ratio_to_stock)
    _row(table, "adaptive", case.adaptive, case.time_ratio_to_stock)
    return table


def _row(table: Table, name: str, way: Measurement, ratio: Interval | None) -> None:
    table.add_row(
        name,
        f"{way.latency_ms_p50:.2f}",
        f"{way.latency_ms_p90:.2f}",
        f"{way.latency_ms_p99:.2f}",
        f"{way.latency_ms_spread:.0%}",
        f"{way.examples_per_second:,.0f}",
        "-" if way.layers_mean is None else f"{way.layers_mean:.2f}",
        "1" if ratio is None else f"{ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f})",
        Text(histogram(way.depths), style="cyan") if way.depths else "",
    )
