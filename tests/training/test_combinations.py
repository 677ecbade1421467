"""Combinations of a sweep: the grid, and the random draw from lists and ranges."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dactcli.errors import UsageError
from dactcli.training.combinations import axes_of, draw, grid


def test_a_key_is_swept_once() -> None:
    with pytest.raises(UsageError, match=r"`sweeps`: dact.tau is swept twice"):
        axes_of(["dact.tau=1", "dact.tau=2"])


def test_a_larger_draw_begins_with_a_smaller_one() -> None:
    axes = axes_of(["dact.tau=0.001..0.1", "training.batch_size=8,16,32"])
    assert draw(axes, 9, seed=1)[:4] == draw(axes, 4, seed=1)
    assert draw(axes, 4, seed=1) != draw(axes, 4, seed=2)


def test_combinations_are_distinct_and_all_can_be_drawn() -> None:
    axes = axes_of(["a=1,2,2", "b=[x, y],z", "c=1..3"])
    found = draw(axes, 12, seed=0)
    assert {tuple(one.values()) for one in found} == {
        (a, b, c) for a in ("1", "2") for b in ("[x, y]", "z") for c in ("1", "2", "3")
    }
    with pytest.raises(UsageError, match=r"`sweep_random`: is 13, and the values have 12 combinations; lower it to 12"):
        draw(axes, 13, seed=0)
    with pytest.raises(UsageError, match="the values have 12 combinations"):
        draw(axes, 10**12, seed=0)


@given(st.floats(1e-6, 1e3), st.floats(1.001, 1e4), st.integers(0, 99))
def test_a_drawn_number_lies_in_its_range(low: float, factor: float, seed: int) -> None:
    (found,) = draw({"a": f"{low!r}..{low * factor!r}"}, 1, seed=seed)
    assert low <= float(found["a"]) <= low * factor


def test_positive_ranges_are_drawn_on_a_logarithmic_scale() -> None:
    logs = [math.log10(float(one["a"])) for one in draw({"a": "1e-5..1e-1"}, 400, seed=0)]
    assert sum(logs) / len(logs) == pytest.approx(-3, abs=0.25)
    plain = [float(one["a"]) for one in draw({"a": "-1..1.0"}, 400, seed=0)]
    assert sum(plain) / len(plain) == pytest.approx(0, abs=0.1)
    assert min(plain) < 0 < max(plain)


def test_whole_ends_give_whole_numbers_both_ends_included() -> None:
    assert {one["a"] for one in draw({"a": "-1..2"}, 4, seed=0)} == {"-1", "0", "1", "2"}


@pytest.mark.parametrize("text", ["2..1", "0.1..0.1", "1..1e999"])
def test_an_empty_range_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"`sweeps`: the range of a is .*; write LOW..HIGH"):
        draw({"a": text}, 1, seed=0)


def test_only_a_random_sweep_reads_ranges() -> None:
    assert grid(axes_of(["a=1..2"])) == [{"a": "1..2"}]
