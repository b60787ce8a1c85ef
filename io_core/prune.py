"""Which files of a plan can hold a row that matches: partition values and statistics, vectorised.

Three-valued per file: no row can match, some may, all do. Unknown is kept: missing statistics,
truncated text, NaN that was not counted. Pruning may only ever widen.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from io_core.literal import kind_of
from io_core.partition import Bounds, value_bounds
from io_core.predicate import And, Compare, Constant, In, IsNan, IsNull, Not, Or, Predicate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from io_core.model import PartitionScheme

__all__ = ["Mask", "Verdict", "file_bounds", "partition_bounds", "prune"]

Mask = npt.NDArray[np.bool_]


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
    may, every = np.ones(len(rows), np.bool_), np.zeros(len(rows), np.bool_)
    for known in bounds(leaf.column):
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
            return Verdict(~no_nans, nans == rows)
        case Not(IsNan()):
            return Verdict(nulls != rows, no_nulls & no_nans)
        case Compare(op, _, value):
            verdict = _COMPARE[op](known, value, no_nans)
        case In(_, values):
            verdict = _in(known, values, no_nans)
        case Not(In(_, values)):
            inside = _in(known, values, no_nans)
            verdict = Verdict(~inside.every, ~_within(known, values))
        case _:
            raise TypeError(f"not a bound leaf: {predicate!r}")
    return Verdict(verdict.may & (nulls != rows), verdict.every & no_nulls)


def _no_nans(known: Bounds) -> Mask:
    if not pa.types.is_floating(known.low.type):
        return np.ones(len(known.nan_count), np.bool_)
    return np.asarray(known.nan_count == 0, np.bool_)


def _known(condition: pa.Array, *, unknown: bool) -> Mask:
    """A comparison's result as a mask; where a bound is unknown, `unknown`."""
    return np.asarray(condition.fill_null(unknown).to_numpy(zero_copy_only=False), np.bool_)


def _eq(known: Bounds, value: pa.Scalar, no_nans: Mask) -> Verdict:
    may = _known(pc.less_equal(known.low, value), unknown=True) & _known(
        pc.greater_equal(known.high, value), unknown=True
    )
    return Verdict(may, _single(known, value, no_nans))


def _single(known: Bounds, value: pa.Scalar, no_nans: Mask) -> Mask:
    """Where every value that is not null is known to equal `value`."""
    if not known.exact:
        return np.zeros(len(no_nans), np.bool_)
    low = _known(pc.equal(known.low, value), unknown=False)
    return low & _known(pc.equal(known.high, value), unknown=False) & no_nans


def _neq(known: Bounds, value: pa.Scalar, no_nans: Mask) -> Verdict:
    equal = _eq(known, value, no_nans)
    return Verdict(~equal.every, ~equal.may)


def _lt(known: Bounds, value: pa.Scalar, no_nans: Mask) -> Verdict:
    may = _known(pc.less(known.low, value), unknown=True)
    return Verdict(may, _known(pc.less(known.high, value), unknown=False) & no_nans)


def _lte(known: Bounds, value: pa.Scalar, no_nans: Mask) -> Verdict:
    may = _known(pc.less_equal(known.low, value), unknown=True)
    return Verdict(may, _known(pc.less_equal(known.high, value), unknown=False) & no_nans)


def _gt(known: Bounds, value: pa.Scalar, no_nans: Mask) -> Verdict:
    # NaN is above every number: a file that may hold one may match.
    may = _known(pc.greater(known.high, value), unknown=True) | ~no_nans
    return Verdict(may, _known(pc.greater(known.low, value), unknown=False))


def _gte(known: Bounds, value: pa.Scalar, no_nans: Mask) -> Verdict:
    may = _known(pc.greater_equal(known.high, value), unknown=True) | ~no_nans
    return Verdict(may, _known(pc.greater_equal(known.low, value), unknown=False))


_COMPARE: dict[str, Callable[[Bounds, Any, Mask], Verdict]] = {
    "eq": _eq,
    "neq": _neq,
    "lt": _lt,
    "lte": _lte,
    "gt": _gt,
    "gte": _gte,
}
_LOOP = 32


def _in(known: Bounds, values: tuple[pa.Scalar, ...], no_nans: Mask) -> Verdict:
    every = np.zeros(len(no_nans), np.bool_)
    if len(values) <= _LOOP:
        for value in values:
            every |= _single(known, value, no_nans)
    return Verdict(_within(known, values), every)


def _within(known: Bounds, values: tuple[pa.Scalar, ...]) -> Mask:
    """Where one of `values` lies between the bounds."""
    if len(values) <= _LOOP:
        none = np.zeros(len(known.low), np.bool_)
        parts = (
            _known(pc.less_equal(known.low, v), unknown=True)
            & _known(pc.greater_equal(known.high, v), unknown=True)
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
    ranks[_known(bound.is_valid(), unknown=False)] = np.searchsorted(
        ranked, _ordinals(bound.drop_null()), side=side
    )
    return ranks


def _ordinals(values: pa.Array) -> npt.NDArray[Any]:
    """Values without nulls as numpy, in the same order: numbers stay, times become integers."""
    if kind_of(values.type) in ("date", "time", "timestamp", "duration"):
        width = pa.int32() if values.type.bit_width == 32 else pa.int64()
        values = values.cast(width)
    if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        return np.asarray(values.to_numpy(zero_copy_only=False))
    ordinals = np.empty(len(values), object)
    ordinals[:] = values.to_pylist()
    return ordinals


def file_bounds(files: pa.Table, column: str) -> Bounds | None:
    """What the statistics of a plan's files say of `column`; None where there are none."""
    if f"null_count:{column}" not in files.column_names:
        return None
    counts = [
        files.column(f"{kind}:{column}").combine_chunks().fill_null(-1).to_numpy()
        for kind in ("null_count", "nan_count")
    ]
    if f"min:{column}" not in files.column_names:
        return None
    low, high = (files.column(f"{kind}:{column}").combine_chunks() for kind in ("min", "max"))
    if pa.types.is_floating(low.type):
        # A writer that let NaN into its bounds left us no bounds.
        nan = pc.or_(pc.is_nan(low), pc.is_nan(high)).fill_null(False)
        low, high = (pc.if_else(nan, pa.scalar(None, low.type), b) for b in (low, high))
    exact = kind_of(low.type) not in ("text", "binary")
    return Bounds(low, high, counts[0], counts[1], exact=exact)


def partition_bounds(
    files: pa.Table, scheme: PartitionScheme | None, schema: pa.Schema
) -> dict[str, list[Bounds]]:
    """What the partition values of a plan's files say of the columns they come from."""
    found: dict[str, list[Bounds]] = {}
    rows = files.column("record_count").to_numpy()
    for i, key in enumerate(scheme.keys if scheme else ()):
        column = key.key[0]
        values = files.column(f"partition:{i}").combine_chunks()
        known = value_bounds(key, values, rows, schema.field(column).type)
        if known is not None:
            found.setdefault(column, []).append(known)
    return found
