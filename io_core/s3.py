"""How is an S3 spoken to? One place for its settings, and what each library calls them.

Endpoint, region, addressing and certificate authorities are said once, in `S3Settings`; each
function below says them in one library's words, for MinIO, Ceph, R2, Swift and AWS alike.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import hashlib
import os
import shutil
import ssl
import tempfile
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
from pyarrow import fs

from io_core.credentials import Credentials, Refresh, shared
from io_core.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from io_core.credentials import Keys

__all__ = [
    "S3Settings",
    "S3Store",
    "arrow_options",
    "ca_file",
    "daft_options",
    "end_of_object",
    "lance_options",
    "object_key",
    "polars_options",
    "reaching",
    "s3fs_filesystem",
]

SCHEMES = ("s3", "s3a")
# Parts of an upload: a file may have ten thousand.
_PART_BYTES = 16 * 2**20
_DEFAULT_REGION = "us-east-1"
_MOST_ATTEMPTS = 3


class S3Settings(msgspec.Struct, frozen=True, omit_defaults=True):
    """An S3, but for the keys to it.

    Attributes:
        endpoint_url: Where it listens; None means AWS.
        region: None means `us-east-1`.
        path_style: Whether a bucket is named in the path; else in the host name. None means: in the
            path where there is an endpoint of its own.
        ca_certificates: PEM text of the authorities that its certificate is checked by, beside the
            system's own.
    """

    endpoint_url: str | None = None
    region: str | None = None
    path_style: bool | None = None
    ca_certificates: str | None = None

    def __repr__(self) -> str:
        ca = "" if self.ca_certificates is None else ", ca_certificates=..."
        return (
            f"S3Settings(endpoint_url={self.endpoint_url!r}, region={self.region!r}, "
            f"path_style={self.path_style!r}{ca})"
        )

    @property
    def by_path(self) -> bool:
        """Whether a bucket is named in the path."""
        return self.endpoint_url is not None if self.path_style is None else self.path_style

    @property
    def is_plain(self) -> bool:
        """Whether it is spoken to without TLS."""
        return self.endpoint_url is not None and self.endpoint_url.startswith("http://")

    def check(self) -> None:
        """Raise ValueError where the settings cannot be meant."""
        if self.endpoint_url is not None:
            parts = urlsplit(self.endpoint_url)
            if parts.scheme not in ("http", "https") or not parts.netloc or parts.username:
                raise ValueError(
                    f"{self.endpoint_url!r} is no S3 endpoint: write http:// or https://, a host and "
                    "a port, without a user"
                )
        if self.ca_certificates is not None and "BEGIN CERTIFICATE" not in self.ca_certificates:
            raise ValueError("the certificate authorities are not PEM: they hold no certificate")


class S3Store(msgspec.Struct, frozen=True):
    """A part of an S3 and the way to the keys to it. Pickles as such: it holds no keys.

    Attributes:
        root: `s3://bucket` or `s3://bucket/prefix`: what the keys are for.
        settings: How it is spoken to.
        keys: What the keys are called, in any process.
        refresh: Gets new ones.
    """

    root: str
    settings: S3Settings
    keys: str
    refresh: Refresh

    def __repr__(self) -> str:
        return f"S3Store({self.root!r}, {self.settings!r}, keys={self.keys!r})"

    @property
    def credentials(self) -> Credentials:
        """The keys, which all of this process share."""
        return shared(self.keys, self.refresh)


def object_key(location: str) -> str:
    """`bucket/key` of an `s3://` or `s3a://` URI, to the letter.

    Example:
        >>> object_key("s3a://bucket/a%20b/c.parquet")
        'bucket/a%20b/c.parquet'
    """
    return location.partition("://")[2]


# Any: s3fs has no types.
def s3fs_filesystem(store: S3Store) -> Any:
    """The s3fs file system of a store: one for the process, whose keys renew themselves.

    Raises:
        UnsupportedError: The extra `s3` is not installed.
    """
    return _filesystem(store.settings, store.credentials, os.getpid())


@functools.lru_cache(maxsize=64)
def _filesystem(settings: S3Settings, credentials: Credentials, _pid: int) -> Any:
    try:
        import s3fs
        from aiobotocore.session import AioSession
    except ImportError as error:
        raise UnsupportedError(
            "s3:// needs the extra s3: pip install 'deltacat-sources[s3]'"
        ) from error
    session = AioSession()
    session.register_component("credential_provider", _Resolver(credentials))
    session.register_component("data_loader", _loader())
    return s3fs.S3FileSystem(
        session=session,
        endpoint_url=settings.endpoint_url,
        client_kwargs={"region_name": settings.region or _DEFAULT_REGION}
        | ({} if settings.ca_certificates is None else {"verify": ca_file(settings)}),
        config_kwargs={
            "s3": {"addressing_style": "path" if settings.by_path else "virtual"},
            "ignore_configured_endpoint_urls": True,
            # Stores that are not AWS's know no trailing checksums.
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
            "retries": {"mode": "standard", "max_attempts": _MOST_ATTEMPTS},
        },
        default_block_size=_PART_BYTES,
        use_listings_cache=False,
        skip_instance_cache=True,
    )


# Any: botocore has no types.
@functools.cache
def _loader() -> Any:
    """What reads botocore's descriptions of services: each session's own would keep 10 MB of them."""
    from botocore.loaders import create_loader

    return create_loader()


@contextlib.contextmanager
def reaching(location: str) -> Iterator[None]:
    """Turn what a store's library raises when it is not reached into an OSError that names the file."""
    from botocore.exceptions import BotoCoreError

    try:
        yield
    except BotoCoreError as error:
        raise OSError(f"{location} cannot be reached ({type(error).__name__})") from error


