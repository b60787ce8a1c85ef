"""How is a change of a catalog asked for, of the model and of a planner?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
from hypothesis import strategies as st

from io_core.schema import assign_field_ids
from tests.catalog_parts import Shape, V

if TYPE_CHECKING:
    from collections.abc import Callable

    from planner_client.catalog import Catalog

__all__ = [
    "KEYED",
    "SCHEMA",
    "SCHEME",
    "Where",
    "alterations",
    "asked",
    "changes",
    "lifecycles",
    "shapes",
    "wheres",
]

SCHEMA = assign_field_ids(
    pa.schema([("k", pa.int64()), ("p", pa.int64()), ("v", pa.type_for_alias(V.type))])
)
KEYED = assign_field_ids(SCHEMA, ["k"])
SCHEME = {"keys": [{"key": ["p"]}]}


class Where(NamedTuple):
    """A table, and which of its versions; None means the latest that is active."""

    namespace: str
    table: str
    version: str | None = None

    # Any, here and below: each call has arguments of its own.
    @property
    def named(self) -> dict[str, Any]:
        """As the model takes it."""
        return self._asdict()

    @property
    def sent(self) -> dict[str, Any]:
        """As a client takes it."""
        return {"namespace": self.namespace, "table": self.table, "table_version": self.version}


names = st.sampled_from(["x", "y"])
tables = st.sampled_from(["a", "b"])
# Two of one number: their names decide which is the latest.
versions = st.sampled_from([None, None, None, None, "1", "2", "n.2"])
# Most happens to one table.
wheres = st.builds(Where, st.just("x"), st.just("a"), versions) | st.builds(
    Where, names, tables, versions
)
columns = st.sampled_from("cdv")
types = st.sampled_from(["int32", "int64", "float64"])
# Tables with a schema are what most rules are about.
shapes = st.builds(Shape, st.booleans(), st.booleans(), st.just(False)) | st.sampled_from(
    [Shape(), Shape(keyed=True, parted=True), Shape(plain=True)]
)
lifecycles = st.sampled_from(["active", "active", "unreleased", "beta", "deprecated", "deleted"])
# What each operation of the catalog takes besides its place.
changes = st.one_of(
    st.tuples(st.sampled_from(["create_namespace", "describe_namespace"])),
    st.tuples(st.sampled_from(["drop_namespace", "drop_table"]), st.booleans()),
    st.tuples(st.just("rename_namespace"), names),
    st.tuples(st.just("create_table"), shapes, lifecycles),
    st.tuples(st.just("rename_table"), st.tuples(names, tables)),
    st.tuples(st.just("describe_table")),
)
# And of those that change one version.
alterations = st.one_of(
    st.tuples(st.just("set_lifecycle"), lifecycles),
    st.tuples(st.just("add_column"), columns, types),
    st.tuples(st.just("remove_column"), columns),
    st.tuples(st.just("rename_column"), columns, columns),
    st.tuples(st.just("update_type"), columns, types, st.booleans()),
    st.tuples(st.just("divide")),
    st.tuples(st.just("sort_by"), st.sampled_from([("k",), ("v",), ("p", "c"), ("d",)])),
)


def asked(
    client: Catalog, where: Where, change: tuple[Any, ...], mark: int
) -> tuple[tuple[str, dict[str, Any]], Callable[..., Any]]:
    """A change for the model, and the call that asks the planner for it.

    Args:
        client: Who asks.
        where: Which namespace, table and version.
        change: One of `changes`.
        mark: A number that no other change has.
    """
    name, *rest = change
    namespace: dict[str, Any] = {"namespace": where.namespace}
    table: dict[str, Any] = {**namespace, "table": where.table}
    own: dict[str, Any] = {}
    call: Callable[..., Any]
    match name:
        case "create_namespace" | "drop_namespace" | "drop_table":
            sent = held = table if name == "drop_table" else namespace
            call, own = getattr(client, name), {"purge": rest[0]} if rest else {}
        case "describe_namespace":
            call, sent, held = client.alter_namespace, namespace, namespace | {"mark": mark}
            own = {"properties": {"mark": mark}}
        case "rename_namespace":
            call, sent, own = client.alter_namespace, namespace, {"new_name": rest[0]}
            held = namespace | own
        case "create_table":
            shape, lifecycle = rest
            call, sent = client.create_table, where.sent
            own = {"schema": None if shape.plain else SCHEMA, "lifecycle_state": lifecycle}
            own |= {"merge_keys": ["k"] if shape.keyed else ()}
            own |= {"partition_scheme": SCHEME if shape.parted else None}
            held = where.named | {"uid": mark, "shape": shape, "lifecycle": lifecycle}
        case "rename_table":
            call, sent, held = client.rename_table, table, table | {"to": rest[0]}
            own = {"new_name": rest[0][1], "new_namespace": rest[0][0]}
        case "describe_table":
            call, sent, held = client.alter_table, table, table | {"mark": mark}
            own = {"table_properties": {"mark": mark}}
        case "set_lifecycle":
            call, sent, own = client.alter_table, where.sent, {"lifecycle_state": rest[0]}
            held = where.named | {"lifecycle": rest[0]}
        case "divide":
            call, sent, held = client.alter_table, where.sent, where.named
            own = {"partition_updates": SCHEME}
        case "sort_by":
            call, sent, held = client.alter_table, where.sent, where.named | {"columns": rest[0]}
            own = {"sort_scheme": {"keys": [{"key": [column]} for column in rest[0]]}}
        case _:
            call, sent = client.alter_table, where.sent
            more, updates = _schema_update(name, rest, mark)
            held, own = where.named | more, {"schema_updates": updates}
    return (name, held), lambda **more: call(**sent, **own, **more)


# Any: of each operation its own.
def _schema_update(name: str, rest: list[Any], mark: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the model is told of a change of columns, and what the planner is."""
    held: dict[str, Any] = {"column": rest[0]}
    operation = {"op": name.removesuffix("_column"), "field_locator": rest[0]}
    forced = True
    match name:
        case "add_column":
            held |= {"mark": mark, "type": rest[1]}
            operation = {"op": "add", "field": {"name": rest[0], "type": rest[1]}}
        case "rename_column":
            held |= {"to": rest[1]}
            operation |= {"new_name": rest[1]}
        case "update_type":
            forced = rest[2]
            held |= {"to": rest[1], "forced": forced}
            operation |= {"new_type": rest[1]}
    return held, {"operations": [operation], "allow_incompatible_changes": forced}
