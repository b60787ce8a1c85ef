"""Which calls of the published client are not there yet? All of them, by name, in one table."""

from __future__ import annotations

from typing import Any, NoReturn

from io_core.errors import UnsupportedError, nearest

__all__ = ["LATER", "Later", "LaterCatalog"]

_RESOURCE = "create get list update delete add_managers remove_managers run pause resume redrive"

LATER: dict[str, frozenset[str]] = {
    area: frozenset(names.split())
    for area, names in {
        "jobs": "claim heartbeat start_heartbeat stop_heartbeat emit_event complete fail get "
        "get_detail get_progress list list_page wait submit_compaction submit_langolier "
        "submit_retention submit_gc_scan submit_gc_full submit_gc_outbox submit_gc_archive "
        "submit_gc_purge submit_gc_restore submit_janitor submit_relay submit_preprocessing_job "
        "submit_preprocess_manifest_repair recover_pending_delete audit_pending_delete get_gc_stats "
        "list_gc_exempt get_managed_ray_access send_managed_ray_ssm_command stage_ray_payload "
        "stage_managed_ray_customer_payload start_managed_ray_port_forward "
        "start_managed_ray_ssm_session",
        "subscriptions": f"{_RESOURCE} trigger get_watermark set_watermark",
        "publications": f"{_RESOURCE} create_crawler trigger",
        "transforms": f"{_RESOURCE} trigger",
        "pipelines": f"{_RESOURCE} discover status",
        # Placement, retention, compaction and the statistics of partitions.
        "catalog": "place unplace replication_status placement_progress compaction_status "
        "langolier_cleanup get_retention_policy set_retention_policy query_partition_stats "
        "repair_partition_stats list_dirty_partition_stats",
    }.items()
}


def _refuse(area: str, name: str) -> NoReturn:
    raise UnsupportedError(
        f"client.{area}.{name} is not there yet: this release has catalogs, reads, writes, "
        "transactions and auth"
    )


class Later:
    """A part of the client whose calls are not there yet: each raises `UnsupportedError`.

    Args:
        area: Which part of `LATER`.

    Example:
        >>> Later("jobs").claim()
        Traceback (most recent call last):
        ...
        io_core.errors.UnsupportedError: client.jobs.claim is not there yet: ...
    """

    def __init__(self, area: str) -> None:
        self._area = area

    def __repr__(self) -> str:
        return f"Later({self._area!r})"

    def __getattr__(self, name: str) -> _Refused:
        if name.startswith("_"):
            # Such as pickle and copy ask for, before there is an area.
            raise AttributeError(name)
        if name not in LATER[self._area]:
            hint = nearest(name, sorted(LATER[self._area]))
            raise AttributeError(f"client.{self._area} has no call {name!r}{hint}")
        return _Refused(self._area, name)


class _Refused:
    """A call that is not there yet."""

    def __init__(self, area: str, name: str) -> None:
        self._area = area
        self._name = name

    # Any: whatever the published client takes.
    def __call__(self, *arguments: Any, **named: Any) -> NoReturn:
        """Refuse it, whatever it was called with.

        Raises:
            UnsupportedError: Always.
        """
        del arguments, named
        _refuse(self._area, self._name)


class LaterCatalog:
    """Calls of `client.catalog` that are not there yet: each raises `UnsupportedError`."""


for _name in LATER["catalog"]:
    setattr(LaterCatalog, _name, _Refused("catalog", _name))