def end_of_object(store: S3Store, key: str, length: int) -> tuple[int, bytes]:
    """How large an object is, and its last bytes, without s3fs: to import that takes half a second.

    Args:
        store: What it is in.
        key: `bucket/key`.
        length: How many bytes; 0 takes one request less.

    Raises:
        OSError: It is not there, or the store does not answer.
    """
    files = _arrow_filesystem(store.settings, store.credentials.current(), os.getpid())
    try:
        opened = files.open_input_file(key)
    except FileNotFoundError as error:
        # Arrow's own text names the file again, and more.
        problem = os.strerror(errno.ENOENT)
        raise FileNotFoundError(errno.ENOENT, problem, f"{store.root}: {key}") from error
    with opened:
        size = opened.size()
        length = min(length, size)
        return size, opened.read_at(length, size - length) if length else b""


# Others when the keys are.
@functools.lru_cache(maxsize=16)
def _arrow_filesystem(settings: S3Settings, keys: Keys, _pid: int) -> fs.S3FileSystem:
    retries = fs.AwsStandardS3RetryStrategy(max_attempts=_MOST_ATTEMPTS)
    return fs.S3FileSystem(**_arrow_options(settings, keys), retry_strategy=retries)


class _Resolver:
    """What a session of aiobotocore asks for credentials."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    # Any: botocore has no types.
    async def load_credentials(self) -> Any:
        """Credentials that are looked up for every request."""
        import asyncio

        from aiobotocore.credentials import AioCredentials
        from botocore.credentials import ReadOnlyCredentials

        credentials = self._credentials

        class Current(AioCredentials):  # type: ignore[misc]  # a base without types
            async def get_frozen_credentials(self) -> Any:
                # The loop goes on while they are renewed.
                keys = await asyncio.to_thread(credentials.current)
                return ReadOnlyCredentials(
                    keys.access_key_id, keys.secret_access_key, keys.session_token
                )

        return Current("", "", method="deltacat")


@functools.cache
def _scratch(_pid: int) -> str:
    folder = tempfile.mkdtemp(prefix="deltacat-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def ca_file(settings: S3Settings) -> str | None:
    """A file of this process that holds the system's authorities and the store's own; None: no own."""
    if settings.ca_certificates is None:
        return None
    name = hashlib.blake2b(settings.ca_certificates.encode(), digest_size=8).hexdigest()
    path = os.path.join(_scratch(os.getpid()), f"{name}.pem")
    if not os.path.exists(path):
        usual = ssl.get_default_verify_paths().cafile
        system = ""
        if usual is not None:
            with open(usual, encoding="utf-8") as file:
                system = file.read()
        with open(f"{path}.part", "w", encoding="utf-8") as file:
            file.write(f"{system}\n{settings.ca_certificates}")
        os.replace(f"{path}.part", path)
    return path


def _trusted(settings: S3Settings) -> None:
    """Let libraries that take authorities from the environment alone find the store's own there."""
    path = ca_file(settings)
    if path is not None:
        os.environ["SSL_CERT_FILE"] = path


