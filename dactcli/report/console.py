"""Where things are printed: results on standard output, everything else on standard error.

Texts, labels, paths and column names come from data and may hold anything. `Screen` prints them as they are: no markup
or emoji codes are interpreted, and characters that would steer the terminal or turn the text around are shown by their
numbers. A view maps its result through `visible` first, so that tables know how wide such a character is drawn.
"""

from __future__ import annotations

import codecs
import io
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TextIO, TypeVar

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from dactcli.errors import DactError, StoppedError
from dactcli.listening import Listener, Progress, StreamProgress
from dactcli.report.blocks import short_rules, width_needed
from dactcli.storage import to_json, write_named

T = TypeVar("T")

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
# control characters, halves of surrogate pairs, line and paragraph separators, invisible and direction marks
HOSTILE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f]"
)

NUMBERS = {int, float, bool, type(None)}


def _number(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode("ascii")


def visible(value: T) -> T:
    r"""A value in which no text can steer the terminal: ESC becomes `\x1b`, a line feed `\n`, U+202E `\u202e`.

    Args:
        value: A text, or a dataclass, dict, list or tuple of texts and other values.

    Returns:
        The value itself where there is nothing to change; else a copy.
    """
    made: Any = value
    if isinstance(value, str):
        made = HOSTILE.sub(_number, value)
    elif isinstance(value, dict):
        made = {visible(key): visible(part) for key, part in value.items()}
    elif isinstance(value, list):
        made = value if NUMBERS.issuperset(map(type, value)) else [visible(part) for part in value]
    elif isinstance(value, tuple):
        made = tuple(visible(part) for part in value)
    elif is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: getattr(value, field.name) for field in fields(value) if field.init}
        made = replace(value, **{name: visible(part) for name, part in parts.items()})
    return made  # type: ignore[no-any-return]


class Screen(Console):
    """A console that interprets nothing in what it prints, and lets nothing through that steers the terminal.

    Args:
        **options: Those of `rich.console.Console`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As rich does it, with hostile characters shown by their numbers, whoever drew them."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            if control is None and text != "\n" and HOSTILE.search(text):
                lines = text.split("\n")
                yield Segment("\n".join(visible(line) for line in lines), style)
            else:
                yield segment


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
    return Screen()


def show(view: RenderableType, console: Console | None = None) -> None:
    """Print a view; its figures are whole, also where the terminal is narrower than they are.

    Args:
        view: What a function of `report` drew.
        console: Where to; standard output without.
    """
    console = console or results()
    known = console.width
    console.width = max(known, width_needed(view, whole=not console.is_terminal))
    console.print(view)
    console.width = known


def messages() -> Console:
    """The console for progress, notices and errors: standard error."""
    _shows_anything(sys.stderr)
    return Screen(stderr=True)


def print_error(error: DactError) -> None:
    """Print an error's one sentence; a stop that was asked for is no error."""
    if isinstance(error, StoppedError):
        print_line(error.sentence)
    else:
        print_line(error.sentence, "error:", "bold red")


def print_notice(text: str) -> None:
    """Print something that the user should know; thresholds in it are as short as in a view."""
    print_line(short_rules(text), "note:", "yellow")


def print_line(text: str, head: str = "", style: str = "") -> None:
    """Print one line on standard error.

    Args:
        text: What it says.
        head: What stands before it.
        style: Of the head.
    """
    lead = Text.assemble((head, style), " ") if head else Text()
    messages().print(lead.append(visible(text)), soft_wrap=True)


def print_text(text: str) -> None:
    """Print a text that may be read by a program, such as a recipe, on standard output as it is."""
    _shows_anything(sys.stdout)
    sys.stdout.write(text)


def print_json(document: Any) -> None:
    """Print a JSON document, and nothing else, on standard output."""
    _shows_anything(sys.stdout)
    sys.stdout.write(to_json(document, indent=2) + "\n")


def write_document(document: Any, path: Path) -> None:
    """Write a JSON document to a file of the user's choice.

    Raises:
        ResourceError: It cannot be written.
    """
    write_named(path, to_json(document, indent=2) + "\n", remedy="choose another `output`")


def export_svg(view: RenderableType, path: Path, *, title: str) -> None:
    """Write a view to an SVG file, as wide as this terminal, in colours.

    Args:
        view: What a function of `report` drew.
        path: The file.
        title: Of the picture.

    Raises:
        ResourceError: It cannot be written.
    """
    width = max(results().width, EXPORTED, width_needed(view, whole=True))
    console = Screen(record=True, file=io.StringIO(), width=width, force_terminal=True)
    console.print(view)
    write_named(path, svg_of(console, title=title), remedy="name another file")


def svg_of(console: Console, *, title: str) -> str:
    """What a console recorded, as an SVG picture that loads no fonts from the web.

    Args:
        console: Made with `record=True`.
        title: Of the picture.
    """
    return re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title=title), flags=re.DOTALL)


@contextmanager
def counting(description: str) -> Iterator[Progress]:
    """A bar on standard error that goes when its work is done; nothing where that is no terminal.

    Args:
        description: What is going on.

    Yields:
        To be called with what is done and what there is in all.
    """
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = messages()
    # rich's own columns interpret markup in the description
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(visible(description), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def flowing(description: str, there: int) -> Iterator[StreamProgress]:
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
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[done]:,} examples, {task.fields[rate]:,.0f} per second"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(visible(description), total=None, done=there, rate=0.0)

        def update(done: int, read: int, size: int | None) -> None:
            rate = (done - there) / max(time.monotonic() - started, 1e-9)
            progress.update(task, completed=read, total=size, done=done, rate=rate)

        yield update


class ConsoleListener(Listener):
    """Notices and bars on standard error.

    Args:
        spoken: How a notice is put for this user; the command line names its options.
    """

    def __init__(self, spoken: Callable[[str], str] = str) -> None:
        self.spoken = spoken

    def notice(self, text: str) -> None:
        """Print a notice."""
        print_notice(self.spoken(text))

    def working(self, description: str) -> AbstractContextManager[Progress]:
        """A bar for work whose parts can be counted."""
        return counting(description)

    def streaming(self, description: str, there: int) -> AbstractContextManager[StreamProgress]:
        """A bar for a stream of examples."""
        return flowing(description, there)
