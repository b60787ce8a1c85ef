"""Where are a catalog's data files: below its own directory, or in a store with keys to hand out?

What the operator says of a store is kept in the ledger, so that whoever opens the catalog finds its
files; keys never are. They come from where the operator says: the planner's environment, a profile
of its machine, or a role that is assumed for a while, narrowed to the data root and, for readers,
to reading.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from io_core.aws import assumed_role, environment_keys, profile_keys
from io_core.bindings import Credential, StorageBinding, wire_credential
from io_core.credentials import Credentials, Keys
from io_core.errors import CatalogRootError, RequestRejectedError, UnsupportedError
from io_core.model import OpenedSession, WriteSession
from io_core.plan import ReadPlan
from io_core.s3 import S3Settings, S3Store, ca_file
from io_core.storage import Storage, is_s3
from planner_client.protocol.transactions import TransactionInfo

if TYPE_CHECKING:
    import apsw

    from io_core.plan import PlanHeader
    from planner_client.server.store import Store

__all__ = ["DATA", "ROOT", "DataRoot", "S3Place", "names_store", "open_place"]

# What the data directory is called below a catalog's root, and below a data root.
DATA = "data"
# As which root plans know it.
ROOT = "data"
_META = "data_root"
_BUCKET = re.compile(r"s3a?://[A-Za-z0-9][A-Za-z0-9._-]{1,254}(/[^/?#]+)*/?")
_ROLE = re.compile(r"arn:[a-z0-9-]+:iam::\d*:role/[\w+=,.@/-]+")
Access = Literal["read", "write"]

_READS = ("s3:GetObject", "s3:GetObjectVersion")
_CHANGES = ("s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload")


class DataRoot(msgspec.Struct, frozen=True, omit_defaults=True):
    """A store for a catalog's data files, as its operator describes it. Holds no keys.

    Attributes:
        root: `s3://bucket/prefix`.
        settings: How the store is spoken to.
        credentials: Where keys come from: `static`, the planner's environment (AWS_ACCESS_KEY_ID
            and AWS_SECRET_ACCESS_KEY); `profile` or `profile:NAME`, of the planner's machine; or
            `sts:ROLE_ARN`, a role that the planner assumes with the keys of its environment or
            profile, so that what callers get expires.
        sts_endpoint_url: Where roles are assumed, if not at AWS.
        lifetime_s: How long keys of a role last.
    """

    root: str
    settings: S3Settings = S3Settings()
    credentials: str = "static"
    sts_endpoint_url: str | None = None
    lifetime_s: int = 3600
    # Changes with whatever above does: keys are filed under it.
    revision: int = 1

    def check(self) -> None:
        """Raise ValueError or UnsupportedError where it cannot be meant."""
        if not is_s3(self.root):
            raise UnsupportedError(
                f"data root {self.root!r}: data can be kept in s3:// and s3a://, or, without a data "
                "root, below the catalog's own directory"
            )
        if not _BUCKET.fullmatch(self.root) or {".", ".."} & set(self.root.split("/")):
            raise ValueError(f"data root {self.root!r}: write s3://BUCKET or s3://BUCKET/PREFIX")
        kind, _, rest = self.credentials.partition(":")
        if kind not in ("static", "profile", "sts") or (kind == "static" and rest):
            # Not repeated: somebody may have put keys there.
            raise ValueError(
                "credentials of a data root are 'static', 'profile', 'profile:NAME' or "
                "'sts:ROLE_ARN'; keys themselves belong into the environment"
            )
        if kind == "sts" and not _ROLE.fullmatch(rest):
            raise ValueError(f"{rest!r} is no role: write arn:aws:iam::ACCOUNT:role/NAME")
        self.settings.check()


def open_place(store: Store, given: DataRoot | None) -> S3Place | None:
    """Where the catalog's data is kept; None for its own directory.

    Args:
        store: The catalog's ledger.
        given: What the operator says; None for what was said before.

    Raises:
        CatalogRootError: The catalog keeps its data elsewhere.
    """
    if given is not None:
        given.check()
        given = msgspec.structs.replace(
            given, root="s3://" + given.root.partition("://")[2].rstrip("/"), revision=1
        )
    with store.read() as db:
        held = dict(db.execute("SELECT key, value FROM meta").fetchall())
        (commits,) = db.execute("SELECT count(*) FROM revision").fetchone()
    known = msgspec.json.decode(held[_META], type=DataRoot) if _META in held else None
    if given is not None and (known is None or given != _first(known)):
        if known is None and commits:
            raise CatalogRootError(
                f"{store.root} keeps its data in its own directory: a data root is chosen when a "
                "catalog is made"
            )
        if known is not None and known.root != given.root:
            raise CatalogRootError(f"{store.root} keeps its data in {known.root}, not {given.root}")
        revision = 1 if known is None else known.revision + 1
        known = msgspec.structs.replace(given, revision=revision)
        with store.locked() as db:
            db.execute(
                "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT(key) DO UPDATE SET value = ?2",
                (_META, msgspec.json.encode(known).decode()),
            )
    return None if known is None else S3Place(known, held["catalog_id"])


def names_store(db: apsw.Connection) -> bool:
    """Whether the catalog's ledger says that its data is in a store."""
    return db.execute("SELECT 1 FROM meta WHERE key = ?", (_META,)).fetchone() is not None


def _first(root: DataRoot) -> DataRoot:
    return msgspec.structs.replace(root, revision=1)