# Any: what the callable returns is Polars' own tuple.
def polars_options(store: S3Store) -> tuple[dict[str, str], Callable[[], Any]]:
    """`storage_options` and `credential_provider` for Polars' scans and sinks. One pair per store."""
    _trusted(store.settings)
    # Polars keeps what one callable returned: another callable would ask again.
    return _object_store_options(store.settings), _polars_provider(store)


class _PolarsProvider:
    """Polars' `credential_provider`: keys, and when they end in seconds since the epoch."""

    def __init__(self, store: S3Store) -> None:
        self._store = store

    def __reduce__(self) -> tuple[object, ...]:
        return _polars_provider, (self._store,)

    def __call__(self) -> tuple[dict[str, str], int | None]:
        """What is valid now."""
        keys = self._store.credentials.current()
        end = None if keys.expires_at_ns is None else keys.expires_at_ns // 10**9
        return _object_store_keys(keys), end


_PROVIDERS: dict[str, _PolarsProvider] = {}
_MOST_PROVIDERS = 128


def _polars_provider(store: S3Store) -> _PolarsProvider:
    found = _PROVIDERS.setdefault(store.keys, _PolarsProvider(store))
    for oldest in list(_PROVIDERS)[:-_MOST_PROVIDERS]:
        _PROVIDERS.pop(oldest, None)
    return found


def _object_store_options(settings: S3Settings) -> dict[str, str]:
    """What the Rust crate object_store calls the settings; Polars and Lance hand them on."""
    options = {
        "aws_region": settings.region or _DEFAULT_REGION,
        "aws_virtual_hosted_style_request": str(not settings.by_path).lower(),
    }
    if settings.endpoint_url is not None:
        options["aws_endpoint_url"] = settings.endpoint_url
    if settings.is_plain:
        options["aws_allow_http"] = "true"
    return options


def _object_store_keys(keys: Keys) -> dict[str, str]:
    found = {
        "aws_access_key_id": keys.access_key_id,
        "aws_secret_access_key": keys.secret_access_key,
    }
    if keys.session_token is not None:
        found["aws_session_token"] = keys.session_token
    return found


def lance_options(store: S3Store) -> dict[str, str]:
    """`storage_options` of Lance, with the keys that are valid now: never keep or show them."""
    _trusted(store.settings)
    found = _object_store_options(store.settings)
    found["allow_http"] = str(store.settings.is_plain).lower()
    return found | _object_store_keys(store.credentials.current())


# Any: keyword arguments of Daft's own.
def daft_options(store: S3Store) -> dict[str, Any]:
    """Keyword arguments of `daft.io.S3Config`, but for the keys: the adapter asks for those."""
    _trusted(store.settings)
    settings = store.settings
    return {
        "region_name": settings.region or _DEFAULT_REGION,
        "endpoint_url": settings.endpoint_url,
        "use_ssl": not settings.is_plain,
        "force_virtual_addressing": not settings.by_path,
    }


# Any: keyword arguments of pyarrow's own.
def arrow_options(store: S3Store) -> dict[str, Any]:
    """Keyword arguments of `pyarrow.fs.S3FileSystem`, with the keys that are valid now."""
    return _arrow_options(store.settings, store.credentials.current())


# Any: as above.
def _arrow_options(settings: S3Settings, keys: Keys) -> dict[str, Any]:
    found: dict[str, Any] = {
        "region": settings.region or _DEFAULT_REGION,
        "access_key": keys.access_key_id,
        "secret_key": keys.secret_access_key,
        "session_token": keys.session_token,
        "force_virtual_addressing": not settings.by_path,
    }
    if settings.endpoint_url is not None:
        parts = urlsplit(settings.endpoint_url)
        found |= {"scheme": parts.scheme, "endpoint_override": parts.netloc + parts.path}
    if settings.ca_certificates is not None:
        found["tls_ca_file_path"] = ca_file(settings)
    return found
