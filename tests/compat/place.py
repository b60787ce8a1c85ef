"""What does a case against a published client work with? A client, a namespace of its own, a folder."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Place", "refused"]


class Place(NamedTuple):
    """Where one case happens. Every table is in `namespace`, which exists and is empty at first."""

    # The published client: not installed where types are checked.
    client: Any
    namespace: str
    folder: Path

    @property
    def catalog(self) -> Any:
        return self.client.catalog

    def create(self, table: str, fields: list[dict[str, object]] | None, **options: object) -> Any:
        """Create a table with `fields`, or without a schema."""
        return self.catalog.create_table(
            namespace=self.namespace, table=table, schema_def=fields, **options
        )

    def write(self, data: object, table: str, **options: object) -> Any:
        """Write as the client does it by default, where `options` say nothing else."""
        return self.catalog.write(data, namespace=self.namespace, table=table, **options)

    def read(self, table: str, **options: object) -> Any:
        return self.catalog.read(namespace=self.namespace, table=table, **options)

    def rows(self, table: str, **options: object) -> list[dict[str, Any]]:
        """What a reader sees, by `id`."""
        found = self.read(table, **options).to_pylist()
        return sorted(found, key=lambda row: repr(row["id"]))

    def plan(self, table: str, **options: object) -> Any:
        return self.catalog.plan(namespace=self.namespace, table=table, **options)

    def describe(self, table: str, **options: object) -> Any:
        return self.catalog.describe_table(namespace=self.namespace, table=table, **options)


@contextlib.contextmanager
def refused(code: str, status: int) -> Iterator[None]:
    """The planner refuses what happens inside, in so many words."""
    from deltacat_client import RequestRejectedError
    from deltacat_generated_client.errors import UnexpectedStatus

    answer = None
    try:
        yield
    except RequestRejectedError as error:
        answer = (error.code, error.status_code)
    except UnexpectedStatus as error:
        # Where the first release lists no status of a refusal, it hands the answer on as it is.
        answer = (json.loads(error.content)["error"]["code"], error.status_code)
    assert answer == (code, status), f"{answer} instead of {(code, status)}"
