"""What schema does a table get by a write: by the rows that a session announces, or by its files?

A session that announces the schema of its rows gets the table's schema with room for them, field
ids included. Files that were written in the session's schema say so by its `schema_id`; of others
the footer is read.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from io_core.formats import schema_of_file
from io_core.growth import Growth, check_file_fits, fits, grow
from io_core.schema import Consistency, decode_schema, encode_schema, fields_of, schema_of
from planner_client.server.catalog import schemas_of
from planner_client.server.properties import CONSISTENCY, evolution_of, version_properties

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from io_core.model import WriteEntry, WriteSession
    from io_core.storage import Storage
    from planner_client.protocol.tables import CreateTable
    from planner_client.protocol.writes import StageRequest
    from planner_client.server.catalog import Version
    from planner_client.server.sessions import Kept
    from planner_client.server.store import View

__all__ = ["announced", "files_to_look_into", "grown_by_files", "schema_fields", "with_schema"]

# Files of other formats hold other types where they lack a column's own.
_ARROW_TYPES = frozenset({"parquet", "feather", "lance"})


# Any, here and below: free-form properties.
def _rules(
    properties: Mapping[str, Any], shape: Version | WriteSession, history: Sequence[pa.Schema] = ()
) -> Growth:
    """How a table's schema may change by a write."""
    mode, consistency = evolution_of(properties)
    schemes = (shape.partition_scheme, shape.sort_scheme)
    return Growth(
        adds_columns=mode == "auto",
        consistency=msgspec.convert(consistency, Consistency),
        stamped=properties.get(CONSISTENCY) is not None,
        pinned={key.key[0] for scheme in schemes if scheme for key in scheme.keys},
        history=history,
    )


def _rules_of(view: View, version: Version) -> Growth:
    past = schemas_of(view, version.version_id)
    return _rules(version.properties, version, [s for s in past if s is not None])


def announced(view: View, version: Version, request: StageRequest) -> pa.Schema | None:
    """The table's schema with room for the rows that a session announces.

    Raises:
        SchemaValidationError: What is announced is no schema, or the name of a new column is taken.
    """
    if version.schema is None or request.schema_serialized is None or request.mode == "delete":
        return version.schema
    given = schema_of(request.schema_serialized)
    if fits(version.schema, given):
        return version.schema
    return grow(version.schema, given, _rules_of(view, version))


def schema_fields(
    schema: pa.Schema | None, properties: Mapping[str, Any], schema_id: int
) -> dict[str, Any]:
    """The schema as a session has it, and how it may change; nothing where there is none."""
    if schema is None:
        return {}
    mode, consistency = evolution_of(properties)
    serialized = encode_schema(schema)
    return {
        "schema_serialized": serialized,
        "schema": _listed(serialized),
        "schema_id": schema_id,
        "schema_evolution_mode": mode,
        "schema_consistency_type": consistency,
    }


# Any: the protocol's list of fields; nobody changes it.
@functools.lru_cache(maxsize=256)
def _listed(serialized: str) -> list[Any]:
    return [msgspec.to_builtins(field) for field in fields_of(decode_schema(serialized))]


def files_to_look_into(
    session: WriteSession, entries: Sequence[WriteEntry]
) -> Sequence[WriteEntry]:
    """Files whose writer does not say that they have exactly the session's schema."""
    if session.schema_serialized is None or session.mode == "delete":
        return ()
    return [e for e in entries if e.schema_id is None or e.schema_id != session.schema_id]


def grown_by_files(
    kept: Kept,
    entries: Sequence[WriteEntry],
    view: View,
    version: Version | None,
    storage: Storage,
) -> Kept:
    """The session with the schema that its files come to.

    Args:
        kept: The session.
        entries: Those of its files that have to be looked into.
        view: What the commit sees.
        version: What it writes into; None where it makes the table.
        storage: How the planner reaches them.

    Raises:
        DataFileError: A footer cannot be read.
        SchemaValidationError: A file has columns or types that the table does not take.
    """
    session = kept.session
    before = schema = decode_schema(session.schema_serialized or "")
    footers = [_footer_of(entry, session, schema, storage) for entry in entries]
    # Mostly they are all alike.
    found = {encode_schema(s.remove_metadata()): s for s in footers if s is not None}
    if not found:
        return kept
    rules = _rules_of(view, version) if version else _creation_rules(kept.create, session)
    for footer in found.values():
        schema = grow(schema, footer, rules)
    name = f"{session.namespace}.{session.table}"
    for footer in found.values():
        check_file_fits(footer, schema, name, rules)
    return kept if schema is before else with_schema(kept, schema)


def _footer_of(
    entry: WriteEntry, session: WriteSession, schema: pa.Schema, storage: Storage
) -> pa.Schema | None:
    """What a file says of itself; None where that is nothing, or nothing reliable."""
    if session.format == "lance" and ".lance/" in entry.path:
        # A piece of a dataset that is registered file by file.
        return None
    found = schema_of_file(entry.path, session.format, storage=storage)
    if found is None or session.format in _ARROW_TYPES:
        return found
    return pa.schema([field for field in found if field.name not in schema.names])


# Any: free-form properties.
def _creation_rules(create: CreateTable | None, shape: WriteSession) -> Growth:
    properties = {} if create is None else version_properties(create, create.table_properties)
    return _rules(properties, shape)


def with_schema(kept: Kept, schema: pa.Schema) -> Kept:
    """The session with another schema for its table, which the commit gives to it."""
    serialized, session = encode_schema(schema), kept.session
    replaced = msgspec.structs.replace(
        session,
        schema_serialized=serialized,
        schema=[msgspec.to_builtins(field) for field in fields_of(schema)],
    )
    if kept.create is not None:
        create = msgspec.structs.replace(kept.create, schema_def=serialized)
        return msgspec.structs.replace(kept, session=replaced, create=create)
    return msgspec.structs.replace(
        kept, session=replaced, table_schema=kept.table_schema or session.schema_serialized
    )
