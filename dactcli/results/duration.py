"""How sentences name a time."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """A time as a sentence names it."""
    if seconds < 1:
        return "1 second"
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
