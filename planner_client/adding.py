"""client.catalog.add_files: Parquet files that are there already become part of a table, where they lie."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from io_core.errors import NotFoundError, UnsupportedError
from io_core.layout import check_layout, creation_of
from io_core.model import PartitionScheme
from io_core.schema import decode_schema, encode_schema
from io_core.storage import LOCAL, is_s3
from planner_client.calls import built
from planner_client.given import mapped, one_or_more
from planner_client.protocol.tables import DESCRIBE_TABLE, DescribeTable, TableDescription
from planner_client.registered import (
    Found,
    common_schema,
    entries_of,
    files_named,
    footers_of,
    with_paths,
)
from planner_client.writing import Writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from io_core.model import WriteMode
    from io_core.storage import Storage
    from planner_client.session import StagedSession
    from planner_client.transaction import Transaction

__all__ = ["Adding"]


class Adding(Writing):
    """Files into tables."""

    def add_files(
        self,
        files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        namespace: str,
        table: str,
        mode: WriteMode = "auto",
        merge_keys: str | Sequence[str] | None = None,
        partition_by: str | Sequence[str] | None = None,
        create_if_missing: Mapping[str, Any] | None = None,
        table_version: str | None = None,
        progress: bool | None = None,
        transaction: Transaction | None = None,
        catalog: str | None = None,
    ) -> StagedSession:
        """Make Parquet files part of a table without copying them, all in one commit.

        Footers are read, some at a time, and no rows. The files stay whose they are: do not change or
        delete them while the table has them; vacuum never deletes files outside of the catalog's data,
        nor does purging their table. The planner wants an ADMIN of the catalog for this.

        Args:
            files: A file, a directory (all .parquet and .pq files below it), a pattern such as
                `/data/2024-*/*.parquet`, or a list of these. Local paths; or, in a catalog whose data
                is in a store, `s3://` URIs below its data root.
            namespace: Where the table is.
            table: Its name; the modes auto and create make it from the files where it is absent.
            mode: As `write` has it.
            merge_keys: Columns that identify a row of a table that is made.
            partition_by: Columns whose values divide a table that is made. Each file holds rows of one
                partition, by its path (`day=2024-05-01/`) or its statistics (one value in all rows).
            create_if_missing: What else to make it with, in the protocol's words.
            table_version: None means the latest active one.
            progress: Whether to show a bar (extra `progress`); None shows one in a terminal.
            transaction: See `Client.transaction`.
            catalog: None means the client's own.

        Returns:
            The committed session: `files_registered`, `total_records`, `snapshot`.

        Raises:
            DataFileError: A file is missing or no Parquet; names it.
            SchemaValidationError: A file does not fit the table, or holds rows of several partitions.
            RequestRejectedError: A file is part of the table already, or lies where none may.
            PermissionDeniedError: The caller is no ADMIN of the catalog.
        """
        layout = _Layout(merge_keys, partition_by, mapped("create_if_missing", create_if_missing))
        named = [os.fspath(file) for file in one_or_more("files", files)]
        place: dict[str, Any] = {
            "namespace": namespace,
            "table": table,
            "table_version": table_version,
            "transaction": transaction,
            "catalog": catalog,
        }
        known = self._table(creates=mode in ("auto", "create"), **place)
        stage = functools.partial(self.stage, **place, mode=mode, allow_external_entries=True)
        storage = self._storage(named, known, stage, place)
        found = footers_of(files_named(named, storage), storage, progress=progress)
        return _added(stage, found, known, layout)

    def _table(
        self,
        *,
        transaction: Transaction | None,
        catalog: str | None,
        creates: bool,
        **place: Any,
    ) -> TableDescription | None:
        """The table as it is; None where it is absent and may be."""
        asked = DescribeTable(**place, include_stats=False)
        try:
            known = self._calls.read(
                DESCRIBE_TABLE, asked, transaction=transaction, catalog=catalog
            )
        except NotFoundError:
            if creates:
                return None
            raise
        if known.schema_serialized is None:
            raise UnsupportedError(
                f"table {asked.namespace}.{asked.table} is schemaless: commit(namespace=, table=, "
                "entries=) takes files of any kind"
            )
        return known

    def _storage(
        self,
        paths: Sequence[str],
        known: TableDescription | None,
        stage: Callable[..., StagedSession],
        place: Mapping[str, Any],
    ) -> Storage:
        """How files are reached: those in a store as the planner says."""
        if not any(map(is_s3, paths)):
            return LOCAL
        if known is not None:
            plan = self.plan(**place, include_files=False)
            _check_reachable(paths, in_store=bool(plan.header.storage_bindings))
            return plan.storage
        # Of a table that is to be made only a session tells.
        with stage(create_if_missing={}) as asking:
            _check_reachable(paths, in_store=is_s3(asking.data_dir))
            asking.abort("its storage was asked for")
            return asking.storage


class _Layout(NamedTuple):
    """What a table is to be made with, besides the files' columns."""

    merge_keys: str | Sequence[str] | None
    partition_by: str | Sequence[str] | None
    # Any: the protocol's free-form properties.
    create: dict[str, Any]


def _added(
    stage: Callable[..., StagedSession],
    found: Sequence[Found],
    known: TableDescription | None,
    layout: _Layout,
) -> StagedSession:
    keys, partition_by, create = layout
    schema = with_paths(
        common_schema(found),
        found,
        _identities(known, layout),
        None if known is None else decode_schema(known.schema_serialized or ""),
    )
    made = None
    if known is None:
        made = creation_of(schema, partition_by, keys) | create
    with stage(create_if_missing=made, schema_serialized=encode_schema(schema)) as session:
        _check_reachable([file.path for file in found], in_store=is_s3(session.data_dir))
        check_layout(session, partition_by, keys)
        name = f"{session.namespace}.{session.table}"
        whole, scheme = decode_schema(session.schema_serialized or ""), session.partition_scheme
        return session.commit(entries_of(found, name, whole, scheme, session.schema_id))


def _identities(known: TableDescription | None, layout: _Layout) -> list[str]:
    """The columns that partition the table by their values."""
    if known is not None:
        scheme = known.partition_scheme
    elif layout.partition_by is not None:
        return one_or_more("partition_by", layout.partition_by)
    else:
        given = layout.create.get("partition_scheme")
        scheme = None if given is None else built(given, PartitionScheme)
    return [k.key[0] for k in scheme.keys if k.transform in (None, "identity")] if scheme else []


def _check_reachable(paths: Sequence[str], *, in_store: bool) -> None:
    """Refuse places that the catalog's planner has no way to.

    Args:
        paths: Where files are.
        in_store: Whether the catalog keeps its data in a store.
    """
    for path in paths:
        if is_s3(path) and not in_store:
            raise UnsupportedError(
                f"{path} is in a store, and the catalog keeps its data in its own directory: it has no "
                "credentials for stores. Make a catalog with data_root= above the files"
            )
        if in_store and not is_s3(path):
            raise UnsupportedError(
                f"{path} is on this machine, and the catalog keeps its data in a store, where its "
                "readers find it: write the rows, or put the files below its data root"
            )
