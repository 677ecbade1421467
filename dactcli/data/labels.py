"""What labels mean: class names in order, or numbers within a range."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dactcli.data.formats import describe
from dactcli.errors import DataError, did_you_mean, listed

HIDDEN = "-1"  # what GLUE writes for the labels that it keeps to itself
_MARKS = {"0": False, "1": True, "false": False, "true": True}
_INTEGER = re.compile(r"([+-]?[0-9]{1,18})(\.0+)?")


@dataclass(frozen=True)
class Scale:
    """What labels mean: class names in order, or else numbers within a range (any number when None).

    Attributes:
        labels: Names of the classes or labels; empty for a regression.
        range: Lowest and highest number of a regression.
        several: Whether a row has any number of labels, as a list.
    """

    labels: list[str]
    range: tuple[float, float] | None = None
    several: bool = False

    @cached_property
    def index(self) -> dict[str | None, int]:
        """Class index by what a source may write for it: the name; the index, unless names are integers."""
        index: dict[str | None, int] = {label_key(label): number for number, label in enumerate(self.labels)}
        if not self._named_by_integers:
            index |= {str(number): number for number in range(len(self.labels))}
        return index

    def read(self, value: Any) -> Any:
        """What a source's value stands for; DataError without a place.

        Returns:
            The class index, the number, or the indices of a list of labels in order.
        """
        if self.several:
            return sorted({self._one(label) for label in as_list(value)})
        return self._one(value)

    def _one(self, value: Any) -> Any:
        key = label_key(value)
        if key is None:
            raise DataError("the label is missing", remedy="write one, or take the row out")
        if not isinstance(value, str | int | float):
            raise DataError(f"the label is {describe(value)}", remedy="write a name or a number")
        return self._class(key) if self.labels else self._number(key)

    def hides(self, values: Sequence[Any]) -> bool:
        """Whether these are placeholders for labels kept secret."""
        if self.several:
            return False
        possible = HIDDEN in self.index or (self.range is not None and self.range[0] <= int(HIDDEN))
        return not possible and {label_key(value) for value in values} == {HIDDEN}

    @property
    def _named_by_integers(self) -> bool:
        return any(_INTEGER.fullmatch(label) for label in self.labels)

    def _class(self, key: str) -> int:
        if key in self.index:
            return self.index[key]
        if _INTEGER.fullmatch(key) and not self._named_by_integers:
            fault = f"label {key} is outside 0..{len(self.labels) - 1}"
            raise DataError(fault, remedy=f"these stand for {listed(self.labels)}")
        raise DataError(f"label {key!r} is unknown", remedy=did_you_mean(key, self.labels))

    def _number(self, key: str) -> float:
        try:
            number = float(key)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise DataError(f"label {key!r} is not a finite number", remedy="a regression needs one per row")
        if self.range and not self.range[0] <= number <= self.range[1]:
            fault = f"label {key} is outside {self.range[0]:g}..{self.range[1]:g}"
            raise DataError(fault, remedy="correct it, or set task.range")
        return number


def as_list(value: Any) -> list[Any]:
    """A row's list of labels; DataError without a place where it is none."""
    if value is None:
        raise DataError("the labels are missing", remedy="write a list, [] for a row without labels")
    if not isinstance(value, list | tuple):
        raise DataError(
            f"the labels are {describe(value)}, not a list",
            remedy="write a list of names, or set data.label_separator for labels in one text",
        )
    return list(value)


def split_labels(value: Any, separator: str) -> Any:
    """The list of labels in a text, and every other value as it is; an empty text has none."""
    if not isinstance(value, str):
        return value
    return [part for part in map(str.strip, value.split(separator)) if part]


def marked_labels(names: Sequence[str], values: Sequence[Any]) -> list[str]:
    """The labels whose columns of a row are 1.

    Args:
        names: The columns.
        values: Their values in the row.

    Raises:
        DataError: A value is neither 0 nor 1; it has no place.
    """
    keys = [label_key(value) for value in values]
    for name, key, value in zip(names, keys, values, strict=True):
        if key not in _MARKS:
            shown = describe(value) if key is None else repr(key)
            raise DataError(f"label column {name} is {shown}", remedy="write 0 or 1, or false or true")
    return [name for name, key in zip(names, keys, strict=True) if _MARKS[key or ""]]


def label_key(value: Any) -> str | None:
    """A label as text: integers alike however they are written, None for what is empty."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    text = str(value).lower() if isinstance(value, bool) else str(value).strip()
    whole = _INTEGER.fullmatch(text)
    return str(int(whole[1])) if whole else text or None


def label_values(names: Sequence[str]) -> list[str | int]:
    """Classes as the data write them: their names, or numbers where all names are whole numbers.

    Args:
        names: Class names in order.
    """
    whole = all(_INTEGER.fullmatch(name) and str(int(name)) == name for name in names)
    return [int(name) for name in names] if whole else list(names)


def class_names(places: Mapping[str, str]) -> list[str]:
    """The classes found in data, in order: numerically where all are integers, else alphabetically.

    Args:
        places: Where each label key stands first.

    Raises:
        DataError: The labels are numbers, but not all whole ones: a regression, it seems.
    """
    if not all(map(_is_number, places)):
        return sorted(places)
    for key, place in places.items():
        if not _INTEGER.fullmatch(key):
            remedy = "for a regression, set task.metric: pearson and task.range: [lowest, highest]"
            raise DataError(f"label {key} is not a class", place=place, remedy=remedy)
    return sorted(places, key=int)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
