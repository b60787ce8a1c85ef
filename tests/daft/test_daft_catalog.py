"""Whether Daft's SQL, sessions and catalog functions work over a planner's catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING

import daft
import pytest
from daft.catalog import Identifier, NotFoundError
from daft.io.partitioning import PartitionField, PartitionTransform

import deltacat_sources.daft
from deltacat_sources.daft import catalog
from planner_client import Client

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from pathlib import Path

    from io_core.plan import ReadPlan
    from io_core.scan import Scan


class Watched(Client):
    """A client that remembers its plans."""

    def __init__(self, target: str | os.PathLike[str]) -> None:
        super().__init__(target)
        self.plans: list[ReadPlan] = []
        self.columns: list[tuple[str, ...] | None] = []

    def plan_scan(self, scan: Scan) -> ReadPlan:
        plan = super().plan_scan(scan)
        if scan.include_files:
            self.plans.append(plan)
            self.columns.append(scan.columns)
        return plan


@pytest.fixture
def client(tmp_path: Path) -> Watched:
    found = Watched(tmp_path / "catalog")
    for i in range(3):
        rows = daft.from_pydict({"id": [2 * i, 2 * i + 1], "day": [f"2024-01-0{i + 1}"] * 2})
        rows = rows.with_column("day", daft.col("day").cast(daft.DataType.date()))
        deltacat_sources.daft.write_deltacat(rows, "air.flights", planner=found)
    return found


@pytest.fixture
def session(client: Watched) -> daft.Session:
    found = daft.Session()
    found.attach_catalog(catalog(client, name="cat"))
    return found


def test_sql_reads_a_table_by_its_full_name(session: daft.Session, client: Watched) -> None:
    found = session.sql("SELECT id FROM cat.air.flights WHERE id = 3")
    assert found.to_pydict() == {"id": [3]}
    (plan,) = client.plans
    assert plan.files.num_rows == 1


def test_a_date_in_sql_prunes(session: daft.Session, client: Watched) -> None:
    found = session.sql("SELECT id FROM cat.air.flights WHERE day = '2024-01-02'")
    assert sorted(found.to_pydict()["id"]) == [2, 3]
    (plan,) = client.plans
    assert plan.files.num_rows == 1


def test_a_limit_in_sql_reads_one_file(session: daft.Session, client: Watched) -> None:
    assert len(session.sql("SELECT * FROM cat.air.flights LIMIT 2").to_pydict()["id"]) == 2
    (plan,) = client.plans
    assert plan.files.num_rows == 1


def test_names_are_short_in_a_catalog_and_a_namespace_in_use(session: daft.Session) -> None:
    session.set_catalog("cat")
    assert session.sql("SELECT count(*) AS n FROM air.flights").to_pydict() == {"n": [6]}
    session.set_namespace("air")
    assert session.sql("SELECT count(*) AS n FROM flights").to_pydict() == {"n": [6]}


def test_tables_join_in_sql(session: daft.Session) -> None:
    query = (
        "SELECT a.id FROM cat.air.flights a JOIN cat.air.flights b ON a.id = b.id WHERE b.id > 3"
    )
    assert sorted(session.sql(query).to_pydict()["id"]) == [4, 5]


def test_tables_and_namespaces_are_listed(client: Watched) -> None:
    found = catalog(client)
    found.create_namespace("sea")
    assert found.list_namespaces() == [Identifier("air"), Identifier("sea")]
    assert found.list_namespaces("s%") == [Identifier("sea")]
    for pattern in (None, "air", "air.%", "%.flight_"):
        assert found.list_tables(pattern) == [Identifier("air", "flights")]
    assert found.list_tables("sea") == found.list_tables("a_r") == []
    assert found.has_namespace("sea")
    assert not found.has_namespace("lake")
    found.drop_namespace("sea")
    assert not found.has_namespace("sea")


def test_a_table_is_made_written_replaced_and_dropped(session: daft.Session) -> None:
    one = daft.from_pydict({"x": [1]})
    session.create_table("cat.sea.ships", one)
    session.write_table("cat.sea.ships", one)
    assert session.read_table("cat.sea.ships").to_pydict() == {"x": [1, 1]}
    session.write_table("cat.sea.ships", daft.from_pydict({"x": [2]}), mode="overwrite")
    assert session.read_table("cat.sea.ships").to_pydict() == {"x": [2]}
    assert session.get_table("cat.sea.ships").name == "ships"
    session.drop_table("cat.sea.ships")
    assert not session.has_table("cat.sea.ships")


def test_a_table_takes_keys_and_partitions(client: Watched) -> None:
    schema = daft.from_pydict({"id": [1], "month": [1]}).schema()
    by = PartitionField.create(schema["month"], schema["month"], PartitionTransform.identity())
    found = catalog(client).create_table("sea.t", schema, {"merge_keys": ["id"]}, [by])
    rows = daft.from_pydict({"id": [1, 1, 2], "month": [1, 1, 2]})
    found.write(rows)
    assert found.read().count_rows() == 2
    assert catalog(client).read_table("sea.t").where(daft.col("month") == 2).count_rows() == 1
    described = client.catalog.describe_table(namespace="sea", table="t")
    assert described.partition_scheme is not None
    assert [key.key for key in described.partition_scheme.keys] == [("month",)]


def test_options_of_reading_are_passed_on(client: Watched) -> None:
    table = catalog(client).get_table("air.flights")
    assert table.read(predicate={"lt": ["id", 2]}).count_rows() == 2


def test_what_is_not_there_is_not_found(client: Watched, session: daft.Session) -> None:
    found = catalog(client)
    for name in ("air.none", "none.flights", "flights"):
        assert not found.has_table(name)
        with pytest.raises(NotFoundError):
            found.get_table(name)
    with pytest.raises(NotFoundError):
        found.drop_table("air.none")
    with pytest.raises(Exception, match=r"[Tt]able not found|not found"):
        session.sql("SELECT * FROM cat.air.none")


# --- Daft's own functions, without a session ---------------------------------------------------------


@pytest.fixture
def attached(client: Watched) -> Iterator[Watched]:
    """The catalog in the session that Daft's functions mean."""
    daft.attach_catalog(catalog(client, name="cat"), "lake")
    yield client
    daft.detach_catalog("lake")


