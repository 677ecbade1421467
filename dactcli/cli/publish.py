"""`dact publish`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dactcli.cli import options

EXAMPLE = """Examples: dact publish runs/sst2-1 --to sst2-dact

dact publish runs/sst2-1 --hub jane/sst2-dact --private"""


def publish(
    path: options.RunPath = None,
    to: Annotated[Path | None, typer.Option(help="Write the model folder here.", metavar="FOLDER")] = None,
    hub: Annotated[
        str | None, typer.Option(help="Push to the Hugging Face hub under this name.", metavar="NAMESPACE/NAME")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Create a private repository on the hub.")] = False,
    message: Annotated[str | None, typer.Option(help="Commit message on the hub.", metavar="TEXT")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Overwrite an earlier publication.")] = False,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Write a run as a model folder with a model card, and push it to the hub."""
    from dactcli.api.publish import PublishRequest
    from dactcli.api.publish import publish as publish_run

    request = PublishRequest(to, hub, private, message, overwrite, device)
    done = publish_run(path, request, listener=options.listener())
    options.emit(done.to_json(), as_json=as_json, output=None)
    if not as_json:
        from dactcli.report.console import show
        from dactcli.report.listings import render_publication

        show(render_publication(done))
