"""Who may call a planner? `token`."""

from __future__ import annotations

from typing import Annotated

import typer

from planner_client.cli.options import Catalog, Json, Planner, connected
from planner_client.cli.output import note, print_facts, print_json, print_text

__all__ = ["issue", "revoke", "tokens", "whoami"]

tokens = typer.Typer(no_args_is_help=True, help="Who calls, and tokens for those who may.")

_User = Annotated[str, typer.Argument(metavar="USER", show_default=False)]


@tokens.command()
def whoami(*, planner: Planner = None, catalog: Catalog = None, json: Json = False) -> None:
    """Show who the planner takes the caller for, and what they were granted."""
    found = connected(planner, catalog).auth.whoami()
    grants = [
        {"role": g.role, "scope_type": g.scope_type, "scope_name": g.scope_name}
        for g in found.grants
    ]
    facts = {
        "user_id": found.user_id,
        "auth_configured": found.auth_configured,
        "grants": grants,
    }
    if json:
        print_json(facts)
        return
    said = ", ".join(f"{g.role} on {g.scope_type} {g.scope_name}" for g in found.grants)
    who = found.user_id or "anybody: this planner asks nobody who they are"
    print_facts((("user", who), ("may", said)))


@tokens.command()
def issue(
    user: _User,
    *,
    label: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What the token is for.")
    ] = None,
    role: Annotated[
        str | None,
        typer.Option(
            metavar="READER|WRITER|ADMIN", help="Make the user too, and let them do this."
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            metavar="NAMESPACE[.TABLE]",
            help="Where the new user may do it; unsaid, in the whole catalog.",
        ),
    ] = None,
    planner: Planner = None,
    catalog: Catalog = None,
    json: Json = False,
) -> None:
    """Print a new token of a user, this once."""
    auth = connected(planner, catalog).auth
    if role is None:
        if on is not None:
            raise ValueError("--on goes with --role, for a user that is made")
        issued = auth.issue_token(user_id=user, label=label)
    else:
        kind = "catalog" if on is None else "table" if "." in on else "namespace"
        made = auth.create_user(
            user_id=user,
            role=role.upper(),
            resource_type=kind,
            resource_name=on or "*",
            issue_token=True,
            token_label=label,
        )
        assert made.token is not None
        issued = made.token
    if json:
        print_json(
            {
                "user_id": issued.user_id,
                "token_id": issued.token_id,
                "token": issued.token,
                "label": issued.label,
            }
        )
        return
    print_text(issued.token)
    note(f"token {issued.token_id} of {issued.user_id}: shown this once, send it as DELTACAT_TOKEN")


@tokens.command()
def revoke(
    user: _User,
    token_id: Annotated[str, typer.Argument(metavar="TOKEN_ID", show_default=False)],
    *,
    planner: Planner = None,
    catalog: Catalog = None,
    json: Json = False,
) -> None:
    """Let a token work no longer."""
    connected(planner, catalog).auth.revoke_token(user_id=user, token_id=token_id)
    if json:
        print_json({"user_id": user, "token_id": token_id, "revoked": True})
    else:
        note(f"token {token_id} of {user} works no longer")
