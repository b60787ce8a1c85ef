"""How does a call of the client get its catalog, its transaction and its operation's id?"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from weakref import WeakValueDictionary

import msgspec

from io_core.errors import TransactionError
from planner_client.protocol.checked import checked, misfit, plain
from planner_client.protocol.endpoint import Page
from planner_client.protocol.transactions import GET_TRANSACTION, GetTransaction
from planner_client.remembered import RememberedPlans
from planner_client.transaction import Transaction, Versioned, ambient

if TYPE_CHECKING:
    from planner_client.client import Client
    from planner_client.protocol.endpoint import Endpoint, Request
    from planner_client.transport import Transport

__all__ = ["Calls", "Resource", "built", "new_operation"]

T = TypeVar("T")
Res = TypeVar("Res")
V = TypeVar("V", bound=Versioned)


def new_operation() -> str:
    """An id for one mutation: sent again under it, the mutation still happens once."""
    return f"op_{uuid.uuid4().hex}"


def built(fields: dict[str, Any], kind: type[T]) -> T:
    """Build a request from what a user passed, with the field's name where it does not fit."""
    # Any: user's plain dicts, which become the protocol's structs here.
    given = {k: v for k, v in fields.items() if v is not None}
    try:
        made = msgspec.convert(plain(given), kind)
        msgspec.json.encode(made)
    except (msgspec.ValidationError, TypeError, ValueError, RecursionError) as error:
        raise misfit(given, kind, error) from None
    return made


class Calls:
    """One client's way to send. Threads share it.

    Attributes:
        transport: Where to.
        catalog: The client's own; None means the planner's default.
        plans: Small ones that were asked for lately.
        transactions: Those that the client began or fetched and somebody still holds, by id.
        client: Whose they are: they pickle as it does. None where they were made by themselves.
    """

    def __init__(self, transport: Transport, catalog: str | None) -> None:
        self.transport = transport
        self.catalog = catalog
        self.client: Client | None = None
        self.plans = RememberedPlans()
        self.transactions: WeakValueDictionary[str, Transaction] = WeakValueDictionary()

    def __reduce__(self) -> tuple[object, ...]:
        if self.client is None:
            raise TypeError("calls that belong to no client do not pickle")
        return _calls_of, (self.client,)

    @property
    def home(self) -> str:
        """What tells this planner from others; by its address where a client says it."""
        return f"{id(self.transport)}" if self.client is None else self.client.target

    def scope(self, access: Literal["read", "write"]) -> str:
        """Which keys to a store are used by this client's calls: those of its planner, for this."""
        return f"{access} {self.home}"

    def binding(self, transaction: Transaction | None, **alone: object) -> Transaction | None:
        """The transaction that a call stands in: the one passed, else the block's around it.

        Args:
            transaction: What the caller passed.
            alone: Arguments that go with no transaction, by name; None where they were left out.

        Raises:
            TransactionError: It belongs to another client, or such an argument was passed too.
        """
        if transaction is None:
            transaction = ambient(self)
        elif not isinstance(transaction, Transaction):
            raise TransactionError(
                f"{transaction!r} is no transaction: pass what client.transaction() returned"
            )
        if transaction is None:
            return None
        if not transaction.belongs_to(self):
            raise TransactionError(
                f"{transaction!r} belongs to another client: "
                "pass one that this client began, or fetched with catalog.get_transaction()"
            )
        for name, value in alone.items():
            if value is not None:
                raise TransactionError(
                    f"{name}={value!r} does not go with {transaction!r}, which has its own: "
                    f"leave it out, or begin a transaction with client.transaction({name}=...)"
                )
        return transaction

    def outside(self, call: str) -> None:
        """Refuse a call that no transaction can hold.

        Raises:
            TransactionError: The caller is in a transaction's block.
        """
        if transaction := ambient(self):
            raise TransactionError(
                f"{call} cannot be part of {transaction!r}: call it outside of the block"
            )

    def fetch(self, transaction_id: str, catalog: str | None) -> Transaction:
        """The client's handle of a transaction, brought up to date, or a new one.

        Raises:
            TransactionError: It is of another catalog.
        """
        request = checked(GetTransaction(transaction_id=transaction_id))
        held = self.transactions.get(request.transaction_id)
        if held is not None:
            self.binding(held, catalog=None if catalog == held.catalog else catalog)
            held.get()
            return held
        return Transaction(self, self.send(GET_TRANSACTION, request, catalog))

    def send(self, endpoint: Endpoint[Any, Res], request: Request, catalog: str | None) -> Res:
        """Make a call that stands in no transaction."""
        # Any: each endpoint has its own request.
        request = msgspec.structs.replace(
            request, catalog=self.catalog if catalog is None else catalog
        )
        return self.transport.call(endpoint, request)

    def read(
        self,
        endpoint: Endpoint[Any, Res],
        request: Request,
        *,
        transaction: Transaction | None = None,
        catalog: str | None = None,
        **alone: object,
    ) -> Res:
        """Make a call that changes nothing; see `binding`."""
        found = self.binding(transaction, catalog=catalog, **alone)
        if found is None:
            return self.send(endpoint, request, catalog)
        return found.read(
            lambda version: self.transport.call(endpoint, _bound(request, found, version))
        )

    def pages(
        self,
        endpoint: Endpoint[Any, list[T]],
        request: Request,
        *,
        transaction: Transaction | None = None,
        catalog: str | None = None,
    ) -> list[T]:
        """Make a call that lists something, and those for the pages that follow."""
        found: list[T] = []
        while True:
            page = self.read(endpoint, request, transaction=transaction, catalog=catalog)
            found += page
            token = page.next_token if isinstance(page, Page) else None
            if token is None:
                return found
            request = msgspec.structs.replace(request, next_token=token)

    def mutate(
        self,
        endpoint: Endpoint[Any, V],
        request: Request,
        *,
        transaction: Transaction | None = None,
        catalog: str | None = None,
        operation_id: str | None = None,
    ) -> V:
        """Make a call that changes something, once however often it is sent; see `binding`."""
        found = self.binding(transaction, catalog=catalog)
        request = msgspec.structs.replace(request, operation_id=operation_id or new_operation())
        if found is None:
            return self.send(endpoint, request, catalog)
        return found.mutate(
            lambda version: self.transport.call(endpoint, _bound(request, found, version))
        )


def _calls_of(client: Client) -> Calls:
    return client.catalog.calls


def _bound(request: Request, transaction: Transaction, version: int) -> Request:
    return msgspec.structs.replace(
        request,
        catalog=transaction.catalog,
        transaction_id=transaction.transaction_id,
        transaction_version=version,
    )


class Resource:
    """A part of the client's catalog: calls on one kind of things."""

    def __init__(self, transport: Transport, catalog: str | None) -> None:
        self._calls = Calls(transport, catalog)

    @property
    def calls(self) -> Calls:
        """How its calls are made."""
        return self._calls
