"""Predictions as JSON lines on standard output, each window as soon as it is there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TextIO

from dactcli.errors import DataError
from dactcli.prediction.answer_columns import AnswerColumns
from dactcli.prediction.forms import Notice, free_names, told
from dactcli.prediction.windows import Window
from dactcli.storage import to_json


def print_windows(
    windows: Iterable[Window], file: TextIO, *, answers: AnswerColumns, skips: bool, notice: Notice
) -> int:
    """Print predictions.

    The names of the answers' columns are chosen by the first window, since nothing that is printed can be taken back.

    Args:
        windows: The predictions.
        file: Where to.
        answers: The answers' columns.
        skips: Whether faulty rows are skipped, so that there is a column `error`.
        notice: Told of names that were taken.

    Returns:
        How many were printed.

    Raises:
        DataError: A later row has a column of such a name.
    """
    names: dict[str, str] = {}
    ascii_only = (file.encoding or "").lower().replace("-", "") != "utf8"
    printed = 0
    for window in windows:
        columns = {name for chunk in window.chunks for name in chunk.columns}
        if not names:
            names = free_names(columns, answers.names, error=skips)
            if text := told(names):
                notice(text)
        if late := columns.intersection(names.values()):
            fault = f"a column {sorted(late)[0]} appears, and rows before it were printed with ours of that name"
            raise DataError(fault, place=window.place(0), remedy="add `output` FILE, which looks at all columns first")
        found = iter(window.answers)
        for chunk in window.chunks:
            for row in chunk.to_rows():
                line = to_json({**row, **answers.row(next(found), names)}, ascii_only=ascii_only)
                file.write(line + "\n")
        file.flush()
        printed += len(window.answers)
    return printed
