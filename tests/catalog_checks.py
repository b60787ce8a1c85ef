"""Is what a client is told of a catalog what the model has?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from io_core.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from io_core.model import PartitionScheme, SortScheme
    from io_core.plan import PlanHeader, ReadPlan
    from planner_client.catalog import Catalog
    from planner_client.protocol.tables import TableDescription
    from planner_client.transaction import Transaction
    from tests.catalog_model import State
    from tests.catalog_parts import Table, Version

__all__ = ["Checks", "each_version"]


def each_version(state: State) -> Iterator[tuple[dict[str, Any], Version | None]]:
    """Each name of a version, that of the latest active one too, and which it means."""
    for (namespace, name), table in state.tables().items():
        latest = table.version(None)
        for version in [None, *sorted(table.versions.keys() - {latest.name if latest else None})]:
            where = {"namespace": namespace, "table": name, "table_version": version}
            yield where, table.version(version)


def totals(version: Version) -> tuple[int, int, int]:
    """How many files, their rows before any merge, their bytes."""
    files = version.files
    return len(files), sum(len(f.rows) for f in files), sum(f.size for f in files)


def _columns(scheme: PartitionScheme | SortScheme | None) -> tuple[str, ...] | None:
    return None if scheme is None else tuple(key.key[0] for key in scheme.keys)


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


class Checks:
    """What clients see, compared with a model's state; remembers which files each snapshot id had."""

    def __init__(self) -> None:
        self.files: dict[str, frozenset[str]] = {}

    def plan(self, plan: ReadPlan, version: Version) -> None:
        """The plan lists the version's files, each once, in order."""
        values: list[int | None] = [None] * len(plan.paths)
        if version.parted and plan.paths:
            values = plan.column("partition:0")
        order = {
            value: [p for p, v in zip(plan.paths, values, strict=True) if v == value]
            for value in values
        }
        wanted: dict[int | None, list[str]] = {}
        for file in version.files:
            wanted.setdefault(version.partition(file), []).append(file.path)
        assert order == wanted
        assert (plan.total_files, plan.total_records, plan.total_bytes) == totals(version)
        self.shape(plan.header, version)
        if not version.files:
            assert plan.snapshot_id is None
            return
        # Files alone decide the id, whatever happened in between.
        paths = frozenset(plan.paths)
        assert self.files.setdefault(str(plan.snapshot_id), paths) == paths
        assert list(self.files.values()).count(paths) == 1

    def shape(self, told: PlanHeader | TableDescription, version: Version) -> None:
        """Columns, their types, merge keys and both schemes are the version's."""
        types = {f.name: f.type for f in told.schema or ()}
        own = {c.name: c.type for c in version.columns}
        assert types == ({} if version.plain else {"k": "int64", "p": "int64"} | own), (types, own)
        assert (told.merge_keys or []) == (["k"] if version.keyed else [])
        assert _columns(told.partition_scheme) == (("p",) if version.parted else None)
        assert _columns(told.sort_scheme) == version.sorted_by

    def state(self, client: Catalog, state: State, txn: Transaction | None = None) -> None:
        """Names, properties, versions and files of everything are what the model has."""
        found = client.list_namespaces(transaction=txn)
        assert {n.name: n.properties or {} for n in found} == {
            name: held.properties for name, held in state.namespaces.items()
        }
        for namespace, held in state.namespaces.items():
            listed = client.list_tables(namespace=namespace, transaction=txn)
            assert [(t.name, t.latest_version, t.lifecycle_state) for t in listed] == [
                (name, *self.versions(table)[-1]) for name, table in sorted(held.tables.items())
            ]
            for name, table in held.tables.items():
                versions = client.list_table_versions(
                    namespace=namespace, table=name, transaction=txn
                )
                told = [(v.table_version, v.lifecycle_state) for v in versions]
                assert told == self.versions(table)
        for where, version in each_version(state):
            assert client.table_exists(**where, transaction=txn) == (version is not None)
            if version is None:
                with pytest.raises(NotFoundError, match="has no active version"):
                    client.plan(**where, transaction=txn)
                continue
            self.plan(client.plan(**where, transaction=txn), version)
            self.description(client, where, state, version, txn)

    def versions(self, table: Table) -> list[tuple[str, str]]:
        """All versions of a table, each with its lifecycle."""
        held = sorted(table.versions.values(), key=lambda v: v.order)
        return [(v.name, v.lifecycle) for v in held]

    # Any: arguments of a call.
    def description(
        self,
        client: Catalog,
        where: dict[str, Any],
        state: State,
        version: Version,
        txn: Transaction | None,
    ) -> None:
        """A description tells the version's totals, columns, lifecycle and the table's properties."""
        told = client.describe_table(**where, transaction=txn)
        assert (told.table_version, told.lifecycle_state) == (version.name, version.lifecycle)
        assert (told.total_files, told.total_records, told.total_bytes) == totals(version)
        self.shape(told, version)
        table = state.table(where["namespace"], where["table"])
        assert told.table_properties or {} == table.properties

    # Any: how the read is pinned.
    def rows(self, client: Catalog, state: State, **pin: Any) -> None:
        """Rows of everything are what the model has."""
        for where, version in each_version(state):
            if version is not None:
                found = client.read(**where, **pin).to_pylist()
                if version.plain:
                    # Its rows are its files.
                    assert len(found) == len(version.files)
                    continue
                name = version.value.name if version.value else ""
                read = [(row["k"], row["p"], _whole(row.get(name))) for row in found]
                assert sorted(read, key=repr) == version.rows()
