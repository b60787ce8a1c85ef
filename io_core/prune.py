"""Which files of a plan can hold a row that matches: partition values and statistics, vectorised.

Three-valued per file: no row can match, some may, all do. Unknown is kept: missing statistics,
truncated text, NaN that was not counted. Pruning may only ever widen.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from io_core.lean_arrow import in_one_piece, lean_array, lean_numpy, lean_scalar, numbers_of
from io_core.literal import kind_of, ordinal
from io_core.partition import Bounds, Image, value_bounds
from io_core.predicate import And, Compare, Constant, In, IsNan, IsNull, Not, Or, Predicate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from io_core.model import PartitionScheme

__all__ = ["Mask", "Verdict", "file_bounds", "partition_bounds", "prune"]

Mask = npt.NDArray[np.bool_]
# Of each file, or one for all.
_Facts: TypeAlias = Mask | np.bool_
_UNKNOWN = lean_scalar(-1, pa.int64())
_TRUE, _FALSE = (lean_scalar(value, pa.bool_()) for value in (True, False))


class Verdict(NamedTuple):
    """Per file: whether some row may match, and whether every row is known to.

    Attributes:
        may: (files,) bool; False only where it is certain that no row matches.
        every: (files,) bool; True only where it is certain that all rows match.
    """

    may: Mask
    every: Mask


def prune(
    predicate: Predicate, rows: npt.NDArray[np.int64], bounds: Callable[[str], Sequence[Bounds]]
) -> Verdict:
    """Judge each file by what is known of its columns. Reads no data.

    Args:
        predicate: As `bind` returned it.
        rows: (files,) rows in each file.
        bounds: What is known of a column, from each source that knows something.
    """
    match predicate:
        case Constant(value):
            full = np.full(len(rows), value)
            return Verdict(full, full)
        case And(children):
            parts = [prune(c, rows, bounds) for c in children]
            return _reduce(np.logical_and, parts)
        case Or(children):
            parts = [prune(c, rows, bounds) for c in children]
            return _reduce(np.logical_or, parts)
    leaf = predicate.child if isinstance(predicate, Not) else predicate
    if isinstance(leaf, Not | Constant | And | Or):
        raise TypeError(f"not a bound predicate: {predicate!r}")
    sources = bounds(leaf.column)
    if not sources:
        return Verdict(np.ones(len(rows), np.bool_), np.zeros(len(rows), np.bool_))
    may, every = _leaf(predicate, sources[0], rows)
    for known in sources[1:]:
        verdict = _leaf(predicate, known, rows)
        may, every = may & verdict.may, every | verdict.every
    return Verdict(may, every & may)


def _reduce(join: np.ufunc, parts: list[Verdict]) -> Verdict:
    return Verdict(
        functools.reduce(join, (p.may for p in parts)),
        functools.reduce(join, (p.every for p in parts)),
    )


def _leaf(predicate: Predicate, known: Bounds, rows: npt.NDArray[np.int64]) -> Verdict:
    nulls, nans = known.null_count, known.nan_count
    no_nulls, no_nans = nulls == 0, _no_nans(known)
    match predicate:
        case IsNull():
            return Verdict(nulls != 0, nulls == rows)
        case Not(IsNull()):
            return Verdict(nulls != rows, no_nulls)
        case IsNan():
            return Verdict(~no_nans & (nulls != rows), nans == rows)
        case Not(IsNan()):
            return Verdict(nulls != rows, no_nulls & no_nans)
        case Compare("eq", _, value):
            verdict = _eq(known, value, no_nans)
            may = verdict.may & _has_image(known.image, (value,))
            verdict = Verdict(may, verdict.every)
        case Compare(op, _, value):
            verdict = _COMPARE[op](known, value, no_nans)
        case In(_, values):
            verdict = _in(known, values, no_nans)
            verdict = Verdict(verdict.may & _has_image(known.image, values), verdict.every)
        case Not(In(_, values)):
            inside = _in(known, values, no_nans)
            verdict = Verdict(~inside.every, ~_within(known, values))
        case _:
            raise TypeError(f"not a bound leaf: {predicate!r}")
    return Verdict(verdict.may & (nulls != rows), verdict.every & no_nulls)


def _has_image(image: Image | None, values: tuple[pa.Scalar, ...]) -> Mask | bool:
    """Where one of `values` would have become what the file's values became."""
    if image is None:
        return True
    asked = pa.concat_arrays([pa.repeat(v, 1) for v in values])
    if pa.types.is_floating(asked.type) and any(v.as_py() == 0 for v in values):
        # They are equal, and yet their images differ.
        asked = pa.concat_arrays([asked, lean_array([0.0, -0.0], asked.type)])
    made = image.of(pa.chunked_array([asked])).combine_chunks()
    found = np.zeros(len(image.values), np.bool_)
    if len(made) <= _LOOP:
        for value in made:
            found |= _compare("equal", image.values, value, unknown=False)
        return found
    wide = pa.large_binary() if kind_of(made.type) in ("text", "binary") else made.type
    return lean_numpy(pc.is_in(image.values.cast(wide), made.cast(wide)))


