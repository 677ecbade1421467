"""Which of many traces are shown, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dactcli.errors import UsageError, did_you_mean
from dactcli.results import ExitTrace

# each puts what is worth looking at first: the deepest, the closest call, the worst miss
SORTS: dict[str, Callable[[ExitTrace], float]] = {
    "depth": lambda trace: -trace.exit_layer,
    "margin": lambda trace: trace.margin,
    "loss": lambda trace: -(trace.loss if trace.loss is not None else 0.0),
}
ONLY: dict[str, Callable[[ExitTrace], bool]] = {
    "wrong": lambda trace: trace.expected is not None and trace.expected != trace.label,
    "disagree": lambda trace: trace.full_label is not None and trace.full_label != trace.label,
    "deep": lambda trace: trace.exit_layer == trace.layers,
}


def select(
    traces: Sequence[ExitTrace], *, only: str | None = None, sort: str | None = None, limit: int | None = None
) -> list[ExitTrace]:
    """The traces to show.

    Args:
        traces: All of them.
        only: One of ONLY.
        sort: One of SORTS.
        limit: At most so many.

    Raises:
        UsageError: A name is unknown, or needs labels or full depth that the traces lack.
    """
    if only is not None and only not in ONLY:
        raise UsageError(f"{only!r} is unknown", place="`only`", remedy=did_you_mean(only, ONLY))
    if sort is not None and sort not in SORTS:
        raise UsageError(f"{sort!r} is unknown", place="`sort`", remedy=did_you_mean(sort, SORTS))
    unlabelled = all(trace.expected is None for trace in traces)
    if unlabelled and (only == "wrong" or sort == "loss"):
        place = "`only` wrong" if only == "wrong" else "`sort` loss"
        raise UsageError("needs labels", place=place, remedy="give `file` with a label column")
    if only == "disagree" and all(trace.full_label is None for trace in traces):
        raise UsageError("needs full depth", place="`only` disagree", remedy="add `verify`")
    kept = [trace for trace in traces if only is None or ONLY[only](trace)]
    if sort is not None:
        kept.sort(key=SORTS[sort])
    return kept[:limit]
