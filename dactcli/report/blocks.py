"""Numbers drawn with block characters: bars, histograms and sparklines."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from dactcli.results import RuleResult

BLOCKS = "▁▂▃▄▅▆▇█"


def metric_text(judged: RuleResult) -> str:
    """The task's metric; a dash for unlabelled data, and `undefined` where labels or answers give it no value."""
    if judged.metric is not None:
        return f"{judged.metric:.4f}"
    return "undefined" if judged.metrics else "-"


def bar(share: float, width: int) -> str:
    """A horizontal bar in eighths of a cell.

    Args:
        share: 0..1.
        width: Cells of a full bar.

    Returns:
        `width` characters.
    """
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    whole, rest = divmod(eighths, 8)
    text = "█" * whole + (" ▏▎▍▌▋▊▉"[rest] if rest else "")
    return text.ljust(width)


def histogram(counts: Sequence[float]) -> str:
    """One block per count, by its share of the largest; a dot where there is nothing.

    Args:
        counts: How many examples stopped after each layer, or shares.
    """
    most = max(counts, default=0) or 1
    return "".join(BLOCKS[min(7, int(8 * count / most))] if count else "·" for count in counts)


def sparkline(values: Sequence[float], width: int) -> str:
    """How a number moved: one block per value between the least and the greatest of them.

    Args:
        values: In order of time.
        width: Most cells; more values are averaged in runs of like length.

    Returns:
        At most `width` characters.
    """
    if len(values) > width:
        edges = [round(index * len(values) / width) for index in range(width + 1)]
        values = [sum(values[first:last]) / (last - first) for first, last in pairwise(edges)]
    low, high = min(values, default=0.0), max(values, default=0.0)
    span = high - low
    return "".join(BLOCKS[round(7 * (value - low) / span)] if span else BLOCKS[3] for value in values)
