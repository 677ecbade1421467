"""From a csv, tsv, jsonl or parquet file, or a data set of the hub, to columns whose rows know their place.

`datasets` accepts a csv whose rows are ragged or whose bytes are not text; these readers refuse it, with
file:line.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dactcli.errors import DactError, DataError, ResourceError, did_you_mean


@dataclass(frozen=True)
class Table:
    """The columns of one source; each row knows the place that an error about it names.

    Attributes:
        source: The file as the user wrote it, or the data set and split.
        columns: Equally long lists of values by column name.
        numbers: 1-based line of each row, or its row number where the source has no lines.
        mark: What joins source and number: `:` before a line, `: row ` before a row.
        labels: Class names that the source itself declares, if it does.
    """

    source: str
    columns: dict[str, list[Any]]
    numbers: list[int]
    mark: str = ": row "
    labels: list[str] | None = None

    def place(self, index: int) -> str:
        """Where row `index` stands: `dev.csv:17`, `dev.parquet: row 16`."""
        return f"{self.source}{self.mark}{self.numbers[index]}"

    @property
    def head(self) -> str:
        """Where the column names stand."""
        return f"{self.source}:1" if self.mark == ":" else self.source


def read_table(path: str) -> Table:
    """Read a whole file by its extension.

    Args:
        path: A csv, tsv, jsonl or parquet file.

    Returns:
        All its columns. A value of csv or tsv is a string; a key that a JSON line lacks is None.

    Raises:
        DataError: The file is missing, empty, of an unknown kind, or broken in some line.
    """
    file = Path(path)
    refuse_unreadable(file)
    extension = file.suffix.lower().lstrip(".")
    if extension not in READERS:
        fault = f"extension .{extension} is unknown" if extension else "the file has no extension"
        raise DataError(fault, place=path, remedy=did_you_mean(extension, READERS))
    try:
        table = READERS[extension](path)
    except OSError as error:
        raise read_error(path, error) from error
    if not table.numbers:
        raise DataError("has no rows", place=path, remedy="at least one example is needed")
    return table


def refuse_unreadable(file: Path) -> None:
    """Raise DataError where there is no such file."""
    if not file.exists():
        raise DataError("there is no such file", place=str(file), remedy=_near_files(file))
    if not file.is_file():
        raise DataError("is not a file", place=str(file), remedy="name the file itself, or a list of files")


def read_error(path: str, error: OSError) -> DataError:
    """The error of a file that the system does not let us read."""
    return DataError(f"cannot be read: {error.strerror or error}", place=path)


def read_hub(
    name: str,
    config: str | None,
    parts: Mapping[str, list[str]],
    labels: list[str] | None,
    label: str,
    *,
    revision: str | None = None,
) -> dict[str, list[Table]]:
    """Read splits of a data set of the hub, or of a local folder of the same layout.

    Args:
        name: Its name, or the folder.
        config: Its configuration, where it has several.
        parts: Hub splits by split of ours.
        labels: The class names that the recipe gives, if it does.
        label: The label column. Where it declares class names, and the recipe gives none or the same, its
            numbers become names, so that another order cannot swap classes.
        revision: Branch, tag or commit of the data set; its main branch when None.

    Raises:
        DataError: There is no such data set, configuration or split.
        ResourceError: The hub cannot be reached, or the disk is full.
    """
    loaded = _load_quietly(name, config, revision)
    for split, names in parts.items():
        for part in names:
            if part not in loaded:
                fault = f"{name} has no split {part} among: {', '.join(loaded)}"
                raise DataError(fault, place=f"data.{split}", remedy=did_you_mean(part, loaded))
    return {
        split: [_hub_table(f"{name}:{part}", loaded[part], labels, label) for part in names]
        for split, names in parts.items()
    }


def _hub_table(source: str, dataset: Any, labels: list[str] | None, label: str) -> Table:
    columns = {column: dataset[column][:] for column in dataset.column_names}
    names = getattr(dataset.features.get(label), "names", None)
    if names and (labels is None or set(labels) == set(names)):
        columns[label] = [names[value] if value in range(len(names)) else value for value in columns[label]]
    return Table(source, columns, list(range(1, len(dataset) + 1)), labels=names)


def _load_quietly(name: str, config: str | None, revision: str | None) -> Any:
    import datasets

    silent = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(name, config, revision=revision)
    except Exception as error:  # whatever a loader or the network may raise, the user needs a sentence
        raise _hub_error(name, error) from error
    finally:
        if not silent:
            datasets.enable_progress_bars()


def _hub_error(name: str, error: Exception) -> DactError:
    reason = (str(error.__cause__ or error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    remedy = "check data.name and data.config, or use data.source: files"
    if isinstance(error, ConnectionError):
        fault = f"the hub cannot be reached to fetch {name}"
        return ResourceError(fault, place="data.name", remedy="connect, or use data.source: files")
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
        return ResourceError(f"{name} cannot be fetched ({reason})", place="data.name", remedy=remedy)
    return DataError(f"{name} cannot be loaded ({reason})", place="data.name", remedy=remedy)


def _near_files(file: Path) -> str:
    if not file.parent.is_dir():
        return f"the folder {file.parent} does not exist either"
    names = sorted(other.name for other in file.parent.iterdir() if other.suffix.lower()[1:] in READERS)
    return did_you_mean(file.name, names) if names else f"the folder holds no {', '.join(READERS)} file"


def _read_text(path: str) -> str:
    raw = Path(path).read_bytes().removeprefix(codecs.BOM_UTF8)
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        fault = f"byte {column} of the line (0x{raw[error.start]:02x}) is not UTF-8"
        remedy = f"convert it, for instance: iconv -f LATIN1 -t UTF-8 {Path(path).name} > NEW"
        raise DataError(fault, place=f"{path}:{line}", remedy=remedy) from None
    if not text.strip():
        raise DataError("the file is empty", place=path, remedy="at least one example is needed")
    if (position := text.find("\0")) >= 0:
        line = text.count("\n", 0, position) + 1
        raise DataError("holds a NUL byte", place=f"{path}:{line}", remedy="save the file as UTF-8 text")
    return text


def _read_delimited(path: str, kind: str) -> Table:
    records = delimited(path, io.StringIO(_read_text(path), newline=""), kind)
    _, header = next(records)
    numbers, rows = [], []
    for line, row in records:
        numbers.append(line)
        rows.append(row)
    if not rows:
        raise DataError("there are no rows under the header", place=path, remedy="at least one is needed")
    return Table(path, dict(zip(header, map(list, zip(*rows, strict=True)), strict=True)), numbers, ":")


def delimited(path: str, lines: Iterable[str], kind: str) -> Iterator[tuple[int, list[str]]]:
    """The header and the records of csv or tsv text, read as they are asked for.

    Args:
        path: Its name, for errors.
        lines: The text, with its line ends.
        kind: `csv`, or `tsv`, where a quote is a character like any other, as in GLUE's files.

    Yields:
        The line on which each begins, and its fields, as many as the header has.

    Raises:
        DataError: A record is broken; names its line.
    """
    remedy, dialect = DIALECTS[kind]
    with _long_fields():
        header: list[str] | None = None
        for line, row in _records(path, lines, remedy, dialect):
            if header is None:
                header = row
                _refuse_twins(header, f"{path}:1")
            elif len(row) != len(header):
                fault = f"{_count(len(row), 'field')} where the header has {len(header)}"
                raise DataError(fault, place=f"{path}:{line}", remedy=remedy)
            yield line, row


def _records(path: str, lines: Iterable[str], remedy: str, dialect: dict[str, Any]) -> Iterator[tuple[int, list[str]]]:
    """The records that are not blank, each with the line on which it begins."""
    reader = csv.reader(lines, strict=True, **dialect)
    line = 1
    try:
        for row in reader:
            if row:
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        fault = "a quote is opened and never closed" if "end of data" in str(error) else f"bad quoting ({error})"
        raise DataError(fault, place=f"{path}:{line}", remedy=remedy) from None


@contextmanager
def _long_fields() -> Iterator[None]:
    """Lift the limit of 128 KiB a field, which `csv` keeps for the whole process."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _read_jsonl(path: str) -> Table:
    numbers, rows = [], []
    for line, row in objects(path, _read_text(path).split("\n")):
        numbers.append(line)
        rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    return Table(path, {name: [row.get(name) for row in rows] for name in names}, numbers, ":")


