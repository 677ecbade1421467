"""The forms of an output: JSON lines, csv, parquet; every input column is kept beside the answers' columns."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dactcli.errors import DataError, first_line
from dactcli.prediction.answer_columns import ERROR, INFERRED
from dactcli.storage import to_json

FORMATS = ("jsonl", "csv", "parquet")
BLOCK = 4096  # rows that are converted together
EXACT = 2**53  # whole numbers up to here are exact as floating point numbers
Row = dict[str, Any]
Notice = Callable[[str], None]


def free_names(columns: Collection[str], answers: Sequence[str], *, error: bool) -> dict[str, str]:
    """Names for the answers' columns that no input column has: `label`, `predicted_label`, `predicted_label_2`, ...

    Args:
        columns: Of the input.
        answers: Of the answers.
        error: Whether there is a column for what went wrong with a row.

    Returns:
        The name to use, by the answers' own names.
    """
    return {name: _free(name, columns) for name in (*answers, *([ERROR] if error else []))}


def _free(name: str, taken: Collection[str]) -> str:
    wishes = itertools.chain([name, f"predicted_{name}"], (f"predicted_{name}_{n}" for n in itertools.count(2)))
    return next(wish for wish in wishes if wish not in taken)


def told(names: Mapping[str, str]) -> str | None:
    """What the user should know of names that were taken; None where none was."""
    taken = {ours: used for ours, used in names.items() if ours != used}
    if not taken:
        return None
    columns = "a column" if len(taken) == 1 else "columns"
    return f"the input has {columns} {', '.join(taken)}, so the answers' are called {', '.join(taken.values())}"


def write_csv(rows: Callable[[], Iterator[Row]], columns: list[str], path: Path) -> None:
    """Write rows as csv: texts as they are, missing values empty, all else as JSON.

    Args:
        rows: Reads the rows from the start.
        columns: In order.
        path: Where to.
    """
    from dactcli.data.batches import whole_characters

    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(map(whole_characters, columns))
        for row in rows():
            writer.writerow([whole_characters(_cell(row.get(name))) for name in columns])


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else to_json(value, ascii_only=False)


def write_parquet(
    rows: Callable[[], Iterator[Row]], columns: list[str], names: Mapping[str, str], path: Path, notice: Notice
) -> None:
    """Write rows without types of their own as parquet; each column gets the type that holds all its values exactly.

    Args:
        rows: Reads the rows from the start.
        columns: Of the input, in order.
        names: Those of the answers, as `free_names` gives them.
        path: Where to.
        notice: Told of columns whose values are of several kinds.
    """
    import pyarrow

    from dactcli.data.batches import whole_characters

    label = names.get("label")
    kinds = {name: Kinds() for name in [*columns, *([label] if label is not None else [])]}
    for row in rows():
        for name, kind in kinds.items():
            kind.add(row.get(name))
    inferred = {name: nested_type(_values(rows, used)) for name, used in names.items() if name in INFERRED}
    types = answer_types(kinds.pop(label) if label is not None else Kinds(), names, inferred)
    for name, kind in kinds.items():
        types[name] = nested_type(_values(rows, name)) if kind.nested else kind.type()
        if kind.mixed:
            notice(f"column {name} holds values of several kinds, so it is written as {kind.mixed}")
        elif pyarrow.types.is_string(types[name]) and kind.values - {str}:
            notice(f"column {name} holds values that no type of parquet holds exactly, so it is written as text")
    names_in_order = [*columns, *names.values()]
    schema = pyarrow.schema([(whole_characters(name), types[name]) for name in names_in_order])

    def tables() -> Iterator[Any]:
        for block in _blocks(rows()):
            arrays = [_array([row.get(name) for row in block], types[name]) for name in names_in_order]
            yield pyarrow.Table.from_arrays(arrays, schema=schema)

    write_tables(tables(), schema, path)


def write_tables(tables: Iterable[Any], schema: Any, path: Path) -> None:
    """Write Arrow tables of one schema as parquet.

    Raises:
        DataError: Parquet has no form for them.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetWriter(path, schema) as writer:
            for table in tables:
                writer.write_table(table)
    except pyarrow.ArrowException as error:
        reason = first_line(error)
        remedy = "write .jsonl instead"
        raise DataError(f"the columns do not fit into parquet: {reason}", remedy=remedy) from None


