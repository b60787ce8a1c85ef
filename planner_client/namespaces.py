"""client.catalog: namespaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from planner_client.calls import Resource
from planner_client.protocol.namespaces import (
    ALTER_NAMESPACE,
    CREATE_NAMESPACE,
    DROP_NAMESPACE,
    GET_NAMESPACE,
    LIST_NAMESPACES,
    NAMESPACE_EXISTS,
    AlterNamespace,
    CreateNamespace,
    DropNamespace,
    GetNamespace,
    ListNamespaces,
    NamespaceExists,
)

if TYPE_CHECKING:
    from planner_client.protocol.namespaces import (
        Namespace,
        NamespaceAltered,
        NamespaceCreated,
        NamespaceDropped,
    )
    from planner_client.transaction import Transaction

__all__ = ["Namespaces"]


class Namespaces(Resource):
    """Calls on namespaces."""

    def create_namespace(
        self,
        *,
        namespace: str,
        properties: dict[str, Any] | None = None,
        transaction: Transaction | None = None,
        catalog: str | None = None,
    ) -> NamespaceCreated:
        """Make a namespace.

        Raises:
            AlreadyExistsError: It is there.
        """
        request = CreateNamespace(namespace=namespace, properties=properties)
        return self._calls.mutate(
            CREATE_NAMESPACE, request, transaction=transaction, catalog=catalog
        )

    def list_namespaces(
        self, *, transaction: Transaction | None = None, catalog: str | None = None
    ) -> list[Namespace]:
        """All namespaces, by name."""
        return self._calls.pages(
            LIST_NAMESPACES, ListNamespaces(), transaction=transaction, catalog=catalog
        )

    def get_namespace(
        self,
        *,
        namespace: str,
        transaction: Transaction | None = None,
        catalog: str | None = None,
    ) -> Namespace:
        """One namespace.

        Raises:
            NotFoundError: It does not exist; offers the nearest name.
        """
        request = GetNamespace(namespace=namespace)
        return self._calls.read(GET_NAMESPACE, request, transaction=transaction, catalog=catalog)

    def namespace_exists(
        self,
        *,
        namespace: str,
        transaction: Transaction | None = None,
        catalog: str | None = None,
    ) -> bool:
        """Whether the namespace is there."""
        request = NamespaceExists(namespace=namespace)
        answer = self._calls.read(
            NAMESPACE_EXISTS, request, transaction=transaction, catalog=catalog
        )
        return answer.exists

    def alter_namespace(
        self,
        *,
        namespace: str,
        properties: dict[str, Any] | None = None,
        new_name: str | None = None,
        transaction: Transaction | None = None,
        catalog: str | None = None,
    ) -> NamespaceAltered:
        """Change a namespace's properties or its name.

        Args:
            namespace: Its name.
            properties: Those to set; None removes one; what is left out stays.
            new_name: What it is called from then on.
            transaction: See `Client.transaction`.
            catalog: None means the client's own.

        Raises:
            NotFoundError: It does not exist.
            AlreadyExistsError: There is one of the new name.
        """
        request = AlterNamespace(namespace=namespace, properties=properties, new_name=new_name)
        return self._calls.mutate(
            ALTER_NAMESPACE, request, transaction=transaction, catalog=catalog
        )

    def drop_namespace(
        self,
        *,
        namespace: str,
        purge: bool = False,
        transaction: Transaction | None = None,
        catalog: str | None = None,
    ) -> NamespaceDropped:
        """Drop a namespace and the tables in it.

        Args:
            namespace: Its name.
            purge: Whether to give up the tables' files too, so that no earlier snapshot reads them.
            transaction: See `Client.transaction`.
            catalog: None means the client's own.

        Raises:
            NotFoundError: It does not exist.
        """
        request = DropNamespace(namespace=namespace, purge=purge)
        return self._calls.mutate(DROP_NAMESPACE, request, transaction=transaction, catalog=catalog)
