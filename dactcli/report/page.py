"""Web pages: files without scripts that need no network, light or dark as the system is; and that of halting traces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dactcli.report.blocks import GUIDE, short_rule
from dactcli.report.console import visible
from dactcli.report.wording import (
    ALONE,
    STOP,
    answer_text,
    meanings,
    reason,
    score_facts,
    score_heading,
    shown_score,
    summary_lines,
    verdicts_of,
    weighted,
)
from dactcli.results import ExitTrace
from dactcli.storage import write_named


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What it says.
        number: Whether it is a figure.
        share: The length of its bar or the strength of its shade, 0..1; None without either.
        shaded: Whether `share` is shown as a shade rather than a bar.
        strong: Whether a shaded cell is emphasised.
    """

    text: str
    number: bool = False
    share: float | None = None
    shaded: bool = False
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """A table of a page.

    Attributes:
        headings: Heading of each column; the first column names the rows.
        rows: Name and cells of each row.
        caption: What the table shows; empty without a caption.
        meanings: One line for each column, by its heading.
    """

    headings: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    caption: str = ""
    meanings: Mapping[str, str] = field(default_factory=dict)

    def number(self, column: int) -> bool:
        """Whether a column holds figures, counted from 0."""
        return column > 0 and any(cells[column - 1].number for _, cells in self.rows)


def write_page(traces: Sequence[ExitTrace], names: Sequence[str], path: Path, *, every: Sequence[ExitTrace]) -> None:
    """Write traces as an HTML file.

    Args:
        traces: The examples to show.
        names: Class names; empty for regression.
        path: The file.
        every: All examples, for the summary.

    Raises:
        ResourceError: It cannot be written.
    """
    write_named(path, trace_page(traces, names, every=every), remedy="name another file")


def trace_page(traces: Sequence[ExitTrace], names: Sequence[str], *, every: Sequence[ExitTrace]) -> str:
    """Traces as HTML; texts and labels are escaped, and their control characters shown by number.

    Args:
        traces: The examples to show.
        names: Class names; empty for regression.
        every: All examples, for the summary.
    """
    traces, names, every = visible(list(traces)), visible(list(names)), visible(list(every))
    ran, layers = [trace.exit_layer for trace in every], max((trace.layers for trace in every), default=0)
    return fill(
        "inspect.html",
        rule=short_rule(every[0].rule) if every else "",
        every=every,
        mean=sum(ran) / max(len(ran), 1),
        layers=layers,
        depths=[ran.count(layer) for layer in range(1, layers + 1)],
        summary=summary_lines(every) if every else [],
        examples=[example(trace, names) for trace in traces],
        meanings=meanings(traces[0]) if traces else {},
        stop=STOP,
        guide=f"{GUIDE}#dact-inspect",
    )


def fill(template: str, **values: Any) -> str:
    """A page from its template; all values are escaped.

    Args:
        template: Its file in `templates`.
        **values: What the template names.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("dactcli.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return pages.get_template(template).render(**values)


def example(trace: ExitTrace, names: Sequence[str]) -> dict[str, Any]:
    """What a template shows of one example.

    Args:
        trace: The example's trace.
        names: Class names; empty for regression.
    """
    named = trace.label_name is not None
    columns = _columns(trace, names)
    return {
        "trace": trace,
        "answer": f"{trace.label_name} {max(trace.probabilities):.1%}" if named else f"{trace.label:.3f}",
        "verdicts": verdicts_of(trace, names),
        "headings": ["layer", *columns],
        "rows": list(zip(*columns.values(), strict=True)),
        "reason": reason(trace),
    }


def _columns(trace: ExitTrace, names: Sequence[str]) -> dict[str, list[Cell]]:
    """The cells of the layers that ran, by the heading of their column."""
    facts = score_facts(trace)
    answers = {"answer so far": [Cell(answer_text(one, names)) for one in trace.answers]}
    left = {"left": [Cell(f"{one:.3f}", number=True) for one in trace.remaining]}
    scores: dict[str, list[Cell]] = {}
    if facts is not None:
        shown = ["" if score is None else shown_score(facts, score) for score in trace.scores]
        scores[score_heading(facts, trace.cut)] = [Cell(text, number=True) for text in shown]
    if weighted(trace):
        weights = {"weight": [Cell(f"{one:.3f}", number=True, share=one) for one in trace.halting_weights]}
        alone = {ALONE: [Cell(answer_text(one, names)) for one in trace.layer_probabilities]}
        return {**weights, **left, **alone, **answers, **scores}
    return {**answers, **scores, **(left if scores and trace.answered_by == "mixture" else {})}
