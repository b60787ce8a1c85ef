"""What are columns called between a resolver and the frame above it? Other than in the frame.

Polars 2.1 keeps the whole schema of a resolver in mind when it has resolved some of its columns, and the
streaming engine finds columns by their place in it: `with_row_index()` then swapped columns, and windows
(`over`) ended in a panic. A frame that selects each column under another name stands between, and says
what there is. It takes a tenth of a millisecond a query; filters, limits and projections pass it.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from deltacat_sources.polars.predicate import translate
from io_core.predicate import renamed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from io_core.predicate import Predicate

__all__ = ["ROWS", "below", "lowered", "raised", "said_above", "shown", "translated"]

# Of a dot Polars would say nothing to Arrow, and `said` could not remember the filter.
_PREFIX = "table "
_SAID_BELOW = re.compile(rf'col\("{_PREFIX}([^"]*)"\)(?:\.alias\("\1"\))?')

ROWS = "rows"
"""The resolver's first column, of nulls: a query that wants it alone wants the number of rows."""


def below(name: str) -> str:
    """What a frame's column is called below it."""
    return _PREFIX + name


def shown(name: str) -> str:
    """What a column from below is called in the frame."""
    return name.removeprefix(_PREFIX)


def said_above(text: str) -> str:
    """An expression's text, with columns called as in the frame."""
    return _SAID_BELOW.sub(r'col("\1")', text)


def translated(expr: pl.Expr, schema: pa.Schema) -> Predicate | None:
    """What an expression from below says of the frame's columns; None says nothing.

    Args:
        expr: As Polars delivers it to a resolver.
        schema: The table's.
    """
    lower = pa.schema([field.with_name(below(field.name)) for field in schema])
    found = translate(expr, lower)
    return None if found is None else renamed(found, shown)


def raised(frame: pl.LazyFrame, names: Iterable[str]) -> pl.LazyFrame:
    """A resolver's columns under their names in the frame."""
    return frame.select(_raising(tuple(names)))


def lowered(frame: pl.LazyFrame, names: Iterable[str], *, with_rows: bool) -> pl.LazyFrame:
    """Columns under the resolver's names for them.

    Args:
        frame: Has them, under their own names.
        names: Which.
        with_rows: Whether `ROWS` is asked for, too.
    """
    own = tuple(names)
    if not with_rows:
        return frame.select(_lowering(own))
    rows = ROWS
    while rows in own:
        rows += "_"
    # A literal that is selected has one row; one that is added as many as there are.
    counted = frame.with_columns(pl.lit(None).alias(rows))
    return counted.select(pl.col(rows).alias(ROWS), *_lowering(own))


# Programs ask for the same columns again, and hundreds take a while to name.
@functools.lru_cache(maxsize=256)
def _raising(names: tuple[str, ...]) -> list[pl.Expr]:
    return [pl.col(below(name)).alias(name) for name in names]


@functools.lru_cache(maxsize=256)
def _lowering(names: tuple[str, ...]) -> list[pl.Expr]:
    return [pl.col(name).alias(below(name)) for name in names]
