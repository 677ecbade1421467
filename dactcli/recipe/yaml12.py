"""YAML 1.2 text to plain values and back, with the line where each key was written.

PyYAML's own rules read `2e-5` as text, `on` as true and `017` as 15, and keep the last of duplicate keys. So
the node tree is walked here: it becomes plain values beside a table of lines.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dactcli.errors import RecipeError, did_you_mean

MAX_BYTES = 2 << 20  # a run's own recipe names all its classes, which may be thousands
MAX_VALUES = 30_000  # after aliases are expanded: nine lines of YAML can otherwise fill the memory
MAX_DEPTH = 20
MAX_DIGITS = 100

Key = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_TOO_MANY = f"more than {MAX_VALUES} values"
_SCALARS: dict[str, tuple[re.Pattern[str], Callable[[str], Any]]] = {  # YAML 1.2 core schema, chapter 10.3.2
    "null": (re.compile(r"(?:~|null|Null|NULL|)\Z"), lambda text: None),
    "bool": (re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), lambda text: text[0] in "tT"),
    "int": (
        re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z"),
        lambda text: int(text, {"0o": 8, "0x": 16}.get(text[:2], 10)),
    ),
    "float": (
        re.compile(
            r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
            r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
        ),
        lambda text: float(re.sub(r"\.(?=inf|nan)", "", text.lower())),
    ),
}


class _Loader(yaml.SafeLoader):
    """Composes nodes whose plain scalars are tagged by the YAML 1.2 core schema."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012  (PyYAML's name and place for it)
    composed = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Stops early in a data file: PyYAML reads only some 20,000 nodes a second."""
        self.composed += 1
        if self.composed > 2 * MAX_VALUES:  # each value with its key
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=_TOO_MANY, problem_mark=mark)
        return super().compose_node(parent, index)


# what YAML 1.1 reads as the end of a line, and marks by which a text looks like another one
_ESCAPED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


class _Dumper(yaml.SafeDumper):
    """Quotes every text that YAML 1.1 or 1.2 would read as something else."""

    def write_double_quoted(self, text: str, split: bool = True) -> None:
        """Without characters beyond ASCII, and in one line: blanks around a line's end do not survive."""
        allowed, self.allow_unicode = self.allow_unicode, False
        super().write_double_quoted(text, split=False)
        self.allow_unicode = allowed


def _text_node(dumper: _Dumper, text: str) -> yaml.Node:
    style = '"' if _ESCAPED.search(text) else None
    return dumper.represent_scalar(_TAG + "str", text, style=style)


_Dumper.add_representer(str, _text_node)


for _name, (_pattern, _) in _SCALARS.items():
    _Loader.add_implicit_resolver(_TAG + _name, _pattern, None)
    _Dumper.add_implicit_resolver(_TAG + _name, _pattern, None)


