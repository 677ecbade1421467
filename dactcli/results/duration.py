"""Durations as text."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """A duration as text for a sentence."""
    if seconds < 1:
        return "1 second"
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
