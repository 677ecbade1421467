"""`dact runs`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dactcli.api import runs as api
from dactcli.cli import options

EXAMPLE = "Example: dact runs --sort metric"


def runs(
    folder: Annotated[Path, typer.Argument(help="Folder with the runs.", metavar="[FOLDER]")] = api.FOLDER,
    sort: Annotated[str, typer.Option(help="Sort by date, name, metric, layers or size.", metavar="KEY")] = api.SORT,
    as_json: options.Json = False,
    output: options.Output = None,
    overwrite: options.Overwrite = False,
) -> None:
    """List the runs of a folder: metric, layers, date and size, finished or not."""
    from dactcli.report.console import print_notice, show
    from dactcli.report.listings import render_runs

    options.check_outputs(overwrite=overwrite, output=output)
    found = api.list_runs(folder, sort=sort)
    options.emit({"runs": [one.to_json() for one in found]}, as_json=as_json, output=output)
    if as_json:
        return
    if not found:
        print_notice(f"there are no runs in {folder}; make one with: dact finetune recipes/quickstart.yaml")
        return
    show(render_runs(found))
