"""Options that several commands share, and what every command does before its work."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import torch

    from dactcli.data.batches import Encoded
    from dactcli.results import Calibration
    from dactcli.runs.load import Run
    from dactcli.runs.outputs import LayerOutputs


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


SHOWN = "Device and output"  # heading of the options that all commands have
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.", metavar="NAME", rich_help_panel=SHOWN)]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document on standard output, and nothing else.", rich_help_panel=SHOWN),
]
Output = Annotated[
    Path | None,
    typer.Option(help="Write the JSON document to this file as well.", metavar="FILE", rich_help_panel=SHOWN),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace output files that are there.", rich_help_panel=SHOWN)
]
RunFolder = Annotated[
    Path | None,
    typer.Option(
        "--run", help="Run folder or saved model; runs/latest without it.", metavar="RUN", autocompletion=runs
    ),
]
RuleName = Annotated[
    str | None,
    typer.Option(
        "--rule", help="Halting rule; the model's own without it.", metavar="NAME[:VALUE]", autocompletion=rules
    ),
]
RecipeFile = Annotated[Path, typer.Argument(help="The recipe, a YAML file.", metavar="RECIPE")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a key of the recipe; may be repeated.", metavar="KEY=VALUE"),
]


def quieten_libraries() -> None:
    """Keep the libraries' own bars and reports off the screen."""
    import os

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # by environment, because importing datasets takes longer than most commands that do not need it
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("DATASETS_VERBOSITY", "error")
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def usable_device(name: str) -> torch.device:
    """The device of a name, checked before the libraries are set to work quietly."""
    from dactcli.model.device import find_device

    where = find_device(name)
    quieten_libraries()
    return where


def open_run(path: Path | None, device: str) -> Run:
    """Load a run and put it on a device.

    Args:
        path: As RUN is given; None for the newest.
        device: As `--device` is given.
    """
    where = usable_device(device)
    from dactcli.runs.load import load_run

    run = load_run(path)
    run.model.to(where)
    return run


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
        UsageError: A file is there already, is a folder, or is named twice.
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


def run_examples(run: Run, split: str, data: Path | None) -> tuple[Encoded, list[int] | None]:
    """As `evaluation.examples.run_examples`, with notices on the screen."""
    from dactcli.evaluation import examples
    from dactcli.report.console import print_notice

    return examples.run_examples(run, split, data, print_notice)


def outputs_of(run: Run, encoded: Encoded, name: str, size: int | None = None) -> LayerOutputs:
    """The outputs of all layers, kept or computed, with a bar while the encoder runs.

    Args:
        run: The run.
        encoded: The examples.
        name: Of the split or file, for what is kept.
        size: Examples per batch, of each process; the run's own without.
    """
    from dactcli.evaluation.examples import batch_size
    from dactcli.report.console import counting
    from dactcli.runs.outputs import cached_outputs

    with counting(f"{name}: {len(encoded.lengths):,} examples") as progress:
        return cached_outputs(run, encoded, name, batch_size=size or batch_size(run), progress=progress)


def valid_calibration(run: Run) -> Calibration | None:
    """As `evaluation.examples.valid_calibration`, with notices on the screen."""
    from dactcli.evaluation import examples
    from dactcli.report.console import print_notice

    return examples.valid_calibration(run, print_notice)


def tell_calibrated_share(run: Run, calibration: Calibration, encoded: Encoded) -> None:
    """Say so where some of the examples to judge on chose the calibrated threshold."""
    from dactcli.evaluation.sample import calibrated_share
    from dactcli.report.console import print_notice

    if shared := calibrated_share(run, calibration, encoded):
        print_notice(
            f"{shared:,} of {len(encoded.lengths):,} examples chose the threshold of {calibration.rule}: its figures "
            "here are not independent of it"
        )


def default_rule(run: Run) -> str | None:
    """As `evaluation.examples.default_rule`, with notices on the screen."""
    from dactcli.evaluation import examples
    from dactcli.report.console import print_notice

    return examples.default_rule(run, print_notice)
