"""`dact export`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from dactcli.cli import options

EXAMPLE = """Examples: dact export runs/sst2-1 --to sst2-onnx

dact export runs/sst2-1 --to sst2-int8 --int8 --risk 0.05

dact export runs/sst2-1 --to sst2-graph --layers 3"""
CALIBRATION = "Calibration"


def _numbers(option: str, text: str | None) -> list[int] | None:
    """The numbers of an option, such as `--stages`."""
    from dactcli.errors import UsageError

    if text is None:
        return None
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise UsageError(
            "is not a list of layers",
            place=f"{option} {text}",
            remedy="write numbers and commas, such as 2,4,6",
        ) from None


def export(
    path: options.RunPath = None,
    to: Annotated[Path | None, typer.Option(help="Write the export here.", metavar="FOLDER")] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Quantise the encoder's weights to int8.")] = False,
    stages: Annotated[
        str | None,
        typer.Option(help="Layers after which rows may leave. Default: every layer.", metavar="N1,N2,..."),
    ] = None,
    float_layers: Annotated[
        str | None,
        typer.Option(help="With --int8: leave the weights of these layers in float32.", metavar="N1,N2,..."),
    ] = None,
    layers: Annotated[
        int | None, typer.Option(help="Write one graph of the first N layers, without early exit.", metavar="N")
    ] = None,
    rule: Annotated[
        str | None,
        typer.Option(
            help="Halting rule; without its threshold, the threshold is calibrated. Default: the run's own.",
            metavar="NAME[:VALUE]",
            autocompletion=options.rules,
        ),
    ] = None,
    risk: Annotated[
        float | None,
        typer.Option(
            help="Risk to certify. Default: that of the run's certificate, else its recipe's.",
            metavar="RISK",
            rich_help_panel=CALIBRATION,
        ),
    ] = None,
    delta: Annotated[
        float | None,
        typer.Option(
            help="Probability that the promise fails. Default: as for --risk.",
            metavar="DELTA",
            rich_help_panel=CALIBRATION,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="File of fresh examples to calibrate on. Default: the calibration split.",
            metavar="FILE",
            rich_help_panel=CALIBRATION,
        ),
    ] = None,
    text: options.TextColumn = None,
    pair_column: options.PairColumn = None,
    opset: Annotated[
        int | None, typer.Option(help="Version of the ONNX operators. Default: 18.", metavar="VERSION")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Overwrite an earlier export.")] = False,
    as_json: options.Json = False,
) -> None:
    """Write a run as stages for ONNX Runtime, between which rows leave.

    The threshold is calibrated again, against the answers of the PyTorch model at full depth.
    """
    from dactcli.api.export import ExportRequest
    from dactcli.api.export import export as export_run
    from dactcli.errors import UsageError

    if to is None:
        raise UsageError("nothing says where to", place="dact export", remedy="add --to FOLDER")
    request = ExportRequest(
        to, int8, _numbers("--stages", stages), _numbers("--float-layers", float_layers), layers, rule, risk, delta,
        data, text, pair_column, opset, overwrite
    )  # fmt: skip
    done = export_run(path, request, listener=options.listener())
    options.emit(done.to_json(), as_json=as_json, output=None)
    if not as_json:
        from dactcli.cli.flags import with_flags
        from dactcli.report.console import show
        from dactcli.report.exports import render_export

        show(render_export(replace(done, failure=done.failure and with_flags(done.failure))))
