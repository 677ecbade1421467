"""`dact inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dactcli.cli import options

if TYPE_CHECKING:
    from dactcli.model.checkpoint import Run

EXAMPLE = 'Example: dact inspect "the key to the cabinets is rusty ." "the keys are old ." --rule exact'


def inspect(
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to look into.", metavar="[TEXT]...")] = None,
    run: options.RunFolder = None,
    pair: Annotated[str | None, typer.Option(help="The second text, for models of pairs.", metavar="TEXT")] = None,
    file: Annotated[
        Path | None, typer.Option(help="Texts from a csv, tsv, jsonl or parquet file.", metavar="FILE")
    ] = None,
    rule: options.RuleName = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    output: options.Output = None,
) -> None:
    """Show for each text which layers ran, what each said, and why they were enough."""
    _check_arguments(texts, pair, file)
    opened = options.open_run(run, device)
    first, second = _texts(opened, texts, pair, file)
    from dactcli.inspection.trace import trace

    model = opened.model
    traces = trace(model, opened.tokenizer, first, second, rule=model.rule(rule or options.default_rule(opened)))
    options.emit([one.to_json() for one in traces], as_json=as_json, output=output)
    if not as_json:
        from dactcli.report.console import results
        from dactcli.report.inspection import render_traces

        names = [] if model.regression else [model.config.id2label[index] for index in range(model.classes)]
        results().print(render_traces(traces, names))


def _check_arguments(texts: list[str] | None, pair: str | None, file: Path | None) -> None:
    from dactcli.errors import UsageError

    if bool(texts) == (file is not None):
        raise UsageError(
            "needs texts or --file, and not both" if texts else "there is no text to inspect",
            remedy='write dact inspect "some sentence", or use --file FILE',
        )
    if pair is not None and (texts is None or len(texts) != 1):
        raise UsageError("goes with exactly one TEXT", place="--pair", remedy="use --file for several pairs")


def _texts(
    run: Run, texts: list[str] | None, pair: str | None, file: Path | None
) -> tuple[list[str], list[str] | None]:
    from dactcli.errors import UsageError

    if file is not None:
        dataset = options.read_examples(run, file, labelled=False)
        pairs = dataset["text_pair"][:] if "text_pair" in dataset.column_names else None
        return dataset["text"][:], pairs
    of_pairs = run.recipe is not None and run.recipe.data.text_pair is not None
    if of_pairs and pair is None:
        raise UsageError("this model judges pairs of texts", place=str(run.folder), remedy="give --pair TEXT as well")
    if pair is not None and run.recipe is not None and not of_pairs:
        raise UsageError("this model judges single texts", place="--pair", remedy="leave out --pair")
    return list(texts or ()), None if pair is None else [pair]
