"""Which properties and content types may a table have, and which does a version begin with?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from io_core.errors import SchemaValidationError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from planner_client.protocol.tables import AlterTable, CreateTable

__all__ = [
    "CONSISTENCY",
    "EVOLUTION",
    "check_properties",
    "content_types_of",
    "evolution_of",
    "patched",
    "settings",
    "version_properties",
]

EVOLUTION = "schema_evolution_mode"
CONSISTENCY = "default_schema_consistency_type"
_DEFAULTS = {EVOLUTION: "auto"}
_KNOWN_VALUES = {
    EVOLUTION: ("manual", "auto", "disabled"),
    CONSISTENCY: ("none", "coerce", "validate"),
    "read_optimization_level": ("none", "balanced", "moderate", "max"),
}
_TYPES = ("parquet", "lance", "csv", "tsv", "psv", "json", "feather", "avro", "orc")
_MIME = {
    "application/vnd.lance": "lance",
    **{f"text/{name}": name for name in ("csv", "tsv", "psv")},
    **{f"application/{name}": name for name in ("parquet", "json", "feather", "avro", "orc")},
}


def content_types_of(given: Sequence[str] | None) -> list[str] | None:
    """The content types that a table takes, by their short names; None where it takes any.

    Raises:
        SchemaValidationError: An unknown one.

    Example:
        >>> content_types_of(["application/parquet", "csv"])
        ['parquet', 'csv']
    """
    return [_content_type(name) for name in given] if given else None


def _content_type(name: str) -> str:
    short = _MIME.get(name.lower(), name.lower())
    if short not in _TYPES:
        raise SchemaValidationError(
            f"unknown content type {name!r}{nearest(short, _TYPES)}; known: {', '.join(_TYPES)}"
        )
    return short


# Any, here and below: free-form properties.
def version_properties(request: CreateTable, inherited: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a new version's properties are: those given, else its table's, over the defaults."""
    given = request.table_version_properties
    properties = {**_DEFAULTS, **((inherited or {}) if given is None else given)}
    properties |= settings(request)
    check_properties(properties)
    return properties


def evolution_of(properties: Mapping[str, Any]) -> tuple[str, str]:
    """A version's evolution mode, and the consistency of columns that have none of their own.

    A version that says nothing is of a catalog that was made when writes changed no schema.
    """
    mode, consistency = (properties.get(name) for name in (EVOLUTION, CONSISTENCY))
    return str(mode or "manual"), str(consistency or "none")


def settings(request: CreateTable | AlterTable) -> dict[str, Any]:
    """The parts of a request that are kept as version properties."""
    properties: dict[str, Any] = {}
    if request.layout is not None:
        properties["dataset_layout"] = request.layout
    if request.default_content_type is not None:
        properties["default_content_type"] = _content_type(request.default_content_type)
    return properties


def check_properties(properties: Mapping[str, Any]) -> None:
    """Raise where a property that clients act on has a value they do not know.

    Raises:
        SchemaValidationError: Such a value.
    """
    for name, values in _KNOWN_VALUES.items():
        value = properties.get(name)
        if value is not None and value not in values:
            raise SchemaValidationError(
                f"property {name} is {value!r}: use one of {', '.join(values)}"
            )


def patched(old: Mapping[str, Any] | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Properties after some of them were set; null removes one.

    Example:
        >>> patched({"a": 1, "b": 2}, {"b": None, "c": 3})
        {'a': 1, 'c': 3}
    """
    merged = {**(old or {}), **given}
    return {name: value for name, value in merged.items() if given.get(name, "") is not None}
