"""Which rows, predicates and files are worth trying many thousand times? Drawn from bytes, fast.

Hypothesis draws one string of bytes, and everything else is read off it: that is many times as fast
as a strategy per value, and still shrinks, because the least bytes pick the first of each choice.
"""

from __future__ import annotations

import datetime as dt
import os
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
from hypothesis import settings
from hypothesis import strategies as st

from tests.strategies import TYPES, beyond, wire_literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.oracle import Row

__all__ = ["ALL_TYPES", "LITERALS", "Tape", "examples", "tapes", "wire"]

_T = TypeVar("_T")
_DAY_NS = 86_400 * 10**9
_NOON = 1_740_830_400 * 10**9
_SECONDS = [_NOON, _NOON + 10**9, 0, -(10**9), _NOON - _DAY_NS, -62_135_596_800 * 10**9]
_MILLIS = [*_SECONDS, _NOON + 10**6, -(10**6)]
_LENGTHS = [0, 10**9, -(10**9), 90 * 10**9, _DAY_NS]
_TEXTS = TYPES[pa.string()]
_BYTES = TYPES[pa.binary()]
_CODED = pa.dictionary(pa.int32(), pa.string())

# Any: values of the column's type, in the oracle's form.
ALL_TYPES: Mapping[pa.DataType, list[Any]] = {
    **TYPES,
    pa.uint64(): [0, 1, 2, 2**53 + 1, 2**63, 2**64 - 1],
    **dict.fromkeys((pa.timestamp("s"), pa.timestamp("s", "UTC")), _SECONDS),
    **dict.fromkeys((pa.timestamp("ms"), pa.timestamp("ms", "America/New_York")), _MILLIS),
    pa.date64(): [dt.date(2025, 3, 1), dt.date(1969, 12, 31), dt.date(1, 1, 1)],
    pa.time32("s"): [0, 10**9, _DAY_NS - 10**9],
    pa.time32("ms"): [0, 10**6, _DAY_NS - 10**6],
    pa.time64("ns"): [0, 1, 43_200 * 10**9, _DAY_NS - 1],
    pa.duration("s"): _LENGTHS,
    pa.duration("ms"): [*_LENGTHS, 10**6],
    pa.duration("us"): [*_LENGTHS, 1000, -1000],
    pa.duration("ns"): [*_LENGTHS, 1, -1],
    pa.decimal256(50, 3): [Decimal(v) for v in ("0.000", "1.500", "-1.500", "9" * 47 + ".999")],
    pa.decimal64(15, 2): [Decimal(v) for v in ("0.00", "1.50", "-1.50", "9999999999999.99")],
    pa.large_string(): _TEXTS,
    pa.string_view(): _TEXTS,
    pa.large_binary(): _BYTES,
    pa.binary_view(): _BYTES,
    pa.binary(2): [b"\x00\x00", b"a\x00", b"ab", b"a\xff", b"b\x00", b"\xff\xff"],
    _CODED: _TEXTS,
}


# Any: a JSON scalar.
def wire(value: Any, dtype: pa.DataType) -> Any:
    """Write one of the oracle's values, of any type, as the JSON scalar that stands for it."""
    if pa.types.is_duration(dtype):
        return f"{'-' * (value < 0)}PT{abs(value) // 10**9}.{abs(value) % 10**9:09d}S"
    return wire_literal(value, dtype.value_type if pa.types.is_dictionary(dtype) else dtype)


# Any: JSON scalars.
def _literals(dtype: pa.DataType) -> list[Any]:
    pool = ALL_TYPES[dtype]
    near = [v + d for v in pool for d in (-1, 1)] if pa.types.is_integer(dtype) else []
    own = [wire(v, dtype) for v in pool]
    if pa.types.is_duration(dtype):
        return [*own, "PT0.5S", "-PT0.000000001S", "P1D", "PT1M30S", "P400000000D", None]
    lengths = (
        ["", "YQ==", "YWJj", "AA==", "/////w=="] if pa.types.is_fixed_size_binary(dtype) else []
    )
    value_type = dtype.value_type if pa.types.is_dictionary(dtype) else dtype
    return [*own, *near, *lengths, *beyond(value_type), None]


# Any: JSON scalars.
LITERALS: Mapping[pa.DataType, list[Any]] = {dtype: _literals(dtype) for dtype in ALL_TYPES}

_COMPARISONS = ("eq", "neq", "gt", "gte", "lt", "lte")
_SHARES = {"broken": 0.01, "check": 0.02, "ci": 1, "full": 10}


def examples(count: int) -> settings:
    """So many examples in CI, ten times that in `make test-full`, a few for a first look."""
    share = _SHARES[os.environ.get("HYPOTHESIS_PROFILE", "ci")]
    return settings(max_examples=max(10, int(count * share)))


def tapes(size: int) -> st.SearchStrategy[Tape]:
    """Tapes of `size` bytes; what reads on gets the first of each choice."""
    return st.binary(min_size=size, max_size=size).map(Tape)


class Tape:
    """Choices, read one by one off drawn bytes."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def __repr__(self) -> str:
        return f"Tape({self._data!r})"

    def below(self, count: int) -> int:
        """A number from 0 to `count` - 1."""
        width = 1 if count <= 64 else 2
        found = int.from_bytes(self._data[self._at : self._at + width], "little")
        self._at += width
        return found % count

    def pick(self, options: Sequence[_T]) -> _T:
        """One of `options`, the first of them where the tape has ended."""
        return options[self.below(len(options))]

    def chance(self, one_in: int) -> bool:
        """True once in so many times; False where the tape has ended."""
        return self.below(one_in) == one_in - 1

    def schema(self, types: Sequence[pa.DataType], most: int) -> pa.Schema:
        """1 to `most` columns."""
        return pa.schema([(f"c{i}", self.pick(types)) for i in range(1 + self.below(most))])

    def rows(self, schema: pa.Schema, most: int) -> list[Row]:
        """1 to `most` rows; a value in eight is null."""
        return [
            {f.name: None if self.chance(8) else self.pick(ALL_TYPES[f.type]) for f in schema}
            for _ in range(1 + self.below(most))
        ]

    # Any: the JSON AST.
    def ast(self, schema: pa.Schema, depth: int = 3) -> dict[str, Any]:
        """A predicate that fits `schema`: all twelve operators, with literals no value equals."""
        kind = self.below(16 if depth else 10)
        if kind >= 14:
            return {"not": self.ast(schema, depth - 1)}
        if kind >= 10:
            nodes = [self.ast(schema, depth - 1) for _ in range(2 + self.below(2))]
            return {"and" if kind < 12 else "or": nodes}
        field = schema.field(self.below(len(schema)))
        literals = LITERALS[field.type]
        if kind == 9:
            return {"is_null": field.name}
        if kind == 8:
            return {"between": [field.name, self.pick(literals), self.pick(literals)]}
        if kind >= 6:
            return {"in": [field.name, [self.pick(literals) for _ in range(self.below(5))]]}
        return {self.pick(_COMPARISONS): [field.name, self.pick(literals)]}
