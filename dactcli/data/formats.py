"""From the bytes of an input to records that know their line: csv, tsv, jsonl, json, plain lines, parquet.

`datasets` accepts a csv whose rows are ragged or whose bytes are not text; these readers refuse it, with
file:line. Nothing is read before it is asked for, so that an input may be larger than memory, or endless.
"""

from __future__ import annotations

import codecs
import csv
import itertools
import json
import re
import select
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from dactcli.data.inputs import Input, pipe_descriptor
from dactcli.errors import DataError, first_line

TEXT = "text"  # the column of plain lines
BLOCK = 1 << 16  # bytes read at a time
LONGEST = 1 << 28  # bytes of one line or csv field: an endless one must not fill the memory
PATIENCE = 1.0  # seconds to wait for more of a pipe before what is there is answered
UNICODE = {  # by how a file begins; the longer marks first
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
SEPARATOR = re.compile(r"\s*sep=.", re.IGNORECASE)  # what spreadsheets write above the header
QUOTING: dict[str, Any] = {"csv": {}, "tsv": {"quoting": csv.QUOTE_NONE}}
_GAP, _AFTER = re.compile(r"[ \t\r\n]*"), re.compile(r"[ \t\r\n]*([,\]])[ \t\r\n]*")
Record = tuple[int, dict[str, Any]]


class _TwinsError(ValueError):
    """Two keys of an object have one name, so that a reader would lose a value."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwinsError(f"two keys are called {next(name for name in names if names.count(name) > 1)!r}")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


class Lines:
    """The lines of a text, decoded as they are asked for.

    Args:
        source: The input, for errors.
        file: Its bytes, unpacked.

    Attributes:
        pending: Whole lines that are read and not yet asked for.
    """

    def __init__(self, source: Input, file: BinaryIO) -> None:
        self.source, self.file, self.pending = source, file, 0
        self.pipe = pipe_descriptor(file) if source.pipe else None

    def waits(self) -> bool:
        """Whether the next line would have to be waited for: the pipe is open, and nothing comes."""
        return self.pipe is not None and not self.pending and not select.select([self.pipe], [], [], PATIENCE)[0]

    def __iter__(self) -> Iterator[str]:
        for number, raw in enumerate(self._raw(), start=1):
            try:
                text = raw.decode()
            except UnicodeDecodeError as error:
                fault = f"byte {error.start + 1} of the line (0x{raw[error.start]:02x}) is not UTF-8"
                raise DataError(fault, place=self._place(number), remedy=self._convert("LATIN1")) from None
            if "\0" in text:
                raise self._nul(number)
            yield text

    def _raw(self) -> Iterator[bytes]:
        pieces: list[bytes] = []  # of a line that does not end yet
        begun, length, number = False, 0, 1
        while block := self._block():
            if not begun:
                self._refuse_other_unicode(block)
                block, begun = block.removeprefix(codecs.BOM_UTF8), True
            *whole, rest = block.split(b"\n")
            length = length + len(rest) if not whole else len(rest)
            if not whole and b"\0" in block:  # the line may never end
                raise self._nul(number)
            if length > LONGEST:
                fault = f"the line is longer than {LONGEST >> 20} MiB"
                raise DataError(fault, place=self._place(number + len(whole)), remedy="end lines with line breaks")
            if whole:
                whole[0] = b"".join([*pieces, whole[0]])
                pieces, number, self.pending = [], number + len(whole), len(whole)
            for line in whole:
                self.pending -= 1
                yield line + b"\n"
            pieces.append(rest)
        if last := b"".join(pieces):
            yield last

    def _block(self) -> bytes:
        read = getattr(self.file, "read1", self.file.read)
        return bytes(read(BLOCK))

    def _refuse_other_unicode(self, block: bytes) -> None:
        name = next((name for mark, name in UNICODE.items() if block.startswith(mark)), None)
        if name is None and len(block) >= 4:  # no mark, and every second byte of ASCII letters is zero
            odd, even = block[1:64:2], block[0:64:2]
            name = "UTF-16LE" if not any(odd) and all(even) else "UTF-16BE" if not any(even) and all(odd) else None
        if name is not None:
            fault = f"the text is {name[:6]}, and UTF-8 is read"
            raise DataError(fault, place=self._place(1), remedy=self._convert(name))

    def _nul(self, number: int) -> DataError:
        return DataError("holds a NUL byte", place=self._place(number), remedy="save the file as UTF-8 text")

    def _convert(self, encoding: str) -> str:
        if self.source.pipe or self.source.remote:
            return "convert it to UTF-8"
        name = re.split(r"[/\\]", self.source.name)[-1]
        return f"convert it, for instance: iconv -f {encoding} -t UTF-8 {name} > NEW"

    def _place(self, number: int) -> str:
        return f"{self.source.name}:{number}"


def records(source: Input, lines: Iterable[str]) -> tuple[list[str], Iterator[Record]]:
    """The header of a text, empty where it has none, and its records, each with the line on which it begins.

    Args:
        source: The input; its kind says how to read it.
        lines: Its lines, with their ends.

    Raises:
        DataError: A record is broken; names its line.
    """
    if source.kind == "txt":
        return [], ((number, {TEXT: line.rstrip("\r\n")}) for number, line in enumerate(lines, start=1))
    if source.kind == "jsonl":
        return [], objects(source.name, lines)
    if source.kind == "json":
        return [], _array(source.name, lines)
    rows = delimited(source.name, lines, source.kind)
    header = next(rows, (0, []))[1]
    return header, ((line, dict(zip(header, row, strict=True))) for line, row in rows)


def delimited(name: str, lines: Iterable[str], kind: str) -> Iterator[tuple[int, list[str]]]:
    """The header and the records of csv or tsv text.

    Args:
        name: Of the input, for errors.
        lines: The text, with its line ends.
        kind: `csv`, whose delimiter is the comma unless its header has none and a semicolon, tab or bar; or `tsv`,
            where a quote is a character like any other, as in GLUE's files.

    Yields:
        The line on which each begins, and its fields, as many as the header has.

    Raises:
        DataError: A record is broken; names its line.
    """
    first, lines = _first(lines)
    if SEPARATOR.fullmatch(first.rstrip("\r\n")):
        fault = f"the first line is {first.strip()}, which only spreadsheets understand"
        raise DataError(fault, place=f"{name}:1", remedy="take that line out; the delimiter is found from the header")
    delimiter = _delimiter(first) if kind == "csv" else "\t"
    remedy = "take tabs and line breaks out of the text"
    if kind == "csv":
        what = f"a {DELIMITERS[delimiter]} or a line break"
        remedy = f"put double quotes around text that holds {what}, and double those inside it"
    with _long_fields():
        reader = csv.reader(lines, strict=True, delimiter=delimiter, **QUOTING[kind])
        header: list[str] | None = None
        for line, row in _rows(name, reader, remedy):
            if header is None:
                header = row
                refuse_twins(header, f"{name}:1")
            elif len(row) != len(header):
                fault = f"{_count(len(row), 'field')} where the header has {len(header)}"
                raise DataError(fault, place=f"{name}:{line}", remedy=remedy)
            yield line, row


def _first(lines: Iterable[str]) -> tuple[str, Iterator[str]]:
    """The first line that is not blank, and all lines."""
    rest, seen = iter(lines), []
    for line in rest:
        seen.append(line)
        if line.strip():
            return line, itertools.chain(seen, rest)
    return "", iter(seen)


def _delimiter(header: str) -> str:
    """What parts the names of a csv header: the comma, unless it has none and another one."""
    bare = re.sub(r'"[^"]*"', "", header)
    most = max(DELIMITERS, key=bare.count)
    return "," if "," in bare or most not in bare else most


def _rows(name: str, reader: Any, remedy: str) -> Iterator[tuple[int, list[str]]]:
    """The records that are not blank, each with the line on which it begins."""
    line = 1
    try:
        for row in reader:
            if row:
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        if "new-line character" in str(error):
            fault = "lines end with a carriage return alone"
            remedy = f"convert the line ends, for instance: tr '\\r' '\\n' < {name} > NEW"
            raise DataError(fault, place=f"{name}:{line}", remedy=remedy) from None
        fault = "a quote is opened and never closed" if "end of data" in str(error) else f"bad quoting ({error})"
        raise DataError(fault, place=f"{name}:{line}", remedy=remedy) from None


@contextmanager
def _long_fields() -> Iterator[None]:
    """Raise the limit of 128 KiB a field, which `csv` keeps for the whole process."""
    before = csv.field_size_limit(LONGEST)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def objects(name: str, lines: Iterable[str]) -> Iterator[Record]:
    """The objects of JSON lines, each with its line; blank lines are passed over.

    Args:
        name: Of the input, for errors.
        lines: The text.

    Raises:
        DataError: A line is no object; names it.
    """
    remedy = 'each line is one object, such as {"sentence": "...", "label": 1}'
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        place = f"{name}:{number}"
        try:
            value = _DECODER.decode(text.rstrip("\r\n"))
        except json.JSONDecodeError as error:
            fault = f"invalid JSON: {error.msg} (column {error.colno})"
            raise DataError(fault, place=place, remedy=remedy) from None
        except (ValueError, RecursionError) as error:
            raise _unreadable(error, place, remedy) from None
        if not isinstance(value, dict):
            raise DataError(f"the line is {describe(value)}, not an object", place=place, remedy=remedy)
        yield number, value


def _unreadable(error: Exception, place: str, remedy: str) -> DataError:
    """The error of JSON that the parser refuses for other reasons than its grammar."""
    if isinstance(error, _TwinsError):
        return DataError(str(error), place=place, remedy="rename one")
    return DataError(f"invalid JSON: {error}", place=place, remedy=remedy)


def _array(name: str, lines: Iterable[str]) -> Iterator[Record]:
    """The objects of a JSON array, each with the line on which it begins.

    Raises:
        DataError: It is not an array of objects; names the line.
    """
    text = "".join(lines)
    remedy = "a .json file is one array of objects, [{...}, {...}]; with an object a line it is jsonl"
    if text.lstrip()[:1] != "[":
        if _lines_of_objects(text):
            yield from objects(name, text.split("\n"))
        elif text.strip():
            raise DataError("is not an array of objects", place=f"{name}:1", remedy=remedy)
        return
    position = _GAP.match(text, text.index("[") + 1).end()  # type: ignore[union-attr]  # it may match nothing
    closed, line, counted = text.startswith("]", position), 1, 0
    position += closed
    while not closed:
        line, counted = line + text.count("\n", counted, position), position
        value, position = _value(text, position, name, remedy)
        if not isinstance(value, dict):
            fault = f"the array holds {describe(value)}, not an object"
            raise DataError(fault, place=f"{name}:{line}", remedy=remedy)
        yield line, value
        after = _AFTER.match(text, position)
        if after is None:
            fault = "a comma or ] is missing after the object that begins here"
            raise DataError(fault, place=f"{name}:{line}", remedy=remedy)
        position, closed = after.end(), after[1] == "]"
    if text[position:].strip():
        line += text.count("\n", counted, position)
        raise DataError("something follows the array", place=f"{name}:{line}", remedy=remedy)


def _value(text: str, position: int, name: str, remedy: str) -> tuple[Any, int]:
    """The JSON value at a position, and where it ends."""
    try:
        return _DECODER.raw_decode(text, position)
    except json.JSONDecodeError as error:
        fault = f"invalid JSON: {error.msg} (column {error.colno})"
        raise DataError(fault, place=f"{name}:{error.lineno}", remedy=remedy) from None
    except (ValueError, RecursionError) as error:
        line = text.count("\n", 0, position) + 1
        raise _unreadable(error, f"{name}:{line}", remedy) from None


def _lines_of_objects(text: str) -> bool:
    """Whether a text that is no array begins with a line that is a whole object."""
    try:
        return isinstance(json.loads(text.lstrip().split("\n", 1)[0]), dict)
    except (ValueError, RecursionError, IndexError):
        return False


@contextmanager
def open_parquet(name: str, file: BinaryIO) -> Iterator[Any]:
    """A pyarrow.parquet.ParquetFile.

    Raises:
        DataError: It is none, or two columns have one name.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as parquet:
            refuse_twins(list(parquet.schema_arrow.names), name)
            yield parquet
    except (pyarrow.ArrowException, OSError) as error:
        reason = first_line(error)
        raise DataError(f"not a parquet file ({reason})", place=name, remedy="write it again, or use jsonl") from None


def refuse_twins(names: list[str], place: str) -> None:
    """Raise DataError where two columns have one name."""
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"two columns are called {name!r}", place=place, remedy="rename one")


def describe(value: object) -> str:
    """The kind of a value, for people: `a number`, `a list`, `missing`."""
    kinds = {
        type(None): "missing",
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a string",
    }
    others = {list: "a list", dict: "an object", bytes: "bytes"}
    return (kinds | others).get(type(value), f"a {type(value).__name__}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
