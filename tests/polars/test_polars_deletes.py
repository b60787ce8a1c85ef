"""Deletes by other columns than the merge keys, in Polars' own merge: what do they match, and until when?"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deltacat_sources.polars import DeltaCatFrame, scan_deltacat
from deltacat_sources.polars.types import shown
from io_core.execute import read_plan
from io_core.formats.parquet import entry_of
from io_core.schema import decode_schema
from planner_client import Client

if TYPE_CHECKING:
    from collections.abc import Callable

_NUMBERS = itertools.count()
SCHEMA = pa.schema([("id", pa.int64()), ("v", pa.int64()), ("t", pa.string()), ("w", pa.float64())])
Row = tuple[int | None, int | None, str | None, float | None]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Client:
    return Client(tmp_path_factory.mktemp("deletes") / "catalog")


class Table:
    """A keyed table that rows are merged into, and deleted from by any columns."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.where: dict[str, Any] = {"namespace": f"deletes{next(_NUMBERS)}", "table": "t"}
        client.catalog.create_namespace(namespace=self.where["namespace"])
        client.catalog.create_table(**self.where, schema=SCHEMA, merge_keys=["id"])

    @property
    def name(self) -> str:
        return f"{self.where['namespace']}.t"

    def merge(self, *rows: Row) -> None:
        columns = [
            pa.array(c, f.type) for c, f in zip(zip(*rows, strict=True), SCHEMA, strict=True)
        ]
        self.client.catalog.write(
            pa.Table.from_arrays(columns, schema=SCHEMA), **self.where, mode="merge"
        )

    def delete(self, *columns: str, rows: list[tuple[object, ...]]) -> None:
        session = self.client.catalog.stage(**self.where, mode="delete")
        whole = decode_schema(session.schema_serialized or "")
        schema = pa.schema([whole.field(column) for column in columns])
        os.makedirs(session.data_dir)
        path = os.path.join(session.data_dir, "by-values.parquet")
        arrays = [pa.array(c, f.type) for c, f in zip(zip(*rows, strict=True), schema, strict=True)]
        pq.write_table(pa.Table.from_arrays(arrays, schema=schema), path)
        by = {"equality_field_locators": list(columns)}
        entry = msgspec.structs.replace(entry_of(path, schema), entry_params=by)
        self.client.commit(session=session, entries=[entry])

    def frame(self, **named: Any) -> pl.LazyFrame:
        return scan_deltacat(self.name, planner=self.client, **named)

    def check(self, *expected: Row) -> None:
        """In every form of Polars' merge, and through Arrow, the rows are these."""
        everything = pl.DataFrame(expected, schema=self.frame().collect_schema(), orient="row")
        everything = everything.sort("id", nulls_last=True)
        arrow = shown(read_plan(self.client.catalog.plan(**self.where)))
        assert arrow.sort("id", nulls_last=True).equals(everything)
        for question in QUESTIONS:
            asked = question(self.frame())
            assert "Arrow" not in asked.explain()
            wanted = question(everything.lazy()).collect()
            for engine in ("in-memory", "streaming"):
                found = asked.collect(engine=engine)
                assert found.sort(found.columns, nulls_last=True).equals(
                    wanted.sort(wanted.columns, nulls_last=True)
                ), asked.explain()
        assert DeltaCatFrame(self.frame()).count() == len(expected)


# All rows; without what deletes match by; filters on the key, on what they match by, on another column.
QUESTIONS: list[Callable[[pl.LazyFrame], pl.LazyFrame]] = [
    lambda f: f,
    lambda f: f.select("w"),
    lambda f: f.select(pl.len()),
    lambda f: f.filter(pl.col("id") <= 2),
    lambda f: f.filter(pl.col("v") == 10),
    lambda f: f.filter(pl.col("v").is_null() | (pl.col("t") == "a")).select("id"),
    lambda f: f.filter(pl.col("w") > 1.5).select("w"),
]


@pytest.fixture
def table(client: Client) -> Table:
    return Table(client)


def test_a_delete_by_a_column_takes_all_rows_that_have_its_value(table: Table) -> None:
    table.merge((1, 10, "a", 1.0), (2, 10, "b", 2.0), (3, 20, "a", 3.0))
    table.delete("v", rows=[(10,)])
    table.check((3, 20, "a", 3.0))


def test_a_delete_by_two_columns_matches_rows_and_not_each_column(table: Table) -> None:
    table.merge((1, 10, "a", 1.0), (2, 10, "b", 2.0), (3, 20, "a", 3.0), (4, 20, "b", 4.0))
    table.delete("v", "t", rows=[(10, "a"), (20, "b")])
    table.check((2, 10, "b", 2.0), (3, 20, "a", 3.0))


def test_a_null_in_a_delete_matches_a_null(table: Table) -> None:
    table.merge((1, None, "a", 1.0), (2, 10, None, 2.0), (3, None, None, 3.0), (4, 10, "", 4.0))
    table.delete("v", "t", rows=[(None, "a"), (10, None)])
    table.check((3, None, None, 3.0), (4, 10, "", 4.0))


def test_a_later_upsert_brings_a_deleted_value_back(table: Table) -> None:
    table.merge((1, 10, "a", 1.0), (2, 10, "b", 2.0))
    table.delete("v", rows=[(10,)])
    table.merge((2, 10, "c", 5.0), (3, 10, "d", 6.0))
    table.check((2, 10, "c", 5.0), (3, 10, "d", 6.0))


def test_a_value_that_was_replaced_before_is_not_deleted(table: Table) -> None:
    table.merge((1, 10, "a", 1.0), (2, 20, "b", 2.0))
    table.merge((1, 30, "a", 3.0))
    table.delete("v", rows=[(10,)])
    table.check((1, 30, "a", 3.0), (2, 20, "b", 2.0))


def test_deleting_the_newest_of_a_key_brings_no_older_one_back(table: Table) -> None:
    table.merge((1, 10, "a", 1.0), (2, 20, "b", 2.0))
    table.merge((1, 30, "c", 3.0))
    table.delete("v", rows=[(30,)])
    table.check((2, 20, "b", 2.0))


def test_deletes_by_keys_and_by_several_other_columns_add_up(table: Table) -> None:
    table.merge(*((i, 10 * (i % 3), "abc"[i % 3], float(i)) for i in range(1, 10)))
    table.delete("v", rows=[(20,)])
    table.delete("id", rows=[(1,)])
    table.merge((2, 20, "c", 22.0), (4, 10, "b", 44.0))
    table.delete("w", rows=[(7.0,), (44.0,)])
    table.check((2, 20, "c", 22.0), *((i, 0, "a", float(i)) for i in (3, 6, 9)))


def test_the_past_is_without_the_delete(table: Table) -> None:
    table.merge((1, 10, "a", 1.0), (2, 20, "b", 2.0))
    before = table.frame()
    table.delete("v", rows=[(10,)])
    assert before.collect().height == 2
    table.check((2, 20, "b", 2.0))
