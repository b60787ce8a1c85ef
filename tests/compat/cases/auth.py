"""What does a published client do where the planner asks for a token? Here the client is an ADMIN."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tests.compat.place import refused

if TYPE_CHECKING:
    from tests.compat.place import Place

TABLE = pa.table({"id": [1, 2]})


def _client(at: Place, token: str | None) -> Any:
    return type(at.client)(at.client.server_url, bearer_token=token)


def _user(at: Place, name: str, role: str, **scope: str) -> Any:
    """A new user, with a token of its own."""
    return at.client.auth.create_user(
        user_id=name,
        initial_role=role,
        issue_token_label="laptop",
        idempotency_key=f"first token of {name}",
        **scope,
    )


def who_one_is(at: Place) -> None:
    identity = at.client.auth.whoami()
    assert identity.auth_configured
    assert identity.user_id
    assert "ADMIN" in {str(grant["role"]).upper() for grant in identity.grants}


def without_a_token_nothing_is_told(at: Place) -> None:
    for token in (None, "no-token-of-ours"):
        with _client(at, token) as stranger, refused("authentication_required", 401):
            stranger.catalog.list_namespaces()


def a_reader_reads_and_does_not_write(at: Place) -> None:
    at.write(TABLE, "t")
    scope = {"resource_type": "namespace", "resource_name": at.namespace}
    made = _user(at, "reader@example.com", "READER", **scope)
    assert made.user.user_id == "reader@example.com"
    with _client(at, made.token.token) as reader:
        assert reader.auth.whoami().user_id == "reader@example.com"
        assert reader.catalog.read(namespace=at.namespace, table="t").num_rows == 2
        with refused("permission_denied", 403):
            reader.catalog.write(TABLE, namespace=at.namespace, table="t", mode="add")
        with refused("permission_denied", 403):
            reader.catalog.drop_table(namespace=at.namespace, table="t")
    assert at.read("t").num_rows == 2


def a_writer_writes(at: Place) -> None:
    at.create("t", [{"name": "id", "type": "int64"}])
    made = _user(at, "writer@example.com", "WRITER")
    with _client(at, made.token.token) as writer:
        writer.catalog.write(TABLE, namespace=at.namespace, table="t", mode="add")
        with writer.transaction():
            writer.catalog.write(TABLE, namespace=at.namespace, table="t", mode="add")
        with refused("permission_denied", 403):
            writer.auth.grant(user_id="writer@example.com", role="ADMIN")
    assert at.read("t").num_rows == 4


def a_grant_is_listed_and_revoked(at: Place) -> None:
    made = _user(at, "guest@example.com", "READER", resource_type="namespace", resource_name="none")
    scope = {"resource_type": "namespace", "resource_name": at.namespace}
    at.write(TABLE, "t")
    with _client(at, made.token.token) as guest:
        granted = at.client.auth.grant(user_id="guest@example.com", role="READER", **scope)
        assert granted.granted
        assert guest.catalog.read(namespace=at.namespace, table="t").num_rows == 2
        found = at.client.auth.list_grants(user_id="guest@example.com")
        assert at.namespace in {grant.scope_name for grant in found}
        assert at.client.auth.revoke(user_id="guest@example.com", **scope).revoked
        with refused("permission_denied", 403):
            guest.catalog.read(namespace=at.namespace, table="t")


def a_token_is_issued_once_and_revoked(at: Place) -> None:
    _user(at, "hands@example.com", "READER")
    key = "second token of hands"
    issued = at.client.auth.issue_token(
        user_id="hands@example.com", label="robot", idempotency_key=key
    )
    assert (issued.user_id, issued.label) == ("hands@example.com", "robot")
    with _client(at, issued.token) as hands:
        assert hands.auth.whoami().user_id == "hands@example.com"
        revoked = at.client.auth.revoke_token(user_id="hands@example.com", token_id=issued.token_id)
        assert revoked.revoked
        with refused("authentication_required", 401):
            hands.catalog.list_namespaces()
