"""docs/reliability.md names tests that exist, and every test here stands in it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_table_and_the_tests_agree() -> None:
    told = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")))
    here = {
        name
        for path in (ROOT / "tests" / "faults").glob("test_*.py")
        if path.name != Path(__file__).name
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    elsewhere = {
        "test_repeated_examples_are_counted",
        "test_an_error_of_one_process_ends_all",
        "test_a_process_that_is_killed_ends_all",
        "test_a_signal_stops_all_after_the_same_step",
    }
    assert told - elsewhere == here
    tests = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert elsewhere <= tests & told
    assert sum(line.startswith("| ") and "`test_" in line for line in _lines()) >= 40


def _lines() -> list[str]:
    return (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8").splitlines()