def _blocks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while block := list(itertools.islice(rows, BLOCK)):
        yield block


def _array(values: list[Any], kind: Any) -> Any:
    import pyarrow

    from dactcli.data.batches import whole_characters

    if pyarrow.types.is_string(kind):
        values = [None if value is None else whole_characters(_cell(value)) for value in values]
    return pyarrow.array(values, kind)


def _values(rows: Callable[[], Iterator[Row]], name: str) -> Iterator[list[Any]]:
    """A column, block by block."""
    return ([row.get(name) for row in block] for block in _blocks(rows()))


def nested_type(blocks: Iterable[list[Any]]) -> Any:
    """The Arrow type of a column by its values; text where no type holds them all, or where there are none.

    Args:
        blocks: Its values.
    """
    import pyarrow

    try:
        fields = [pyarrow.schema([("values", pyarrow.array(block).type)]) for block in blocks]
        kind = pyarrow.unify_schemas(fields, promote_options="permissive").field(0).type
    except (pyarrow.ArrowException, ValueError, OverflowError):
        return pyarrow.string()
    return pyarrow.string() if "struct<>" in str(kind) else kind  # parquet has no empty objects


class Kinds:
    """Which kinds of JSON values a column holds."""

    def __init__(self) -> None:
        self.found: set[type] = set()
        self.lowest = self.highest = 0
        self.items: Kinds | None = None  # of its lists

    def add(self, value: Any) -> None:
        """See a value."""
        kind = type(value)
        self.found.add(kind)
        if kind is list:
            self.items = self.items or Kinds()
            for item in value:
                self.items.add(item)
        if kind is int:
            self.lowest, self.highest = min(self.lowest, value), max(self.highest, value)

    @property
    def values(self) -> set[type]:
        """The kinds, without that of missing values."""
        return self.found - {type(None)}

    @property
    def nested(self) -> bool:
        """Whether all are lists, or all objects."""
        return self.values in ({list}, {dict})

    @property
    def mixed(self) -> str | None:
        """What several kinds are written as; None where there is one."""
        if len(self.values) < 2:
            return None
        exact = self.values == {int, float} and -EXACT <= self.lowest <= self.highest <= EXACT
        return "floating point numbers" if exact else "text"

    def type(self) -> Any:
        """The Arrow type that holds all of them; text where there is none."""
        import pyarrow

        if self.values == {bool}:
            return pyarrow.bool_()
        if self.values == {float} or self.mixed == "floating point numbers":
            return pyarrow.float64()
        if self.values == {int} and self.lowest >= -(2**63) and self.highest < 2**63:
            return pyarrow.int64()
        if self.values == {int} and self.lowest >= 0 and self.highest < 2**64:
            return pyarrow.uint64()
        return pyarrow.string()


def answer_types(labels: Kinds, names: Mapping[str, str], inferred: Mapping[str, Any]) -> dict[str, Any]:
    """The Arrow types of the answers' columns, by name.

    Args:
        labels: What kind of values the labels are.
        names: As `free_names` gives them.
        inferred: The types of `INFERRED`, by the answers' own names.
    """
    import pyarrow

    several = labels.items
    types = {
        "label": labels.type() if several is None else pyarrow.list_(several.type()),
        "label_id": pyarrow.int64() if several is None else pyarrow.list_(pyarrow.int64()),
        "probabilities": pyarrow.list_(pyarrow.float64()),
        "exit_layer": pyarrow.int64(),
        "error": pyarrow.string(),
        **inferred,
    }
    return {used: types[ours] for ours, used in names.items()}
