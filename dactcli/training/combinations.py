"""The combinations of values that a sweep trains: a whole grid, or some of it drawn at random."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from dactcli.errors import UsageError

PLACE = "`sweeps`"
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
RANGE = re.compile(rf"({NUMBER})\.\.({NUMBER})")
WHOLE = re.compile(r"[-+]?\d+")
DIGITS = 3  # significant digits of a drawn number, so that it can be read and typed
TRIES = 1000  # draws per known combination without a new one, before a sweep counts as exhausted

Axes = Mapping[str, str]
"""What is swept: the text of the values by key."""


def axes_of(sweeps: Sequence[str]) -> dict[str, str]:
    """The swept keys with their values as text.

    Args:
        sweeps: `KEY=V1,V2` each.

    Raises:
        UsageError: One is not of that form, or names a key twice.
    """
    axes: dict[str, str] = {}
    for sweep in sweeps:
        key, equals, text = sweep.partition("=")
        if not equals or not key or not all(_split(text)):
            raise UsageError(f"{sweep!r} is not understood", place=PLACE, remedy="write KEY=V1,V2")
        if key in axes:
            raise UsageError(f"{key} is swept twice", place=PLACE, remedy="write all its values in one list")
        axes[key] = text
    return axes


def grid(axes: Axes) -> list[dict[str, str]]:
    """All combinations of the values; the last key varies fastest.

    Args:
        axes: Values by key, separated by commas; a comma inside brackets or braces belongs to a value.
    """
    lists = [list(dict.fromkeys(_split(text))) for text in axes.values()]
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*lists)]


def draw(axes: Axes, count: int, *, seed: int) -> list[dict[str, str]]:
    """Distinct combinations drawn at random; a larger count begins with those of a smaller one.

    Args:
        axes: Values by key, separated by commas, or a range `LOW..HIGH`. A number of a range is drawn on a logarithmic
            scale if both ends are positive, and is whole if both ends are.
        count: How many to draw.
        seed: Seed of the draw.

    Raises:
        UsageError: A range is empty, or there are fewer combinations.
    """
    random, found = Random(seed), dict[tuple[str, ...], None]()
    options = [_options(key, text) for key, text in axes.items()]
    tries = 0  # since the last new combination
    while len(found) < count and tries < TRIES * (len(found) + 1):
        known = len(found)
        found.setdefault(tuple(option.draw(random) for option in options))
        tries = tries + 1 if len(found) == known else 0
    if len(found) == count:
        return [dict(zip(axes, values, strict=True)) for values in found]
    raise UsageError(
        f"is {count}, and the values have {len(found)} combinations",
        place="`sweep_random`",
        remedy=f"lower it to {len(found)}, or add values",
    )


@dataclass(frozen=True)
class _List:
    values: list[str]

    def draw(self, random: Random) -> str:
        return random.choice(self.values)


@dataclass(frozen=True)
class _Range:
    low: str
    high: str

    def draw(self, random: Random) -> str:
        low, high = float(self.low), float(self.high)
        whole = bool(WHOLE.fullmatch(self.low) and WHOLE.fullmatch(self.high))
        top = high + 1 if whole else high  # every whole number has the interval up to the next
        value = math.exp(random.uniform(math.log(low), math.log(top))) if low > 0 else random.uniform(low, top)
        if whole:
            return str(min(math.floor(value), int(self.high)))
        text = f"{value:.{DIGITS}g}"
        return self.low if float(text) < low else self.high if float(text) > high else text


def _options(key: str, text: str) -> _List | _Range:
    match = RANGE.fullmatch(text.strip())
    if match is None:
        return _List(list(dict.fromkeys(_split(text))))
    low, high = match.groups()
    if not float(low) < float(high) < math.inf:
        raise UsageError(
            f"the range of {key} is {text.strip()}", place=PLACE, remedy="write LOW..HIGH with LOW below HIGH"
        )
    return _Range(low, high)


def _split(text: str) -> list[str]:
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]
