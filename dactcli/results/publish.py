"""Result of `dact publish`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class PublishResult:
    """The published files and their location.

    Attributes:
        run: Name of the published run.
        folder: The folder written; None if the model went to the hub only.
        hub: Address on the hub; None without `--hub`.
        rule: The halting rule of the published model.
        promise: The promise of that rule's calibration; None without one.
        files: Names of the files.
    """

    run: str
    folder: str | None
    hub: str | None
    rule: str
    promise: str | None
    files: list[str]

    def to_json(self) -> dict[str, Any]:
        """The `dact publish --json` document."""
        return asdict(self)
