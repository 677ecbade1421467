"""Where things are printed: results on standard output, everything else on standard error."""

from __future__ import annotations

import codecs
import io
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console, RenderableType

from dactcli.errors import DactError
from dactcli.storage import to_json, write_named

EXPORTED = 100  # columns of an exported view, at the least
# what stands for a character on a terminal or in a locale that cannot show it
PLAIN = {
    **dict.fromkeys("█▉▊▋▌", "#"),
    **dict.fromkeys("▍▎▏", "-"),
    "·": "-",
    **dict.fromkeys("━─╸╺", "-"),
    "■": "#",
    "□": ".",
    **dict.fromkeys("▁▂▃", "_"),
    **dict.fromkeys("▄▅▆▇", "="),
    "│": "|",
    "…": "~",  # one cell for one cell, or tables lose their edges
    "└": "+",
    **dict.fromkeys("▲△", "^"),
    **dict.fromkeys("◆◇", "*"),
    **dict.fromkeys("○●", "o"),
}


def _plain(error: UnicodeError) -> tuple[str, int]:
    """A codec's error handler: our own signs in plain letters, anything else by its number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    unknown = error.object[error.start : error.end]
    return "".join(PLAIN.get(sign) or sign.encode("ascii", "backslashreplace").decode() for sign in unknown), error.end


codecs.register_error("dact-plain", _plain)


def _shows_anything(stream: TextIO) -> None:
    """Let no character end a command on a terminal that cannot show it."""
    if isinstance(stream, io.TextIOWrapper) and stream.errors != "dact-plain":
        stream.reconfigure(errors="dact-plain")


def results() -> Console:
    """The console for results: standard output."""
    _shows_anything(sys.stdout)
    return Console(highlight=False)


def messages() -> Console:
    """The console for progress, notices and errors: standard error."""
    _shows_anything(sys.stderr)
    return Console(stderr=True, highlight=False)


def print_error(error: DactError) -> None:
    """Print an error's one sentence."""
    messages().print("[bold red]error:[/] ", end="")
    messages().print(error.sentence, markup=False, soft_wrap=True)


def print_notice(text: str) -> None:
    """Print something that the user should know."""
    messages().print("[yellow]note:[/] ", end="")
    messages().print(text, markup=False, soft_wrap=True)


def print_json(document: Any) -> None:
    """Print a JSON document, and nothing else, on standard output."""
    _shows_anything(sys.stdout)
    sys.stdout.write(to_json(document, indent=2) + "\n")


def write_document(document: Any, path: Path) -> None:
    """Write a JSON document to a file of the user's choice.

    Raises:
        ResourceError: It cannot be written.
    """
    write_named(path, to_json(document, indent=2) + "\n", remedy="choose another --output")


def export(view: RenderableType, path: Path, *, title: str, html: bool) -> None:
    """Write a view to a file, as wide as this terminal, in colours.

    Args:
        view: What is on the screen.
        path: Where to.
        title: Of the picture.
        html: A web page; else an SVG picture.

    Raises:
        ResourceError: It cannot be written.
    """
    console = Console(record=True, file=io.StringIO(), width=max(results().width, EXPORTED), force_terminal=True)
    console.print(view)
    text = console.export_html(inline_styles=True) if html else svg_of(console, title=title)
    write_named(path, text, remedy="name another file")


def svg_of(console: Console, *, title: str) -> str:
    """What a console recorded, as an SVG picture that loads no fonts from the web.

    Args:
        console: Made with `record=True`.
        title: Of the picture.
    """
    return re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title=title), flags=re.DOTALL)


@contextmanager
def counting(description: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error that goes when its work is done; nothing where that is no terminal.

    Args:
        description: What is going on.

    Yields:
        To be called with what is done and what there is in all.
    """
    from rich.progress import Progress

    console = messages()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(description, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def flowing(description: str, there: int) -> Iterator[Callable[[int, int, int | None], None]]:
    """A bar for what comes as a stream: examples done, their rate, and the time left by the bytes read.

    Args:
        description: What is going on.
        there: Examples that were done before.

    Yields:
        To be called with examples done, bytes read, and bytes in all where that is known.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console, started = messages(), time.monotonic()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[done]:,} examples, {task.fields[rate]:,.0f} per second"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(description, total=None, done=there, rate=0.0)

        def update(done: int, read: int, size: int | None) -> None:
            rate = (done - there) / max(time.monotonic() - started, 1e-9)
            progress.update(task, completed=read, total=size, done=done, rate=rate)

        yield update
