"""Which rules keep rows from getting lost, and how does the code look that breaks each?

Each rule is a small change to one source file, and the tests that have to fail with it:
`tests/test_broken_rules.py` makes the change in a copy and runs them.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["RULES", "Rule"]


class Rule(NamedTuple):
    """One way to be wrong.

    Attributes:
        name: What goes wrong.
        source: The file that is changed.
        sound: Text that stands in it exactly once.
        broken: What takes its place.
        tests: What has to notice; arguments of pytest.
    """

    name: str
    source: str
    sound: str
    broken: str
    tests: tuple[str, ...]


_PRUNE = (
    "tests/io_core/test_prune.py",
    "tests/io_core/test_prune_laws.py",
    # Files' own footers take the longest, and tell no more than the laws.
    "-k",
    "not all_means_every_row",
)
_PARTITION = ("tests/io_core/test_partition.py", *_PRUNE)
_PREDICATE = ("tests/io_core/test_predicate.py", "tests/io_core/test_predicate_laws.py")
_LITERAL = ("tests/io_core/test_literal.py", *_PREDICATE)
_LANCE = ("tests/io_core/test_predicate_lance.py",)
_MERGE = (
    "tests/io_core/test_merge.py",
    "tests/io_core/test_merge_order.py",
    # Every rule has an example of its own: the law would notice too, and takes a hundred times as long.
    "-k",
    "not oracles_dict",
)
_EXECUTE = ("tests/io_core/test_execute.py",)
# The index's own laws draw whole histories: its examples are enough.
_INDEX = ("tests/io_core/test_key_index.py",)
_ROW_GROUPS = ("tests/io_core/test_row_groups.py", "-k", "not whatever and not merged_read")
_PLANNER = ("tests/planner_client/test_planning.py",)


def _of(source: str, tests: tuple[str, ...], *changes: tuple[str, str, str]) -> tuple[Rule, ...]:
    return tuple(Rule(name, source, sound, broken, tests) for name, sound, broken in changes)


RULES: tuple[Rule, ...] = (
    *_of(
        "io_core/prune.py",
        _PRUNE,
        (
            "a max rules out NaN above it",
            'may = _compare("greater", known.high, value, unknown=True) | ~no_nans',
            'may = _compare("greater", known.high, value, unknown=True)',
        ),
        (
            "a max rules out NaN above it, equality included",
            'may = _compare("greater_equal", known.high, value, unknown=True) | ~no_nans',
            'may = _compare("greater_equal", known.high, value, unknown=True)',
        ),
        (
            "NaN that nobody counted is not there",
            "np.asarray(known.nan_count == 0, np.bool_)",
            "np.asarray(known.nan_count <= 0, np.bool_)",
        ),
        (
            "a count of nulls that is absent is 0",
            "fill_null(_UNKNOWN)",
            "fill_null(0)",
        ),
        (
            "a truncated bound is a value",
            'exact = kind_of(low.type) not in ("text", "binary")',
            "exact = True",
        ),
        (
            "a file without bounds is ruled out",
            "return np.full(len(bound), unknown)",
            "return np.full(len(bound), False)",
        ),
        (
            "a bound that is missing for one file rules it out",
            "found.fill_null(_TRUE if unknown else _FALSE)",
            "found.fill_null(_FALSE)",
        ),
        (
            "a bound of NaN is a bound",
            "if pc.any(nan).as_py():",
            "if not pc.any(nan).as_py():",
        ),
        (
            "NOT inverts what was widened",
            "verdict = Verdict(~inside.every, ~_within(known, values))",
            "verdict = Verdict(~inside.may, ~inside.every)",
        ),
        (
            "bounds that may be equal prove that all values are not",
            "return Verdict(~equal.every, ~equal.may)",
            "return Verdict(~equal.may, ~equal.may)",
        ),
        (
            "a file with nulls matches as a whole",
            "verdict.every & no_nulls)",
            "verdict.every)",
        ),
        (
            "a file of nulls is no file of nulls",
            "return Verdict(nulls != 0, nulls == rows)",
            "return Verdict(nulls > 0, nulls == rows)",
        ),
        (
            "one bound of two decides",
            'return low & _compare("equal", known.high, value, unknown=False) & no_nans',
            "return low & no_nans",
        ),
        (
            "a long list looks below its own first value only",
            'below_high = _rank(ranked, known.high, side="right", missing=len(ranked))',
            'below_high = _rank(ranked, known.high, side="right", missing=0)',
        ),
        (
            "0.0 has the bucket of -0.0",
            "asked = pa.concat_arrays([asked, lean_array([0.0, -0.0], asked.type)])",
            "asked = pa.concat_arrays([asked, lean_array([0.0], asked.type)])",
        ),
        (
            "a literal is put into a bucket before it has the column's type",
            "made = image.of(pa.chunked_array([asked])).combine_chunks()",
            "made = image.of(pa.chunked_array([asked.cast(pa.string())])).combine_chunks()",
        ),
        (
            "an OR of parts rules out what one part does",
            "return _reduce(np.logical_or, parts)",
            "return _reduce(np.logical_and, parts)",
        ),
    ),
    *_of(
        "io_core/partition.py",
        _PARTITION,
        (
            "month bounds a range",
            'if name == "year":',
            'if name in ("year", "month"):',
        ),
        (
            "a void partition holds nulls",
            '    if name == "void":\n        return None\n    nulls',
            '    if name == "voided":\n        return None\n    nulls',
        ),
        (
            "truncation rounds down below zero",
            "v - (width - 1) if v <= 0 else v for v",
            "v for v",
        ),
        (
            "a bound wraps around at the end of its type",
            "[v if v is None or info.min <= v <= info.max else None for v in values]",
            "[v if v is None else max(info.min, min(v, info.max - 1)) for v in values]",
        ),
        (
            "the year of a zoned moment is the same for every writer",
            "moments += _DAYS[unit] if end else -_DAYS[unit]",
            "moments += 0",
        ),
        (
            "the hour of a zoned moment is the same for every writer",
            'told = image if getattr(dtype, "tz", None) in _UTC else None',
            "told = image",
        ),
        (
            "every type has one text to be hashed",
            "told = image if is_agreed(dtype, strategy) else None",
            "told = image",
        ),
        (
            "text that was cut ends where it was cut",
            "_beyond(same), null_count",
            "same, null_count",
        ),
        (
            "zoned moments are split by their own zone",
            "column.cast(pa.timestamp(column.type.unit))",
            "column",
        ),
    ),
    *_of(
        "io_core/buckets.py",
        ("tests/io_core/test_partition.py",),
        ("the hash of integers forgets their upper half", "range(2)", "range(1)"),
        ("the hash of bytes forgets their tail", "raw[tail:]", "raw[len(raw):]"),
    ),
    *_of(
        "io_core/predicate.py",
        _PREDICATE,
        (
            "a literal between two integers is rounded and kept as it was asked",
            'return Compare("lte" if below else "gt", column, scalar)',
            "return Compare(op, column, scalar)",
        ),
        (
            "everything but NaN is below or at NaN",
            '"lte": Not(IsNull(column)),',
            '"lte": Not(IsNan(column)),',
        ),
        (
            "a null in a list makes `not in` unknown",
            "if not found and not nan:",
            "if (negated and None in values) or (not found and not nan):",
        ),
        (
            "NaN in a list is dropped with the nulls",
            "    if nan:\n        leaves",
            "    if nan and negated:\n        leaves",
        ),
        (
            "NOT of AND stays AND",
            "return _and(parts) if is_and != negated else _or(parts)",
            "return _and(parts) if is_and else _or(parts)",
        ),
        (
            "what other columns decide is FALSE",
            "return predicate if columns_of(predicate) <= columns else Constant(True)",
            "return predicate if columns_of(predicate) <= columns else Constant(False)",
        ),
        (
            "a negated range keeps its ends",
            'return Or((Compare("lt", column, low), Compare("gt", column, high)))',
            'return Or((Compare("lte", column, low), Compare("gt", column, high)))',
        ),
    ),
    *_of(
        "io_core/literal.py",
        _LITERAL,
        (
            "nanoseconds are cut to microseconds",
            '.ljust(9, "0"))',
            '.ljust(9, "0")[:6].ljust(9, "0"))',
        ),
        (
            "an offset is read and forgotten",
            'return nanos - _offset_nanos(found["zone"])',
            "return nanos",
        ),
        (
            "a literal below all values of a type is the least of them",
            "    if whole < low:\n        return Located(None, False)",
            "    if whole < low:\n        return Located(_grid_scalar(low, dtype), False)",
        ),
        (
            "great integers become floats before they are compared",
            "return Located(scalar, Fraction(found) == number)",
            "return Located(scalar, found == float(number))",
        ),
    ),
    *_of(
        "io_core/formats/row_groups.py",
        _ROW_GROUPS,
        (
            "a footer that counts no NaN has none",
            "nans = pa.nulls(len(found), pa.int64())",
            "nans = lean_array([0] * len(found), pa.int64())",
        ),
        (
            "a footer's dates bound another kind of column",
            "if kind != kind_of(dtype):",
            "if kind == 'other':",
        ),
    ),
    *_of(
        "io_core/formats/parquet.py",
        _ROW_GROUPS,
        (
            "rows that are left out do not count as a file's",
            "yield Skipped(len(run.rows))",
            "yield Skipped(0)",
        ),
    ),
    *_of(
        "io_core/predicate_arrow.py",
        _PREDICATE,
        (
            "NaN is above no number",
            'if op in ("gt", "gte") and pa.types.is_floating(value.type):',
            'if op == "gt" and pa.types.is_floating(value.type):',
        ),
        (
            "a null is not in a list",
            "return pc.and_kleene(pc.is_valid(column_of(column)), pc.invert(inside))",
            "return pc.invert(inside)",
        ),
        (
            "-0.0 is in no list with 0.0",
            "any(v.as_py() == 0 for v in values)",
            "any(v.as_py() == 2 for v in values)",
        ),
    ),
    *_of(
        "io_core/simplify.py",
        ("tests/io_core/test_simplify.py", "tests/io_core/test_predicate_laws.py"),
        (
            "a range without its ends holds one value",
            "if not (low.at == high.at and low.included and high.included):",
            "if not low.at == high.at:",
        ),
        (
            "NaN is within a range",
            "return [_FALSE] if high or asked.lists or asked.no_nan else [IsNan(column)]",
            "return [_FALSE] if asked.lists or asked.no_nan else [IsNan(column)]",
        ),
        (
            "the widest of several bounds is the narrowest",
            "low = min(asked.lows, key=lambda e: (e.at, not e.included), default=None)",
            "low = max(asked.lows, key=lambda e: (e.at, not e.included), default=None)",
        ),
        (
            "either side of a value is every value",
            "meets = low and high and (low.at, not low.included) <= (high.at, high.included)",
            "meets = low and high and low.at <= high.at",
        ),
    ),
    *_of(
        "io_core/predicate_lance.py",
        _LANCE,
        (
            "what cannot be said is left out of an OR",
            'if not texts or (word == "or" and len(texts) < len(parts)):',
            "if not texts:",
        ),
        ("a quote ends a text", 'plain.replace("\'", "\'\'")', "plain"),
        (
            "a widened conjunction is exact",
            "    exact = all(p.exact for p in parts)",
            "    exact = True",
        ),
    ),
    *_of(
        "io_core/merge.py",
        _MERGE,
        (
            "a delete removes rows of its own position",
            "(self._files[i].position, not self._files[i].delete_columns)",
            "(self._files[i].position, bool(self._files[i].delete_columns))",
        ),
        (
            "a delete by other columns reaches rows of its own position",
            "return deleted_at[codes[:count]] > position",
            "return deleted_at[codes[:count]] >= position",
        ),
        (
            "every delete is one by the keys",
            "return set(file.delete_columns) == set(self._keys)",
            "return bool(file.delete_columns)",
        ),
        (
            "the merge order beats a newer commit",
            "-1 if (f := self._files[s.file]).delete_columns else f.position for s in self._spans",
            "-1 if self._files[s.file].delete_columns else 1 for s in self._spans",
        ),
        (
            "of rows of one key the merge order counts for nothing",
            "self._lives[best], self._lives[lost] = True, False",
            "self._lives[best], self._lives[lost] = False, True",
        ),
        (
            "the last row of a key dies with the others",
            "self._lives[pairs.rows] = False",
            "self._lives[pairs.by] = False",
        ),
    ),
    *_of(
        "io_core/newest.py",
        (*_MERGE, "tests/io_core/test_newest.py"),
        (
            "keys are equal where their codes are",
            "if whole and keys.exact:",
            "if True:",
        ),
    ),
    *_of(
        "io_core/keys.py",
        (*_MERGE, "tests/io_core/test_partition.py"),
        (
            "nulls in composite keys have no code",
            'null_encoding="encode")',
            'null_encoding="mask")',
        ),
    ),
    *_of(
        "io_core/keys.py",
        (*_INDEX, *_MERGE, "tests/io_core/test_newest.py"),
        (
            "a null key is any key of its code",
            "same = pc.or_(pc.fill_null(same, False), pc.and_(one.is_null(), two.is_null()))",
            "same = pc.fill_null(same, True)",
        ),
        (
            "a null key is never found again",
            "same = pc.or_(pc.fill_null(same, False), pc.and_(one.is_null(), two.is_null()))",
            "same = pc.fill_null(same, False)",
        ),
    ),
    *_of(
        "io_core/execute.py",
        _EXECUTE,
        (
            "a filter on any column goes below the merge",
            "found = restrict(predicate, frozenset(plan.merge_keys))",
            "found = predicate",
        ),
        (
            "the dead rows of one file stand for those of all",
            'return all(isinstance(r["deletes"], bytes)',
            'return any(isinstance(r["deletes"], bytes)',
        ),
        (
            "a page merges by itself",
            "if plan.header.truncated and plan.requires_merge and not",
            "if plan.header.truncated and not plan.requires_merge and not",
        ),
        (
            "a key that a file lacks is null",
            "required = frozenset(self._by[file] or self._plan.merge_keys)",
            "required: frozenset[str] = frozenset()",
        ),
        (
            "a part of a file has the dead rows of its beginning",
            'else mask[row["first_row"] : row["end_row"]]',
            'else mask[: row["end_row"] - row["first_row"]]',
        ),
    ),
    *_of(
        "io_core/key_index.py",
        _INDEX,
        (
            "an index knows one row of a key in a run",
            "    if many.any():",
            "    if not many.any():",
        ),
        (
            "keys are equal where their codes are in the index",
            "if not (run.exact and probes.exact)]",
            "if not (run.exact or probes.exact)]",
        ),
        (
            "of a commit's rows of one key the first lives",
            "lives[doubtful[last_of_each(groups)]] = True",
            "lives[doubtful[::-1][last_of_each(groups[::-1])]] = True",
        ),
        (
            "a commit's deletes are forgotten",
            "probes = _with_deletes(fresh, _gather([f for f in files if f.is_delete]))",
            "probes = fresh",
        ),
    ),
    *_of(
        "io_core/deletes.py",
        ("tests/io_core/test_deletes.py",),
        (
            "the dead rows of one file are used with another",
            "    if of_rows != rows:",
            "    if of_rows > rows:",
        ),
        (
            "damage goes unseen",
            "tag, of_rows, dead, 0))) != check:",
            "tag, of_rows, dead, 0))) == -1:",
        ),
        (
            "of several sets the last counts",
            "packed |= _packed(_body(data, rows)[2], rows)",
            "packed = _packed(_body(data, rows)[2], rows).copy()",
        ),
    ),
    *_of(
        "io_core/merge_order.py",
        ("tests/io_core/test_merge_order.py",),
        (
            "the largest loses",
            '"ascending" if largest else "descending") for c, largest in order',
            '"descending" if largest else "ascending") for c, largest in order',
        ),
        (
            "an event time beats a declared order",
            "return ordered or tuple(map(OrderKey, event))",
            "return tuple(map(OrderKey, event)) or ordered",
        ),
        (
            "two NaN are told apart",
            "both = pc.and_(pc.is_nan(one), pc.is_nan(two))",
            "both = pc.and_(pc.is_nan(one), pc.equal(one, two))",
        ),
    ),
    *_of(
        "planner_client/server/pruning.py",
        _PLANNER,
        (
            "a delta is ruled out by another column than the keys",
            "keyed = frozenset(seen.version.merge_keys)",
            "keyed = frozenset(seen.version.schema.names if seen.version.schema else ())",
        ),
        (
            "a delta is ruled out by a column that its partition was made of",
            "self._with_stats = self._used & keyed if merges else self._used",
            "self._with_stats = self._used",
        ),
        (
            "a delete by other columns is ruled out by the keys it happens to hold",
            "        if not self._merges:\n            return rows[:0]",
            "        if not self._merges or len(rows) >= 0:\n            return rows[:0]",
        ),
    ),
)