class S3Place:
    """A catalog's data in a store. Threads share it.

    Attributes:
        config: What the operator said.
        root: `s3://bucket/prefix`, without a slash at its end.
        storage: How the planner itself reaches it.
        binding: What is told of it; no keys.
    """

    def __init__(self, config: DataRoot, catalog_id: str) -> None:
        self.config = config
        self.root = config.root
        self.binding = StorageBinding(
            binding_id=catalog_id,
            name=ROOT,
            endpoint_url=config.settings.endpoint_url,
            region=config.settings.region,
            path_style_access=config.settings.by_path,
            binding_revision=config.revision,
            storage_class="managed",
            credential_source={"kind": config.credentials.partition(":")[0]},
            root=config.root,
            ca_certificates=config.settings.ca_certificates,
        )
        self.binding = msgspec.structs.replace(
            self.binding,
            revision_infos={str(config.revision): msgspec.to_builtins(self.binding)},
        )
        own = _Source(config, None)
        name = f"{self.binding.key} planner"
        self.storage = Storage((S3Store(self.root, config.settings, name, own),))
        self._handed = {
            access: Credentials(f"{self.binding.key} {access}", _Source(config, access))
            for access in ("read", "write")
        }

    def __repr__(self) -> str:
        return f"S3Place({self.root!r})"

    def relative(self, location: str) -> str:
        """A file's place below the root, as the ledger keeps it.

        Raises:
            RequestRejectedError: It is elsewhere, or written in a way that readers may resolve.
        """
        plain = "s3://" + location.partition("://")[2] if is_s3(location) else location
        below = plain.removeprefix(f"{self.root}/")
        if below == plain or {"", ".", ".."} & set(below.split("/")):
            raise RequestRejectedError(
                f"{location} is not below the catalog's data root {self.root}"
            )
        return below

    def absolute(self, path: str) -> str:
        """The reverse of `relative`."""
        return f"{self.root}/{path}"

    def own_session(self, session: WriteSession) -> WriteSession:
        """A session for the planner itself to write in."""
        fields = {name: getattr(session, name) for name in WriteSession.__struct_fields__}
        return OpenedSession(**fields, opened=self.storage)

    def told_in(self, header: PlanHeader) -> PlanHeader:
        """A plan's header with where its files are; no keys."""
        bindings = {self.binding.binding_id: self.binding}
        return msgspec.structs.replace(header, storage_bindings=bindings, data_roots=self._roots())

    # Any: answers of several endpoints.
    def attached(self, answer: Any) -> Any:
        """An answer with what its receiver needs to reach the files that it is about."""
        match answer:
            case ReadPlan():
                return answer.with_credentials(self._credentials("read"))
            case WriteSession() if answer.status == "OPEN":
                return msgspec.structs.replace(
                    answer,
                    root_id=ROOT,
                    binding_id=self.binding.binding_id,
                    binding_revision=self.binding.binding_revision,
                    available_storage_bindings={self.binding.binding_id: self.binding},
                    available_roots=self._roots(),
                    credentials=self._for_session(answer.session_id),
                )
            case TransactionInfo():
                sessions = answer.bound_write_sessions
                return msgspec.structs.replace(
                    answer,
                    refreshed_credentials=self._credentials("read"),
                    refreshed_credentials_by_session={s: self._for_session(s) for s in sessions}
                    or None,
                )
        return answer

    def _for_session(self, session_id: str) -> dict[str, Credential]:
        renewal = {
            "renewable": True,
            "refresh_endpoint": f"/v1/write-sessions/{session_id}/heartbeat",
            "refresh_method": "POST",
        }
        return self._credentials("write", **renewal)

    def _roots(self) -> dict[str, Any]:
        return {
            ROOT: {
                "root": self.root,
                "root_id": ROOT,
                "binding_id": self.binding.binding_id,
                "binding_revision": self.binding.binding_revision,
                "storage_type": self.binding.storage_type,
                "endpoint_url": self.binding.endpoint_url,
                "region": self.binding.region,
            }
        }

    def _credentials(self, access: Access, **renewal: Any) -> dict[str, Credential]:
        keys = self._handed[access].current()
        lasting = keys.expires_at_ns is None
        return {self.binding.key: wire_credential(keys, **({} if lasting else renewal))}


class _Source:
    """Gets keys from where the operator says; for callers narrowed to what they may do."""

    def __init__(self, config: DataRoot, access: Access | None) -> None:
        self._config = config
        self._access = access

    def __call__(self) -> Keys:
        kind, _, rest = self._config.credentials.partition(":")
        match kind:
            case "static":
                return environment_keys()
            case "profile":
                return profile_keys(rest or None)
        settings = self._config.settings
        return assumed_role(
            profile_keys(None),
            rest,
            seconds=self._config.lifetime_s,
            policy=None if self._access is None else _policy(self._config.root, self._access),
            endpoint_url=self._config.sts_endpoint_url,
            region=settings.region,
            verify=ca_file(settings),
        )


def _policy(root: str, access: Access) -> str:
    """What keys of a role may do: reach what is below the root, and for readers only read it."""
    bucket, _, prefix = root.partition("://")[2].partition("/")
    below = f"{prefix}/*" if prefix else "*"
    actions = [*_READS, *(_CHANGES if access == "write" else ())]
    statements = [
        {"Effect": "Allow", "Action": actions, "Resource": f"arn:aws:s3:::{bucket}/{below}"},
        {
            "Effect": "Allow",
            "Action": ["s3:ListBucket"],
            "Resource": f"arn:aws:s3:::{bucket}",
            "Condition": {"StringLike": {"s3:prefix": [below]}},
        },
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements})
