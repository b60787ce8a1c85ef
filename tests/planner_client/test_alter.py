"""Do namespaces and tables change as asked, in place, by name and by version, and go away again?"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
import requests

from io_core.errors import (
    AlreadyExistsError,
    ConcurrentModificationError,
    NotFoundError,
    RequestRejectedError,
    SchemaValidationError,
    UnsupportedError,
)
from planner_client import Client
from planner_client.protocol.endpoint import NEXT_PAGE, Page
from planner_client.protocol.namespaces import LIST_NAMESPACES, ListNamespaces
from planner_client.protocol.plans import PLAN, PlanRequest
from planner_client.protocol.tables import (
    DESCRIBE_TABLE,
    LIST_TABLE_VERSIONS,
    LIST_TABLES,
    DescribeTable,
    ListTables,
    ListTableVersions,
)
from planner_client.protocol.writes import STAGE, CreateIfMissing, StageRequest
from planner_client.server.planner import EmbeddedPlanner

if TYPE_CHECKING:
    from pathlib import Path

    from planner_client.catalog import Catalog
    from planner_client.protocol.endpoint import Endpoint, Request

ROWS = pa.table({"id": [1, 2], "v": ["a", "b"]})
MORE = pa.table({"id": [3], "v": ["c"]})


@pytest.fixture(params=["embedded", "http"])
def target(request: pytest.FixtureRequest, targets: dict[str, str]) -> str:
    return targets[request.param]


@pytest.fixture
def catalog(target: str) -> Catalog:
    return Client(target).catalog


@pytest.fixture
def ns(catalog: Catalog) -> str:
    """A namespace that no other test uses."""
    name = f"n{uuid.uuid4().hex}"
    catalog.create_namespace(namespace=name, properties={"owner": "me", "env": "dev"})
    return name


# Any: keyword arguments of every call.
@pytest.fixture
def where(catalog: Catalog, ns: str) -> dict[str, Any]:
    """A table of two rows."""
    catalog.write(ROWS, namespace=ns, table="t")
    return {"namespace": ns, "table": "t"}


def ids(catalog: Catalog, where: dict[str, Any], **options: Any) -> list[int]:
    return sorted(catalog.read(**where, **options).column("id").to_pylist())


# --- namespaces -----------------------------------------------------------------------------------


def test_properties_of_a_namespace_are_set_one_by_one(catalog: Catalog, ns: str) -> None:
    done = catalog.alter_namespace(namespace=ns, properties={"env": "prod", "owner": None})
    assert (done.namespace, done.altered, done.new_name) == (ns, True, None)
    assert catalog.get_namespace(namespace=ns).properties == {"env": "prod"}


def test_a_renamed_namespace_keeps_its_tables(
    catalog: Catalog, ns: str, where: dict[str, Any]
) -> None:
    done = catalog.alter_namespace(namespace=ns, new_name=f"{ns}-new")
    assert done.new_name == f"{ns}-new"
    assert not catalog.namespace_exists(namespace=ns)
    assert ids(catalog, {"namespace": f"{ns}-new", "table": "t"}) == [1, 2]
    with pytest.raises(NotFoundError, match=f"did you mean '{ns}-new'"):
        catalog.read(**where)


def test_a_namespace_is_not_renamed_over_another_or_to_an_odd_name(
    catalog: Catalog, ns: str
) -> None:
    catalog.create_namespace(namespace=f"{ns}-two")
    with pytest.raises(AlreadyExistsError, match="-two' already exists"):
        catalog.alter_namespace(namespace=ns, new_name=f"{ns}-two")
    with pytest.raises(RequestRejectedError, match="cannot name a namespace"):
        catalog.alter_namespace(namespace=ns, new_name="../etc")
    with pytest.raises(RequestRejectedError, match="nothing to alter of namespace"):
        catalog.alter_namespace(namespace=ns)
    with pytest.raises(NotFoundError, match="namespace 'nowhere' not found"):
        catalog.alter_namespace(namespace="nowhere", properties={})


@pytest.mark.parametrize("purge", [False, True])
def test_a_dropped_namespace_takes_its_tables_along(
    catalog: Catalog, ns: str, where: dict[str, Any], purge: bool
) -> None:
    done = catalog.drop_namespace(namespace=ns, purge=purge)
    assert (done.dropped, done.purged) == (True, purge)
    assert not catalog.namespace_exists(namespace=ns)
    with pytest.raises(NotFoundError, match=f"namespace '{ns}' not found"):
        catalog.drop_namespace(namespace=ns)
    catalog.create_namespace(namespace=ns)
    assert catalog.list_tables(namespace=ns) == []
    with pytest.raises(NotFoundError, match=r"\.t not found"):
        catalog.read(**where)


# --- properties, texts, lifecycle -----------------------------------------------------------------


def test_properties_and_texts_of_a_table_are_set_one_by_one(
    catalog: Catalog, where: dict[str, Any]
) -> None:
    catalog.alter_table(**where, table_properties={"a": 1, "b": 2}, table_description="legs")
    done = catalog.alter_table(
        **where,
        table_properties={"a": None, "c": [3]},
        table_version_properties={"read_optimization_level": "max"},
    )
    assert (done.table, done.namespace, done.altered) == ("t", where["namespace"], True)
    found = catalog.describe_table(**where)
    assert (found.description, found.table_properties) == ("legs", {"b": 2, "c": [3]})
    assert found.properties == {
        "schema_evolution_mode": "auto",
        "read_optimization_level": "max",
    }
    catalog.alter_table(**where, table_version_description="the first")
    assert catalog.describe_table(**where).description == "the first"
    assert ids(catalog, where) == [1, 2]


def test_a_new_version_begins_with_its_tables_properties(catalog: Catalog, ns: str) -> None:
    catalog.create_table(
        namespace=ns, table="p", schema=ROWS.schema, table_properties={"owner": "me"}
    )
    found = catalog.describe_table(namespace=ns, table="p")
    assert found.properties == {"schema_evolution_mode": "auto", "owner": "me"}
    catalog.create_table(namespace=ns, table="p", table_version="2", schema=MORE.schema)
    found = catalog.describe_table(namespace=ns, table="p")
    assert (found.table_version, (found.properties or {})["owner"]) == ("2", "me")


def test_a_deprecated_version_gives_way_to_the_one_before(
    catalog: Catalog, where: dict[str, Any]
) -> None:
    made = catalog.create_table(**where, table_version="2", schema=ROWS.schema)
    assert (made.created, made.table_version) == (True, "2")
    assert ids(catalog, where) == []
    catalog.alter_table(**where, table_version="2", lifecycle_state="deprecated")
    assert ids(catalog, where) == [1, 2]
    assert ids(catalog, where, table_version="2") == []
    catalog.alter_table(**where, lifecycle_state="deleted")
    with pytest.raises(NotFoundError, match="has no active version"):
        catalog.read(**where)
    versions = catalog.list_table_versions(**where)
    assert [(v.table_version, v.lifecycle_state) for v in versions] == [
        ("1", "deleted"),
        ("2", "deprecated"),
    ]
    catalog.alter_table(**where, table_description="still here")


def test_the_latest_version_is_the_one_of_the_highest_number(catalog: Catalog, ns: str) -> None:
    for version in ("9", "sales.10", "2"):
        catalog.create_table(namespace=ns, table="t", table_version=version, schema=ROWS.schema)
    assert catalog.describe_table(namespace=ns, table="t").table_version == "sales.10"
    listed = [v.table_version for v in catalog.list_table_versions(namespace=ns, table="t")]
    assert listed == ["2", "9", "sales.10"]
    (summary,) = catalog.list_tables(namespace=ns)
    assert summary.latest_version == "sales.10"


def test_a_version_that_is_there_is_kept_or_refused(
    catalog: Catalog, where: dict[str, Any]
) -> None:
    again = {**where, "table_version": "1", "schema": MORE.schema}
    with pytest.raises(AlreadyExistsError, match="already exists in version 1"):
        catalog.create_table(**again)
    assert not catalog.create_table(**again, fail_if_exists=False).created
    with pytest.raises(SchemaValidationError, match="is no table version"):
        catalog.create_table(**{**again, "table_version": "1" * 2000})
    with pytest.raises(SchemaValidationError, match="a new version takes its properties"):
        catalog.create_table(**{**again, "table_version": "2"}, table_properties={"a": 1})


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({}, "nothing to alter of table"),
        ({"lifecycle_state": "gone"}, "Invalid enum value 'gone'"),
        (
            {"table_version_properties": {"schema_evolution_mode": "never"}},
            "property schema_evolution_mode is 'never': use one of manual, auto, disabled",
        ),
        ({"sort_scheme": {"keys": [{"key": ["vv"]}]}}, "unknown sort column 'vv'; did you mean"),
        ({"partition_updates": {"keys": [{"key": ["v"]}]}}, "holds, or held, files"),
        ({"partition_updates": {"keys": [{"key": ["w"]}]}}, "'w'"),
        (
            {
                "schema_updates": {
                    "operations": [{"op": "add", "field": {"name": "n", "type": "int64"}}]
                },
                "partition_updates": {"keys": [{"key": []}]},
            },
            "only top-level columns can be keys",
        ),
    ],
)
def test_a_change_that_is_wrong_changes_nothing(
    catalog: Catalog, where: dict[str, Any], wrong: dict[str, Any], problem: str
) -> None:
    before = catalog.describe_table(**where)
    with pytest.raises((RequestRejectedError, SchemaValidationError), match=problem):
        catalog.alter_table(**where, **wrong)
    assert catalog.describe_table(**where) == before


def test_of_a_change_that_fails_half_way_nothing_stays(
    catalog: Catalog, where: dict[str, Any]
) -> None:
    with pytest.raises(SchemaValidationError, match="unknown sort column"):
        catalog.alter_table(
            **where, table_description="half", sort_scheme={"keys": [{"key": ["vv"]}]}
        )
    assert catalog.describe_table(**where).description is None


def test_schemes_change_where_no_file_depends_on_them(catalog: Catalog, ns: str) -> None:
    where: dict[str, Any] = {"namespace": ns, "table": "s"}
    catalog.create_table(**where, schema=ROWS.schema)
    catalog.alter_table(
        **where,
        partition_updates={"keys": [{"key": ["v"]}]},
        sort_scheme={"keys": [{"key": ["id"], "sort_order": "descending"}]},
    )
    catalog.write(pa.table({"id": [1, 2, 3], "v": ["a", "a", "b"]}), **where)
    found = catalog.describe_table(**where)
    assert found.partition_count == 2
    assert catalog.read(**where).column("id").to_pylist() == [2, 1, 3]
    assert found.sort_scheme is not None
    assert found.sort_scheme.id


def test_a_table_without_a_schema_has_none_and_gets_none(catalog: Catalog, ns: str) -> None:
    where: dict[str, Any] = {"namespace": ns, "table": "files"}
    catalog.create_table(**where, content_types=["text/csv", "JSON"])
    found = catalog.describe_table(**where)
    assert (found.schema, found.schema_serialized, found.merge_keys) == (None, None, [])
    assert found.content_types == ["csv", "json"]
    add = {"operations": [{"op": "add", "field": {"name": "x", "type": "int8"}}]}
    with pytest.raises(SchemaValidationError, match="is schemaless and stays so"):
        catalog.alter_table(**where, schema_updates=add)
    with pytest.raises(SchemaValidationError, match="a table without schema has no columns"):
        catalog.create_table(namespace=ns, table="no", partition_scheme={"keys": [{"key": ["x"]}]})
    with pytest.raises(SchemaValidationError, match="unknown content type 'parket'; did you mean"):
        catalog.create_table(namespace=ns, table="no", content_types=["parket"])


# --- describing -----------------------------------------------------------------------------------


def test_totals_are_left_out_on_request(catalog: Catalog, where: dict[str, Any]) -> None:
    found = catalog.describe_table(**where)
    assert (found.stats_omitted, found.total_files, found.total_records) == (False, 1, 2)
    found = catalog.describe_table(**where, include_stats=False)
    assert (found.stats_omitted, found.total_files, found.total_bytes) == (True, None, None)
    assert (found.partition_count, found.total_records) == (None, None)


def test_another_table_of_the_same_name_is_told_apart(tmp_path: Path) -> None:
    planner = EmbeddedPlanner(tmp_path / "catalog")
    catalog = Client(tmp_path / "catalog").catalog
    where: dict[str, Any] = {"namespace": "n", "table": "t"}
    catalog.write(ROWS, **where)
    named = where | {"expected_table_id": catalog.describe_table(**where).table_id}
    described, planned = DescribeTable(**named, metadata_only=True), PlanRequest(**named)
    staged = StageRequest(**named, mode="auto", create_if_missing=CreateIfMissing())
    assert planner.call(DESCRIBE_TABLE, described).stats_omitted
    assert planner.call(PLAN, planned).total_files == 1
    assert planner.call(STAGE, staged).expected_table_id == named["expected_table_id"]
    catalog.drop_table(**where)
    with pytest.raises(ConcurrentModificationError, match="is not there: it was dropped"):
        planner.call(STAGE, staged)
    catalog.write(ROWS, **where)
    # Any: each call has a request and an answer of its own.
    calls: tuple[tuple[Endpoint[Any, Any], Request], ...] = (
        (DESCRIBE_TABLE, described),
        (PLAN, planned),
        (STAGE, staged),
    )
    for endpoint, request in calls:
        with pytest.raises(ConcurrentModificationError, match="it was dropped and made again"):
            planner.call(endpoint, request)


def test_a_version_is_made_of_the_table_that_its_writer_means(tmp_path: Path) -> None:
    planner = EmbeddedPlanner(tmp_path / "catalog")
    catalog = Client(tmp_path / "catalog").catalog
    where: dict[str, Any] = {"namespace": "n", "table": "t"}
    catalog.write(ROWS, **where)
    expected = catalog.describe_table(**where).table_id
    asked = StageRequest(**where, table_version="2", mode="create", expected_table_id=expected)
    assert planner.call(STAGE, asked).expected_table_id == expected
    catalog.drop_table(**where)
    catalog.write(ROWS, **where)
    with pytest.raises(ConcurrentModificationError, match="it was dropped and made again"):
        planner.call(STAGE, asked)


# --- renaming and dropping ------------------------------------------------------------------------


def test_a_renamed_table_keeps_its_rows_and_frees_its_name(
    catalog: Catalog, ns: str, where: dict[str, Any]
) -> None:
    before = catalog.describe_table(**where)
    done = catalog.rename_table(**where, new_name="u")
    assert (done.old_name, done.new_name, done.new_namespace, done.renamed) == ("t", "u", ns, True)
    with pytest.raises(NotFoundError, match=r"\.t not found"):
        catalog.read(**where)
    after = catalog.describe_table(namespace=ns, table="u")
    assert (after.table_id, after.total_records) == (before.table_id, 2)
    catalog.write(MORE, **where)
    assert ids(catalog, where) == [3]
    with pytest.raises(AlreadyExistsError, match=r"\.u already exists"):
        catalog.rename_table(**where, new_name="u")


def test_a_table_moves_to_another_namespace(
    catalog: Catalog, ns: str, where: dict[str, Any]
) -> None:
    with pytest.raises(NotFoundError, match=r"namespace '.*-two' not found"):
        catalog.rename_table(**where, new_name="t", new_namespace=f"{ns}-two")
    catalog.create_namespace(namespace=f"{ns}-two")
    catalog.rename_table(**where, new_name="t", new_namespace=f"{ns}-two")
    assert catalog.list_tables(namespace=ns) == []
    assert ids(catalog, {"namespace": f"{ns}-two", "table": "t"}) == [1, 2]
    with pytest.raises(RequestRejectedError, match="cannot name a table"):
        catalog.rename_table(namespace=f"{ns}-two", table="t", new_name="../etc")


def test_a_dropped_table_is_gone_now_and_there_before(
    catalog: Catalog, where: dict[str, Any]
) -> None:
    before = time.time_ns()
    done = catalog.drop_table(**where)
    assert (done.table, done.dropped, done.purged) == ("t", True, False)
    assert not catalog.table_exists(**where)
    assert ids(catalog, where, as_of=before) == [1, 2]
    with pytest.raises(NotFoundError, match=r"\.t not found"):
        catalog.drop_table(**where)
    catalog.write(MORE, **where)
    assert ids(catalog, where) == [3]


def test_a_purged_table_is_gone_from_earlier_snapshots_too(
    catalog: Catalog, where: dict[str, Any]
) -> None:
    before = time.time_ns()
    assert catalog.drop_table(**where, purge=True).purged
    with pytest.raises(NotFoundError, match="was dropped with purge=True: its earlier snapshots"):
        catalog.read(**where, as_of=before)


# --- truncating and rolling back ------------------------------------------------------------------


def test_a_truncated_table_keeps_all_but_its_rows(catalog: Catalog, where: dict[str, Any]) -> None:
    described = catalog.describe_table(**where)
    before = time.time_ns()
    done = catalog.truncate_table(**where)
    assert (done.table, done.truncated) == ("t", True)
    assert ids(catalog, where) == []
    assert catalog.describe_table(**where).schema == described.schema
    assert ids(catalog, where, as_of=before) == [1, 2]
    catalog.write(MORE, **where)
    assert ids(catalog, where) == [3]


def test_only_the_named_version_is_truncated(catalog: Catalog, where: dict[str, Any]) -> None:
    catalog.create_table(**where, table_version="2", schema=ROWS.schema)
    catalog.write(MORE, **where)
    catalog.truncate_table(**where, table_version="1")
    assert ids(catalog, where) == [3]
    assert ids(catalog, where, table_version="1") == []


@pytest.mark.parametrize("mode", ["add", "append", "replace"])
def test_a_rollback_undoes_what_came_after(
    catalog: Catalog, where: dict[str, Any], mode: Any
) -> None:
    before = time.time_ns()
    catalog.write(MORE, **where, mode=mode)
    after = time.time_ns()
    done = catalog.rollback_table(**where, as_of=before)
    assert (done.table, done.rolled_back, done.as_of) == ("t", True, before)
    assert ids(catalog, where) == [1, 2]
    catalog.rollback_table(**where, as_of=after)
    assert ids(catalog, where) == ([3] if mode == "replace" else [1, 2, 3])
    catalog.write(pa.table({"id": [9], "v": ["z"]}), **where)
    assert 9 in ids(catalog, where)


def test_a_rollback_restores_keys_and_partitions(catalog: Catalog, ns: str) -> None:
    where: dict[str, Any] = {"namespace": ns, "table": "k"}
    scheme = {"keys": [{"key": ["v"]}]}
    catalog.write(ROWS, **where, mode="create", merge_keys=["id", "v"], partition_scheme=scheme)
    catalog.write(pa.table({"id": [1], "v": ["a"]}), **where, mode="delete")
    assert ids(catalog, where) == [2]
    before = time.time_ns()
    catalog.write(pa.table({"id": [7], "v": ["b"]}), **where, mode="replace_partition")
    assert ids(catalog, where) == [7]
    catalog.rollback_table(**where, as_of=before)
    assert ids(catalog, where) == [2]
    assert catalog.describe_table(**where).partition_count == 2


def test_a_rollback_to_a_wrong_time_is_refused(catalog: Catalog, where: dict[str, Any]) -> None:
    with pytest.raises(RequestRejectedError, match="lies in the future"):
        catalog.rollback_table(**where, as_of=time.time_ns() + 10**12)
    with pytest.raises(NotFoundError, match="did not exist in version 1 at as_of 1: it was made"):
        catalog.rollback_table(**where, as_of=1)
    assert ids(catalog, where) == [1, 2]


# --- paging ---------------------------------------------------------------------------------------


def test_lists_come_in_pages_that_neither_repeat_nor_skip(tmp_path: Path) -> None:
    planner = EmbeddedPlanner(tmp_path / "catalog")
    catalog = Client(tmp_path / "catalog").catalog
    names = [f"größe {i:02}" for i in range(7)]
    for name in names:
        catalog.create_namespace(namespace=name)
    seen: list[str] = []
    page = planner.call(LIST_NAMESPACES, ListNamespaces(limit=3))
    while isinstance(page, Page) and page.next_token is not None:
        seen += [n.name for n in page]
        # What goes and comes behind a page does not move the next one.
        catalog.drop_namespace(namespace=page[0].name)
        page = planner.call(LIST_NAMESPACES, ListNamespaces(limit=3, next_token=page.next_token))
    assert [*seen, *(n.name for n in page)] == names


def test_the_last_page_says_so(tmp_path: Path) -> None:
    planner = EmbeddedPlanner(tmp_path / "catalog")
    catalog = Client(tmp_path / "catalog").catalog
    catalog.create_namespace(namespace="n")
    for version in ("1", "10", "2"):
        catalog.create_table(namespace="n", table="t", table_version=version, schema=ROWS.schema)
        catalog.create_table(namespace="n", table=f"t{version}", schema=ROWS.schema)
    tables = planner.call(LIST_TABLES, ListTables(namespace="n", limit=4))
    assert ([t.name for t in tables], tables.next_token) == (["t", "t1", "t10", "t2"], None)  # type: ignore[attr-defined]
    first = planner.call(LIST_TABLE_VERSIONS, ListTableVersions(namespace="n", table="t", limit=2))
    asked = ListTableVersions(namespace="n", table="t", limit=2, next_token=first.next_token)  # type: ignore[attr-defined]
    rest = planner.call(LIST_TABLE_VERSIONS, asked)
    assert [v.table_version for v in (*first, *rest)] == ["1", "2", "10"]


def test_over_http_the_next_page_is_named_in_a_header(targets: dict[str, str]) -> None:
    catalog = Client(targets["http"]).catalog
    catalog.create_namespace(namespace="paged")
    for name in ("a", "b", "c"):
        catalog.create_table(namespace="paged", table=name, schema=ROWS.schema)
    url = f"{targets['http']}/v1/namespaces/paged/tables"
    first = requests.get(url, params={"limit": 2}, timeout=30)
    assert [t["name"] for t in first.json()] == ["a", "b"]
    token = first.headers[NEXT_PAGE]
    last = requests.get(url, params={"limit": "2", "next_token": token}, timeout=30)
    assert [t["name"] for t in last.json()] == ["c"]
    assert NEXT_PAGE not in last.headers


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (ListNamespaces(limit=0), "limit 0 is less than 1"),
        (ListNamespaces(next_token="?"), "'\\?' is no token of this planner"),
        (ListNamespaces(next_token="gICA"), "is no token of this planner"),
    ],
)
def test_a_wrong_page_is_refused(tmp_path: Path, request_: ListNamespaces, problem: str) -> None:
    planner = EmbeddedPlanner(tmp_path / "catalog")
    with pytest.raises(RequestRejectedError, match=problem):
        planner.call(LIST_NAMESPACES, request_)


def test_a_sort_transform_is_not_taken(catalog: Catalog, where: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError, match="sort transform 'year'"):
        catalog.alter_table(**where, sort_scheme={"keys": [{"key": ["id"], "transform": "year"}]})


# --- in transactions and in time ------------------------------------------------------------------


def test_changes_of_one_transaction_build_on_each_other(
    catalog: Catalog, ns: str, where: dict[str, Any], target: str
) -> None:
    client = Client(target)
    inside: dict[str, Any] = {"namespace": f"{ns}-new", "table": "u"}
    with client.transaction():
        ours = client.catalog
        ours.alter_table(**where, table_properties={"a": 1})
        ours.alter_table(**where, table_properties={"b": 2}, table_description="both")
        ours.alter_namespace(namespace=ns, new_name=f"{ns}-new")
        ours.rename_table(namespace=f"{ns}-new", table="t", new_name="u")
        ours.create_table(**inside, table_version="2", schema=ROWS.schema)
        ours.alter_table(**inside, table_version="2", lifecycle_state="beta")
        ours.create_table(namespace=f"{ns}-new", table="brief", schema=ROWS.schema)
        ours.drop_table(namespace=f"{ns}-new", table="brief")
        assert [t.name for t in ours.list_tables(namespace=f"{ns}-new")] == ["u"]
        assert catalog.describe_table(**where).description is None
    assert not catalog.namespace_exists(namespace=ns)
    found = catalog.describe_table(**inside)
    assert (found.description, found.table_properties) == ("both", {"a": 1, "b": 2})
    versions = catalog.list_table_versions(**inside)
    assert [(v.table_version, v.lifecycle_state) for v in versions] == [
        ("1", "active"),
        ("2", "beta"),
    ]
    assert ids(catalog, inside) == [1, 2]


def test_a_transaction_that_fails_changes_no_names(
    catalog: Catalog, where: dict[str, Any], target: str
) -> None:
    client = Client(target)

    def rename_and_fail() -> None:
        with client.transaction():
            client.catalog.rename_table(**where, new_name="u")
            client.catalog.create_namespace(namespace=where["namespace"])

    with pytest.raises(AlreadyExistsError):
        rename_and_fail()
    assert ids(catalog, where) == [1, 2]


def test_earlier_snapshots_keep_names_and_texts(
    catalog: Catalog, ns: str, where: dict[str, Any], target: str
) -> None:
    before = time.time_ns()
    catalog.alter_table(**where, table_description="later")
    catalog.rename_table(**where, new_name="u")
    assert ids(catalog, where, as_of=before) == [1, 2]
    client = Client(target)
    with client.transaction(as_of=before):
        assert client.catalog.describe_table(**where).description is None
        assert [t.name for t in client.catalog.list_tables(namespace=ns)] == ["t"]
