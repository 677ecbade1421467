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
    elsewhere = {"test_repeated_examples_are_counted"}
    assert told - elsewhere == here
    assert sum(line.startswith("| ") and "`test_" in line for line in _lines()) >= 40


def _lines() -> list[str]:
    return (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8").splitlines()