def _no_nans(known: Bounds) -> _Facts:
    """Where no value is NaN; of types that have none one answer stands for all files."""
    if not pa.types.is_floating(known.low.type):
        return np.True_
    return np.asarray(known.nan_count == 0, np.bool_)


_NUMPY: dict[str, np.ufunc] = {
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "equal": np.equal,
}


def _compare(op: str, bound: pa.Array, value: pa.Scalar, *, unknown: bool) -> Mask:
    """Compare each bound with a value of its own type; where a bound is unknown, `unknown`."""
    if bound.null_count == len(bound):
        return np.full(len(bound), unknown)
    if bound.null_count == 0 and value.is_valid and value.type == bound.type:
        plain = numbers_of(bound)
        if plain is not None:
            # Ten times as fast as Arrow's kernels, whose masks are packed into bits.
            return np.asarray(_NUMPY[op](plain, ordinal(value)))
    found = pc.call_function(op, [bound, value])
    return lean_numpy(found.fill_null(_TRUE if unknown else _FALSE))


def _eq(known: Bounds, value: pa.Scalar, no_nans: _Facts) -> Verdict:
    may = _compare("less_equal", known.low, value, unknown=True) & _compare(
        "greater_equal", known.high, value, unknown=True
    )
    return Verdict(may, _single(known, value, no_nans))


def _single(known: Bounds, value: pa.Scalar, no_nans: _Facts) -> Mask:
    """Where every value that is not null is known to equal `value`."""
    if not known.exact:
        return np.zeros(len(known.low), np.bool_)
    low = _compare("equal", known.low, value, unknown=False)
    return low & _compare("equal", known.high, value, unknown=False) & no_nans


def _neq(known: Bounds, value: pa.Scalar, no_nans: _Facts) -> Verdict:
    equal = _eq(known, value, no_nans)
    return Verdict(~equal.every, ~equal.may)


def _lt(known: Bounds, value: pa.Scalar, no_nans: _Facts) -> Verdict:
    may = _compare("less", known.low, value, unknown=True)
    return Verdict(may, _compare("less", known.high, value, unknown=False) & no_nans)


def _lte(known: Bounds, value: pa.Scalar, no_nans: _Facts) -> Verdict:
    may = _compare("less_equal", known.low, value, unknown=True)
    return Verdict(may, _compare("less_equal", known.high, value, unknown=False) & no_nans)


def _gt(known: Bounds, value: pa.Scalar, no_nans: _Facts) -> Verdict:
    # NaN is above every number: a file that may hold one may match.
    may = _compare("greater", known.high, value, unknown=True) | ~no_nans
    return Verdict(may, _compare("greater", known.low, value, unknown=False))


def _gte(known: Bounds, value: pa.Scalar, no_nans: _Facts) -> Verdict:
    may = _compare("greater_equal", known.high, value, unknown=True) | ~no_nans
    return Verdict(may, _compare("greater_equal", known.low, value, unknown=False))


