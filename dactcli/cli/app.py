"""The `dact` command: its subcommands, and how errors reach the user."""

from __future__ import annotations

import errno
import os
import platform
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from dactcli import distributed
from dactcli.cli import (
    convert,
    evaluate,
    export,
    finetune,
    inspect,
    predict,
    profile,
    publish,
    recipes,
    report,
    runs,
    validate,
)
from dactcli.cli.flags import flagged
from dactcli.cli.processes import WORDS
from dactcli.cli.texts import TextsCommand
from dactcli.errors import DactError, ResourceError, StoppedError, UsageError, did_you_mean

SHARED = ("finetune", "eval", "predict")  # what several processes do together; process 0 does the rest alone
PATIENCE = 10.0  # seconds that a command has to clear up after SIGTERM
WRONG_USAGE: Any = typer.BadParameter.__base__  # the parser's UsageError, which typer does not export by name


class DactGroup(TyperGroup):
    """Prints the sentence of a DactError and leaves with its exit code; knows what a misspelt command meant."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that was named."""
        distributed.check_launch()
        ctx.meta[WORDS] = list(args)
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            known = self.list_commands(ctx)
            raise UsageError(f"there is no command {name!r}", place="dact", remedy=did_you_mean(name, known))
        if name in SHARED:
            ctx.with_resource(distributed.process_group())
        elif distributed.launched_rank():
            raise typer.Exit
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """The options before the command."""
        try:
            return super().parse_args(ctx, args)
        except WRONG_USAGE as error:
            raise _leave(_usage_error(error)) from None

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line; a terminal that has no width is one of unknown width."""
        for name in ("COLUMNS", "LINES"):
            if os.environ.get(name, "1").strip("0 ") == "":
                del os.environ[name]
        try:
            return super().main(*args, **kwargs)
        except OSError as error:  # outside of a command: what prints help, or flushes the last line
            if (scarce := _resource_error(error)) is None:
                raise
            raise SystemExit(_leave(scarce).exit_code) from None

    def invoke(self, ctx: Any) -> Any:
        """Run the subcommand."""
        try:
            with _heard():
                return super().invoke(ctx)
        except WRONG_USAGE as error:
            raise _leave(_usage_error(error)) from None
        except DactError as error:
            raise _leave(flagged(error)) from None
        except KeyboardInterrupt as stop:
            raise _leave(_stopped(stop, ctx.invoked_subcommand)) from None
        except typer.Exit:
            raise
        except Exception as error:
            scarce = _resource_error(error)
            if scarce is None:
                with distributed.failing(DactError.exit_code):  # with the traceback, from whichever process
                    raise
            raise _leave(scarce) from None


def _leave(error: DactError) -> typer.Exit:
    """Print an error's sentence; what to raise for its exit code.

    Of several processes one prints, and all leave with the exit code of the first that failed: others may have noticed
    only that it was gone.
    """
    from dactcli.report.console import print_error

    code = distributed.failure() or error.exit_code
    with distributed.failing(code) as speaks:
        if speaks:
            # process 0 may be well, and only told to end: then this process, whose screen is off, has to say why
            with redirect_stderr(sys.__stderr__) if distributed.launched_rank() else nullcontext():
                print_error(error)
    return typer.Exit(code)


class Terminated(KeyboardInterrupt):
    """SIGTERM came; no library takes it for an error of its own."""


def _stopped(stop: KeyboardInterrupt, command: str | None) -> StoppedError:
    """What to say after a signal; while a training takes its steps, it says more itself."""
    number = signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT
    remedy = "if the training had begun, the same command with --resume continues from the last checkpoint"
    return StoppedError(
        number, f"stopped by {number.name}", remedy=remedy if command in ("finetune", "convert") else None
    )


@contextmanager
def _heard() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does, so that it leaves nothing half-written behind.

    Of several processes the launcher ends those that are left when one has failed: they have nothing to say.
    """
    if threading.current_thread() is not threading.main_thread() or distributed.launched():
        yield
        return

    # an exception that is raised while a library calls back from C may be lost: then the default ends the process
    insist = threading.Timer(PATIENCE, os.kill, (os.getpid(), signal.SIGTERM))
    insist.daemon = True

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        insist.start()
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        insist.cancel()
        signal.signal(signal.SIGTERM, before)


def _usage_error(error: Any) -> UsageError:
    """What the parser found wrong with a command line, as one sentence."""
    context = error.ctx
    place = context.command_path if context is not None else "dact"
    if (option := getattr(error, "option_name", None)) and context is not None and hasattr(error, "possibilities"):
        known = [name for parameter in context.command.params for name in parameter.opts if name.startswith("-")]
        remedy = did_you_mean(option, known)
        if not remedy.endswith("?") and any(
            parameter.param_type_name == "argument" for parameter in context.command.params
        ):
            remedy += "; write -- before an argument that begins with a dash"
        return UsageError(f"there is no option {option}", place=place, remedy=remedy)
    fault = error.format_message().rstrip(".")
    return UsageError(fault[:1].lower() + fault[1:], place=place, remedy=f"see {place} --help")


def _resource_error(error: Exception) -> ResourceError | None:
    """What a library's error says of the machine; None where it says something else."""
    if not isinstance(error, OSError | MemoryError | RuntimeError):
        return None
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, not imported for it
        return ResourceError("memory ran out", remedy="lower the batch size, or data.max_length")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG):
        place = str(error.filename) if error.filename else None
        return ResourceError(f"cannot be written: {error.strerror}", place=place, remedy="free or change the disk")
    return distributed.lost(error)


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
app.command("convert", epilog=convert.EXAMPLE)(convert.convert)
app.command("eval", epilog=evaluate.EXAMPLE)(evaluate.evaluate)
app.command("profile", epilog=profile.EXAMPLE)(profile.profile)
app.command("inspect", cls=TextsCommand, epilog=inspect.EXAMPLE)(inspect.inspect)
app.command("report", epilog=report.EXAMPLE)(report.report)
app.command("predict", epilog=predict.EXAMPLE)(predict.predict)
app.command("publish", epilog=publish.EXAMPLE)(publish.publish)
app.command("export", epilog=export.EXAMPLE)(export.export)
app.add_typer(recipes.app, name="recipes")
app.command("validate", epilog=validate.EXAMPLE)(validate.validate)
app.command("runs", epilog=runs.EXAMPLE)(runs.runs)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"dact {version('dactcli')}")
        for package in ("torch", "transformers", "datasets"):
            typer.echo(f"{package} {version(package)}")
        typer.echo(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")
        typer.echo(f"CUDA {_cuda() or 'not in this torch'}")
        raise typer.Exit


def _cuda() -> str | None:
    """The CUDA version that torch was built with, read from its files: importing it takes seconds."""
    found = find_spec("torch")
    if found is None or found.origin is None:
        return None
    text = Path(found.origin).with_name("version.py").read_text(encoding="utf-8")
    match = re.search(r"^cuda\b[^=]*= '([\d.]+)'", text, re.MULTILINE)
    return match.group(1) if match else None


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the versions and stop."),
    ] = False,
) -> None:
    """BERT-like encoders that run only as many layers as each answer needs."""


def main() -> None:
    """Run the command line; of several processes only process 0 has a screen."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # a service's, or closed by the shell: `<&-`
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115  # as long as we run
    if not distributed.launched_rank():
        app()
        return
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        app()
