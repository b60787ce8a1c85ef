"""The one tree of errors, and which wire code stands for which of them.

::

    DeltaCATError
    ├── RequestRejectedError            the planner refused; code, status, retryable, details
    │   ├── NotFoundError               (LookupError)
    │   ├── AlreadyExistsError
    │   ├── ConcurrentModificationError
    │   ├── AuthenticationRequiredError (PermissionError) who calls is not known
    │   └── PermissionDeniedError       (PermissionError)
    ├── PlannerUnavailableError         (ConnectionError) nobody answered
    ├── CatalogRootError                (OSError) a directory that is no catalog, or one we may not open
    ├── PredicateError                  (ValueError)
    ├── SchemaValidationError           (ValueError)
    ├── TransactionError                (RuntimeError) a call that does not go with its transaction
    ├── UnsupportedError                (NotImplementedError)
    ├── CredentialsError                (OSError) no valid keys for a store
    └── DataFileError                   (OSError) a data file is missing or damaged
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "AlreadyExistsError",
    "AuthenticationRequiredError",
    "CatalogRootError",
    "ConcurrentModificationError",
    "CredentialsError",
    "DataFileError",
    "DeltaCATError",
    "NotFoundError",
    "PermissionDeniedError",
    "PlannerUnavailableError",
    "PredicateError",
    "RequestRejectedError",
    "SchemaValidationError",
    "TransactionError",
    "UnsupportedError",
    "error_for",
    "nearest",
    "without_hint",
]


class DeltaCATError(Exception):
    """Root of every error this project raises on purpose.

    Args:
        message: What happened, the value, and what to do.
        details: The same for machines; JSON scalars only.

    Attributes:
        code: The error's name on the wire.
        status: The HTTP status that carries it.
        request_id: What the planner's logs call the request, where a planner at a URL refused.
    """

    code: str = "internal_server_error"
    status: int = 500
    request_id: str | None = None

    def __init__(self, message: str, *, details: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.details = dict(details or {})


class RequestRejectedError(DeltaCATError):
    """The planner understood the request and refused it.

    Attributes:
        retryable: Whether the same request may succeed later.
        retry_after_s: How long to wait first, in seconds, where the planner said so.
    """

    code = "request_rejected"
    status = 400

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status: int | None = None,
        retryable: bool = False,
        retry_after_s: float | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message, details=details)
        self.code = code or type(self).code
        self.status = status or type(self).status
        self.retryable = retryable
        self.retry_after_s = retry_after_s


class NotFoundError(RequestRejectedError, LookupError):
    """A namespace, table, version or session that does not exist."""

    code = "not_found"
    status = 404

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str]) -> NotFoundError:
        """A message that names the thing and offers the nearest one that exists."""
        return cls(f"{kind} {name!r} not found{nearest(name, known)}", details={kind: name})


class AlreadyExistsError(RequestRejectedError):
    """A namespace or table that is already there."""

    code = "already_exists"
    status = 409


class ConcurrentModificationError(RequestRejectedError):
    """Another commit came first; read again and retry with a new session."""

    code = "concurrent_modification"
    status = 409


class AuthenticationRequiredError(RequestRejectedError, PermissionError):
    """No token was sent, or none that the planner knows."""

    code = "authentication_required"
    status = 401


class PermissionDeniedError(RequestRejectedError, PermissionError):
    """The caller may not do this."""

    code = "permission_denied"
    status = 403


class PlannerUnavailableError(DeltaCATError, ConnectionError):
    """No planner answered at this address, or it stopped answering."""

    code = "service_unavailable"
    status = 503


class CatalogRootError(DeltaCATError, OSError):
    """A directory that is no catalog, or one that this release must not open."""

    code = "catalog_root"
    status = 400


class PredicateError(DeltaCATError, ValueError):
    """A predicate that is malformed or does not fit the schema; names the place, as in `$.and[1].gt`."""

    code = "invalid_predicate"
    status = 400


class SchemaValidationError(DeltaCATError, ValueError):
    """Data, a schema or a write mode that does not fit the table."""

    code = "schema_validation"
    status = 400


class TransactionError(DeltaCATError, RuntimeError):
    """A call that does not go with the transaction it stands in, or one that has ended."""

    code = "transaction"
    status = 409


class UnsupportedError(DeltaCATError, NotImplementedError):
    """Something the protocol knows and this release does not do."""

    code = "unsupported"
    status = 400


class CredentialsError(DeltaCATError, OSError):
    """No valid keys for a store can be had; the message holds none."""

    code = "credentials_unavailable"
    status = 503


class DataFileError(DeltaCATError, OSError):
    """A data file that a plan names is missing, damaged, or not what the plan says."""

    code = "data_file"
    status = 400

    @classmethod
    def of(cls, path: str, problem: str, plan: str) -> DataFileError:
        """Name the file, what is wrong with it, and the plan that lists it."""
        return cls(
            f"data file {path} {problem}; it is listed by {plan}. "
            "Restore the file, or read an earlier snapshot with as_of=",
            details={"path": path, "plan": plan},
        )


_BY_CODE: dict[str, type[DeltaCATError]] = {
    cls.code: cls
    for cls in (
        NotFoundError,
        AlreadyExistsError,
        ConcurrentModificationError,
        AuthenticationRequiredError,
        PermissionDeniedError,
        PlannerUnavailableError,
        CatalogRootError,
        PredicateError,
        SchemaValidationError,
        TransactionError,
        UnsupportedError,
        CredentialsError,
        DataFileError,
    )
}


def error_for(
    message: str,
    *,
    code: str,
    status: int,
    retryable: bool = False,
    retry_after_s: float | None = None,
    details: Mapping[str, object] | None = None,
) -> DeltaCATError:
    """The error that a planner's answer stands for; unknown codes become `RequestRejectedError`."""
    cls = _BY_CODE.get(code, RequestRejectedError)
    if issubclass(cls, RequestRejectedError):
        return cls(
            message,
            code=code,
            status=status,
            retryable=retryable,
            retry_after_s=retry_after_s,
            details=details,
        )
    return cls(message, details=details)


# The name offered is shown as its repr.
_HINT = re.compile(r"""; did you mean (?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\?""")


def nearest(name: object, known: Iterable[str]) -> str:
    """A hint for an error message: the known name that is most like `name`.

    Example:
        >>> nearest("episode", ["episodes", "frames"])
        "; did you mean 'episodes'?"
        >>> nearest("episode", [])
        ''
    """
    # What is no text is like nothing.
    close = difflib.get_close_matches(name if isinstance(name, str) else "", list(known), 1, 0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def without_hint(message: str) -> str:
    """The message without the name that `nearest` offered, for who may not know of it.

    Example:
        >>> without_hint("table 'b' not found" + nearest("b", ["bc"]) + ": look again")
        "table 'b' not found: look again"
    """
    return _HINT.sub("", message)