_COMPARE: dict[str, Callable[[Bounds, Any, _Facts], Verdict]] = {
    "neq": _neq,
    "lt": _lt,
    "lte": _lte,
    "gt": _gt,
    "gte": _gte,
}
_LOOP = 32


def _in(known: Bounds, values: tuple[pa.Scalar, ...], no_nans: _Facts) -> Verdict:
    every = np.zeros(len(known.low), np.bool_)
    if len(values) <= _LOOP:
        for value in values:
            every |= _single(known, value, no_nans)
    return Verdict(_within(known, values), every)


def _within(known: Bounds, values: tuple[pa.Scalar, ...]) -> Mask:
    """Where one of `values` lies between the bounds."""
    if len(values) <= _LOOP:
        none = np.zeros(len(known.low), np.bool_)
        parts = (
            _compare("less_equal", known.low, v, unknown=True)
            & _compare("greater_equal", known.high, v, unknown=True)
            for v in values
        )
        return functools.reduce(np.logical_or, parts, none)
    # Count how many of the sorted values lie below each bound.
    ranked = np.sort(_ordinals(pa.concat_arrays([pa.repeat(v, 1) for v in values])))
    below_low = _rank(ranked, known.low, side="left", missing=0)
    below_high = _rank(ranked, known.high, side="right", missing=len(ranked))
    return below_high > below_low


def _rank(
    ranked: npt.NDArray[Any], bound: pa.Array, *, side: Literal["left", "right"], missing: int
) -> npt.NDArray[np.int64]:
    ranks = np.full(len(bound), missing, np.int64)
    valid = lean_numpy(bound.is_valid())
    ranks[valid] = np.searchsorted(ranked, _ordinals(bound.drop_null()), side=side)
    return ranks


def _ordinals(values: pa.Array) -> npt.NDArray[Any]:
    """Values without nulls as numpy, in the same order: numbers stay, times become integers."""
    plain = numbers_of(values)
    if plain is not None:
        return plain
    ordinals = np.empty(len(values), object)
    ordinals[:] = values.to_pylist()
    return ordinals


def file_bounds(stats: pa.Table) -> Bounds:
    """What statistics say of a column.

    Args:
        stats: `min` and `max` in the column's type, `null_count` and `nan_count`; one row per file.
    """
    nulls, nans = (_counts(stats.column(name)) for name in ("null_count", "nan_count"))
    low, high = (in_one_piece(stats.column(name)) for name in ("min", "max"))
    if pa.types.is_floating(low.type):
        # A writer that let NaN into its bounds left us no bounds.
        nan = pc.or_kleene(pc.is_nan(low), pc.is_nan(high)).fill_null(_FALSE)
        if pc.any(nan).as_py():
            low, high = (pc.if_else(nan, pa.nulls(1, low.type)[0], b) for b in (low, high))
    exact = kind_of(low.type) not in ("text", "binary")
    return Bounds(low, high, nulls, nans, exact=exact)


def _counts(counts: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Counts as numbers, -1 where unknown; mostly all are known, or none."""
    if counts.null_count == len(counts):
        return np.full(len(counts), -1, np.int64)
    known = in_one_piece(counts).cast(pa.int64())
    return lean_numpy(known.fill_null(_UNKNOWN) if known.null_count else known)


def partition_bounds(
    values: pa.Table,
    rows: npt.NDArray[np.int64],
    scheme: PartitionScheme | None,
    schema: pa.Schema,
) -> dict[str, list[Bounds]]:
    """What partition values say of the columns they come from.

    Args:
        values: `partition:<i>` of each file.
        rows: (files,) rows in each.
        scheme: How they were made.
        schema: The table's.
    """
    found: dict[str, list[Bounds]] = {}
    for i, key in enumerate(scheme.keys if scheme else ()):
        column = key.column
        held = values.column(f"partition:{i}").combine_chunks()
        known = value_bounds(key, held, rows, schema.field(column).type)
        if known is not None:
            found.setdefault(column, []).append(known)
    return found
