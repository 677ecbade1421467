"""`dact runs`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dactcli.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from dactcli.results import RunFacts

FOLDER, SORT = Path("runs"), "date"  # the defaults


def list_runs(folder: Path | str = FOLDER, *, sort: str = SORT) -> list[RunFacts]:
    """The runs of a folder: metric, layers, date and size, finished or not; `dact runs`.

    Args:
        folder: Where the runs are; a folder that does not exist has none.
        sort: date (newest first), name, metric (best first), layers (fewest first) or size (largest first).

    Raises:
        UsageError: The order is unknown.
    """
    from dactcli.runs import listing

    if sort not in listing.SORTS:
        raise UsageError(f"{sort!r} is unknown", place="`sort`", remedy=did_you_mean(sort, listing.SORTS))
    return sorted(listing.list_runs(Path(folder)), key=listing.SORTS[sort])