def objects(path: str, lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of JSON lines, each with its line; blank lines are passed over.

    Args:
        path: Its name, for errors.
        lines: The text.

    Raises:
        DataError: A line is no object; names it.
    """
    for number, text in enumerate(lines, start=1):
        if text.strip():
            yield number, _json_object(text, f"{path}:{number}")


def _json_object(text: str, place: str) -> dict[str, Any]:
    remedy = 'each line is one object, such as {"sentence": "...", "label": 1}'
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"invalid JSON: {error.msg} (column {error.colno})", place=place, remedy=remedy) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"invalid JSON: {error}", place=place, remedy=remedy) from None
    if not isinstance(value, dict):
        raise DataError(f"the line is {describe(value)}, not an object", place=place, remedy=remedy)
    return value


def _read_parquet(path: str) -> Table:
    with open_parquet(path) as file:
        table = file.read()
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    return Table(path, columns, list(range(1, table.num_rows + 1)))


@contextmanager
def open_parquet(path: str) -> Iterator[Any]:
    """A pyarrow.parquet.ParquetFile.

    Raises:
        DataError: It is none, or two columns have one name.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            _refuse_twins(list(file.schema_arrow.names), path)
            yield file
    except pyarrow.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"not a parquet file ({reason})", place=path, remedy="write it again, or use jsonl") from None


def _refuse_twins(names: list[str], place: str) -> None:
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


DIALECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "csv": (
        "put double quotes around text that holds a comma or a line break, and double those inside it",
        {"delimiter": ","},
    ),
    "tsv": ("take tabs and line breaks out of the text", {"delimiter": "\t", "quoting": csv.QUOTE_NONE}),
}
READERS: dict[str, Callable[[str], Table]] = {
    "csv": partial(_read_delimited, kind="csv"),
    "tsv": partial(_read_delimited, kind="tsv"),
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
}
