"""`dact inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dactcli.cli import options

if TYPE_CHECKING:
    from dactcli.runs.load import Run

EXAMPLE = 'Example: dact inspect "the key to the cabinets is rusty ." "the keys are old ." --rule exact'

TEXTS, VIEW = "Which texts", "What is shown"  # headings of the options


def inspect(
    texts: Annotated[
        list[str] | None,
        typer.Argument(help="Texts to look into, or - for lines of standard input.", metavar="[TEXT]..."),
    ] = None,
    run: options.RunFolder = None,
    pair: Annotated[
        str | None, typer.Option(help="The second text, for models of pairs.", metavar="TEXT", rich_help_panel=TEXTS)
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="Texts from a csv, tsv, jsonl or parquet file; labels too.", metavar="FILE", rich_help_panel=TEXTS
        ),
    ] = None,
    rule: options.RuleName = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Run full depth as well, and say what it answers.", rich_help_panel=VIEW)
    ] = False,
    sort: Annotated[
        str | None,
        typer.Option(
            help="Show first: depth (deepest), margin (closest) or loss (worst).", metavar="KEY", rich_help_panel=VIEW
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            help="Show only: wrong, disagree (with full depth) or deep.", metavar="WHICH", rich_help_panel=VIEW
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Show at most so many.", metavar="N", rich_help_panel=VIEW)
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(help="Write what is shown as a web page.", metavar="FILE", rich_help_panel=options.SHOWN),
    ] = None,
    svg: Annotated[
        Path | None,
        typer.Option(help="Write what is shown as a picture.", metavar="FILE", rich_help_panel=options.SHOWN),
    ] = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    output: options.Output = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Show for each text which layers ran, what each said, and why they were enough."""
    _check_arguments(texts, pair, file)
    options.check_outputs(overwrite=overwrite, output=output, html=html, svg=svg)
    if texts == ["-"]:
        texts = _standard_input()
    opened = options.open_run(run, device)
    first, second, labels = _texts(opened, texts, pair, file)
    from dactcli.inspection.select import select
    from dactcli.inspection.trace import trace
    from dactcli.runs.calibration import load_calibration

    model = opened.model
    chosen = model.rule(rule or options.default_rule(opened))
    calibration, _ = load_calibration(opened)
    promised = calibration.promise if calibration and str(chosen) == calibration.rule else None
    every = trace(
        model, opened.tokenizer, first, second, rule=chosen, labels=labels,
        verify=verify or only == "disagree", promise=promised,
    )  # fmt: skip
    shown = select(every, only=only, sort=sort, limit=limit)
    options.emit([one.to_json() for one in shown], as_json=as_json, output=output)
    from dactcli.report.console import export, print_notice, show
    from dactcli.report.inspection import render_traces

    names = [] if model.regression else [model.config.id2label[index] for index in range(model.classes)]
    view = render_traces(shown, names, every=every)
    if not as_json:
        show(view)
    for path in (html, svg):
        if path is not None:
            export(view, path, title="dact inspect", html=path == html)
            print_notice(f"written to {path}")


def _check_arguments(texts: list[str] | None, pair: str | None, file: Path | None) -> None:
    from dactcli.errors import UsageError

    if bool(texts) == (file is not None):
        raise UsageError(
            "needs texts or --file, and not both" if texts else "there is no text to inspect",
            remedy='write dact inspect "some sentence", or use --file FILE',
        )
    if pair is not None and (texts is None or len(texts) != 1):
        raise UsageError("goes with exactly one TEXT", place="--pair", remedy="use --file for several pairs")


def _standard_input() -> list[str]:
    import sys

    from dactcli.data.formats import TEXT
    from dactcli.data.inputs import find_inputs
    from dactcli.data.rows import Rows

    return [text for chunk in Rows(find_inputs(["-"]), sys.stdin.buffer) for text in chunk.values(TEXT)]


def _texts(
    run: Run, texts: list[str] | None, pair: str | None, file: Path | None
) -> tuple[list[str], list[str] | None, list[Any] | None]:
    from dactcli.errors import UsageError
    from dactcli.evaluation.examples import read_examples

    if file is not None:
        dataset = read_examples(run, file)
        pairs, labels = (dataset[name][:] if name in dataset.column_names else None for name in ("text_pair", "label"))
        return dataset["text"][:], pairs, labels
    of_pairs = run.recipe is not None and run.recipe.data.text_pair is not None
    if of_pairs and pair is None:
        raise UsageError("this model judges pairs of texts", place=str(run.folder), remedy="give --pair TEXT as well")
    if pair is not None and run.recipe is not None and not of_pairs:
        raise UsageError("this model judges single texts", place="--pair", remedy="leave out --pair")
    return list(texts or ()), None if pair is None else [pair], None