def read_text(path: Path) -> str:
    """Reads a UTF-8 file of at most `MAX_BYTES`.

    Raises:
        RecipeError: There is no such file, or it cannot be read, is too large, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        near = _neighbours(path)
        remedy = did_you_mean(path.name, near) if near else "check the path"
        raise RecipeError("there is no such file", place=str(path), remedy=remedy) from None
    except IsADirectoryError:
        raise RecipeError("this is a folder", place=str(path), remedy="name the YAML file in it") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RecipeError(f"the file cannot be read: {reason}", place=repr(str(path))[1:-1]) from None
    if len(raw) > MAX_BYTES:
        fault = f"the file is larger than {MAX_BYTES >> 20} MiB"
        raise RecipeError(fault, place=str(path), remedy="name a recipe, not a data file")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        fault = f"byte 0x{raw[error.start]:02x} is not UTF-8"
        raise RecipeError(fault, place=f"{path}:{line}", remedy="save the file as UTF-8") from None


def _neighbours(path: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(path.parent) if name.endswith((".yaml", ".yml")))[:20]
    except OSError:
        return []


@dataclass
class YamlReader:
    """Turns YAML text into plain values, and notes the line of every key in `lines`.

    Attributes:
        place: Names a line of the text, for a fault.
        lines: Filled with the line, from 1, of every key; that of the whole stands under `()`.
        size: How many values were read so far.
    """

    place: Callable[[int], str]
    lines: dict[Key, int]
    size: int = 0

    def read(self, text: str, *, empty: str) -> Any:
        """Reads one document.

        Args:
            text: The YAML.
            empty: The fault to tell where it holds no value.

        Returns:
            Dicts with text for keys, lists, text, numbers, booleans and None.

        Raises:
            RecipeError: It is not YAML, or uses what a recipe may not: odd tags, merge keys, duplicate keys,
                more values, levels or digits than the limits above.
        """
        try:
            node = _Loader(text).get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            fault, remedy = _syntax(error.problem or "it ends too early")
            raise RecipeError(fault, place=self.place(mark.line + 1 if mark else 1), remedy=remedy) from None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            fault = f"character 0x{error.character:02x} does not belong in a recipe"
            raise RecipeError(fault, place=self.place(line), remedy="remove it") from None
        except (ValueError, OverflowError, RecursionError) as error:
            # an escape beyond Unicode; brackets without end
            deep = isinstance(error, RecursionError)
            fault = "this is nested too deeply" if deep else f"this is not valid YAML: {error}"
            raise RecipeError(fault, place=self.place(1)) from None
        if node is None:
            raise RecipeError(empty, place=self.place(1))
        self.lines[()] = node.start_mark.line + 1
        return self._plain(node, ())

    def _plain(self, node: yaml.Node, key: Key) -> Any:
        line = node.start_mark.line + 1
        self.size += 1
        if self.size > MAX_VALUES or len(key) > MAX_DEPTH:
            limit = f"over {MAX_DEPTH} levels deep" if len(key) > MAX_DEPTH else _TOO_MANY
            raise RecipeError(f"this is {limit} with its aliases expanded", place=self.place(line))
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, key)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self._plain(item, self._note((*key, i), item)) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, line)
        raise self._odd_tag(node)

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, value in node.value:
            place = self.place(name.start_mark.line + 1)
            if name.tag != _TAG + "str" or not isinstance(name, yaml.ScalarNode):
                what = name.value if isinstance(name, yaml.ScalarNode) else "a list or mapping"
                raise RecipeError(f"the key {what or 'null'} is not text", place=place, remedy="keys are plain names")
            text = self._scalar(name, name.start_mark.line + 1)
            if text == "<<":
                raise RecipeError("merge keys (<<) are not read", place=place, remedy="write the keys out")
            if text in values:
                twice = (*key, text)
                first = self.lines[twice]
                where = f", first on line {first}" if self.place(first) != place else ""
                raise RecipeError(f"{dotted(twice)} is given twice{where}", place=place, remedy="keep one of them")
            values[text] = self._plain(value, self._note((*key, text), name))
        return values

    def _scalar(self, node: yaml.ScalarNode, line: int) -> Any:
        text, kind = node.value, node.tag.removeprefix(_TAG)
        if kind == "str":
            if re.search("[\0\ud800-\udfff]", text):
                raise RecipeError("this text holds a character that no file or label can", place=self.place(line))
            return text
        if kind not in _SCALARS or not _SCALARS[kind][0].match(text):
            raise self._odd_tag(node)
        if len(text) > MAX_DIGITS:
            raise RecipeError(f"a number of {len(text)} characters is too long", place=self.place(line))
        return _SCALARS[kind][1](text)

    def _note(self, key: Key, node: yaml.Node) -> Key:
        self.lines[key] = node.start_mark.line + 1
        return key

    def _odd_tag(self, node: yaml.Node) -> RecipeError:
        tag, place = node.tag.replace(_TAG, "!!"), self.place(node.start_mark.line + 1)
        return RecipeError(f"the tag {tag} is not understood here", place=place, remedy="write the plain value")


def dump_yaml(values: Any) -> str:
    """YAML of plain values, in their order, that readers of YAML 1.1 and 1.2 understand alike."""
    text: str = yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def is_number(text: str) -> bool:
    """Whether YAML 1.2 reads a plain text as a number in decimal notation."""
    return _SCALARS["float"][0].match(text) is not None


def value_at(values: Any, key: Key) -> Any:
    """What stands under a key in nested dicts and lists; None where nothing does."""
    for part in key:
        values = values.get(part) if isinstance(values, dict) else values[part]
    return values


def _syntax(problem: str) -> tuple[str, str]:
    """Plain words for what PyYAML's scanner, parser or composer says: fault and remedy."""
    if problem == _TOO_MANY:
        return f"this is {problem}", "name a recipe, not a data file"
    if "another document" in problem:
        return "a second document begins here", "a recipe is one document: remove the --- line"
    if r"'\t'" in problem:
        return "a tab stands where YAML wants spaces", "indent with spaces"
    return f"this is not valid YAML: {problem}", "check the indentation, brackets and quotes up to here"


def shown(value: Any) -> str:
    """A value as a fault quotes it: JSON, shortened to 60 characters."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def dotted(key: Key) -> str:
    """A key as `--set` writes it, such as `training.stages.0.epochs`; odd parts are quoted."""
    return ".".join(str(part) if re.fullmatch(r"[\w+-]{1,60}", str(part)) else shown(part) for part in key)
