"""What does a planner tell of the stores that its files are in, and of the keys to them?

Field names are the protocol's, and so are the places where they travel: in plans as JSON and in
write sessions. A client takes the keys out as they arrive; nothing that holds any is kept.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from io_core.aws import profile_keys
from io_core.credentials import Keys, renew, shared
from io_core.errors import CredentialsError, UnsupportedError
from io_core.s3 import S3Settings, S3Store
from io_core.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from io_core.credentials import Refresh

__all__ = [
    "Credential",
    "FileAccessRef",
    "StorageBinding",
    "file_access_ref",
    "keys_for",
    "opened_storage",
    "renew_keys",
    "wire_credential",
]


class StorageBinding(msgspec.Struct, frozen=True):
    """A store that files of a plan or a write session are in. Holds no keys.

    `root` is what the keys to it reach: `s3://bucket/prefix`. `ca_certificates` is this project's
    own: PEM text of the authorities that its certificate is checked by.
    """

    binding_id: str
    name: str
    storage_type: str = "s3"
    uri_scheme: str = "s3"
    endpoint_url: str | None = None
    region: str | None = None
    path_style_access: bool | None = None
    binding_revision: int = 1
    storage_class: str | None = None
    # Any: JSON, of which nothing is used here.
    credential_source: dict[str, Any] | None = None
    root: str | None = None
    path: str | None = None
    uri: str | None = None
    ca_certificates: str | None = None
    # Any: JSON; the same by revision, for the published clients, which look there alone.
    revision_infos: dict[str, Any] | None = None

    @property
    def key(self) -> str:
        """What credentials for it are filed under."""
        return f"{self.binding_id}@{self.binding_revision}"

    @property
    def settings(self) -> S3Settings:
        """How it is spoken to."""
        return S3Settings(
            self.endpoint_url, self.region, self.path_style_access, self.ca_certificates
        )


class FileAccessRef(msgspec.Struct, frozen=True):
    """Which store a planned file is in, for clients that look it up file by file."""

    binding_id: str
    binding_revision: int
    canonical_path: str
    root_id: str | None = None
    location_mode: str = "managed_relative"


def file_access_ref(path: str, bindings: Iterable[StorageBinding]) -> FileAccessRef | None:
    """Which of the stores a planned file is in; None for a local one."""
    for binding in bindings:
        if binding.root is not None and path.startswith(f"{binding.root.rstrip('/')}/"):
            return FileAccessRef(
                binding.binding_id, binding.binding_revision, path, root_id=binding.name
            )
    return None


class Credential(msgspec.Struct, frozen=True):
    """Keys on their way. Its repr shows none, and it does not pickle.

    `expires_at` is ISO 8601 text, or nanoseconds since the epoch. A `type` of `aws_profile` or
    `default_chain` has no keys of its own: the machine that reads has them.
    """

    type: str = "static"
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None
    expires_at: str | int | None = None
    profile: str | None = None
    resolver: str | None = None
    renewable: bool | None = None
    refresh_endpoint: str | None = None
    refresh_method: str | None = None
    lease_id: str | None = None

    def __repr__(self) -> str:
        return f"Credential(type={self.type!r}, expires_at={self.expires_at!r})"

    def __reduce__(self) -> str:
        raise TypeError("credentials do not pickle: each process asks for its own")


def wire_credential(keys: Keys, **renewal: Any) -> Credential:
    """Keys as they travel.

    Args:
        keys: What to send.
        renewal: Fields that say how to get the next ones.
    """
    # Any: fields of `Credential`.
    end = keys.expires_at_ns
    return Credential(
        type="static" if end is None else "sts",
        access_key_id=keys.access_key_id,
        secret_access_key=keys.secret_access_key,
        session_token=keys.session_token,
        expires_at=None
        if end is None
        else datetime.fromtimestamp(end // 10**9, UTC).isoformat().replace("+00:00", "Z"),
        **renewal,
    )


def _nanoseconds(text: str | int) -> int:
    if isinstance(text, int):
        return text
    found = datetime.fromisoformat(text)
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()) * 10**9


def keys_for(binding: StorageBinding, credentials: Mapping[str, Credential]) -> Keys:
    """The keys that came for a store.

    Raises:
        CredentialsError: None came, or none that can be used.
    """
    found = credentials.get(binding.key)
    if found is None:
        raise CredentialsError(f"the planner sent no credentials for store {binding.name!r}")
    if found.type in ("aws_profile", "aws_sso_profile") or found.resolver == "host_profile":
        return profile_keys(found.profile)
    if found.type == "default_chain" or found.resolver == "host_default_chain":
        return profile_keys(None)
    if found.access_key_id is None or found.secret_access_key is None:
        raise CredentialsError(
            f"the planner's credentials for store {binding.name!r} are of type {found.type!r}, "
            "which this release cannot use"
        )
    return _keys(found.access_key_id, found.secret_access_key, found)


def _keys(access_key_id: str, secret_access_key: str, found: Credential) -> Keys:
    end = None if found.expires_at is None else _nanoseconds(found.expires_at)
    return Keys(access_key_id, secret_access_key, found.session_token, end)


def renew_keys(credentials: Mapping[str, Credential], scope: str) -> None:
    """Give keys that came by the way to whoever in this process uses those of the same stores.

    Args:
        credentials: What came, by the store's `StorageBinding.key`.
        scope: As `opened_storage` was told.
    """
    for key, found in credentials.items():
        if found.access_key_id is not None and found.secret_access_key is not None:
            renew(f"{key} {scope}", _keys(found.access_key_id, found.secret_access_key, found))


def opened_storage(
    bindings: Mapping[str, StorageBinding],
    credentials: Mapping[str, Credential] | None,
    scope: str,
    refresh: Callable[[StorageBinding], Refresh],
) -> Storage:
    """How the files of some stores are reached, by keys that all of this process share.

    Args:
        bindings: The stores, by name.
        credentials: What came with them; None where nothing did, and keys are asked for when
            they are needed.
        scope: Whose keys these are, and for what: keys of another scope are others.
        refresh: How new ones are had for a store.

    Raises:
        UnsupportedError: A store that is no S3.
        CredentialsError: Credentials came, but none for one of the stores.
    """
    stores = []
    for binding in bindings.values():
        if binding.storage_type not in ("s3", "S3") or binding.uri_scheme not in ("s3", "s3a"):
            raise UnsupportedError(
                f"store {binding.name!r} is {binding.storage_type} ({binding.uri_scheme}://): this "
                "release reads and writes local paths, s3:// and s3a://"
            )
        root = binding.root or binding.path or binding.uri
        if root is None:
            raise UnsupportedError(f"store {binding.name!r} does not say where it begins")
        name, way = f"{binding.key} {scope}", refresh(binding)
        if credentials is not None:
            shared(name, way, keys_for(binding, credentials))
        stores.append(S3Store(root, binding.settings, name, way))
    return Storage(tuple(stores))
