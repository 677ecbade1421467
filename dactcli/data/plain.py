"""From Arrow values to plain Python ones, also where Python has none that holds them."""

from __future__ import annotations

from typing import Any


def plain_values(array: Any) -> list[Any]:
    """The values of a pyarrow.Array as plain ones, none of them rounded.

    A time with nanoseconds is its ISO 8601 text; a date, time stamp or duration beyond Python's range is the number
    that the file holds; an object with two fields of one name is a list of pairs, as a map is.

    Args:
        array: The values.
    """
    import pyarrow

    if "time64[ns]" in str(array.type):  # Python would cut its last digits off
        return [_plain(scalar) for scalar in array]
    try:
        return list(array.to_pylist())
    except (ValueError, OverflowError, pyarrow.ArrowException):
        return [_plain(scalar) for scalar in array]


def _plain(scalar: Any) -> Any:
    import pyarrow
    from pyarrow import types

    kind = scalar.type
    if not scalar.is_valid:
        return None
    if isinstance(scalar, pyarrow.ExtensionScalar | pyarrow.DictionaryScalar):
        return _plain(scalar.value)
    if types.is_struct(kind):
        pairs = [(kind.field(index).name, _plain(scalar[index])) for index in range(kind.num_fields)]
        found = dict(pairs)
        return found if len(found) == len(pairs) else pairs
    if types.is_map(kind):
        return [(_plain(pair[0]), _plain(pair[1])) for pair in scalar.values]
    if isinstance(scalar, pyarrow.ListScalar):  # large, fixed and view ones are such too
        return [_plain(value) for value in scalar.values]
    if types.is_time64(kind) and scalar.value % 1000:
        return scalar.cast(pyarrow.string()).as_py()
    try:
        return scalar.as_py()
    except (ValueError, OverflowError, pyarrow.ArrowException):
        return _beyond(scalar)


def _beyond(scalar: Any) -> Any:
    """A time stamp of a zone that nobody knows in UTC; else the number that the file holds."""
    import pyarrow

    if pyarrow.types.is_timestamp(scalar.type) and scalar.type.tz is not None:
        try:
            return scalar.cast(pyarrow.timestamp(scalar.type.unit, "UTC")).as_py()
        except (ValueError, OverflowError, pyarrow.ArrowException):
            pass
    return scalar.value
