"""Write the reference from the code: commands with their options, recipe keys with defaults, README's table of rules.

.venv/bin/python scripts/reference.py            # writes docs/reference/commands.md, recipe.md and README's table
.venv/bin/python scripts/reference.py --check    # exit code 1 where a page is not as the code says
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

# internals: documents the options, the recipe keys and the rules
from dactcli.cli.app import app
from dactcli.halting.names import RULE_FACTS, RuleFacts
from dactcli.recipe import schema

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = ROOT / "docs" / "reference"
RULES = re.compile(r"(<!-- rules -->\n).*?(<!-- /rules -->\n)", re.DOTALL)  # where README has the table of rules
PROMISES = {"class": "same class as full depth", "value": "within the threshold of full depth", None: "by calibration"}
MADE = "<!-- made by scripts/reference.py from the code; change the code instead -->\n"
SECTIONS: dict[str, type[BaseModel]] = {
    "task": schema.TaskSection,
    "data": schema.DataSection,
    "model": schema.ModelSection,
    "dact": schema.DactSection,
    "training": schema.TrainingSection,
    "evaluation": schema.EvaluationSection,
    "output": schema.OutputSection,
}


def commands() -> str:
    """Every command with its arguments, options and examples."""
    root = typer.main.get_command(app)
    parts = [MADE, "# Commands\n"]
    for name, command in _walk(root, ()):
        parts.append(f"## dact {name}\n\n{command.help or ''}\n")
        rows = [_option(parameter) for parameter in command.params if parameter.name != "help"]
        if rows:
            parts.append("| option | what it does |\n| --- | --- |\n" + "\n".join(rows) + "\n")
        examples = re.findall(r"dact [^·\n]+", command.epilog or "")
        if examples:
            parts.append("```bash\n" + "\n".join(text.strip() for text in examples) + "\n```\n")
    return "\n".join(parts)


def _walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if path:
        yield " ".join(path), command
    for name, child in sorted(getattr(command, "commands", {}).items()):
        yield from _walk(child, (*path, name))


def _option(parameter: Any) -> str:
    argument = parameter.param_type_name == "argument"
    name = parameter.metavar or parameter.name.upper() if argument else ", ".join(parameter.opts)
    value = "" if argument or getattr(parameter, "is_flag", False) else f" {parameter.metavar or ''}".rstrip()
    default = parameter.default
    shown = "" if default in (None, False, "", ()) or argument or callable(default) else f" Default: `{default}`."
    text = (getattr(parameter, "help", None) or "").strip()
    return f"| `{name}{value}` | {text}{shown} |".replace(" | uniform", " \\| uniform")


def recipe_keys() -> str:
    """Every key with the values that it takes, its default and what it means."""
    about = (schema.__doc__ or "").split("\n\n", 1)[1].strip()
    parts = [MADE, "# Recipe keys\n", about + "\n"]
    parts += [_table(name, section) for name, section in SECTIONS.items()]
    keys = ", ".join(f"`{key}`" for key in schema.StageSection.model_fields if key != "name")
    stage = f"{schema.StageSection.__doc__} `name` is `joint`, `units` or `encoder`; it may set {keys}."
    parts.append(f"## training.stages\n\n{stage}\n")
    parts.append(_table("model.encoder", schema.Geometry, heading="model.encoder as a geometry"))
    parts.append(_table("model.adapter", schema.Lora, heading="model.adapter as a mapping"))
    return "\n".join(parts)


def _table(name: str, section: type[BaseModel], *, heading: str | None = None) -> str:
    rows = [_key(name, key, field, section) for key, field in section.model_fields.items()]
    head = "| key | values | default | meaning |\n| --- | --- | --- | --- |"
    return "\n".join([f"## {heading or name}\n\n{section.__doc__}\n", head, *rows, ""])


def _key(section: str, key: str, field: Any, owner: type[BaseModel]) -> str:
    if field.description is None:
        raise SystemExit(f"{owner.__name__}.{key} has no docstring; say there what it means")
    default = "required" if field.default is PydanticUndefined else _plain(field.default)
    meaning = " ".join(field.description.split()).replace("|", "\\|")
    return f"| `{section}.{key}` | {_values(field.annotation)} | {default} | {meaning} |"


def _values(kind: Any) -> str:
    """The values of a type, in words."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _values(inside[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inside)
    if origin in (Union, UnionType):
        return ", ".join(dict.fromkeys(_values(one) for one in inside))
    if origin is list:
        return f"list of {_values(inside[0])}"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "mapping"
    return {str: "text", int: "whole number", float: "number", bool: "`true`, `false`", type(None): "`null`"}[kind]


def _plain(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], BaseModel):
        value = [one.model_dump(exclude_unset=True) for one in value]
    return f"`{json.dumps(value)}`"


def rules() -> str:
    """The halting rules: when each stops, what its value means, what it guarantees."""
    head = "| rule | stops when | value | guarantee |\n| --- | --- | --- | --- |\n"
    return head + "".join(_rule(facts) for facts in RULE_FACTS.values())


def _rule(facts: RuleFacts) -> str:
    value = "" if facts.threshold is None else "[:VALUE]" if facts.default_threshold else ":VALUE"
    guarantee = PROMISES[facts.promise]
    if facts.promise_at is not None:
        guarantee = f"{PROMISES[None]}; at {facts.promise_at:g}, {guarantee}"
    return f"| `{facts.name}{value}` | {facts.text} | {facts.threshold or ''} | {guarantee} |\n"


def readme(text: str) -> str:
    """README with the table of rules as it is in the code.

    Raises:
        SystemExit: It has no place for the table.
    """
    made, places = RULES.subn(lambda found: f"{found[1]}{rules()}{found[2]}", text)
    if places != 1:
        raise SystemExit("README.md: the table of rules stands between <!-- rules --> and <!-- /rules -->, once")
    return made


def main() -> None:
    """Write the pages, or compare them."""
    pages = {
        PAGES / "commands.md": commands(),
        PAGES / "recipe.md": recipe_keys(),
        README: readme(README.read_text(encoding="utf-8")),
    }
    stale = [path.name for path, text in pages.items() if not path.is_file() or path.read_text("utf-8") != text]
    if "--check" in sys.argv:
        if stale:
            raise SystemExit(f"reference: {', '.join(stale)} is not as the code says; run scripts/reference.py")
        return
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
