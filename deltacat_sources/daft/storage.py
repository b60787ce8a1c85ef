"""How does Daft's own reader reach an S3? With the settings and the renewing keys of a plan."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from daft.io import IOConfig, S3Config, S3Credentials

from io_core.s3 import daft_options

if TYPE_CHECKING:
    from io_core.s3 import S3Store

__all__ = ["io_config"]

# Keys without an end are asked for again after a while: the operator may have changed them.
_ASK_AGAIN_S = 3600


class _Keys:
    """Daft's `credentials_provider`. Pickles without keys; alike for all plans of one store."""

    def __init__(self, store: S3Store) -> None:
        self._store = store

    def __call__(self) -> S3Credentials:
        """What is valid now."""
        keys = self._store.credentials.current()
        end_s = datetime.now(UTC).timestamp() + _ASK_AGAIN_S
        if keys.expires_at_ns is not None:
            end_s = keys.expires_at_ns / 10**9
        return S3Credentials(
            key_id=keys.access_key_id,
            access_key=keys.secret_access_key,
            session_token=keys.session_token,
            expiry=datetime.fromtimestamp(end_s, UTC),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Keys) and other._store.keys == self._store.keys

    def __hash__(self) -> int:
        return hash(self._store.keys)


def io_config(store: S3Store) -> IOConfig:
    """What Daft's own readers, and its tasks, take. Pickles without keys."""
    return IOConfig(s3=S3Config(**daft_options(store), credentials_provider=_Keys(store)))
