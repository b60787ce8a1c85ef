"""What happened to a table, commit by commit, as far back as it can be read?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from io_core.errors import NotFoundError, RequestRejectedError
from planner_client.protocol.endpoint import Page
from planner_client.protocol.tables import TableChange, TableHistory
from planner_client.server.catalog import find_table, find_version
from planner_client.server.conflicts import Change
from planner_client.server.paging import cut, fetched, start

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from planner_client.server.catalog import Table
    from planner_client.server.planner import EmbeddedPlanner
    from planner_client.server.store import View

__all__ = ["table_history"]

# A table is made by name, when it has no number yet: changes of that kind are found by their time.
_CHANGES = """
WITH found AS (
    SELECT change_id, seq, body FROM change WHERE table_id = ?1
    UNION ALL
    SELECT change_id, seq, body FROM change WHERE table_id = 0 AND seq IN (
        SELECT begin_seq FROM tbl WHERE table_id = ?1
        UNION SELECT begin_seq FROM table_version WHERE table_id = ?1))
SELECT seq, committed_ns, message, transaction_id, body FROM found JOIN revision USING (seq)
WHERE seq <= ?2 AND seq < ?3 ORDER BY seq DESC, change_id
"""


def table_history(planner: EmbeddedPlanner, request: TableHistory) -> Page[TableChange]:
    """Handle `table_history`: newest first. In a transaction, what was there when it began."""
    with planner.view(request) as view:
        owner = find_table(view, request.namespace, request.table)
        page = cut(
            list(_changes(view, owner, _before(request), fetched(request))),
            request,
            lambda change: str(change.snapshot),
        )
        counted = _counted(planner, view, request, page)
    return Page(counted, page.next_token)


def _before(request: TableHistory) -> int:
    """The snapshot before which the answer begins."""
    text = start(request)
    if not text:
        return 2**63 - 1
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise RequestRejectedError(
            f"next_token {request.next_token!r} is none of a history: leave it out to begin anew",
            code="invalid_request",
        )
    return int(text)


def _changes(view: View, owner: Table, before: int, most: int) -> Iterator[TableChange]:
    """The table's changes, newest first, at most so many; -1 for all."""
    names = {
        name
        for (name,) in view.db.execute("SELECT name FROM tbl WHERE table_id = ?", (owner.table_id,))
    }
    versions: dict[int, str] = dict(
        view.db.execute(
            "SELECT version_id, version FROM table_version WHERE table_id = ?", (owner.table_id,)
        )
    )
    found: TableChange | None = None
    for seq, committed_ns, message, transaction_id, body in view.db.execute(
        _CHANGES, (owner.table_id, view.base, before)
    ):
        change = msgspec.msgpack.decode(body, type=Change)
        if not change.table_id and (change.kind != "create" or change.table not in names):
            continue
        if found is not None and found.snapshot != seq:
            yield found
            most -= 1
            found = None
            if most == 0:
                return
        version = versions.get(change.version_id)
        if found is None:
            found = TableChange(seq, committed_ns, [change.kind], version, message, transaction_id)
            continue
        kinds = found.kinds if change.kind in found.kinds else [*found.kinds, change.kind]
        found = msgspec.structs.replace(
            found, kinds=kinds, table_version=found.table_version or version
        )
    if found is not None:
        yield found


def _counted(
    planner: EmbeddedPlanner, view: View, request: TableHistory, page: Sequence[TableChange]
) -> list[TableChange]:
    """The changes with the files and rows that each brought, and took away."""
    counts: dict[int, dict[str, int]] = {change.snapshot: {} for change in page}
    seqs = np.array(sorted(counts), np.int64)
    for name in sorted({change.table_version for change in page if change.table_version}):
        try:
            version = find_version(view, request.namespace, request.table, name)
        except NotFoundError:
            # Gone since.
            continue
        columns = planner.columns.get(view, version)
        for prefix, when in (("", columns.begin), ("removed_", columns.end(slice(None)))):
            place = np.searchsorted(seqs, when)
            rows = np.flatnonzero(np.append(seqs, -1)[place] == when)
            for what, values in (
                ("files", None),
                ("records", columns.rows[rows]),
                ("bytes", columns.size[rows]),
            ):
                sums = np.bincount(place[rows], weights=values, minlength=len(seqs))
                for seq, total in zip(seqs.tolist(), sums.tolist(), strict=True):
                    held = counts[seq]
                    held[prefix + what] = held.get(prefix + what, 0) + int(total)
    return [_with(change, counts[change.snapshot]) for change in page]


# Any: the struct's fields.
def _with(change: TableChange, counts: dict[str, Any]) -> TableChange:
    return msgspec.structs.replace(change, **counts)
