"""`dact inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dactcli.cli import options

EXAMPLE = 'Example: dact inspect "the key to the cabinets is rusty ." "the keys are old ." --rule exact'

TEXTS, VIEW = "Texts", "View"  # headings of the options


def inspect(
    texts: Annotated[
        list[str] | None,
        typer.Argument(help="Texts to inspect, or - to read lines from standard input.", metavar="[TEXT]..."),
    ] = None,
    run: options.ModelFolder = None,
    pair: Annotated[
        str | None, typer.Option(help="Second text, for models of text pairs.", metavar="TEXT", rich_help_panel=TEXTS)
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="File of texts, with or without labels: csv, tsv, jsonl, json or parquet.",
            metavar="FILE",
            rich_help_panel=TEXTS,
        ),
    ] = None,
    rule: options.RuleName = None,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Also run every layer, and show the full-depth answer.", rich_help_panel=VIEW),
    ] = False,
    sort: Annotated[
        str | None,
        typer.Option(
            help="Sort by depth (deepest first), margin (closest first) or loss (largest first).",
            metavar="KEY",
            rich_help_panel=VIEW,
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            help="Show only examples that are wrong, disagree with full depth, or ran deep.",
            metavar="WHICH",
            rich_help_panel=VIEW,
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Show at most N examples.", metavar="N", rich_help_panel=VIEW)
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(help="Write the view to this file, as a web page.", metavar="FILE", rich_help_panel=options.SHOWN),
    ] = None,
    svg: Annotated[
        Path | None,
        typer.Option(help="Write the view to this SVG file.", metavar="FILE", rich_help_panel=options.SHOWN),
    ] = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    output: options.Output = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Show for each text which layers ran, what each said, and why they were enough."""
    from dactcli.errors import UsageError

    if pair is not None and (texts is None or len(texts) != 1):
        raise UsageError("requires exactly one TEXT", place="--pair", remedy="use --file for several pairs")
    options.check_outputs(overwrite=overwrite, output=output, html=html, svg=svg)
    if texts == ["-"]:
        texts = _standard_input()
    from dactcli.api.inspect import InspectRequest
    from dactcli.api.inspect import inspect as inspect_texts

    pairs = None if pair is None else [pair]
    request = InspectRequest(texts or (), pairs, file, rule, verify, sort, only, limit, device)
    traces = inspect_texts(request, run=run, listener=options.listener())
    options.emit(traces.to_json(), as_json=as_json, output=output)
    from dactcli.report.console import export_svg, print_notice, show
    from dactcli.report.inspection import render_traces
    from dactcli.report.page import write_page

    view = render_traces(traces, traces.names, every=traces.every)
    if not as_json:
        show(view)
    if html is not None:
        write_page(traces, traces.names, html, every=traces.every)
    if svg is not None:
        export_svg(view, svg, title="dact inspect")
    for path in filter(None, (html, svg)):
        print_notice(f"written to {path}")


def _standard_input() -> list[str]:
    import sys

    from dactcli.data.formats import TEXT
    from dactcli.data.inputs import find_inputs
    from dactcli.data.rows import Rows

    return [text for chunk in Rows(find_inputs(["-"]), sys.stdin.buffer) for text in chunk.values(TEXT)]
