"""The git revision that a run is trained at."""

from __future__ import annotations

import subprocess


def git_revision() -> str | None:
    """The git revision of the current folder; None outside a repository."""
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
