"""Can namespaces and tables be made, found and described, and is every wrong name refused?"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from io_core.errors import (
    AlreadyExistsError,
    DeltaCATError,
    NotFoundError,
    RequestRejectedError,
    SchemaValidationError,
    UnsupportedError,
)
from io_core.schema import SchemaField, encode_schema
from planner_client import Client

if TYPE_CHECKING:
    from pathlib import Path

    from planner_client.catalog import Catalog

SCHEMA = pa.schema([("id", pa.int64()), ("day", pa.date32()), ("x", pa.float64())])
BAD_NAMES = ["", ".", "..", ".hidden", "../etc", "a/b", "a\\b", "a\x00b", "a\nb", "x" * 256]
ODD_NAMES = ["a b", "größe", "日本", "a.b", "a%2Fb", "?x=1", "#1", "{table}", "null", "x" * 255]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    found = Client(tmp_path / "catalog").catalog
    found.create_namespace(namespace="flights", properties={"owner": "me"})
    return found


def make(catalog: Catalog, table: str = "t", **kwargs: Any) -> None:
    # Any: what `create_table` takes.
    catalog.create_table(**({"namespace": "flights", "table": table, "schema": SCHEMA} | kwargs))


def test_a_namespace_is_made_once_and_then_found(catalog: Catalog) -> None:
    assert catalog.get_namespace(namespace="flights").properties == {"owner": "me"}
    assert catalog.namespace_exists(namespace="flights")
    assert not catalog.namespace_exists(namespace="Flights")
    catalog.create_namespace(namespace="airports")
    assert [n.name for n in catalog.list_namespaces()] == ["airports", "flights"]
    with pytest.raises(AlreadyExistsError, match="namespace 'flights' already exists"):
        catalog.create_namespace(namespace="flights")


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_could_climb_out_of_a_directory_is_refused(catalog: Catalog, name: str) -> None:
    with pytest.raises(RequestRejectedError, match="cannot name a namespace"):
        catalog.create_namespace(namespace=name)
    with pytest.raises(RequestRejectedError, match="cannot name a table"):
        make(catalog, name)
    definition = {"schema_def": encode_schema(SCHEMA)}
    with pytest.raises(RequestRejectedError, match="cannot name a table"):
        catalog.stage(namespace="flights", table=name, create_if_missing=definition)
    with pytest.raises(RequestRejectedError, match="cannot name a namespace"):
        catalog.stage(namespace=name, table="t", create_if_missing=definition)
    assert [n.name for n in catalog.list_namespaces()] == ["flights"]
    assert catalog.list_tables(namespace="flights") == []


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_other_name_will_do(catalog: Catalog, name: str) -> None:
    catalog.create_namespace(namespace=name)
    make(catalog, name, namespace=name)
    catalog.write(pa.table({"id": [1]}), namespace=name, table=name)
    assert catalog.describe_table(namespace=name, table=name).total_records == 1


def test_a_table_is_described_as_it_was_made(catalog: Catalog) -> None:
    make(
        catalog,
        merge_keys=["id"],
        partition_scheme={"keys": [{"key": ["day"], "transform": "year"}], "name": "by year"},
        sort_scheme={"keys": [{"key": ["x"], "sort_order": "descending"}]},
        table_description="legs",
        table_properties={"a": [1, None]},
        table_version_properties={"b": "c"},
        content_types=["parquet"],
    )
    found = catalog.describe_table(namespace="flights", table="t")
    assert found.schema == [
        SchemaField("id", "int64", field_id=1, is_merge_key=True),
        SchemaField("day", "date32", field_id=2),
        SchemaField("x", "float64", field_id=3),
    ]
    assert found.merge_keys == ["id"]
    assert found.partition_scheme is not None
    assert (found.partition_scheme.name, found.partition_scheme.keys[0].transform) == (
        "by year",
        "year",
    )
    assert found.sort_scheme is not None
    assert found.sort_scheme.keys[0].sort_order == "descending"
    assert (found.description, found.properties, found.table_properties) == (
        "legs",
        {"b": "c", "schema_evolution_mode": "auto"},
        {"a": [1, None]},
    )
    assert (found.content_types, found.lifecycle_state, found.table_version) == (
        ["parquet"],
        "active",
        "1",
    )
    assert (found.total_files, found.total_records, found.total_bytes, found.partition_count) == (
        0,
        0,
        0,
        0,
    )


def test_totals_follow_the_live_files(catalog: Catalog) -> None:
    make(catalog, partition_scheme={"keys": [{"key": ["id"]}]})
    catalog.write(pa.table({"id": [1, 2, 2]}), namespace="flights", table="t")
    found = catalog.describe_table(namespace="flights", table="t")
    assert (found.total_files, found.total_records, found.partition_count) == (2, 3, 2)
    catalog.write(pa.table({"id": [5]}), namespace="flights", table="t", mode="replace")
    found = catalog.describe_table(namespace="flights", table="t")
    assert (found.total_files, found.total_records, found.partition_count) == (1, 1, 1)


def test_a_table_that_is_there_is_kept_or_refused(catalog: Catalog) -> None:
    make(catalog)
    with pytest.raises(
        AlreadyExistsError, match=r"flights.t already exists; pass fail_if_exists=False"
    ):
        make(catalog)
    again = catalog.create_table(
        namespace="flights",
        table="t",
        schema=pa.schema([("other", pa.int8())]),
        fail_if_exists=False,
    )
    assert not again.created
    described = catalog.describe_table(namespace="flights", table="t").schema
    assert [f.name for f in described or []] == SCHEMA.names


def test_the_namespace_is_made_with_the_table_only_on_request(catalog: Catalog) -> None:
    with pytest.raises(
        NotFoundError, match="namespace 'fligths' not found; did you mean 'flights'"
    ):
        make(catalog, namespace="fligths")
    assert not catalog.namespace_exists(namespace="fligths")
    make(catalog, namespace="more", auto_create_namespace=True)
    assert catalog.table_exists(namespace="more", table="t")


def test_tables_and_versions_are_listed(catalog: Catalog) -> None:
    for name, version in (("b", "0"), ("a", "sales.3"), ("c", None)):
        make(catalog, name, table_version=version, table_description=name)
    found = catalog.list_tables(namespace="flights")
    listed = [(t.name, t.latest_version, t.description) for t in found]
    assert listed == [("a", "sales.3", "a"), ("b", "0", "b"), ("c", "1", "c")]
    versions = catalog.list_table_versions(namespace="flights", table="a")
    assert [(v.table_version, v.lifecycle_state) for v in versions] == [("sales.3", "active")]
    assert catalog.table_exists(namespace="flights", table="a", table_version="sales.3")
    assert not catalog.table_exists(namespace="flights", table="a", table_version="2")


def test_a_version_needs_a_number(catalog: Catalog) -> None:
    with pytest.raises(SchemaValidationError, match="'new' is no table version"):
        make(catalog, table_version="new")
    assert catalog.list_tables(namespace="flights") == []


def test_a_table_without_an_active_version_is_there_but_not_by_its_bare_name(
    catalog: Catalog,
) -> None:
    make(catalog, lifecycle_state="unreleased")
    where: dict[str, Any] = {"namespace": "flights", "table": "t"}
    assert not catalog.table_exists(**where)
    assert catalog.table_exists(**where, table_version="1")
    with pytest.raises(AlreadyExistsError, match="already exists, without an active version"):
        make(catalog)
    with pytest.raises(NotFoundError, match="has no active version"):
        catalog.write(pa.table({"id": [1]}), **where)
    with pytest.raises(NotFoundError, match="has no version '7'"):
        catalog.plan(**where, table_version="7")


# Any: a request's fields.
@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"merge_keys": ["idd"]}, "unknown merge key 'idd'; did you mean 'id'"),
        ({"merge_keys": ["x"]}, "cannot be keys"),
        ({"merge_keys": [1]}, "merge_keys holds 1: give names"),
        ({"merge_keys": 1}, "merge_keys is 1: give a list"),
        ({"partition_scheme": {"keys": [{"key": ["dy"]}]}}, "'dy'; did you mean 'day'"),
        ({"partition_scheme": {"keys": []}}, "at least one key"),
        ({"partition_scheme": {"keys": [{"key": ["x"], "transform": "year"}]}}, "does not fit"),
        ({"partition_scheme": {"keys": "day"}}, "Expected `array`"),
        ({"sort_scheme": {"keys": [{"key": ["xx"]}]}}, "unknown sort column 'xx'"),
        (
            {"sort_scheme": {"keys": [{"key": ["x"], "sort_order": "up"}]}},
            "Invalid enum value 'up'",
        ),
        ({"schema": pa.schema([])}, "at least one column"),
        ({"schema": pa.schema([("a", pa.int8()), ("A", pa.int8())])}, "differ in case only"),
        ({"schema": None, "schema_def": [{"name": "a", "type": "int65"}]}, "unknown type 'int65'"),
        ({"schema": None, "schema_def": [{"type": "int8"}]}, "missing required field `name`"),
        ({"schema_def": [{"name": "a", "type": "int8"}]}, "exclude each other"),
        ({"schema": None, "schema_def": "x", "merge_keys": ["a"]}, "merge_keys goes with schema="),
    ],
)
def test_a_definition_that_is_wrong_makes_nothing(
    catalog: Catalog, wrong: dict[str, Any], problem: str
) -> None:
    with pytest.raises(SchemaValidationError, match=problem):
        make(catalog, **wrong)
    assert catalog.list_tables(namespace="flights") == []


def test_what_this_release_does_not_do_is_said(catalog: Catalog) -> None:
    with pytest.raises(UnsupportedError, match="sort transform"):
        make(catalog, sort_scheme={"keys": [{"key": ["x"], "transform": "year"}]})


def test_a_schema_may_come_as_fields_or_as_base64(catalog: Catalog) -> None:
    fields = [{"name": "id", "type": "int64", "is_merge_key": True, "nullable": False}]
    catalog.create_table(namespace="flights", table="a", schema_def=fields)
    catalog.create_table(namespace="flights", table="b", schema_def=encode_schema(SCHEMA))
    assert catalog.describe_table(namespace="flights", table="a").merge_keys == ["id"]
    described = catalog.describe_table(namespace="flights", table="b").schema
    assert [f.field_id for f in described or []] == [1, 2, 3]


@pytest.mark.parametrize(
    ("namespace", "table", "problem"),
    [
        ("flihgts", "legs", "namespace 'flihgts' not found; did you mean 'flights'"),
        ("flights", "leg", "table flights.leg not found; did you mean 'legs'"),
        ("flights", "zzzz", "table flights.zzzz not found$"),
    ],
)
def test_unknown_names_offer_the_nearest_everywhere(
    catalog: Catalog, namespace: str, table: str, problem: str
) -> None:
    make(catalog, "legs")
    where: dict[str, Any] = {"namespace": namespace, "table": table}
    calls = (
        catalog.describe_table,
        catalog.list_table_versions,
        catalog.plan,
        catalog.read,
        lambda **w: catalog.stage(**w, mode="append"),
    )
    for call in calls:
        with pytest.raises(NotFoundError, match=problem):
            call(**where)
    with pytest.raises(NotFoundError, match="did you mean 'flights'"):
        catalog.list_tables(namespace="flightz")


def test_of_many_creators_at_once_one_wins(catalog: Catalog) -> None:
    outcomes: list[str] = []
    barrier = threading.Barrier(6)

    def create() -> None:
        barrier.wait()
        try:
            make(catalog)
            outcomes.append("made")
        except DeltaCATError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=create) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["already_exists"] * 5 + ["made"]


def test_another_catalogs_name_is_not_found(tmp_path: Path, catalog: Catalog) -> None:
    assert [c.name for c in catalog.list_catalogs()] == ["default"]
    assert catalog.get_catalog(catalog="default").root == str(tmp_path / "catalog")
    with pytest.raises(NotFoundError, match="catalog 'defualt' not found; did you mean 'default'"):
        catalog.get_catalog(catalog="defualt")
    with pytest.raises(NotFoundError, match="catalog 'other' not found"):
        Client(tmp_path / "catalog", catalog="other").catalog.list_namespaces()
