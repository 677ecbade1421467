"""The `dact` command: its subcommands, and how errors reach the user."""

from __future__ import annotations

import errno
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from dactcli.cli import evaluate, finetune, inspect, predict, profile, recipes, runs, validate
from dactcli.errors import DactError, ResourceError


class DactGroup(TyperGroup):
    """Prints the sentence of a DactError and leaves with its exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except DactError as error:
            from dactcli.report.console import print_error

            print_error(error)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            if ctx.invoked_subcommand == "finetune":
                from dactcli.report.console import print_notice

                print_notice("interrupted; the same command with --resume goes on from the last checkpoint")
            raise typer.Exit(130) from None
        except (OSError, MemoryError, RuntimeError) as error:
            scarce = _resource_error(error)
            if scarce is None:
                raise
            from dactcli.report.console import print_error

            print_error(scarce)
            raise typer.Exit(scarce.exit_code) from None


def _resource_error(error: Exception) -> ResourceError | None:
    """What a library's error says of the machine; None where it says something else."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, not imported for it
        return ResourceError("memory ran out", remedy="lower the batch size, or data.max_length")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        place = str(error.filename) if error.filename else None
        return ResourceError(f"cannot be written: {error.strerror}", place=place, remedy="free or change the disk")
    return None


app = typer.Typer(
    cls=DactGroup,
    name="dact",
    help="BERT-like encoders that run only as many layers as each answer needs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: dact finetune recipes/quickstart.yaml",
)
app.command("finetune", epilog=finetune.EXAMPLE)(finetune.finetune)
app.command("eval", epilog=evaluate.EXAMPLE)(evaluate.evaluate)
app.command("profile", epilog=profile.EXAMPLE)(profile.profile)
app.command("inspect", epilog=inspect.EXAMPLE)(inspect.inspect)
app.command("predict", epilog=predict.EXAMPLE)(predict.predict)
app.add_typer(recipes.app, name="recipes")
app.command("validate", epilog=validate.EXAMPLE)(validate.validate)
app.command("runs", epilog=runs.EXAMPLE)(runs.runs)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"dact {version('dactcli')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop."),
    ] = False,
) -> None:
    """BERT-like encoders that run only as many layers as each answer needs."""


def main() -> None:
    """Run the command line."""
    app()
