"""What an id and a time are, in whatever layout they come: anything else would merge users or reorder their histories.

Ids are text, also where they look like numbers: `0` and `-1` are ids, `1.0` is what became of one in a table of floats.
A time with a decimal point is refused even where it is whole, for it went through floats, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

LONGEST_ID = 256
# Signs that part ids from one another or belong to a list; what pandas, Python and JSON write for no value; floats.
NO_ID = re.compile(
    r"""[\s\[\]{}",]|^(?:nan|none|null|<na>|nat|true|false)$|^[+-]?\d*\.\d*(?:e[+-]?\d+)?$""", re.IGNORECASE
)


class Field(NamedTuple):
    """Attributes: type, of the column; expected, in words; fits, whether a value is what is expected."""

    type: pa.DataType
    expected: str
    fits: Callable[[Any], bool]


def is_id(value: object) -> bool:
    """Whether a value names a user or an item."""
    return isinstance(value, str) and len(value) <= LONGEST_ID and value.isprintable() and _names(value)


def is_time(value: object) -> bool:
    """Whether a value is a whole number of milliseconds since 1970."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


ID = Field(
    pa.dictionary(pa.int32(), pa.string()),
    f"an id (text of 1 to {LONGEST_ID} characters without blank, bracket, quote or comma; no nan, none, null, 1.0)",
    is_id,
)
TIME = Field(pa.int64(), "a whole number of milliseconds since 1970", is_time)
TEXT = Field(pa.string(), "text", lambda value: isinstance(value, str))


def fault(name: str, value: object, field: Field) -> str:
    """What is wrong with a value that does not fit."""
    return f"{name} is {'missing' if value is None else f'{value!r:.50}'}; expected {field.expected}"


def check_id(name: str, value: object, where: str) -> None:
    """
    Raises:
        ValueError: the value is no id; the sentence begins with `where`.
    """
    if not is_id(value):
        raise ValueError(f"{where}: {fault(name, value, ID)}")


def fit(table: pa.Table, fields: dict[str, Field]) -> bool:
    """Whether all values of a table, typed as its fields are, are what they expect."""
    return all(
        not table[name].null_count and all(map(field.fits, _doubtful(table[name]))) for name, field in fields.items()
    )


def _names(text: str) -> bool:
    return bool(text) and not NO_ID.search(text)


def _doubtful(column: pa.ChunkedArray) -> Iterator[Any]:
    """Values of a column without which it fits: ids that are not plain, the smallest and the largest number."""
    if pa.types.is_integer(column.type):
        yield from pc.min_max(column).as_py().values()
    for chunk in column.chunks if pa.types.is_dictionary(column.type) else ():
        length = pc.binary_length(chunk.dictionary)
        # Letters and digits alone, and more than any word for a missing value has: most of all ids, none of them wrong.
        plain = pc.and_(
            pc.ascii_is_alnum(chunk.dictionary), pc.and_(pc.greater(length, 5), pc.less(length, LONGEST_ID))
        )
        yield from map(str, chunk.dictionary.filter(pc.invert(plain)))
