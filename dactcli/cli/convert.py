"""`dact convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dactcli.api.common import quieten_libraries
from dactcli.cli import options
from dactcli.cli.flags import with_flags

EXAMPLE = """Examples: dact convert path/to/classifier --texts log.jsonl

dact convert path/to/classifier --texts log.jsonl --calibration calibration.jsonl --risk 0.02"""


def convert(
    classifier: Annotated[
        str, typer.Argument(help="A classifier fine-tuned with transformers: folder or hub name.", metavar="CLASSIFIER")
    ],
    texts: Annotated[
        list[str] | None,
        typer.Option("--texts", help="File of texts; may be repeated. Labels are not read.", metavar="FILE"),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            help="Text column. Default: text, else the only column of texts.",
            metavar="COLUMN",
            rich_help_panel=options.READ,
        ),
    ] = None,
    pair_column: Annotated[
        str | None,
        typer.Option(
            "--pair",
            help="Column of the second text, for classifiers of text pairs.",
            metavar="COLUMN",
            rich_help_panel=options.READ,
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="File of other texts to certify on. Default: a part of the texts is held back.",
            metavar="FILE",
            rich_help_panel=options.READ,
        ),
    ] = None,
    risk: Annotated[
        float, typer.Option(help="How often an answer may differ from the classifier's.", metavar="RISK")
    ] = 0.01,
    delta: Annotated[float, typer.Option(help="Probability that the promise fails.", metavar="DELTA")] = 0.05,
    epochs: Annotated[
        float, typer.Option(help="Passes over the texts that train the exit heads.", metavar="NUMBER")
    ] = 10,
    overrides: options.Overrides = None,
    recipe_out: Annotated[
        Path | None,
        typer.Option("--recipe-out", help="Also write the conversion as a recipe.", metavar="FILE"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume the newest unfinished conversion of this classifier.")
    ] = False,
    quiet: options.Quiet = False,
    device: options.Device = "auto",
    as_json: options.Json = False,
    output: options.Output = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Give a fine-tuned classifier early exits, from texts without labels.

    Its own answers stay as they are; a certificate says how often an early one differs.
    """
    from dactcli.api.convert import ConvertRequest
    from dactcli.api.convert import convert as convert_classifier
    from dactcli.report.console import show
    from dactcli.report.training import render_training, screen

    request = ConvertRequest(
        texts or (),
        text,
        pair_column,
        calibration,
        risk,
        delta,
        epochs,
        overrides or (),
        recipe_out,
        resume,
        device,
    )
    options.check_outputs(overwrite=overwrite or resume, output=output, **{"recipe-out": recipe_out})
    quieten_libraries()
    with screen("quiet" if quiet else "normal", with_flags) as listener:
        result = convert_classifier(classifier, request, listener=listener)
    options.emit(result.to_json(), as_json=as_json, output=output)
    if not as_json and not result.already_finished:
        show(render_training(result))
