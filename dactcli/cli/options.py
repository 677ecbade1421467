"""Options that several commands share, and what every command does before its work."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from dactcli.listening import Listener


def recipes(incomplete: str) -> list[str]:
    """Names of the recipes that come with dact, for the shell's completion."""
    from dactcli.recipe.bundled import bundled_recipes

    return [one.name for one in bundled_recipes() if one.name.startswith(incomplete)]


def runs(incomplete: str) -> list[str]:
    """Run folders, for the shell's completion."""
    folders = sorted(Path("runs").glob("*/")) if Path("runs").is_dir() else []
    return [str(path) for path in folders if str(path).startswith(incomplete) or path.name.startswith(incomplete)]


def rules(incomplete: str) -> list[tuple[str, str]]:
    """Halting rules and when they halt, for the shell's completion."""
    from dactcli.halting.names import RULE_FACTS

    return [(name, facts.text) for name, facts in RULE_FACTS.items() if name.startswith(incomplete)]


READ, SHOWN, CLUSTER = "Input", "Device and output", "Cluster"  # headings of options that several commands have
RunPath = Annotated[
    Path | None,
    typer.Argument(help="Run folder or saved model. Default: runs/latest.", metavar="[RUN]", autocompletion=runs),
]
Split = Annotated[
    str | None,
    typer.Option(
        help="Split of the run's data: validation, calibration, test or train.", metavar="NAME", rich_help_panel=READ
    ),
]
DataFile = Annotated[
    Path | None,
    typer.Option(
        help="A csv, tsv, jsonl, json or parquet file instead of a split.", metavar="FILE", rich_help_panel=READ
    ),
]
Engine = Annotated[
    str, typer.Option(help="Where the model runs: local, or ray.", metavar="local|ray", rich_help_panel=CLUSTER)
]
Address = Annotated[
    str | None,
    typer.Option(
        help="Ray cluster. Default: one on this machine, for the time of the command.",
        metavar="ADDRESS",
        rich_help_panel=CLUSTER,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        help="Worker processes. Default: one for each processor, or GPU with --gpus-per-worker.",
        metavar="N",
        rich_help_panel=CLUSTER,
    ),
]
GpusPerWorker = Annotated[
    float, typer.Option(help="GPUs of each worker; less than 1 shares one.", metavar="N", rich_help_panel=CLUSTER)
]
LabelColumn = Annotated[
    str | None,
    typer.Option(
        help="Label column of FILE. Default: the recipe's, if FILE has it.", metavar="COLUMN", rich_help_panel=READ
    ),
]
TextColumn = Annotated[
    str | None,
    typer.Option("--text", help="Text column. Default: the recipe's.", metavar="COLUMN", rich_help_panel=READ),
]
PairColumn = Annotated[
    str | None,
    typer.Option(
        "--pair",
        "--pair-column",
        help="Column of the second text, for models of text pairs. Default: the recipe's.",
        metavar="COLUMN",
        rich_help_panel=READ,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show only warnings and the result.", rich_help_panel=SHOWN)]
Device = Annotated[str, typer.Option(help="Device: auto, cpu, cuda or mps.", metavar="NAME", rich_help_panel=SHOWN)]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print only one JSON document on standard output.", rich_help_panel=SHOWN),
]
Output = Annotated[
    Path | None,
    typer.Option(help="Also write the JSON document to this file.", metavar="FILE", rich_help_panel=SHOWN),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Overwrite existing output files.", rich_help_panel=SHOWN)]
ModelFolder = Annotated[
    Path | None,
    typer.Option(
        "--run",
        help="Run folder, saved model or export. Default: runs/latest.",
        metavar="RUN",
        autocompletion=runs,
    ),
]
RuleName = Annotated[
    str | None,
    typer.Option("--rule", help="Halting rule. Default: the run's own.", metavar="NAME[:VALUE]", autocompletion=rules),
]
RecipeFile = Annotated[Path, typer.Argument(help="The recipe, a YAML file.", metavar="RECIPE")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a recipe key; may be repeated.", metavar="KEY=VALUE"),
]


def listener() -> Listener:
    """Shows notices and progress on standard error; call it last before the work, because it quietens the libraries."""
    from dactcli.api.common import quieten_libraries
    from dactcli.cli.flags import with_flags
    from dactcli.report.console import ConsoleListener

    quieten_libraries()
    return ConsoleListener(with_flags)


def check_outputs(
    *, overwrite: bool = False, plots: Path | None = None, trace: Path | None = None, **files: Path | None
) -> None:
    """Prove before any work that everything a command is asked to write can be written.

    Args:
        overwrite: Whether files that are there may be replaced.
        plots: The folder of `--plots`.
        trace: The folder of `--trace`.
        **files: Files by the name of their option.

    Raises:
        UsageError: A file already exists, is a folder, or is named twice.
        ResourceError: Something cannot be written, or what draws pictures is not installed.
    """
    from dactcli import distributed
    from dactcli.errors import UsageError
    from dactcli.storage import check_file, check_folder

    if plots is not None:
        from dactcli.report.plots import check_matplotlib

        check_matplotlib()
    named: dict[Path, str] = {}
    for name, file in files.items():
        if file is None:
            continue
        option = f"--{name}"
        distributed.on_main(partial(check_file, file, option=option, overwrite=overwrite))
        if file.resolve() in named:
            other = named[file.resolve()]
            raise UsageError(f"is the file of {other}", place=f"{option} {file}", remedy="name another file")
        named[file.resolve()] = option
    for option, folder in (("--plots", plots), ("--trace", trace)):
        if folder is not None:
            distributed.on_main(partial(check_folder, folder, option=option))


def emit(document: Any, *, as_json: bool, output: Path | None) -> None:
    """Print the JSON document, write it to a file, both or neither; of several processes in process 0."""
    from dactcli import distributed
    from dactcli.report.console import print_json, write_document
    from dactcli.storage import versioned

    if not distributed.is_main():
        return
    document = versioned(document)
    if output is not None:
        write_document(document, output)
    if as_json:
        print_json(document)


def tell_written(files: list[Path]) -> None:
    """Name the files that were written beside the results."""
    from dactcli.report.console import print_notice

    print_notice(f"written: {', '.join(map(str, files))}")
