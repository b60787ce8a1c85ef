"""Is any file with a matching row ever ruled out, whatever is known of it, or known wrongly?"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given

from io_core.literal import kind_of, load_array
from io_core.model import PartitionKey, PartitionScheme
from io_core.partition import Bounds, split, value_type
from io_core.predicate import bind, parse
from io_core.prune import file_bounds, partition_bounds, prune
from io_core.simplify import simplify
from tests.oracle import Row, literal_of, matches, table_of
from tests.tapes import ALL_TYPES, Tape, examples, tapes, wire

TYPES = list(ALL_TYPES)
KINDS = ("min", "max", "null_count", "nan_count")

# Any: the JSON AST, and JSON scalars.
Ast = dict[str, Any]
Stats = dict[str, Any]


class File(NamedTuple):
    """Rows that stand together, and what their writer says of their column."""

    rows: list[Row]
    stats: Stats


# --- what writers say -----------------------------------------------------------------------------


def true_stats(values: list[Any], dtype: pa.DataType) -> Stats:
    held = [v for v in values if v is not None]
    plain = [v for v in held if v == v]
    found: Stats = {"null_count": len(values) - len(held), "nan_count": len(held) - len(plain)}
    if plain:
        found |= {"min": wire(min(plain), dtype), "max": wire(max(plain), dtype)}
    return found


def doubted(tape: Tape, stats: Stats, dtype: pa.DataType) -> Stats:
    """The same from a writer that says less, or says it in another way; never what is false."""
    doubt = tape.below(10)
    if doubt < 4:
        return {k: v for k, v in stats.items() if k != KINDS[doubt]}
    if doubt == 4:
        return {}
    if doubt == 5:
        other = kind_of(dtype) not in ("text", "binary", "other")
        return stats | {"min": "soon" if other else 5, "max": {"of": "another type"}}
    if doubt == 6 and pa.types.is_floating(dtype):
        return stats | {tape.pick(["min", "max"]): "NaN"}
    if doubt == 7:
        return stats | truncated(stats, dtype, 1 + tape.below(3))
    if doubt == 8:
        return stats | {"min": None}
    return stats


def truncated(stats: Stats, dtype: pa.DataType, width: int) -> Stats:
    """Bounds of text and bytes cut short: below by a prefix, above by what follows it."""
    low, high = (literal_of(stats.get(k), dtype) for k in ("min", "max"))
    if isinstance(low, str) and isinstance(high, str) and len(high) > width:
        last = ord(high[width - 1])
        above = high[: width - 1] + chr(last + 1) if last < 0xD7FF else None
        return {"min": low[:width], "max": above}
    if isinstance(low, bytes) and isinstance(high, bytes) and len(high) > width:
        last = high[width - 1]
        above = wire(high[: width - 1] + bytes([last + 1]), dtype) if last < 0xFF else None
        return {"min": wire(low[:width], dtype), "max": above}
    return {}


def stats_bounds(files: list[File], dtype: pa.DataType) -> Bounds:
    types = (dtype, dtype, pa.int64(), pa.int64())
    columns = [
        load_array([f.stats.get(kind) for f in files], t)
        for kind, t in zip(KINDS, types, strict=True)
    ]
    return file_bounds(pa.table(columns, names=list(KINDS)))


# --- laws -----------------------------------------------------------------------------------------


def check(tape: Tape, files: list[File], schema: pa.Schema, known: list[Bounds]) -> None:
    rows = np.array([len(f.rows) for f in files])
    for _ in range(5):
        ast = tape.ast(schema)
        parsed = parse(ast)
        assert parsed is not None
        bound = bind(parsed, schema)
        truth = [[matches(ast, row, schema) is True for row in f.rows] for f in files]
        for predicate in (bound, simplify(bound)):
            may, every = prune(predicate, rows, lambda _: known)
            for i, results in enumerate(truth):
                assert may[i] or not any(results), (ast, files[i], predicate)
                assert not every[i] or all(results), (ast, files[i], predicate)


@examples(5000)
@given(tapes(300))
def test_statistics_never_rule_out_a_file_with_a_matching_row(tape: Tape) -> None:
    schema = pa.schema([("c0", tape.pick(TYPES))])
    files = []
    for _ in range(1 + tape.below(5)):
        rows = tape.rows(schema, 5)
        stats = true_stats([row["c0"] for row in rows], schema.field(0).type)
        files.append(File(rows, doubted(tape, stats, schema.field(0).type)))
    check(tape, files, schema, [stats_bounds(files, schema.field(0).type)])


def transforms(dtype: pa.DataType) -> list[str]:
    t = pa.types
    dtype = dtype.value_type if t.is_dictionary(dtype) else dtype
    found = ["identity", "void"]
    # The first year of all begins in the year before in New York, of which Python has no text.
    if getattr(dtype, "unit", None) != "ns" and getattr(dtype, "tz", None) != "America/New_York":
        found += ["bucket(4)"] + ["bucket(3, iceberg)"] * (not t.is_uint64(dtype))
    if t.is_date(dtype) or t.is_timestamp(dtype):
        found += ["year", "month", "day"] + ["hour"] * t.is_timestamp(dtype)
    if t.is_integer(dtype):
        found += ["truncate(2)", "truncate(10)"]
    if kind_of(dtype) in ("text", "binary") and not t.is_fixed_size_binary(dtype):
        found += ["truncate(1)", "truncate(2)"]
    return found


@examples(5000)
@given(tapes(300))
def test_partition_values_and_statistics_never_rule_out_a_file_with_a_matching_row(
    tape: Tape,
) -> None:
    schema = pa.schema([("c0", tape.pick(TYPES))])
    dtype = schema.field(0).type
    scheme = PartitionScheme((PartitionKey(("c0",), tape.pick(transforms(dtype))),))
    rows = tape.rows(schema, 10)
    table = table_of(rows, schema).append_column("#", pa.array(range(len(rows)), pa.int64()))
    files, values = [], []
    for value, part in split(table, scheme, schema):
        held = [rows[i] for i in part.column("#").to_pylist()]
        stats = true_stats([row["c0"] for row in held], dtype)
        files.append(File(held, doubted(tape, stats, dtype)))
        values.append(value.column("0").combine_chunks())
    keyed = pa.table({"partition:0": pa.concat_arrays(values)})
    counts = np.array([len(f.rows) for f in files])
    known = partition_bounds(keyed, counts, scheme, schema).get("c0", [])
    check(tape, files, schema, [*known, stats_bounds(files, dtype)] if tape.chance(2) else known)


LOCAL = {"year": pc.year, "month": pc.month, "day": pc.day, "hour": pc.hour}
ZONED = [t for t in TYPES if pa.types.is_timestamp(t) and t.tz]


@examples(1000)
@given(tapes(300))
def test_components_that_another_client_took_in_the_columns_own_zone_rule_nothing_out_wrongly(
    tape: Tape,
) -> None:
    schema = pa.schema([("c0", tape.pick(ZONED))])
    name = tape.pick(list(LOCAL))
    rows = tape.rows(schema, 8)
    local = LOCAL[name](table_of(rows, schema).column("c0")).cast(pa.int32()).to_pylist()
    groups: dict[int | None, list[Row]] = {}
    for value, row in zip(local, rows, strict=True):
        groups.setdefault(value, []).append(row)
    files = [File(held, {}) for held in groups.values()]
    keyed = pa.table({"partition:0": pa.array(list(groups), pa.int32())})
    scheme = PartitionScheme((PartitionKey(("c0",), name),))
    counts = np.array([len(f.rows) for f in files])
    assert value_type(scheme.keys[0], schema) == pa.int32()
    check(tape, files, schema, partition_bounds(keyed, counts, scheme, schema)["c0"])
