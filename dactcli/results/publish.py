"""What `dact publish` computes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class PublishResult:
    """What `dact publish` wrote, and where it went.

    Attributes:
        run: What was published.
        folder: Where it was written to; None when it went to the hub only.
        hub: Its address on the hub; None without `--hub`.
        rule: What it halts by.
        promise: What the calibration promises of that rule; None where there is none.
        files: Names of the files.
    """

    run: str
    folder: str | None
    hub: str | None
    rule: str
    promise: str | None
    files: list[str]

    def to_json(self) -> dict[str, Any]:
        """The document of `dact publish --json`."""
        return asdict(self)
