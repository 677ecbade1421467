"""Print the ten longest functions, the ten with most parameters and the ten longest files; fail above the limits.

.venv/bin/python scripts/sizes.py

Of a Typer command only the body counts: its parameters declare the command's options. A signature that another library
prescribes carries `noqa: PLR0913` with the reason, and its parameters do not count either.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("dactcli", "benchmarks", "scripts")
COMMANDS = "dactcli/cli"
FUNCTION_LINES, PARAMETERS, FILE_LINES = 60, 6, 400
SHOWN = 10
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Size:
    """A size of a function or file.

    Attributes:
        place: `file:line name`, or the file.
        value: Lines or parameters.
    """

    place: str
    value: int


@dataclass(frozen=True)
class Sizes:
    """All sizes of a tree.

    Attributes:
        lines: Lines of each function.
        parameters: Parameters of each function; `self` and `cls` do not count.
        files: Lines of each file.
    """

    lines: list[Size]
    parameters: list[Size]
    files: list[Size]

    def tables(self) -> Iterator[tuple[str, int, list[Size]]]:
        """Heading, limit and sizes of each table, the largest first."""
        named = [
            ("lines of a function", FUNCTION_LINES, self.lines),
            ("parameters of a function", PARAMETERS, self.parameters),
            ("lines of a file", FILE_LINES, self.files),
        ]
        for heading, limit, sizes in named:
            yield heading, limit, sorted(sizes, key=lambda size: (-size.value, size.place))


def measure(root: Path) -> Sizes:
    """The sizes of all Python files below the measured folders of a tree."""
    found = Sizes([], [], [])
    for path in sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.py")):
        name, text = path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
        lines = text.splitlines()
        found.files.append(Size(name, len(lines)))
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, Function):
                continue
            place = f"{name}:{node.lineno} {node.name}"
            command = name.startswith(COMMANDS) and _is_command(node)
            first = node.body[0].lineno if command else node.lineno
            found.lines.append(Size(place, (node.end_lineno or first) - first + 1))
            if not command and "noqa: PLR0913" not in lines[node.lineno - 1]:
                found.parameters.append(Size(place, len(_parameters(node))))
    return found


def _parameters(node: Function) -> list[ast.arg]:
    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return [one for one in given if one.arg not in ("self", "cls")]


def _is_command(node: Function) -> bool:
    """Whether a function's parameters are the options of a Typer command."""
    kinds = [ast.unparse(one.annotation) for one in _parameters(node) if one.annotation is not None]
    return any("typer." in kind or kind.startswith("options.") for kind in kinds)


def main() -> None:
    """Print the tables; exit code 1 if anything is above its limit."""
    above = 0
    for heading, limit, sizes in measure(ROOT).tables():
        print(f"{heading} (limit {limit})")
        above += sum(size.value > limit for size in sizes)
        for size in sizes[: max(SHOWN, sum(size.value > limit for size in sizes))]:
            print(f"  {size.value:4} {size.place}{'  above the limit' if size.value > limit else ''}")
    if above:
        raise SystemExit(f"sizes: {above} above the limits; split the function or file, or name the missing dataclass")


if __name__ == "__main__":
    main()
