"""Numbers drawn with block characters: bars, histograms and sparklines; tables whose figures are never cut."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Column, Table
from rich.text import Text

from dactcli.halting.names import RULE_NAMES
from dactcli.results import RuleResult

FOLDED = 8  # cells that a line of a name keeps, however narrow the terminal
GUIDE = "docs/how-to/read-the-output.md"
RULE = re.compile(rf"\b(?:{'|'.join(RULE_NAMES)}):\d+(?:\.\d+)?(?:e[+-]?\d+)?")
BLOCKS = "▁▂▃▄▅▆▇█"


def short_rule(rule: str) -> str:
    """A rule as a view names it: of its threshold 4 significant digits, or as many as keep it from looking like 0 or 1.

    Args:
        rule: `NAME` or `NAME:VALUE`, in full.
    """
    name, colon, text = rule.partition(":")
    try:
        value = float(text)
    except ValueError:
        return rule
    return f"{name}{colon}{min(short_number(value), text, key=len)}"


def short_number(value: float) -> str:
    """A number with 4 significant digits, or with as many as keep it from looking like 0 or 1."""
    for digits in range(4, 17):
        short = f"{value:.{digits}g}"
        if float(short) not in (0.0, 1.0) or float(short) == value:
            break
    return short


def short_rules(text: str) -> str:
    """A sentence with every rule in it as a view names it.

    Args:
        text: Such as the promise of a calibration.
    """
    return RULE.sub(lambda match: short_rule(match.group()), text)


def legend(meanings: Mapping[str, str]) -> Text:
    """One line for each column of a table.

    Args:
        meanings: What a column holds, by its heading.
    """
    return Text("\n".join(f"{heading}: {meaning}" for heading, meaning in meanings.items()), style="dim")


def guide(section: str) -> Text:
    """The line below a view that names the page about its figures.

    Args:
        section: The section's anchor.
    """
    return Text(f"What to make of these figures: {GUIDE}#{section}", style="dim")


def trained_share(trainable: int, parameters: int) -> str:
    """How many parameters training changes: `all`, or `1.2 million (5.1%)`; LoRA weights are counted beside them.

    Args:
        trainable: Parameters that any stage trains.
        parameters: Parameters of the model.
    """
    if trainable == parameters:
        return "all"
    return f"{trainable / 1e6:,.1f} million ({trainable / parameters:.1%})"


def metric_words(metric: str) -> str:
    """A metric's name in words."""
    return metric.replace("_", " ")


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


class Sheet(Table):
    """A table whose figures are never cut.

    Where it is too wide, headings break between words, then names fold, and last figures break at blanks.
    Columns that are right-justified hold figures, and so do those with `no_wrap`; all others hold names or prose. Cells
    are texts.

    Args:
        **options: Those of `rich.table.Table`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"pad_edge": options.get("box", True) is not None, **options})
        self._whole: set[int] = set()

    def add_column(self, header: RenderableType = "", *args: Any, no_wrap: bool = False, **options: Any) -> None:
        """As rich does it; with `no_wrap` the cells stay whole, and the heading may break."""
        if no_wrap or options.get("justify") == "right":
            self._whole.add(len(self.columns))
        super().add_column(header, *args, **options)

    def column_widths(self, available: int) -> list[int]:
        """Cells of each column; all of them take more than there are where only figures are left.

        Args:
            available: Cells of the whole table.
        """
        widths = [max(_cells(column), _longest(_plain(column.header).split("\n"))) for column in self.columns]
        over = sum(widths) + self._frame - available
        for least in self._least():
            while over > 0 and any(width > low for width, low in zip(widths, least, strict=True)):
                index = max(range(len(widths)), key=lambda at: (widths[at] > least[at], widths[at]))
                widths[index] -= 1
                over -= 1
        return widths

    def needed(self, *, whole: bool) -> int:
        """The fewest cells in which no figure is cut.

        Args:
            whole: Names and headings are to stand in one line, too.
        """
        return sum(self.column_widths(1 << 30 if whole else 0)) + self._frame

    def _least(self) -> list[list[int]]:
        """Cells that each column keeps when headings break, when names fold as well, and when figures break."""
        words = [_longest(_plain(column.header).split()) for column in self.columns]
        broken = [max(_cells(column), word) for column, word in zip(self.columns, words, strict=True)]
        folded, last = list(broken), list(broken)
        for index, column in enumerate(self.columns):
            if index in self._whole:
                last[index] = max(_cells(column, words=True), words[index])
            else:
                folded[index] = last[index] = min(broken[index], max(FOLDED, words[index]))
        return [broken, folded, last]

    @property
    def _frame(self) -> int:
        """Cells of the lines and blanks around the columns."""
        _, right, _, left = Padding.unpack(self.padding)
        lines = len(self.columns) + 1 if self.box else 0
        return len(self.columns) * (left + right) + lines - (0 if self.pad_edge else left + right)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        least = self.needed(whole=False)
        return Measurement(least, max(least, min(self.needed(whole=True), options.max_width)))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for column, width in zip(self.columns, self.column_widths(options.max_width), strict=True):
            column.width, column.overflow = width, "fold"
        room = max(options.max_width, self.needed(whole=False))
        yield from super().__rich_console__(console, options.update(max_width=room))


def _plain(cell: RenderableType) -> str:
    return cell.plain if isinstance(cell, Text) else str(cell)


def _longest(parts: Sequence[str]) -> int:
    return max(map(cell_len, parts), default=0)


def _cells(column: Column, *, words: bool = False) -> int:
    """Cells of the longest line of a column's cells, or of their longest word."""
    texts = [_plain(cell) for cell in column.cells]
    return _longest([part for text in texts for part in (text.split() if words else text.split("\n"))])


def width_needed(view: object, *, whole: bool) -> int:
    """The fewest cells in which no figure of a view is cut.

    Args:
        view: A renderable. One that draws its parts only when it is printed has a method `needed` as `Sheet` has.
        whole: Names and headings in tables are to stand in one line, too.
    """
    if isinstance(view, Group):
        return max((width_needed(part, whole=whole) for part in view.renderables), default=0)
    if isinstance(view, Panel):
        _, right, _, left = Padding.unpack(view.padding)
        return width_needed(view.renderable, whole=whole) + left + right + 2
    if isinstance(view, Text):  # paths and names are never broken in a pipe
        return _longest(view.plain.split()) if whole else 0
    needed = getattr(view, "needed", None)
    return int(needed(whole=whole)) if needed is not None else 0
