"""Rows whose answers are not numbers are found and named."""

from __future__ import annotations

import torch

from dactcli.model.finite import unfinite_error, unfinite_rows


def test_rows_with_nan_or_infinity_are_found_in_any_tensor() -> None:
    y, h = torch.zeros(4, 2, 3), torch.zeros(4, 2)
    y[1, 0, 2], h[3, 1] = torch.nan, torch.inf
    assert unfinite_rows(y, h) == [1, 3]
    assert unfinite_rows(torch.zeros(2)) == []


def test_the_error_names_the_first_rows_and_counts_the_rest() -> None:
    error = unfinite_error([f"x.csv:{line}" for line in range(2, 9)])
    assert error.exit_code == 3
    assert "x.csv:2, x.csv:3" in error.sentence
    assert "and 2 more" in error.sentence