def test_a_catalog_is_attached_under_an_alias(attached: Watched) -> None:
    assert daft.has_catalog("lake")
    found = daft.sql("SELECT id FROM lake.air.flights WHERE id >= 4 AND day > '2024-01-02'")
    assert sorted(found.to_pydict()["id"]) == [4, 5]
    (plan,) = attached.plans
    assert plan.files.num_rows == 1


def test_tables_are_read_written_made_and_dropped_by_daft(attached: Watched) -> None:
    one = daft.from_pydict({"x": [1], "part": ["a"]})
    made = daft.create_table("lake.sea.ships", one)
    assert made.name == "ships"
    daft.write_table("lake.sea.ships", daft.from_pydict({"x": [2], "part": ["b"]}))
    frame = daft.read_table("lake.sea.ships").where(daft.col("x") == 2).select("part")
    assert frame.to_pydict() == {"part": ["b"]}
    assert attached.plans[-1].files.num_rows == 1
    assert daft.has_table("lake.sea.ships")
    daft.drop_table("lake.sea.ships")
    assert not daft.has_table("lake.sea.ships")


def test_a_read_of_a_table_pushes_columns_and_limit(attached: Watched) -> None:
    frame = daft.read_table("lake.air.flights").select("day").limit(1)
    assert len(frame.to_pydict()["day"]) == 1
    assert attached.plans[-1].files.num_rows == 1
    assert attached.columns[-1] == ("day",)


def test_sql_counts_joins_and_groups_over_the_catalog(attached: Watched) -> None:
    query = """
        SELECT a.day, count(*) AS n, max(b.id) AS last
        FROM lake.air.flights a JOIN lake.air.flights b ON a.id = b.id
        WHERE a.day >= DATE '2024-01-02' GROUP BY a.day ORDER BY a.day
    """
    found = daft.sql(query).to_pydict()
    assert (found["n"], found["last"]) == ([2, 2], [3, 5])


def test_sessions_do_not_share_what_is_attached(attached: Watched) -> None:
    session = daft.Session()
    assert not session.has_catalog("lake")
    session.attach_catalog(catalog(attached), "mine")
    assert session.list_catalogs() == ["mine"]
    session.set_catalog("mine")
    assert session.list_tables("air") == [Identifier("mine", "air", "flights")]
    assert not daft.has_catalog("mine")


def test_a_table_of_a_session_stays_at_no_snapshot(client: Watched, session: daft.Session) -> None:
    table = session.get_table("cat.air.flights")
    assert table.read().count_rows() == 6
    table.append(daft.from_pydict({"id": [9], "day": [None]}))
    assert table.read().count_rows() == 7
    assert session.sql("SELECT count(*) AS n FROM cat.air.flights").to_pydict() == {"n": [7]}
