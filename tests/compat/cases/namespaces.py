"""What does a published client do with namespaces, and with what stands above them?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.compat.place import refused

if TYPE_CHECKING:
    from tests.compat.place import Place

FIELDS: list[dict[str, object]] = [{"name": "id", "type": "int64"}]


def a_namespace_that_was_created_is_listed(at: Place) -> None:
    result = at.catalog.create_namespace(namespace="robotics", properties={"owner": "lab"})
    assert result.created
    assert result.namespace == "robotics"
    assert "robotics" in {found.name for found in at.catalog.list_namespaces()}
    found = at.catalog.get_namespace(namespace="robotics")
    assert (found.name, found.properties) == ("robotics", {"owner": "lab"})


def every_namespace_is_listed_at_once(at: Place) -> None:
    names = {f"listed_{number:03}" for number in range(120)}
    for name in names:
        at.catalog.create_namespace(namespace=name)
    assert names <= {found.name for found in at.catalog.list_namespaces()}


def whether_a_namespace_exists_is_answered(at: Place) -> None:
    assert at.catalog.namespace_exists(namespace=at.namespace)
    assert not at.catalog.namespace_exists(namespace="nowhere")


def a_namespace_is_created_once(at: Place) -> None:
    with refused("already_exists", 409):
        at.catalog.create_namespace(namespace=at.namespace)


def a_missing_namespace_is_not_found(at: Place) -> None:
    with refused("not_found", 404):
        at.catalog.get_namespace(namespace="nowhere")
    with refused("not_found", 404):
        at.catalog.list_tables(namespace="nowhere")


def the_properties_of_a_namespace_change(at: Place) -> None:
    assert at.catalog.alter_namespace(namespace=at.namespace, properties={"tier": "gold"}).altered
    found = at.catalog.get_namespace(namespace=at.namespace).properties
    assert found == {"tier": "gold"}


def a_renamed_namespace_keeps_its_tables(at: Place) -> None:
    at.create("t", FIELDS)
    result = at.catalog.alter_namespace(namespace=at.namespace, new_name="renamed_as_a_whole")
    assert (result.altered, result.new_name) == (True, "renamed_as_a_whole")
    assert not at.catalog.namespace_exists(namespace=at.namespace)
    assert [t.name for t in at.catalog.list_tables(namespace="renamed_as_a_whole")] == ["t"]


def a_dropped_namespace_is_gone(at: Place) -> None:
    at.create("t", FIELDS)
    assert at.catalog.drop_namespace(namespace=at.namespace, purge=True).dropped
    assert not at.catalog.namespace_exists(namespace=at.namespace)
    with refused("not_found", 404):
        at.read("t")


def the_catalog_is_described(at: Place) -> None:
    (catalog,) = at.catalog.list_catalogs()
    described = at.catalog.describe_catalog(catalog.name)
    assert (described.name, described.root) == (catalog.name, catalog.root)


def a_catalog_may_be_named(at: Place) -> None:
    (catalog,) = at.catalog.list_catalogs()
    found = at.catalog.list_namespaces(catalog=catalog.name)
    assert at.namespace in {namespace.name for namespace in found}
    with refused("not_found", 404):
        at.catalog.list_namespaces(catalog="nowhere")


def who_one_is_without_a_token(at: Place) -> None:
    identity = at.client.auth.whoami()
    assert not identity.auth_configured
